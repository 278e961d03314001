"""Repeats and outliers on the page of a group."""

from __future__ import annotations

import numpy as np
import pytest

from bids_segsr.reports.group_page import repeats, robust_z


def test_runs_of_one_head_are_compared() -> None:
    names = ('sub-01_run-1_T2w', 'sub-01_run-2_T2w', 'sub-02_T2w', 'sub-03_run-1_T2w')
    volumes = (95.0, 105.0, 300.0, None)
    records = [
        {'bids_name': name, 'cortex_volume_ml': volume}
        for name, volume in zip(names, volumes, strict=True)
    ]
    told = repeats(records)
    assert told['total'] == 1
    (row,) = told['rows']
    assert row['head'] == 'sub-01'
    assert row['images'] == 'run-1_T2w, run-2_T2w'
    assert row['cells'] == [('95, 105', '10.0 %')]


def test_robust_z() -> None:
    z = robust_z([1, 2, 3, 4, 5, None, 100])
    assert z[5] == 0
    assert z[2] == pytest.approx(0.6745 * (3 - 3.5) / 1.5)
    assert z[6] > 3
    np.testing.assert_array_equal(robust_z([1, 2, 3, 100]), np.zeros(4))
    np.testing.assert_array_equal(robust_z([1, 1, 1, 1, 9]), np.zeros(5))
