"""Shape, place and brightness of a brain mask, on masks of known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bids_segsr.imaging.brain_mask import (
    brightness,
    otsu_foreground,
    pieces,
    share_at_border,
    solidity,
)


def test_shape_of_a_mask() -> None:
    i, j, k = np.indices((80, 90, 28), dtype=float)
    spacing = (1.0, 1.0, 3.0)
    ball = (i - 40) ** 2 + (j - 45) ** 2 + (3 * k - 42) ** 2 < 35**2
    assert solidity(ball, spacing) == pytest.approx(0.93, abs=0.04)
    folded = ball & ~((np.abs(i - 40) < 3) & (j > 45))
    assert solidity(folded, spacing) == pytest.approx(solidity(ball, spacing), abs=0.01)
    block = np.zeros((60, 60, 60), dtype=bool)
    block[10:50, 10:50, 10:50] = True
    assert solidity(block, (1.0, 1.0, 1.0)) == pytest.approx(1, abs=1e-3)
    block[30:, 30:] = False  # three quarters of the block; the hull is cut across the corner: 7/8
    assert solidity(block, (1.0, 1.0, 1.0)) == pytest.approx(0.75 / 0.875, abs=0.03)
    assert math.isnan(solidity(np.zeros((4, 4, 4), dtype=bool), (1.0, 1.0, 1.0)))


def test_an_average_adult_brain_has_the_shape_of_one() -> None:
    from nilearn.datasets import load_mni152_brain_mask

    mask = np.asarray(load_mni152_brain_mask(resolution=2).dataobj) > 0
    assert 0.84 < solidity(mask, (2.0, 2.0, 2.0)) < 0.92


def test_border_pieces_and_brightness_of_a_mask() -> None:
    mask = np.zeros((20, 20, 10), dtype=bool)
    assert share_at_border(mask) == 0
    mask[5:15, 5:15, 3:] = True
    assert share_at_border(mask) == 1
    mask[5:10, 5:15, -1] = False
    assert share_at_border(mask) == pytest.approx(0.5)
    assert pieces(mask) == 1
    mask[0:2, 0:3, 0:3] = True
    assert pieces(mask) == 2
    mask[0:2, 0:3, 0:3] = False
    mask[0, 0, 0] = True  # a speck
    assert pieces(mask) == 1
    data = np.random.default_rng(0).uniform(80, 120, mask.shape)
    data[mask] *= 3
    assert brightness(data, mask) == pytest.approx(3, rel=0.02)
    assert brightness(np.where(mask, data, 0), mask) is None
    assert brightness(data, np.ones_like(mask)) is None


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('slices', [3, 4])
def test_few_slices_are_no_colours(slices: int) -> None:
    data = np.zeros((20, 18, slices))
    data[4:12, 5:15] = 100
    assert (otsu_foreground(data) == (data > 0)).all()
