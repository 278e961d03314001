"""Metrics, bias field and brain mask against closed forms and other implementations."""

from __future__ import annotations

import numpy as np
import pytest
from geometry_phantoms import gaussian_blob, oblique_affine
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from bids_segsr.environment import itk_threads
from bids_segsr.imaging.bias_field import correct_bias_field
from bids_segsr.imaging.brain_mask import foreground_mask, is_skull_stripped
from bids_segsr.imaging.measures.metrics import correlation, dice, nrmse, psnr, ssim


@pytest.fixture
def images():
    rng = np.random.default_rng(7)
    truth = rng.uniform(0, 100, (16, 18, 20))
    return truth, truth + rng.normal(0, 5, truth.shape)


def test_psnr_and_ssim_equal_scikit_image(images):
    truth, other = images
    expected = peak_signal_noise_ratio(truth, other, data_range=truth.max())
    assert psnr(truth, other) == pytest.approx(expected, rel=1e-9)
    expected = structural_similarity(truth, other, win_size=7, data_range=np.ptp(truth), full=True)
    assert ssim(truth, other) == pytest.approx(expected[1].mean(), rel=1e-9)
    mask = np.zeros(truth.shape, dtype=bool)
    mask[4:9, 5:12, 3:15] = True
    assert ssim(truth, other, mask) == pytest.approx(expected[1][mask].mean(), rel=1e-9)
    inside = 10 * np.log10(truth[mask].max() ** 2 / np.mean((truth - other)[mask] ** 2))
    assert psnr(truth, other, mask) == pytest.approx(inside)
    assert psnr(truth, truth) == float('inf')


def test_correlation_nrmse_and_dice(images):
    truth, other = images
    assert correlation(truth, other) == pytest.approx(
        np.corrcoef(truth.ravel(), other.ravel())[0, 1]
    )
    assert np.isnan(correlation(truth, np.zeros_like(truth)))
    assert nrmse(truth, 1.1 * truth) == pytest.approx(0.1)
    first = np.array([1, 1, 1, 0, 0], dtype=bool)
    second = np.array([0, 1, 1, 1, 0], dtype=bool)
    assert dice(first, second) == pytest.approx(2 / 3)
    assert dice(np.zeros(4, bool), np.zeros(4, bool)) == 1.0


def ball(radius, shape=(24, 24, 24)):
    index = np.indices(shape) - (np.array(shape) // 2).reshape(3, 1, 1, 1)
    return (index**2).sum(0) <= radius**2


def test_n4_flattens_a_known_field_and_does_not_depend_on_threads():
    shape = (64, 60, 14)
    affine = oblique_affine((2.0, 2.0, 5.0))
    index = np.indices(shape).astype(np.float32)
    rng = np.random.default_rng(0)
    brain = ((index[0] - 32) / 28) ** 2 + ((index[1] - 30) / 26) ** 2 < 1
    tissue = np.where(index[0] % 16 < 8, 400, 600) + rng.normal(0, 8, shape)
    field = np.exp(0.4 * (index[0] / 64 - 0.5) + 0.3 * (index[2] / 14 - 0.5))
    data = np.where(brain, tissue * field, 0).astype(np.float32)
    corrected = correct_bias_field(data, affine)
    ratio = np.log(corrected[brain] / tissue[brain])
    before = np.log(data[brain] / tissue[brain])
    assert ratio.std() < 0.25 * before.std()
    assert corrected[brain].mean() == pytest.approx(data[brain].mean(), rel=1e-4)
    assert (corrected[~brain] == 0).all()
    with itk_threads(5):
        np.testing.assert_array_equal(corrected, correct_bias_field(data, affine))


def test_stripped_images_are_recognised():
    affine = oblique_affine((2.0, 2.0, 2.0))
    brain = np.where(ball(8), 500 + gaussian_blob((24,) * 3, affine, np.zeros(3), 9.0), 0)
    assert is_skull_stripped(brain)
    mask = foreground_mask(np.where(ball(2), 0, brain))
    np.testing.assert_array_equal(mask, ball(8))

    head = np.where(np.roll(ball(11), 6, axis=2), 300.0, 0)  # cut by the border, as a neck is
    assert not is_skull_stripped(head)
    noisy = brain + np.random.default_rng(0).uniform(0, 5, brain.shape)
    assert not is_skull_stripped(noisy)
