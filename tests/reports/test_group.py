"""The group table: every image once, missing numbers told, outliers marked."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bids_segsr.exceptions import UserError
from bids_segsr.reports.group import write_group
from bids_segsr.reports.missing_results import LeftOut, left_out, qc_records


def make_group(root: Path, count: int = 8) -> None:
    """Write the QC files of a cohort; the last participant has a cortex five times as large."""
    for number in range(1, count + 1):
        session = 'ses-02' if number == 2 else ''
        folder = root / f'sub-{number:02d}' / session / 'anat'
        folder.mkdir(parents=True)
        name = f'sub-{number:02d}{"_ses-02" if session else ""}_T2w'
        qc = {
            'bids_name': name,
            'model': 'phantom',
            'cortex_volume_ml': 90.0 + number if number < count else 500.0,
            'holes': number,
            'fidelity_nrmse': 0.04 + 0.001 * number,
            'warnings': ['thick\tslices', '<b>second</b>'] if number == 3 else [],
            'versions': {'torch': '2'},
        }
        if number == 4:
            del qc['holes']
        (folder / f'{name.removesuffix("_T2w")}_qc.json').write_text(
            json.dumps(qc), encoding='utf-8'
        )
    (root / 'sub-01.html').write_text('<!DOCTYPE html><title>sub-01</title>', encoding='utf-8')


def test_table_holds_every_image_once(group: Path) -> None:
    paths = write_group(group, 'T2w')
    assert [path.name for path in paths] == [
        'group_T2w.tsv',
        'group_T2w.html',
        'group_T2w_ratings.tsv',
        'group_T2w_left-out.tsv',
    ]
    table = pd.read_csv(paths[0], sep='\t', na_values='n/a', keep_default_na=False)
    assert list(table['bids_name']) == sorted(table['bids_name'])
    assert len(table) == 8
    assert table.columns[0] == 'bids_name'
    assert 'versions' not in table.columns
    assert table['cortex_volume_ml'].tolist() == [91, 92, 93, 94, 95, 96, 97, 500]
    lines = paths[0].read_text(encoding='utf-8').splitlines()
    assert len({line.count('\t') for line in lines}) == 1
    assert 'n/a' in lines[4]
    assert 'thick slices | <b>second</b>' in lines[3]


def test_verdict_and_its_reasons_are_columns(group: Path) -> None:
    other = {'bids_name': 'sub-01_T1w', 'brain_volume_ml': 900.0}
    for number, volume in ((1, 400.0), (5, 1300.0)):
        path = group / f'sub-{number:02d}/anat/sub-{number:02d}_qc.json'
        qc = json.loads(path.read_text()) | {'brain_volume_ml': volume}
        qc |= {'brain_volume_expected_ml': [250, 700], 'age': '40 postmenstrual weeks'}
        path.write_text(json.dumps(qc))
    (group / 'sub-01/anat/sub-01_acq-t1_qc.json').write_text(json.dumps(other))
    tsv, page, *_ = write_group(group, 'T2w')
    table = pd.read_csv(tsv, sep='\t', na_values='n/a', keep_default_na=False)
    assert list(table.columns[:3]) == ['bids_name', 'verdict', 'reasons']
    assert table['verdict'].tolist() == ['look', *['usable'] * 3, 'look', *['usable'] * 3]
    assert table['reasons'][0] == (
        'Scans of one head disagree in the size of its brain: T1w 900 mL, T2w 400 mL.'
    )
    assert '1300 mL, expected 250 to 700 at an age of 40' in table['reasons'][4]
    assert column(facts(page), 'Verdict').count('look') == 2


def test_same_bytes_again(group: Path) -> None:
    before = [path.read_bytes() for path in write_group(group, 'T2w')]
    assert [path.read_bytes() for path in write_group(group, 'T2w')] == before


def facts(page: Path) -> dict[str, Any]:
    """Return what the page tells its script."""
    found = re.search(r'^const FACTS = (.*);$', page.read_text(encoding='utf-8'), re.M)
    content: dict[str, Any] = json.loads(found.group(1))  # type: ignore[union-attr]
    return content


def column(told: dict[str, Any], name: str) -> list[Any]:
    number = next(n for n, c in enumerate(told['columns']) if c['name'] == name)
    return told['values'][number]


def test_page_marks_the_outlier_and_links_the_report(group: Path) -> None:
    page = write_group(group, 'T2w')[1]
    told = facts(page)
    number = next(n for n, c in enumerate(told['columns']) if c['key'] == 'cortex_volume_ml')
    assert [n for n, m in enumerate(told['marks']) if str(number) in m] == [7]
    assert 'robust z = +' in told['marks'][7][str(number)]
    assert told['reports'] == [1, *[0] * 7]
    assert column(told, 'Holes') == [1, 2, 3, None, 5, 6, 7, 8]
    text = page.read_text(encoding='utf-8')
    assert '<b>second' not in text
    assert column(told, 'Warnings')[2] == 'thick slices | <b>second</b>'
    assert not re.search(r'(?:src|href)="http', text)


def test_ages_and_groups_are_joined(group: Path, tmp_path: Path) -> None:
    raw = tmp_path / 'raw'
    (raw / 'sub-02').mkdir(parents=True)
    rows = [f'sub-{n:02d}\t{30 + n}\t{"FM"[n % 2]}\tname {n} <b>' for n in range(1, 12)]
    (raw / 'participants.tsv').write_text(
        'participant_id\tage\tsex\tname\n' + '\n'.join(rows) + '\n', encoding='utf-8'
    )
    (raw / 'sub-02' / 'sub-02_sessions.tsv').write_text(
        'session_id\tage\tscan_age\nses-02\t41.5\tn/a\n', encoding='utf-8'
    )
    tsv, page, *_ = write_group(group, 'T2w', bids_dir=raw)
    assert {c['unit'] for c in facts(page)['columns'] if c['group'] == 'Participant'} == {''}
    # some editors begin a file with a byte order mark
    (raw / 'participants.json').write_text(
        '\ufeff{"age": {"Units": "week"}, "sex": {}, "name": 3}', encoding='utf-8'
    )
    tsv, page, *_ = write_group(group, 'T2w', bids_dir=raw)
    told = facts(page)
    assert next(c['unit'] for c in told['columns'] if c['key'] == 'age') == 'week'
    assert column(told, 'age') == [31, 41.5, 33, 34, 35, 36, 37, 38]
    assert column(told, 'sex') == ['M', 'F'] * 4
    assert 'name' not in [c['key'] for c in told['columns']], 'it may tell who somebody is'
    assert 'scan_age' not in [c['key'] for c in told['columns']], 'it holds nothing'
    table = pd.read_csv(tsv, sep='\t')
    assert table['age'].tolist() == column(told, 'age')
    assert 'id="ages"' in page.read_text(encoding='utf-8')
    assert 'id="ages"' not in write_group(group, 'T2w')[1].read_text(encoding='utf-8')


def test_a_table_of_participants_that_is_none_is_named(group: Path, tmp_path: Path) -> None:
    raw = tmp_path / 'raw'
    raw.mkdir()
    (raw / 'participants.tsv').write_bytes(b'participant_id\tage\nsub-01\t3\t4\t5\n\xff\xfe')
    with pytest.raises(UserError, match=re.escape(str(raw / 'participants.tsv'))):
        write_group(group, 'T2w', bids_dir=raw)


def test_ratings_are_gathered(group: Path) -> None:
    (group / 'ratings').mkdir()
    rating = {'bids_name': 'sub-03_T2w', 'rating': 'fail', 'rater': 'JD', 'rated_at': '2026'}
    (group / 'ratings' / 'a.json').write_text(json.dumps(rating), encoding='utf-8')
    _, page, ratings, _ = write_group(group, 'T2w')
    assert ratings.read_text(encoding='utf-8').splitlines()[1].startswith('sub-03_T2w\tfail\tJD')
    assert column(facts(page), 'Rating')[2] == 'fail (JD)'
    assert '1 fail' in page.read_text(encoding='utf-8')


def test_pictures_are_those_beside_the_page(group: Path) -> None:
    folder = group / 'sub-02' / 'figures'
    folder.mkdir()
    (folder / 'sub-02_ses-02_desc-thumbnail_T2w.jpg').write_bytes(b'x')
    told = facts(write_group(group, 'T2w')[1])
    assert told['pictures'][:3] == ['', 'sub-02/figures/sub-02_ses-02_desc-thumbnail_T2w.jpg', '']


def test_nothing_left_out_is_not_told(group: Path) -> None:
    _, page, _, table = (path.read_text(encoding='utf-8') for path in write_group(group, 'T2w'))
    assert 'Left out' not in page
    assert table == 'participant_id\timage\tmessage\n'


def test_other_modalities_are_left_out(group: Path) -> None:
    folder = group / 'sub-01' / 'anat'
    (folder / 'sub-01_acq-x_qc.json').write_text(
        '{"bids_name": "sub-01_acq-x_T1w", "holes": 3}', encoding='utf-8'
    )
    assert 'T1w' not in write_group(group, 'T2w')[0].read_text(encoding='utf-8')
    assert (
        write_group(group, 'T1w')[0].read_text(encoding='utf-8')
        == 'bids_name\tverdict\treasons\tholes\nsub-01_acq-x_T1w\tusable\tn/a\t3\n'
    )


def test_nothing_to_collect_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='no QC file of a FLAIR image') as error:
        write_group(tmp_path, 'FLAIR')
    assert '\n' not in str(error.value)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize('content', ['', '[]', '{"holes": 1}', '{'])
def test_odd_qc_file_is_named_and_costs_no_other_image_its_row(content: str, group: Path) -> None:
    path = group / 'sub-01' / 'anat' / 'sub-01_qc.json'
    path.write_text(content, encoding='utf-8')
    left = left_out(group, group / 'raw', 'T2w', qc_records(group))
    table, page, _, missing = (p.read_text('utf-8') for p in write_group(group, 'T2w', left))
    assert len(table.splitlines()) == 8
    assert 'sub-01_qc.json is no QC file' in page
    assert missing.splitlines()[1].startswith('sub-01\tsub-01\tsub-01_qc.json is no QC file')


def test_page_and_table_where_no_image_has_a_result(tmp_path: Path) -> None:
    table, page, _, missing = (
        path.read_text('utf-8')
        for path in write_group(tmp_path, 'T2w', [LeftOut('sub-01_T2w', 'the file is empty')])
    )
    assert table == 'bids_name\n'
    assert 'the file is empty' in page
    assert 'the file is empty' in missing
