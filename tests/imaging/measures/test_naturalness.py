"""PIQE and NIQE against a plain reading of their definitions and against known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import correlate, gaussian_filter
from scipy.special import gamma
from scipy.stats import gennorm

from bids_segsr.imaging.measures.naturalness import (
    NaturalModel,
    brain_slices,
    fit_asymmetric_gaussian,
    fit_natural_model,
    locally_normalised,
    niqe,
    piqe,
)


def texture(seed: int, shape: tuple[int, int] = (96, 128)) -> np.ndarray:
    """An image with edges at many scales: leaves of random size and grey, one upon the other."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    image = np.zeros(shape)
    for _ in range(400):
        centre, radius = rng.random(2) * shape, 2 + 20 * rng.random() ** 4
        image[np.hypot(rows - centre[0], columns - centre[1]) < radius] = rng.random() * 255
    return np.clip(gaussian_filter(image, 0.6) + rng.normal(0, 2, shape), 0, 255)


def plain_piqe(image: np.ndarray) -> float:
    """Block by block, as the article tells it."""
    offsets = np.arange(-3, 4)
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * (7 / 6) ** 2))
    window /= window.sum()
    rows, columns = (int(np.ceil(n / 16)) * 16 for n in image.shape)
    grown = np.pad(image, [(0, rows - image.shape[0]), (0, columns - image.shape[1])], 'edge')
    mean = correlate(grown, window, mode='nearest')
    deviation = np.sqrt(np.abs(correlate(grown**2, window, mode='nearest') - mean**2))
    normalised = (grown - mean) / (deviation + 1)
    total, active = 0.0, 0
    for i in range(0, rows, 16):
        for j in range(0, columns, 16):
            block = normalised[i : i + 16, j : j + 16]
            v = np.var(block.ravel(), ddof=1)
            if v <= 0.1:
                continue
            active += 1
            edges = [block[0], block[15], block[:, 0], block[:, 15]]
            flat = any(np.std(edge[k : k + 6], ddof=1) < 0.1 for edge in edges for k in range(11))
            centre = np.std(block[:, 7:9].ravel(), ddof=1)
            around = np.std(np.hstack([block[:, :7], block[:, 9:]]).ravel(), ddof=1)
            ratio = centre / around
            beta = abs(np.sqrt(v) - ratio) / max(np.sqrt(v), ratio)
            noisy = np.sqrt(v) > 2 * beta
            total += {(1, 1): 1.0, (1, 0): 1 - v, (0, 1): v, (0, 0): 0.0}[int(flat), int(noisy)]
    return 100 * (total + 1) / (active + 1)


@pytest.mark.parametrize('shape', [(96, 128), (90, 77)])
def test_piqe_is_its_definition(shape: tuple[int, int]) -> None:
    for image in (texture(1, shape), gaussian_filter(texture(2, shape), 2)):
        assert piqe(image) == pytest.approx(plain_piqe(image), abs=1e-6)


def test_piqe_of_blur_noise_and_nothing() -> None:
    image = texture(3)
    noisy = np.clip(image + np.random.default_rng(0).normal(0, 25, image.shape), 0, 255)
    assert piqe(gaussian_filter(image, 2)) > piqe(image) + 10
    assert piqe(noisy) > piqe(image) + 10
    assert piqe(np.full((64, 64), 80.0)) == 100


def test_local_normalisation_of_white_noise() -> None:
    noise = np.random.default_rng(0).normal(100, 10, (200, 200))
    coefficients, deviation = locally_normalised(noise)
    offsets = np.arange(-3, 4)
    weights = np.exp(-(offsets**2) / (2 * (7 / 6) ** 2))
    weights /= weights.sum()
    # the local mean holds the sum of the squared weights of the variance of the noise
    left = 10 * np.sqrt(1 - np.sum(weights**2) ** 2)
    assert deviation.mean() == pytest.approx(left, rel=0.05)
    assert coefficients.mean() == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize('shape', [0.8, 1, 2, 4])
def test_fit_of_a_generalised_gaussian(shape: float) -> None:
    samples = gennorm.rvs(shape, scale=1.7, size=200_000, random_state=0)
    found, left, right = fit_asymmetric_gaussian(samples)
    assert found == pytest.approx(shape, rel=0.03)
    assert (left, right) == (pytest.approx(1.7, rel=0.03), pytest.approx(1.7, rel=0.03))


def test_fit_of_an_asymmetric_gaussian() -> None:
    rng = np.random.default_rng(0)
    # a share of left / (left + right) lies on the left of an asymmetric Gaussian
    samples = np.where(
        rng.random(400_000) < 1 / 4,
        -np.abs(rng.normal(0, 1, 400_000)),
        np.abs(rng.normal(0, 3, 400_000)),
    )
    shape, left, right = fit_asymmetric_gaussian(samples)
    beta = np.sqrt(gamma(1 / 2) / gamma(3 / 2))
    assert shape == pytest.approx(2, rel=0.03)
    assert (left, right) == (pytest.approx(beta, rel=0.03), pytest.approx(3 * beta, rel=0.03))


def test_niqe_grows_with_what_is_done_to_an_image() -> None:
    model = fit_natural_model([texture(seed) for seed in range(12)], patch=32)
    images = [texture(seed) for seed in range(20, 24)]
    rng = np.random.default_rng(0)
    scores = [niqe(images, model)]
    scores += [niqe([gaussian_filter(i, sigma) for i in images], model) for sigma in (1, 2)]
    assert scores == sorted(scores)
    noisy = [niqe([i + rng.normal(0, sd, i.shape) for i in images], model) for sd in (10, 30)]
    assert scores[0] < noisy[0] < noisy[1]


def test_niqe_is_the_distance_of_two_gaussians(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [texture(seed) for seed in range(6)]
    # no patch is left out, so the features of the images are what the model is made of
    monkeypatch.setattr('bids_segsr.imaging.measures.naturalness.SHARP_SHARE', -1.0)
    model = fit_natural_model(images, patch=32)
    assert niqe(images, model) == pytest.approx(0, abs=1e-6)
    shift = 3 * np.linalg.cholesky(model.covariance)[:, 0]
    moved = NaturalModel(model.mean + shift, model.covariance, 32)
    # three standard deviations of the first feature, and what follows from it
    assert niqe(images, moved) == pytest.approx(3, rel=1e-3)


def test_too_few_patches() -> None:
    with pytest.raises(ValueError, match='at least 2'):
        fit_natural_model([np.zeros((64, 64))], patch=32)
    model = fit_natural_model([texture(seed) for seed in range(3)])
    assert model.patch == 96
    assert np.isnan(niqe([texture(0)[:64, :64]], model))


def test_brain_slices() -> None:
    volume = np.arange(6 * 8 * 10, dtype=np.float32).reshape(6, 8, 10)
    mask = np.zeros(volume.shape, dtype=bool)
    mask[:, :, 2:4] = True
    mask[0, 0, 7] = True
    slices = brain_slices(volume, 2, mask)
    assert len(slices) == 2
    assert max(s.max() for s in slices) == 255
    assert brain_slices(volume, 2, mask, peak=1e6)[0].max() < 1
