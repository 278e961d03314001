from __future__ import annotations

import numpy as np
import pytest
from geometry_phantoms import all_orientations, centre_of_mass, gaussian_blob, oblique_affine
from scipy.ndimage import map_coordinates

from bids_segsr.imaging.conform import acquired_axis
from bids_segsr.imaging.degrade import thick_slice_grid
from bids_segsr.imaging.measures.metrics import dice
from bids_segsr.imaging.resample import (
    Grid,
    auto_resolution,
    isotropic_grid,
    resample,
    resample_mask,
)

SHAPE = (44, 40, 16)
SPACING = (1.0, 1.1, 3.0)
ANGLES = [(0, 0, 0), (12, -7, 20), (-31, 25, 8)]


@pytest.mark.parametrize('degrees', ANGLES)
def test_a_point_stays_where_it_was_in_all_48_orientations(degrees):
    affine = oblique_affine(SPACING, degrees)
    centre = affine[:3, :3] @ np.array([21.3, 19.1, 7.6]) + affine[:3, 3]
    for shape, turned in all_orientations(SHAPE, affine):
        grid = isotropic_grid(shape, turned, 0.8)
        blob = gaussian_blob(shape, turned, centre, sigma=4.0)
        found = centre_of_mass(resample(blob, turned, grid), grid.affine)
        assert np.linalg.norm(found - centre) < 1e-3


@pytest.mark.parametrize('degrees', ANGLES)
def test_the_grid_is_the_same_for_all_48_orientations(degrees):
    affine = oblique_affine(SPACING, degrees)
    expected = isotropic_grid(SHAPE, affine, 0.7)
    for shape, turned in all_orientations(SHAPE, affine):
        grid = isotropic_grid(shape, turned, 0.7)
        assert grid.shape == expected.shape
        np.testing.assert_allclose(grid.affine, expected.affine, atol=1e-9)
        axis = acquired_axis(turned, grid.affine)
        slices = affine[:3, 2] / 3.0
        assert abs(grid.affine[:3, axis] / 0.7 @ slices) > 0.999


def test_field_of_view_is_covered_and_keeps_its_centre():
    for shape, resolution in (((44, 40, 16), 0.8), ((31, 29, 7), 0.51), ((20, 20, 33), 0.5)):
        affine = oblique_affine(SPACING)
        grid = isotropic_grid(shape, affine, resolution)
        old_extent = np.array(shape) * SPACING
        new_extent = np.array(grid.shape) * resolution
        assert (new_extent >= old_extent - 1e-2).all()
        assert (new_extent < old_extent + resolution).all()
        old_centre = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
        new_centre = grid.affine[:3, :3] @ ((np.array(grid.shape) - 1) / 2) + grid.affine[:3, 3]
        np.testing.assert_allclose(new_centre, old_centre, atol=1e-9)


def test_values_are_those_of_a_cubic_b_spline_mirrored_at_the_border():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(17, 15, 9)).astype(np.float32)
    affine = oblique_affine((1.0, 1.0, 3.0), (5, 9, -14))
    grid = isotropic_grid(data.shape, affine, 0.75)
    result = resample(data, affine, grid)
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing='ij'))
    voxels = np.linalg.inv(affine) @ grid.affine
    coordinates = np.einsum('ab,bxyz->axyz', voxels[:3, :3], index) + voxels[:3, 3].reshape(
        3, 1, 1, 1
    )
    expected = map_coordinates(data, coordinates, order=3, mode='mirror')
    inside = np.all(
        [(c > -0.49) & (c < n - 0.51) for c, n in zip(coordinates, data.shape, strict=True)],
        axis=0,
    )
    assert inside.mean() > 0.9
    np.testing.assert_allclose(result[inside], expected[inside], atol=2e-4)


def test_coarser_axes_are_smoothed_against_aliasing():
    x = np.arange(96)
    stripes = np.broadcast_to((x % 2).astype(np.float32)[:, None, None], (96, 16, 16)).copy()
    affine = oblique_affine((0.4, 0.4, 0.4))
    grid = isotropic_grid(stripes.shape, affine, 1.0)
    # the stripes are finer than the grid can show: nothing but their mean may be left
    assert np.abs(resample(stripes, affine, grid)[2:-2] - 0.5).max() < 0.03
    same = Grid(stripes.shape, affine)
    np.testing.assert_allclose(resample(stripes, affine, same), stripes, atol=1e-5)


@pytest.mark.parametrize(
    ('spacing', 'expected'),
    [
        ((0.45, 0.45, 3.0), 0.5),
        ((0.513, 0.513, 4.0), 0.51),
        ((3.3, 1.125, 1.125), 1.0),
        ((0.8, 3.0, 0.7), 0.7),
        ((1.0, 1.0, 1.0), 1.0),
    ],
)
def test_auto_resolution(spacing, expected):
    assert auto_resolution(spacing) == pytest.approx(expected)


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_masks_follow_the_shape_between_thick_slices(axis):
    def ellipsoid(shape, affine):
        index = np.stack(np.meshgrid(*map(np.arange, shape), indexing='ij'), -1)
        points = index @ affine[:3, :3].T + affine[:3, 3] - centre
        return np.linalg.norm(points / [34, 27, 30], axis=-1) < 1

    affine = oblique_affine((1.0, 1.0, 1.0), (0, 0, 0))
    centre = affine[:3, 3] + 40
    thick = thick_slice_grid((80, 80, 80), affine, 4.0, axis)
    mask = ellipsoid(thick.shape, thick.affine)
    fine = Grid((80, 80, 80), affine)
    truth = ellipsoid(fine.shape, fine.affine)
    by_shape = dice(resample_mask(mask, thick.affine, fine), truth)
    staircase = dice(resample(mask, thick.affine, fine, order=1) >= 0.5, truth)
    assert by_shape > 0.98
    assert 1 - by_shape < 0.7 * (1 - staircase)


def test_masks_of_all_or_nothing_stay():
    affine = oblique_affine((1.0, 1.0, 3.0))
    grid = isotropic_grid((9, 9, 5), affine, 1.0)
    assert resample_mask(np.ones((9, 9, 5), dtype=bool), affine, grid).all()
    assert not resample_mask(np.zeros((9, 9, 5), dtype=bool), affine, grid).any()
