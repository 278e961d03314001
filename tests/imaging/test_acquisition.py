"""Forward models: geometry, profiles, k-space, parts of an image."""

from __future__ import annotations

import numpy as np
import pytest
from geometry_phantoms import centre_of_mass, gaussian_blob, oblique_affine
from scipy.ndimage import fourier_shift, gaussian_filter
from scipy.signal import resample as fourier_resample

from bids_segsr.exceptions import UserError
from bids_segsr.imaging.acquisition import (
    Acquisition,
    acquire,
    draw_acquisition,
    interpolate,
    region_of,
)
from bids_segsr.imaging.conform import spacing_of
from bids_segsr.imaging.degrade import ForwardModel, degrade, thick_slice_grid
from bids_segsr.imaging.resample import FWHM_PER_SIGMA, Grid, resample

SHAPE = (52, 50, 54)


def drawn(spacing, seed=0, **fields):
    return draw_acquisition(ForwardModel(**fields), spacing, np.random.default_rng(seed))


@pytest.fixture(scope='module')
def texture():
    noise = np.random.default_rng(5).normal(size=(40, 44, 60))
    return gaussian_filter(noise, 1.2).astype(np.float32)


@pytest.mark.parametrize('axis', [0, 1, 2])
@pytest.mark.parametrize(
    ('fields', 'atol'),
    [
        ({'spacing_mm': (3.0, 3.0)}, 0.01),
        ({'spacing_mm': (2.73, 2.73)}, 0.01),
        ({'spacing_mm': (2.73, 2.73), 'profile': 'box', 'gap': (0.3, 0.3)}, 0.01),
        ({'factor': (2.5, 2.5), 'in_plane_mm': (1.1, 1.1)}, 0.01),
        ({'kind': 'isotropic', 'factor': (2.5, 2.5), 'sigma': 1.0}, 0.01),
        ({'kind': 'k-space', 'factor': (2.0, 2.0), 'interpolation': 'linear'}, 0.01),
        ({'kind': 'k-space', 'factor': (2.3, 2.3), 'interpolation': 'zero-fill'}, 0.01),
    ],
)
def test_input_and_target_are_aligned_within_a_hundredth_of_a_voxel(axis, fields, atol):
    affine = oblique_affine((0.8, 0.8, 0.8), (20, -13, 35))
    centre = affine[:3, :3] @ np.array([25.3, 24.6, 26.8]) + affine[:3, 3]
    fine = gaussian_blob(SHAPE, affine, centre, 3.0)
    acquisition = drawn(spacing_of(affine), axis=axis, **fields)
    low, grid = acquire(fine, affine, acquisition)
    back = interpolate(low, SHAPE, affine, acquisition)
    limit = atol * 0.8
    assert np.linalg.norm(centre_of_mass(low, grid.affine) - centre) < limit
    assert np.linalg.norm(centre_of_mass(back, affine) - centre) < limit
    # a second, independent estimate: the slope of the phase of the cross-spectrum
    assert np.abs(phase_shift(fine, back)).max() < atol


def phase_shift(a, b):
    """Shift of b against a in voxels, from the lowest frequency of each axis."""
    a, b = np.fft.fftn(a), np.fft.fftn(b)
    lowest = [tuple(int(n == axis) for n in range(3)) for axis in range(3)]
    return np.array([
        -np.angle(b[at] * a[at].conj()) * n / (2 * np.pi)
        for at, n in zip(lowest, a.shape, strict=True)
    ])  # fmt: skip


def test_phase_shift_sees_a_hundredth_of_a_voxel():
    blob = gaussian_blob(SHAPE, np.eye(4), np.array([25, 24, 26]), 4.0)
    moved = np.fft.ifftn(fourier_shift(np.fft.fftn(blob), (0.0, 0.02, -0.01))).real
    np.testing.assert_allclose(phase_shift(blob, moved), (0, 0.02, -0.01), atol=1e-4)


def test_thick_slices_agree_with_those_of_any_direction(texture):
    affine = oblique_affine((0.8, 0.8, 0.5), (5, 0, 9))
    acquisition = drawn((0.8, 0.8, 0.5), spacing_mm=(2.7, 2.7))
    low, grid = acquire(texture, affine, acquisition)
    expected = thick_slice_grid(texture.shape, affine, 2.7, 2)
    np.testing.assert_allclose(grid.affine, expected.affine, atol=1e-9)
    reference = degrade(texture, affine, expected)
    np.testing.assert_allclose(low[:, :, 2:-2], reference[:, :, 2:-2], atol=5e-4)


def test_interpolation_is_that_of_the_workflow(texture):
    affine = oblique_affine((0.8, 0.8, 0.5), (5, 0, 9))
    acquisition = drawn((0.8, 0.8, 0.5), spacing_mm=(2.7, 2.7), in_plane_mm=(1.3, 1.3))
    low, grid = acquire(texture, affine, acquisition)
    back = interpolate(low, texture.shape, affine, acquisition)
    expected = resample(low, grid.affine, Grid(texture.shape, affine))
    # beyond the outermost samples ITK takes the nearest voxel along all axes
    inner = (slice(2, -2),) * 3
    np.testing.assert_allclose(back[inner], expected[inner], atol=1e-5)


@pytest.mark.parametrize(
    'fields',
    [
        {'spacing_mm': (3.0, 3.0)},
        {'spacing_mm': (2.0, 4.0), 'axis': 0, 'profile': 'box'},
        {'kind': 'isotropic', 'factors': ((2.0, 2.5, 3.0),)},
        {'kind': 'k-space', 'factors': ((2.0, 2.0, 1.0),), 'interpolation': 'linear'},
    ],
)
def test_part_of_the_image_is_that_of_the_whole(texture, fields):
    acquisition = drawn((0.8, 0.8, 0.8), **fields)
    whole = interpolate(
        acquire(texture, np.diag([0.8, 0.8, 0.8, 1]), acquisition)[0],
        texture.shape,
        np.diag([0.8, 0.8, 0.8, 1]),
        acquisition,
    )
    region = region_of(texture.shape, (0.8, 0.8, 0.8), acquisition, (3, 20, 24), (16, 12, 14))
    part = region.interpolate(region.acquire(texture[region.source]))
    expected = whole[3:19, 20:32, 24:38]
    np.testing.assert_allclose(part, expected, atol=1e-3 * np.ptp(texture))
    np.testing.assert_array_equal(
        texture[region.source][region.inner], texture[3:19, 20:32, 24:38]
    )


def test_region_does_not_grow_with_the_image():
    acquisition = Acquisition('thick-slices', (0.5, 0.5, 3.0), 2, 3.0)
    sizes = [
        region_of((n, n, n), (0.5, 0.5, 0.5), acquisition, (90, 90, 90), (64, 64, 64)).source
        for n in (240, 480)
    ]
    reads = [[part.stop - part.start for part in source] for source in sizes]
    assert reads[0] == reads[1]
    assert reads[0][:2] == [64, 64]
    assert reads[0][2] < 64 + 2 * 8 * 6


def test_fwhm_of_the_slices_is_the_thickness_in_mm():
    affine = np.diag([0.5, 0.5, 0.5, 1.0])
    line = np.zeros((3, 3, 121), dtype=np.float32)
    line[:, :, 60] = 1
    thickness, spacing = 4.0, 0.5 * 1.002
    acquisition = Acquisition('thick-slices', (0.5, 0.5, spacing), 2, thickness)
    low, grid = acquire(line, affine, acquisition)
    z = grid.affine[2, 2] * np.arange(grid.shape[2]) + grid.affine[2, 3]
    weights = low[1, 1] / low[1, 1].sum()
    sd = np.sqrt(weights @ (z - weights @ z) ** 2)
    assert sd * FWHM_PER_SIGMA == pytest.approx(thickness, rel=0.01)


def test_box_profile_is_the_mean_over_the_slice_and_leaves_the_gap_out():
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    ramp = np.broadcast_to(np.arange(60, dtype=np.float32) ** 2, (2, 2, 60))
    acquisition = drawn((1, 1, 1), spacing_mm=(5.0, 5.0), gap=(0.4, 0.4), profile='box')
    assert acquisition.thickness == pytest.approx(3.0)
    low, grid = acquire(ramp, affine, acquisition)
    z = grid.affine[2, 2] * np.arange(12) + grid.affine[2, 3]
    # mean of z^2 over a box of width w is z^2 + w^2 / 12
    np.testing.assert_allclose(low[0, 0, 2:-2], (z**2 + 9 / 12)[2:-2], rtol=2e-3)


def test_truncated_k_space_holds_the_low_frequencies_and_no_other():
    rng = np.random.default_rng(2)
    fine = rng.normal(size=(30, 26, 8)).astype(np.float32)
    acquisition = drawn(
        (1, 1, 1), kind='k-space', factors=((2.0, 2.0, 1.0),), interpolation='zero-fill'
    )
    low, grid = acquire(fine, np.eye(4), acquisition)
    assert low.shape == (15, 13, 8)
    np.testing.assert_allclose(grid.spacing, (2, 2, 1))
    back = interpolate(low, fine.shape, np.eye(4), acquisition)
    spectrum, truth = np.fft.fftn(back), np.fft.fftn(fine)
    kept = np.ix_(np.abs(np.fft.fftfreq(30)) * 30 < 8, np.abs(np.fft.fftfreq(26)) * 26 < 7)
    np.testing.assert_allclose(spectrum[kept], truth[kept], atol=1e-3)
    cut = np.ones((30, 26), dtype=bool)
    cut[kept] = False
    assert np.abs(spectrum[cut]).max() < 1e-3
    # an independent implementation, which samples from the corner voxel on
    expected = fourier_resample(fourier_resample(fine, 15, axis=0), 30, axis=0)
    expected = fourier_resample(fourier_resample(expected, 13, axis=1), 26, axis=1)
    np.testing.assert_allclose(back, expected, atol=1e-4)


def test_constant_stays_constant_with_every_model():
    flat = np.full((20, 24, 22), 7, dtype=np.float32)
    for fields in (
        {'spacing_mm': (3.3, 3.3)},
        {'kind': 'isotropic', 'factor': (2.0, 2.0)},
        {'kind': 'k-space', 'factor': (2.0, 2.0)},
    ):
        acquisition = drawn((1, 1, 1), **fields)
        low, _ = acquire(flat, np.eye(4), acquisition)
        np.testing.assert_allclose(low, 7, rtol=1e-5)
        back = interpolate(low, flat.shape, np.eye(4), acquisition)
        np.testing.assert_allclose(back, 7, rtol=1e-5)


def test_resolution_is_drawn_anew_and_reproducibly():
    model = ForwardModel(spacing_mm=(2.0, 4.0), gap=(0.0, 0.3))
    rng = np.random.default_rng(4)
    first, second = (draw_acquisition(model, (0.5, 0.5, 0.5), rng) for _ in range(2))
    assert first != second
    assert 2 <= first.resolution <= 4
    assert 0.7 * first.resolution <= first.thickness <= first.resolution
    again = draw_acquisition(model, (0.5, 0.5, 0.5), np.random.default_rng(4))
    assert again == first
    middle = draw_acquisition(model, (0.5, 0.5, 0.5), None)
    assert (middle.resolution, middle.thickness) == (3.0, pytest.approx(2.55))


@pytest.mark.parametrize(
    'fields',
    [
        {},
        {'kind': 'isotropic'},
        {'spacing_mm': (0.5, 4.0)},
    ],
)
def test_model_that_does_not_fit_the_image_is_refused(fields):
    with pytest.raises(UserError, match='forward'):
        drawn((1.0, 1.0, 1.0), **fields)


@pytest.mark.parametrize(
    'fields',
    [
        {'factor': (0.5, 0.5)},
        {'factors': ((2.0, 0.5, 1.0),)},
        {'spacing_mm': (4.0, 3.0)},
        {'spacing_mm': (3.0, 3.0), 'gap': (0.0, 1.0)},
        {'spacing_mm': (3.0, 3.0), 'interpolation': 'zero-fill'},
        {'spacing_mm': (3.0, 3.0), 'sigma': 1.0},
        {'spacing_mm': (3.0, 3.0), 'gap': (0.1, 0.1), 'profile': 'measured.txt'},
        {'kind': 'k-space', 'spacing_mm': (3.0, 3.0)},
        {'kind': 'isotropic', 'factor': (2.0, 2.0), 'profile': 'box'},
        {'spacing_mm': (3.0, 3.0), 'axis': 3},
    ],
)
def test_model_that_contradicts_itself_is_refused(fields):
    with pytest.raises(ValueError, match=r'give|of slices|goes with'):
        ForwardModel(**fields)


def test_too_few_slices_are_refused():
    acquisition = drawn((1.0, 1.0, 1.0), spacing_mm=(6.0, 6.0))
    with pytest.raises(UserError, match='fewer than two'):
        acquire(np.ones((8, 8, 8)), np.eye(4), acquisition)
