"""Volumes as they are shown: canonical axes, grey window, where they are cut."""

from __future__ import annotations

import numpy as np
import pytest
from geometry_phantoms import oblique_affine

from bids_segsr.reports.drawing.display_volume import (
    box_around,
    foreground,
    read,
    sampled,
    spread_cuts,
    window,
)


def test_axes_run_to_right_anterior_superior_and_points_keep_their_place() -> None:
    data = np.zeros((4, 5, 3))
    data[1, 4, 2] = 7
    data[0, 0, 0] = np.nan
    affine = oblique_affine((1.0, 1.0, 3.0), (12, -7, 20))
    place = affine @ [1, 4, 2, 1]
    # stored from left to right, and turned so that the slices lie along the first axis
    turned = affine[:, [2, 0, 1, 3]] @ np.diag([1.0, -1.0, 1.0, 1.0])
    turned[:3, 3] = affine[:3, 3] + 3 * affine[:3, 0]
    stored = np.moveaxis(data, 2, 0)[:, ::-1]
    for source in ((data, affine), (stored, turned)):
        volume = read(source)
        assert volume.data.shape == (4, 5, 3)
        assert volume.slice_axis == 2
        assert np.isfinite(volume.data).all()
        (at,) = np.argwhere(volume.data == 7)
        np.testing.assert_allclose(volume.affine @ [*at, 1], place, atol=1e-3)
        np.testing.assert_allclose(volume.spacing, (1, 1, 3))
    assert read((data, affine), slice_axis=0).slice_axis == 0


def test_window_leaves_out_the_brightest_and_is_never_empty() -> None:
    data = np.zeros((10, 10, 10))
    data[2:8, 2:8, 2:8] = np.linspace(100, 200, 216).reshape(6, 6, 6)
    data[5, 5, 5] = 10_000
    low, high = window(data > 0, data)
    assert low == 0
    assert high == pytest.approx(200, abs=2)
    assert window(np.ones((3, 3, 3), bool), np.full((3, 3, 3), 5.0)) == (4, 6)


def test_window_and_foreground_of_a_large_image_are_those_of_all_its_voxels() -> None:
    rng = np.random.default_rng(0)
    data = np.zeros((200, 180, 160), np.float32)
    brain = np.s_[40:160, 40:140, 40:120]
    data[brain] = rng.gamma(9.0, 30.0, data[brain].shape)
    assert data.size > 4 * sampled(data).size
    np.testing.assert_array_equal(sampled(data), sampled(data))
    where = data > 0
    exact = np.percentile(data[where], 99.5)
    assert window(where, data) == pytest.approx((0, exact), rel=0.01)
    bright = data > 0.1 * np.percentile(data, 99)
    assert (foreground(data) != bright).mean() < 1e-3


def test_a_single_voxel_of_a_large_image_has_a_window() -> None:
    data = np.zeros((700, 700, 3), np.float32)
    data[351, 351, 1] = 7
    assert window(data > 0, data) == (0, 7)


def test_box_is_wider_by_millimetres_and_ends_with_the_array() -> None:
    mask = np.zeros((30, 30, 10), bool)
    mask[10:12, 1:3, 4] = True
    assert box_around(mask, (1.0, 2.0, 3.0)) == (slice(4, 18), slice(0, 6), slice(2, 7))
    assert box_around(mask & False, (1, 1, 1)) == (slice(0, 30), slice(0, 30), slice(0, 10))


def test_cuts_divide_the_volume_in_equal_parts() -> None:
    mask = np.zeros((40, 4, 4), bool)
    mask[20:32] = True
    # a quarter of twelve slices ends with the third of them
    assert spread_cuts(mask, 0, 3) == [22, 25, 28]
    assert spread_cuts(mask, 1, 9) == [0, 1, 2, 3]
