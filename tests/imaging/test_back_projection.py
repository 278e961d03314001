"""What back-projection puts back, on phantoms whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from geometry_phantoms import all_orientations, oblique_affine
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter

from bids_segsr.imaging import back_projection
from bids_segsr.imaging.back_projection import (
    Slices,
    back_project,
    back_projection_alone,
    interpolated_back_projection,
    noise_of,
    surroundings,
)
from bids_segsr.imaging.degrade import degrade, thick_slice_grid
from bids_segsr.imaging.measures.metrics import psnr
from bids_segsr.imaging.measures.scan_quality import MAD
from bids_segsr.imaging.resample import Grid, isotropic_grid, resample, resample_mask

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


def test_steps_end_where_noise_is_left(truth, affine):
    slices, everywhere = acquire(truth, affine), np.ones(SHAPE, bool)
    # the spread of a shift of 8 that is left as 8, 4, 2, 1, 0.5 and 0.25, in standard deviations
    for noise, left in ((0.0, 0.25), (0.1, 0.25), (2 * MAD * 2.1, 2), (2 * MAD * 7.9, 4), (99, 8)):
        found = back_project(truth + 8, everywhere, slices, 0.5, 5, noise)
        np.testing.assert_allclose(found, truth + left, atol=2e-2)


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_noise_of_the_slices_is_found_inside_the_brain(truth, affine, axis):
    grid = thick_slice_grid(SHAPE, affine, 3.0, axis)
    rng = np.random.default_rng(0)
    smooth = degrade(gaussian_filter(truth, 3), affine, grid)
    mask = np.zeros(SHAPE, bool)
    mask[3:-3, 3:-3, 3:-3] = True
    loud = degrade(mask.astype(np.float32), affine, grid) < 0.1
    data = smooth + rng.normal(0, np.where(loud, 90, 5), smooth.shape).astype(np.float32)
    found = noise_of(Slices(data, grid.affine, affine), mask)
    assert found == pytest.approx(5, rel=0.1)
    assert np.isnan(noise_of(Slices(data, grid.affine, affine), np.zeros(SHAPE, bool)))
    # an empty background is no scan without noise
    stripped = Slices(np.where(loud, 0, data), grid.affine, affine)
    assert noise_of(stripped, np.ones(SHAPE, bool)) == pytest.approx(5, rel=0.1)


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


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_true_image_of_a_stripped_brain_stays_as_it_is(truth, affine, axis):
    """What surrounds it is empty in the slices and in the fine image alike."""
    mask = np.zeros(SHAPE, bool)
    mask[6:30, 6:26, 6:24] = True
    stripped = np.where(mask, truth, 0)
    grid = thick_slice_grid(SHAPE, affine, 3.0, axis)
    slices = Slices(degrade(stripped, affine, grid), grid.affine, affine)
    assert around(slices, mask) == 'nothing'
    np.testing.assert_allclose(back_project(stripped, mask, slices, 1.0, 3), stripped, atol=1e-2)

    head = Slices(degrade(truth, affine, grid), grid.affine, affine)
    assert around(head, mask) == 'scan'


def around(slices, mask):
    own = Grid(slices.data.shape, slices.affine)
    filled = degrade(mask.astype(np.float32), slices.fine_affine, own, slices.thickness)
    return surroundings(slices.data, filled)


def test_what_a_network_has_to_beat_knows_the_mask_where_that_is_an_edge(truth, affine):
    brain = ellipsoid(14, 12, 11)
    grid = Grid(SHAPE, affine)
    for image, better in ((truth, 0), (np.where(brain, truth, 0), 0.5)):
        slices = acquire(image, affine)
        found = back_projection_alone(slices, brain)
        plain = np.where(brain, interpolated_back_projection(slices, grid), 0)
        if not better:
            np.testing.assert_array_equal(found, plain)
        assert psnr(truth, found, brain) >= psnr(truth, plain, brain) + better
        assert not found[~brain].any()


def ellipsoid(*radii):
    index = np.indices(SHAPE).T - (np.array(SHAPE) - 1) / 2
    return ((index / radii) ** 2).sum(-1).T < 1


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_true_image_of_slices_that_were_stripped_stays_as_it_is(truth, affine, axis):
    """Their outermost voxels show what surrounded the brain or nothing: neither tells of it."""
    brain = ellipsoid(14, 12, 11)
    grid = thick_slice_grid(SHAPE, affine, 3.0, axis)
    head = degrade(truth, affine, grid)
    seen = degrade(brain.astype(np.float32), affine, grid) > 0.5
    mask = resample_mask(seen, grid.affine, Grid(SHAPE, affine))
    slices = Slices(np.where(seen, head, 0), grid.affine, affine)
    assert around(slices, mask) == 'cut away'
    fine = np.where(mask, truth, 0)
    # voxels count that the brain fills to 99 %: the last percent is a difference of 1 or 2
    np.testing.assert_allclose(back_project(fine, mask, slices, 0.5, 5), fine, rtol=0, atol=2)
    # a shift of the whole brain is seen and taken back, by a half each step
    shifted = back_project(np.where(mask, truth + 8, 0), mask, slices, 0.5, 5)
    inner = binary_erosion(mask, iterations=4)
    np.testing.assert_allclose(shifted[inner], fine[inner], rtol=0, atol=2)


def test_mask_that_is_too_tight_is_no_border_of_a_stripped_brain(truth, affine, monkeypatch):
    """Bright CSF beside the mask is more than parts of its voxels."""
    monkeypatch.setattr(back_projection, 'EMPTY', 1)
    tight = ellipsoid(12, 10, 9)
    csf = binary_dilation(tight, np.ones((3, 3, 3))) & ~tight
    slices = acquire(np.where(csf, 400, np.where(tight, truth, 0)), affine)
    assert around(slices, tight) == 'cut away'
    assert around(acquire(np.where(tight, truth, 0), affine), tight) == 'nothing'


def test_mask_of_all_that_a_stripped_scan_shows_is_wider_than_the_brain(truth, affine):
    """As `--skull-strip skip` finds it: its border is empty, and nothing surrounds it."""
    slices = acquire(np.where(ellipsoid(12, 10, 9), truth, 0), affine)
    shown = resample_mask(slices.data > 0, slices.affine, Grid(SHAPE, affine))
    wide = binary_dilation(shown, iterations=2)
    assert around(slices, wide) == 'nothing'
    fine = np.where(ellipsoid(12, 10, 9), truth, 0)
    np.testing.assert_allclose(back_project(fine, wide, slices, 0.5, 5), fine, atol=1e-2)


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


def one_step(fine, mask, slices, share):
    """X + share S (Y - D X) by interpolation in space, which asks nothing of the axes."""
    grid = Grid(fine.shape, slices.fine_affine)
    whole = np.where(mask, fine, resample(slices.data, slices.affine, grid))
    seen = degrade(whole, grid.affine, Grid(slices.data.shape, slices.affine), slices.thickness)
    lacking = resample(slices.data - seen, slices.affine, grid)
    return np.where(mask, fine + np.float32(share) * lacking, 0)


@pytest.mark.parametrize(
    ('spacing', 'resolution'),
    [((1.0, 1.0, 3.0), 1.0), ((1.1, 1.2, 3.7), 1.1), ((0.4, 0.4, 2.0), 0.5)],
    ids=['same in plane', 'finer in plane', 'coarser in plane'],
)
@pytest.mark.parametrize('turned', range(0, 48, 7))
def test_steps_are_those_of_interpolation_in_space(spacing, resolution, turned):
    shape, affine = all_orientations((22, 25, 9), oblique_affine(spacing, (9, -14, 21)))[turned]
    rng = np.random.default_rng(turned)
    grid = isotropic_grid(shape, affine, resolution)
    slices = Slices(rng.uniform(1, 2, shape).astype(np.float32), affine, grid.affine, 2.2)
    mask = np.zeros(grid.shape, bool)
    mask[tuple(slice(n // 5, n - n // 6) for n in grid.shape)] = True
    fine = rng.uniform(1, 2, grid.shape).astype(np.float32)
    expected = fine
    for _ in range(3):
        expected = one_step(expected, mask, slices, 0.5)
    np.testing.assert_allclose(back_project(fine, mask, slices, 0.5, 3), expected, atol=1e-5)

    everywhere = np.ones(grid.shape, bool)
    expected = resample(slices.data, affine, grid)
    for _ in range(3):
        expected = one_step(expected, everywhere, slices, 0.5)
    found = interpolated_back_projection(slices, grid, 3, 0.5)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_slices_at_an_angle_to_the_fine_image(truth, affine):
    grid = thick_slice_grid(SHAPE, oblique_affine((1.0, 1.0, 1.0), (0, 10, 0)), 3.0, 2)
    slices = Slices(degrade(truth, affine, grid), grid.affine, affine)
    mask = np.zeros(SHAPE, bool)
    mask[5:-5, 6:-6, 7:-7] = True
    spline = resample(slices.data, grid.affine, Grid(SHAPE, affine))
    expected = one_step(one_step(spline, mask, slices, 0.5), mask, slices, 0.5)
    found = back_project(spline, mask, slices, 0.5, 2)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    whole = interpolated_back_projection(slices, Grid(SHAPE, affine), 1, 0.5)
    expected = one_step(spline, np.ones(SHAPE, bool), slices, 0.5)
    np.testing.assert_allclose(whole, expected, atol=1e-3)


def test_without_network_five_half_steps_come_closer_to_the_truth(truth, affine):
    slices, grid = acquire(truth, affine), Grid(SHAPE, affine)
    everywhere = np.ones(SHAPE, bool)
    spline = resample(slices.data, slices.affine, grid)
    found = interpolated_back_projection(slices, grid)
    assert psnr(truth, found, everywhere) > psnr(truth, spline, everywhere) + 1
    np.testing.assert_allclose(found, back_project(spline, everywhere, slices, 0.5, 5), atol=1e-2)
    np.testing.assert_allclose(
        interpolated_back_projection(slices, grid, 0), spline, rtol=0, atol=1e-2
    )


def test_empty_mask_gives_an_empty_image(truth, affine):
    nowhere = np.zeros(SHAPE, bool)
    assert not back_project(truth, nowhere, acquire(truth, affine), 0.5).any()
