"""Intensities begin at 0, and what is no signal is clipped."""

from __future__ import annotations

import numpy as np

from bids_segsr.imaging.intensities import outer_background, settle


def test_a_head_that_fills_little_of_a_noisy_image_keeps_its_intensities():
    rng = np.random.default_rng(0)
    data = np.abs(rng.normal(0, 2, (100, 100, 40))).astype(np.float32)
    data[48:52, 48:52, 19:21] = 4000 + 200 * rng.random((4, 4, 2))  # 32 of 400,000 voxels
    settled, warnings = settle(data)
    assert warnings == []
    np.testing.assert_array_equal(settled, data)


def test_the_background_of_a_stripped_brain_is_found_and_becomes_0():
    data = np.full((20, 20, 10), -7.0, dtype=np.float32)
    data[5:15, 5:15, 2:8] = np.random.default_rng(0).uniform(100, 200, (10, 10, 6))
    assert outer_background(data) == -7
    settled, _ = settle(data)
    assert settled[0, 0, 0] == settled.min() == 0
    data[0] = np.random.default_rng(1).uniform(0, 9, (20, 10))  # noise at one face
    assert outer_background(data) is None
