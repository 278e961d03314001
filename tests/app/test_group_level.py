"""The group level: tables and page of what there is, and images without a result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bids_segsr.app.group_level import run_group
from bids_segsr.exceptions import UserError
from bids_segsr.execution.settings import Settings
from bids_segsr.inference.qc import qc_json, qc_record


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for subject in ('01', '02'):
        folder = tmp_path / 'raw' / f'sub-{subject}' / 'anat'
        folder.mkdir(parents=True)
        (folder / f'sub-{subject}_T2w.nii.gz').touch()
    return Settings(
        bids_dir=tmp_path / 'raw', output_dir=tmp_path / 'out', analysis_level=('group',)
    )


def test_without_derivatives_there_is_nothing_to_gather(settings: Settings) -> None:
    with pytest.raises(UserError, match='no derivatives yet; run the participant level first'):
        run_group(settings)
    outcome = run_group(replace(settings, dry_run=True))
    assert outcome.fine
    assert str(settings.derivatives_root) in outcome.shown[0]


def test_the_page_is_written_and_images_without_a_result_are_told_once(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    folder = settings.derivatives_root / 'sub-01' / 'anat'
    folder.mkdir(parents=True)
    record = qc_record(bids_name='sub-01_T2w', brain_volume_ml=1300.0)
    (folder / 'sub-01_qc.json').write_text(qc_json(record), encoding='utf-8')

    outcome = run_group(settings)

    assert outcome.fine
    assert all(Path(path).is_file() for path in outcome.shown)
    table = (settings.derivatives_root / 'group_T2w.tsv').read_text(encoding='utf-8')
    assert [line.split('\t')[0] for line in table.splitlines()] == ['bids_name', 'sub-01_T2w']
    assert 'sub-02_T2w is left out: not processed yet' in caplog.text
    caplog.clear()
    run_group(replace(settings, analysis_level=('participant', 'group')))
    assert 'is left out' not in caplog.text  # the participant level has told it
    assert '1 without a result: see' in caplog.text


@pytest.mark.parametrize('content', ['', '[]', '{"holes": 1}'])
def test_a_damaged_result_is_told_by_the_name_of_its_image(
    settings: Settings, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    root = settings.derivatives_root
    for subject in ('01', '02', '03'):
        (root / f'sub-{subject}' / 'anat').mkdir(parents=True)
        (root / f'sub-{subject}' / 'anat' / f'sub-{subject}_qc.json').write_text(content)
    again = 'is no QC file; remove it and run this participant again'
    told = [
        ('sub-01', 'sub-01_T2w', f'sub-01_qc.json {again}'),
        ('sub-02', 'sub-02_T2w', f'sub-02_qc.json {again}'),
        ('sub-03', 'sub-03', f'sub-03_qc.json {again}'),  # no image of the dataset
    ]

    outcome = run_group(settings)

    assert not outcome.fine
    assert [record.getMessage() for record in caplog.records] == [
        f'{image} is left out: {message}' for _, image, message in told
    ]
    table = (root / 'group_T2w_left-out.tsv').read_text(encoding='utf-8')
    assert [tuple(line.split('\t')) for line in table.splitlines()[1:]] == told
