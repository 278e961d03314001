from __future__ import annotations

import numpy as np
import pytest
from geometry_phantoms import all_orientations, centre_of_mass, gaussian_blob, oblique_affine

from bids_segsr.imaging.conform import slice_axis
from bids_segsr.imaging.degrade import degrade, thick_slice_grid
from bids_segsr.imaging.resample import FWHM_PER_SIGMA, Grid


@pytest.mark.parametrize('axis', [0, 1, 2])
@pytest.mark.parametrize('thickness', [2.0, 3.0, 3.7])
def test_thick_slices_of_a_gaussian_are_a_gaussian_of_known_width(axis, thickness):
    affine = oblique_affine((0.8, 0.8, 0.8), (10, 4, -6))
    shape = (60, 60, 60)
    centre = affine[:3, :3] @ np.array([29.2, 30.4, 29.7]) + affine[:3, 3]
    sigma = 5.0
    blob = gaussian_blob(shape, affine, centre, sigma)
    grid = thick_slice_grid(shape, affine, 3.0, axis)
    acquired = degrade(blob, affine, grid, thickness)
    assert slice_axis(grid.spacing) == axis
    assert np.linalg.norm(centre_of_mass(acquired, grid.affine) - centre) < 0.01

    # along the slices, variances add; the amplitude falls as the Gaussian widens
    wider = np.hypot(sigma, thickness / FWHM_PER_SIGMA)
    direction = grid.affine[:3, axis] / 3.0
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing='ij'), -1)
    points = index @ grid.affine[:3, :3].T + grid.affine[:3, 3] - centre
    along = points @ direction
    across = (points**2).sum(-1) - along**2
    expected = sigma / wider * np.exp(-(along**2) / (2 * wider**2) - across / (2 * sigma**2))
    np.testing.assert_allclose(acquired, expected, atol=3e-3)


def test_all_48_orientations_of_the_slices_acquire_the_same():
    affine = oblique_affine((1.0, 1.0, 1.0))
    shape = (36, 40, 33)
    rng = np.random.default_rng(3)
    points = affine[:3, :3] @ rng.uniform(10, 24, (3, 3)) + affine[:3, 3:]
    fine = sum(gaussian_blob(shape, affine, point, 3.0) for point in points.T)
    slices = thick_slice_grid(shape, affine, 3.0, 2)
    expected = np.sort(degrade(fine, affine, slices).ravel())
    for turned_shape, turned in all_orientations(slices.shape, slices.affine):
        acquired = degrade(fine, affine, Grid(turned_shape, turned))
        np.testing.assert_allclose(np.sort(acquired.ravel()), expected, atol=1e-4)


def test_constant_stays_constant():
    affine = oblique_affine((1.0, 1.0, 1.0))
    grid = thick_slice_grid((20, 20, 20), affine, 4.0, 0)
    assert grid.shape == (5, 20, 20)
    np.testing.assert_allclose(degrade(np.full((20, 20, 20), 7.0), affine, grid), 7.0, rtol=1e-5)
