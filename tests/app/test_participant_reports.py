"""What the reports need to know, and earlier runs that are reported again."""

from __future__ import annotations

from pathlib import Path

import pytest

from bids_segsr.app.participant_reports import report_again, tell_warnings, write_problems
from bids_segsr.bids.query import Scan
from bids_segsr.execution.settings import Settings
from bids_segsr.inference.qc import qc_json, qc_record
from bids_segsr.reports.run_errors import Problem, read_problems


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(bids_dir=tmp_path / 'raw', output_dir=tmp_path / 'out')


def test_a_participant_gets_its_own_problems_that_no_crash_file_tells(settings: Settings) -> None:
    problems = [
        Problem('sub-1_T2w', 'first'),
        Problem('sub-1/anat/odd.nii', 'second'),
        Problem('sub-1_T1w', 'crashed', path=Path('crash.txt')),
        Problem('sub-11_T2w', 'third'),
    ]
    write_problems(settings, ['1', '11', '2'], problems)
    told = {
        subject: [problem.message for problem in read_problems(settings.log_dir(subject), {})]
        for subject in ('1', '11', '2')
    }
    assert told == {'1': ['first', 'second'], '11': ['third'], '2': []}


def test_an_implausible_result_is_told_once_and_others_are_not(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    root = settings.derivatives_root
    scans = []
    for subject, volume in (('1', 12.0), ('2', 1300.0)):
        folder = root / f'sub-{subject}' / 'anat'
        folder.mkdir(parents=True)
        record = qc_record(
            bids_name=f'sub-{subject}_T2w',
            brain_volume_ml=volume,
            brain_volume_expected_ml=[850, 2100],
        )
        (folder / f'sub-{subject}_qc.json').write_text(qc_json(record), encoding='utf-8')
        scans.append(Scan(Path(f'sub-{subject}_T2w.nii'), {'subject': subject, 'suffix': 'T2w'}))
    assert tell_warnings(root, scans) == ['sub-1_T2w']
    assert 'no size that a brain has: 12 mL' in caplog.text
    assert 'sub-2' not in caplog.text


def test_a_participant_without_an_earlier_run_is_named(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = report_again(settings, ['7'])
    assert (outcome.fine, list(outcome.shown)) == (False, [])
    assert 'no earlier run of sub-7; run it without --reports-only first' in caplog.text
