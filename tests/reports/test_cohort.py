"""Where an image lies in its cohort, as its report tells it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_group import make_group
from test_subject import RUN, make_tree

from bids_segsr.reports.cohort import Distribution
from bids_segsr.reports.group import write_group
from bids_segsr.reports.subject import export_single_file, generate_report


def told(report: Path) -> dict[str, Any]:
    """Return what a report tells its script."""
    found = re.search(r'id="cohort">([^<]*)</script>', report.read_text(encoding='utf-8'))
    content: dict[str, Any] = json.loads(found.group(1))  # type: ignore[union-attr]
    return content


def test_share_below_and_distance_from_the_median() -> None:
    cohort = Distribution.of([1, 2, 3, 4, 100])
    assert cohort is not None
    assert cohort.quartiles == (2, 3, 4)
    assert [cohort.below(x) for x in (0, 3, 3.5, 200)] == [0, 0.5, 0.6, 1]
    assert cohort.robust_z(100) == pytest.approx(0.6745 * 97)
    assert Distribution.of([1, 2, 3, 4]) is None
    equal = Distribution.of([2.0] * 6)
    assert equal is not None
    assert equal.robust_z(9.0) == 0
    assert equal.below(2) == 0.5


def test_group_level_tells_reports_their_places_and_a_later_report_knows_them(
    tmp_path: Path,
) -> None:
    settings = make_tree(tmp_path, '09')
    report = generate_report(tmp_path, '09', RUN, settings)
    assert told(report) == {'pages': [], 'images': {}}
    make_group(tmp_path)  # cortex 91 to 97 and 500 mL, and three images of 98.51 to 100.51
    write_group(tmp_path, 'T2w')
    places = told(report)
    assert places['pages'] == ['group_T2w.html']
    assert set(places['images']) == {f'sub-09_{n}_T2w' for n in (
        'ses-01', 'ses-02_run-1', 'ses-02_run-10',
    )}  # fmt: skip
    first = places['images']['sub-09_ses-01_T2w']
    assert (first['of'], first['modality']) == (11, 'T2w')
    quartiles = np.percentile([*range(91, 98), 98.51, 99.51, 100.51, 500], (25, 50, 75))
    assert first['places']['cortex_volume_ml'] == pytest.approx(
        [98.51, 91, *quartiles, 500, 100 * 7.5 / 11, 0], abs=0.01
    )
    before = report.read_bytes()
    write_group(tmp_path, 'T2w')
    assert report.read_bytes() == before
    assert generate_report(tmp_path, '09', RUN, settings).read_bytes() == before
    single = told(export_single_file(report))
    assert single['pages'] == []
    assert single['images'] == places['images']


def test_outlier_is_told(tmp_path: Path) -> None:
    make_group(tmp_path, 12)
    write_group(tmp_path, 'T2w')
    places = told(generate_report(tmp_path, '12', RUN, {}))['images']['sub-12_T2w']['places']
    assert places['cortex_volume_ml'][-1] == 1
    assert places['holes'][-1] == 0
