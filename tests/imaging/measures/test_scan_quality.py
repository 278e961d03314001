"""Quality of a scan, on images whose noise, stripes, shifts and resolution are known."""

from __future__ import annotations

import numpy as np
import pytest
from geometry_phantoms import all_orientations, gaussian_blob, oblique_affine
from scipy.ndimage import fourier_shift, gaussian_filter

from bids_segsr.imaging.degrade import degrade
from bids_segsr.imaging.measures import scan_quality
from bids_segsr.imaging.resample import Grid, resample

SHAPE = (60, 56, 20)


@pytest.fixture(scope='module')
def brain() -> np.ndarray:
    index = np.indices(SHAPE) - (np.array(SHAPE)[:, None, None, None] - 1) / 2
    half = np.array([26, 24, 9])[:, None, None, None]
    return ((index / half) ** 2).sum(0) < 1


@pytest.fixture(scope='module')
def scan() -> np.ndarray:
    """Anatomy that changes slowly from slice to slice, and no noise."""
    smooth = gaussian_filter(np.random.default_rng(1).normal(size=SHAPE), (3, 3, 4))
    return (100 + 15 * smooth / smooth.std()).astype(np.float32)


@pytest.mark.parametrize('axis', [0, 1, 2])
@pytest.mark.parametrize('sigma', [1.0, 5.0])
def test_noise_that_was_added_is_found(scan, brain, axis, sigma) -> None:
    noisy = scan + np.random.default_rng(2).normal(0, sigma, SHAPE)
    noisy, inside = (np.moveaxis(x, 2, axis) for x in (noisy, brain))
    found = scan_quality.noise_level(noisy, inside, axis)
    assert found == pytest.approx(sigma, rel=0.06)
    expected = np.median(noisy[inside]) / sigma
    assert scan_quality.snr(noisy, inside, found) == pytest.approx(expected, rel=0.06)


def test_contrast_as_it_is_defined() -> None:
    rng = np.random.default_rng(3)
    image = rng.normal(100, 6, SHAPE)
    white, grey = (np.zeros(SHAPE, dtype=bool) for _ in range(2))
    white[:30], grey[30:] = True, True
    image[white] = rng.normal(140, 8, white.sum())
    found = scan_quality.cnr(image, grey, white, noise=5.0)
    assert found == pytest.approx(40 / np.sqrt(36 + 64 + 25), rel=0.02)
    assert np.isnan(scan_quality.cnr(image, grey & white, white, 5.0))


@pytest.mark.parametrize('axis', [0, 1, 2])
@pytest.mark.parametrize('noise', [1.0, 6.0])
def test_contrast_of_tissues_is_what_noise_leaves(brain, axis, noise) -> None:
    def contrast(image, brain):
        noise = scan_quality.noise_level(image, brain, axis)
        return scan_quality.tissue_contrast(image, brain, noise)

    rng = np.random.default_rng(4)
    layers = np.indices(SHAPE)[0] // 5 % 2 * 12.0  # halves of 94 and 106: 6 % of the mean
    grain = rng.normal(0, noise, SHAPE)
    moved, uniform, inside = (
        np.moveaxis(x, 2, axis) for x in (94 + layers + grain, 100 + grain, brain)
    )
    if noise == 1.0:  # two narrow peaks, 12 apart, over the 2.563 of a normal distribution
        assert contrast(moved, inside) == pytest.approx(0.12 / 2.563, rel=0.3)
    assert contrast(moved, inside) > 0.04
    assert contrast(uniform, inside) < 0.02
    assert np.isnan(contrast(moved, np.zeros_like(inside)))


@pytest.mark.parametrize('share', [0.0, 0.02, 0.1])
def test_slices_that_are_brighter_in_turn(scan, brain, share) -> None:
    striped = scan * (1 + 0.03 * np.arange(SHAPE[2]))  # a slope is no stripe
    striped[..., 1::2] *= 1 + share
    found = scan_quality.stripes(striped, brain, 2)
    assert found == pytest.approx((share + 1 - 1 / (1 + share)) / 2, abs=2e-3)
    assert np.isnan(scan_quality.stripes(striped[..., :4], brain[..., :4], 2))


@pytest.mark.parametrize('shift_mm', [0.0, 1.5, 3.0])
def test_slices_that_were_shifted(scan, brain, shift_mm) -> None:
    moved = scan.copy()
    for k in range(1, SHAPE[2], 2):
        spectrum = fourier_shift(np.fft.fft2(moved[..., k]), (0, shift_mm / 0.75))
        moved[..., k] = np.fft.ifft2(spectrum).real
    found = scan_quality.slice_shift_mm(moved, brain, 2, (0.5, 0.75, 3.0))
    assert found == pytest.approx(shift_mm, abs=0.2, rel=0.25)


@pytest.mark.parametrize('axis', [0, 2])
def test_what_interpolated_slices_resolve_is_their_distance(axis) -> None:
    """Noise has all detail in all directions: true in plane, slices of 4 mm across."""
    shape = (72, 72, 72)
    fine = gaussian_filter(np.random.default_rng(4).normal(size=shape), 0.4)
    mask = np.zeros(shape, dtype=bool)
    mask[6:-6, 6:-6, 6:-6] = True
    assert scan_quality.resolution_across(fine, mask, axis, 1.0) < 1.3
    affine, coarse = np.eye(4), np.eye(4)
    coarse[axis, axis], coarse[axis, 3] = 4.0, 1.5
    slices = [72, 72, 72]
    slices[axis] = 18
    thick = degrade(fine, affine, Grid((slices[0], slices[1], slices[2]), coarse))
    spline = resample(thick, coarse, Grid(shape, affine))
    assert scan_quality.resolution_across(spline, mask, axis, 1.0) == pytest.approx(4, abs=0.6)
    assert np.isnan(scan_quality.resolution_across(spline, np.zeros(shape, bool), axis, 1.0))


def test_labels_lie_where_they_lay_in_every_orientation() -> None:
    affine = oblique_affine((1.0, 1.1, 3.0), (11, -8, 17))
    shape = (24, 22, 10)
    centre = affine[:3, :3] @ np.array([12.2, 10.4, 4.8]) + affine[:3, 3]
    fine = oblique_affine((0.8, 0.8, 0.8))
    fine[:3, 3] = centre - fine[:3, :3] @ [20, 20, 20]
    labels = (gaussian_blob((41, 41, 41), fine, centre, 6.0) > 0.5).astype(np.int16)
    for turned_shape, turned in all_orientations(shape, affine):
        found = scan_quality.on_grid(labels, fine, turned_shape, turned)
        index = np.argwhere(found == 1)
        place = index.mean(0) @ turned[:3, :3].T + turned[:3, 3]
        assert np.linalg.norm(place - centre) < 0.6
        expected = gaussian_blob(turned_shape, turned, centre, 6.0) > 0.5
        assert ((found == 1) != expected).mean() < 0.02
