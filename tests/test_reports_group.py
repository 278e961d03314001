"""The group table: every image once, missing numbers told, outliers marked."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bids_segsr.exceptions import UserError
from bids_segsr.reports.group import robust_z, write_group


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


@pytest.fixture
def group(tmp_path: Path) -> Path:
    make_group(tmp_path)
    return tmp_path


def test_table_holds_every_image_once(group: Path) -> None:
    paths = write_group(group, 'T2w')
    assert [path.name for path in paths] == ['group_T2w.tsv', 'group_T2w.html']
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


def test_same_bytes_again(group: Path) -> None:
    before = [path.read_bytes() for path in write_group(group, 'T2w')]
    assert [path.read_bytes() for path in write_group(group, 'T2w')] == before


def test_page_marks_the_outlier_and_links_the_report(group: Path) -> None:
    page = write_group(group, 'T2w')[1].read_text(encoding='utf-8')
    assert re.findall(r'class="number outlier"[^>]*>([^<]+)<', page) == ['500']
    assert '<a href="./sub-01.html">sub-01_T2w</a>' in page
    assert 'sub-02.html' not in page
    assert '&lt;b&gt;second&lt;/b&gt;' in page
    assert 'n/a' in page
    assert not re.search(r'(?:src|href)="http', page)


def test_other_modalities_are_left_out(group: Path) -> None:
    folder = group / 'sub-01' / 'anat'
    (folder / 'sub-01_acq-x_qc.json').write_text(
        '{"bids_name": "sub-01_acq-x_T1w", "holes": 3}', encoding='utf-8'
    )
    assert 'T1w' not in write_group(group, 'T2w')[0].read_text(encoding='utf-8')
    assert (
        write_group(group, 'T1w')[0].read_text(encoding='utf-8')
        == 'bids_name\tholes\nsub-01_acq-x_T1w\t3\n'
    )


def test_nothing_to_collect_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='no QC file of a FLAIR image') as error:
        write_group(tmp_path, 'FLAIR')
    assert '\n' not in str(error.value)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize('content', ['', '[]', '{"holes": 1}', '{'])
def test_odd_qc_file_is_named(content: str, group: Path) -> None:
    path = group / 'sub-01' / 'anat' / 'sub-01_qc.json'
    path.write_text(content, encoding='utf-8')
    with pytest.raises(UserError, match=re.escape(str(path))):
        write_group(group, 'T2w')


def test_robust_z() -> None:
    z = robust_z([1, 2, 3, 4, 5, None, 100])
    assert z[5] == 0
    assert z[2] == pytest.approx(0.6745 * (3 - 3.5) / 1.5)
    assert z[6] > 3
    np.testing.assert_array_equal(robust_z([1, 2, 3, 100]), np.zeros(4))
    np.testing.assert_array_equal(robust_z([1, 1, 1, 1, 9]), np.zeros(5))
