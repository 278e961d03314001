"""Metrics against other implementations and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter
from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio

from bids_segsr.exceptions import ImageError
from bids_segsr.imaging.measures.metrics import (
    calibration_error,
    jaccard,
    nrmse,
    slice_average,
    slice_nrmse,
    slice_psnr,
    slice_ssim,
    ssim,
)


def blobs(seed: int) -> np.ndarray:
    return gaussian_filter(np.random.default_rng(seed).normal(size=(24, 26, 12)), 2) > 0.03


def image_pair() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    truth = gaussian_filter(rng.random((16, 20, 18)), 1) * 100
    return truth, truth + rng.normal(0, 3, truth.shape), rng.random(truth.shape) > 0.3


def test_jaccard_is_that_of_simpleitk_and_follows_from_dice() -> None:
    first, second = blobs(1), blobs(2)
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*(sitk.GetImageFromArray(m.astype(np.uint8)) for m in (first, second)))
    assert jaccard(first, second) == pytest.approx(overlap.GetJaccardCoefficient(), abs=1e-12)
    dice = overlap.GetDiceCoefficient()
    assert jaccard(first, second) == pytest.approx(dice / (2 - dice), abs=1e-12)
    assert jaccard(first, first) == 1
    nothing = np.zeros_like(first)
    assert (jaccard(nothing, nothing), jaccard(first, nothing)) == (1, 0)


def test_slice_psnr_and_nrmse_are_those_of_scikit_image() -> None:
    truth, other, _ = image_pair()
    peak = truth.max()
    psnr = [peak_signal_noise_ratio(truth[:, k], other[:, k], data_range=peak) for k in range(20)]
    assert slice_average(slice_psnr, truth, other, 1) == pytest.approx(np.mean(psnr))
    errors = [normalized_root_mse(truth[:, k], other[:, k]) for k in range(20)]
    assert slice_average(slice_nrmse, truth, other, 1) == pytest.approx(np.mean(errors))
    assert nrmse(truth, other) == pytest.approx(normalized_root_mse(truth, other))


def test_slice_ssim_is_the_formula_of_wang() -> None:
    truth, other, mask = image_pair()
    peak = truth[mask].max()

    def local(x: np.ndarray) -> np.ndarray:
        return gaussian_filter(x, 1.5, truncate=3.5)  # 11 pixels

    expected = []
    for k in range(18):
        x, y = truth[..., k], other[..., k]
        mx, my = local(x), local(y)
        vx, vy, vxy = local(x * x) - mx**2, local(y * y) - my**2, local(x * y) - mx * my
        c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
        index = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
        expected.append(index[mask[..., k]].mean())
    found = slice_average(slice_ssim, truth, other, 2, mask)
    assert found == pytest.approx(np.mean(expected), abs=1e-9)


def test_slices_outside_the_mask_do_not_count() -> None:
    truth, other, _ = image_pair()
    mask = np.zeros(truth.shape, dtype=bool)
    mask[4:9] = True
    kept = slice_average(slice_psnr, truth, other, 0, mask)
    other = other.copy()
    other[9:] = -1000
    assert slice_average(slice_psnr, truth, other, 0, mask) == kept
    assert np.isnan(slice_average(slice_psnr, truth, other, 0, np.zeros_like(mask)))


def test_ssim_of_images_smaller_than_its_patch() -> None:
    truth, image, _ = image_pair()
    with pytest.raises(ImageError, match=r'patches of 7 voxels.* has 16 x 20 x 6'):
        ssim(truth[..., :6], image[..., :6])
    with pytest.raises(ImageError, match=r'patches of 11 voxels.* has 16 x 10'):
        slice_average(slice_ssim, truth[:, :10], image[:, :10], 2)
    assert ssim(truth[..., :7], truth[..., :7]) == pytest.approx(1)
    assert slice_average(slice_ssim, truth[:, :11], truth[:, :11], 2) == pytest.approx(1)


def test_calibration_error_of_guo() -> None:
    """Two bins, by hand: 0.1 and 0.3 came true once in two, 0.9 and 0.9 twice."""
    probability, truth = np.array([0.1, 0.3, 0.9, 0.9]), np.array([False, True, True, True])
    expected = 0.5 * abs(0.5 - 0.2) + 0.5 * abs(1.0 - 0.9)
    assert calibration_error(probability, truth, bins=2) == pytest.approx(expected)
    rng = np.random.default_rng(0)
    honest = rng.uniform(size=(50, 40, 30))
    assert calibration_error(honest, rng.uniform(size=honest.shape) < honest) < 0.01
    assert calibration_error(np.ones(4), np.ones(4, bool)) == 0


@pytest.mark.filterwarnings('error')
def test_error_relative_to_nothing() -> None:
    none, some = np.zeros((3, 3, 3)), np.ones((3, 3, 3))
    assert nrmse(none, some) == np.inf
    assert np.isnan(nrmse(none, none))
