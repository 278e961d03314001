"""The numbers of an image, and the verdict that they lead to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from bids_segsr.imaging.volume import Volume
from bids_segsr.inference.qc_numbers import quality
from bids_segsr.inference.verdict import LOOK, USABLE, judge


def record_of(mask: np.ndarray, scan: np.ndarray, method: str = 'given', **maps: Any) -> Any:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    return quality(
        facts={'bids_name': 'sub-01_T2w', 'brain_volume_expected_ml': [40, 2100]},
        corrected=Volume(scan, affine),
        mask=mask,
        affine=affine,
        method=method,
        device='cpu',
        warnings=[],
        numbers={},
        maps=maps,
    )


def test_record_of_an_image_holds_what_it_is_judged_by() -> None:
    i, j, k = np.indices((60, 60, 40))
    ball = (i - 30) ** 2 + (j - 30) ** 2 + (k - 20) ** 2 < 16**2
    rng = np.random.default_rng(0)
    scan = rng.uniform(90, 110, ball.shape).astype(np.float32)
    scan[ball] *= 2
    scan[ball & (i % 8 < 4)] *= 1.2
    none, some = np.zeros(ball.shape), np.full(ball.shape, 0.1)
    record = record_of(ball, scan, entropy=some, disagreement=none)
    assert record['brain_volume_ml'] == pytest.approx(4 / 3 * np.pi * 16**3 * 8 / 1000, rel=0.02)
    assert record['brain_solidity'] == pytest.approx(0.93, abs=0.04)
    assert record['brain_brightness'] == pytest.approx(2.2, rel=0.02)
    assert (record['brain_at_border'], record['brain_pieces']) == (0, 1)
    assert record['entropy_mean'] == pytest.approx(0.1)
    assert 'disagreement_mean' not in record  # of one patch it says nothing
    assert record_of(ball, scan, disagreement=some)['disagreement_mean'] == pytest.approx(0.1)
    assert judge(record).word == USABLE
    bent = ball & ((i < 30) | (k < 20))  # a quarter is missing
    bent[28:32, 28:32, :] = True
    assert judge(record_of(bent, scan)).word != USABLE
    cut = ball & (k < 24)
    assert judge(record_of(cut[:, :, :24], scan[:, :, :24])).word == LOOK
    assert 'brain_solidity' not in record_of(np.ones_like(ball), scan, 'skipped')


def test_a_uniform_phantom_is_no_brain_and_a_newborn_of_hardly_any_contrast_is_one() -> None:
    """A ball of 1,490 mL, and a brain of that size whose tissues lie 7 % apart."""
    index = np.indices((80, 80, 80)) - 39.5
    ball = (index**2).sum(0) < 35.4**2
    rng = np.random.default_rng(0)
    phantom = np.where((index**2).sum(0) < 40**2, 1000.0, 0)
    grain = np.abs(rng.normal(0, 20, ball.shape))
    uniform = record_of(ball, (phantom + grain).astype(np.float32))
    assert uniform['brain_volume_ml'] == pytest.approx(1490, rel=0.01)
    assert judge(uniform).word == LOOK
    assert 'no tissues that differ' in judge(uniform).reasons[0]
    tissues = ndimage.gaussian_filter(rng.normal(size=ball.shape), 2)
    faint = phantom * (1 + 0.07 * tissues / tissues.std()) + grain
    assert judge(record_of(ball, faint.astype(np.float32))).word == USABLE


@pytest.mark.filterwarnings('error')
def test_a_mask_that_the_grid_is_too_coarse_for() -> None:
    scan = np.random.default_rng(0).uniform(90, 110, (12, 12, 8)).astype(np.float32)
    record = record_of(np.zeros(scan.shape, bool), scan, entropy=np.ones(scan.shape))
    assert record['brain_volume_ml'] == 0
    assert 'entropy_mean' not in record
