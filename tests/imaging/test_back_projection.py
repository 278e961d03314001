"""What back-projection puts back, on phantoms whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import all_orientations, oblique_affine
from scipy.ndimage import gaussian_filter

from bids_segsr.imaging.back_projection import Slices, back_project
from bids_segsr.imaging.degrade import degrade, thick_slice_grid
from bids_segsr.imaging.metrics import psnr
from bids_segsr.imaging.resample import Grid, isotropic_grid, resample

SHAPE = (36, 32, 30)


@pytest.fixture
def truth():
    noise = np.random.default_rng(3).normal(size=SHAPE)
    return (100 + 200 * gaussian_filter(noise, 1.5)).astype(np.float32)


@pytest.fixture
def affine():
    return oblique_affine((1.0, 1.0, 1.0), (9, -14, 21))


def acquire(truth, affine, thickness=None):
    grid = thick_slice_grid(truth.shape, affine, 3.0, 2)
    return Slices(degrade(truth, affine, grid, thickness), grid.affine, affine, thickness)


def test_true_image_stays_as_it_is(truth, affine):
    everywhere = np.ones(SHAPE, bool)
    found = back_project(truth, everywhere, acquire(truth, affine), 1.0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, truth, atol=1e-2)


@pytest.mark.parametrize('share', [0.0, 0.25, 1.0])
def test_share_of_a_shift_is_taken_back(truth, affine, share):
    everywhere = np.ones(SHAPE, bool)
    found = back_project(truth + 8, everywhere, acquire(truth, affine), share)
    np.testing.assert_allclose(found, truth + 8 * (1 - share), atol=2e-2)


def test_interpolated_image_comes_closer_to_the_truth(truth, affine):
    slices = acquire(truth, affine)
    everywhere = np.ones(SHAPE, bool)
    spline = resample(slices.data, slices.affine, Grid(SHAPE, affine))
    scores = [
        psnr(truth, back_project(spline, everywhere, slices, share), everywhere)
        for share in (0.0, 0.5, 1.0)
    ]
    assert scores[0] == pytest.approx(psnr(truth, spline, everywhere))
    assert scores[0] + 0.3 < scores[1] < scores[2]


def test_thickness_is_that_of_the_slices(truth, affine):
    """Of slices that are thinner than their distance, the wrong thickness changes the truth."""
    slices = acquire(truth, affine, thickness=1.5)
    everywhere = np.ones(SHAPE, bool)
    np.testing.assert_allclose(back_project(truth, everywhere, slices, 1.0), truth, atol=1e-2)
    thick = Slices(slices.data, slices.affine, affine)
    assert np.abs(back_project(truth, everywhere, thick, 1.0) - truth).mean() > 1


def test_what_lies_around_the_mask_does_not_leak_in(truth, affine):
    """Bright slices beside the mask are no difference, but for the blur of their interpolation."""
    mask = np.zeros(SHAPE, bool)
    mask[8:28, 8:24, 9:21] = True
    head = np.where(mask, truth, 300).astype(np.float32)
    slices = acquire(head, affine)
    found = back_project(np.where(mask, head, 0), mask, slices, 1.0)
    assert not found[~mask].any()
    inner = np.zeros(SHAPE, bool)
    inner[9:27, 9:23, 12:18] = True
    assert np.abs(found - truth)[inner].mean() < 2


def test_difference_lies_where_the_slices_show_it():
    """In every orientation of the scan, a ball that is lacking is put where it was."""
    shape, affine = (28, 26, 12), oblique_affine((1.5, 1.5, 4.0), (11, -8, 17))
    centre = affine[:3, :3] @ np.array([13.2, 12.4, 5.8]) + affine[:3, 3]
    for turned_shape, turned in all_orientations(shape, affine):
        index = np.stack(np.meshgrid(*map(np.arange, turned_shape), indexing='ij'), -1)
        apart = np.linalg.norm(index @ turned[:3, :3].T + turned[:3, 3] - centre, axis=-1)
        scan = np.exp(-((apart / 8) ** 2)).astype(np.float32)
        grid = isotropic_grid(turned_shape, turned, 1.5)
        everywhere = np.ones(grid.shape, bool)
        found = back_project(
            np.zeros(grid.shape, np.float32), everywhere, Slices(scan, turned, grid.affine), 1.0
        )
        voxels = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing='ij'), -1)
        points = voxels @ grid.affine[:3, :3].T + grid.affine[:3, 3]
        mean = (points * found[..., None]).sum((0, 1, 2)) / found.sum()
        np.testing.assert_allclose(mean, centre, atol=0.05)
