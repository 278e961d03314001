"""How close an image or a segmentation is to a reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from skimage.metrics import structural_similarity

from bids_segsr.exceptions import ImageError

SSIM_PATCH = 7
SLICE_SSIM_PATCH = 11


def psnr(reference: np.ndarray, image: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB, the peak being the maximum of the reference.

    SegSRGAN (2020, section 4.2): both the peak and the error are taken inside the mask.

    Args:
        reference: True image.
        image: Image to judge, same shape.
        mask: Where to look; everywhere by default.

    Returns:
        The ratio in dB; infinite where the images are equal.
    """
    truth, other = _inside(reference, image, mask)
    error = float(np.mean((truth - other) ** 2))
    peak = float(truth.max())
    return float('inf') if error == 0 else 10 * float(np.log10(peak**2 / error))


def ssim(reference: np.ndarray, image: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Structural similarity over 7 x 7 x 7 patches (scikit-image), averaged inside the mask.

    Args:
        reference: True image of three axes, each at least 7 long; its range is the data range.
        image: Image to judge, same shape.
        mask: Patch centres to average over; everywhere by default.

    Returns:
        The mean, at most 1.

    Raises:
        ImageError: An axis is shorter than a patch.
    """
    _check_size(reference.shape, SSIM_PATCH)
    reference = np.asarray(reference, dtype=np.float64)
    _, similarity = structural_similarity(
        reference,
        np.asarray(image, dtype=np.float64),
        win_size=SSIM_PATCH,
        data_range=float(np.ptp(reference)),
        full=True,
    )
    return float(similarity.mean() if mask is None else similarity[mask].mean())


def nrmse(reference: np.ndarray, image: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Root mean square error divided by the root mean square of the reference.

    Where the reference is 0 throughout it is infinite, and NaN where the image is, too.
    """
    truth, other = _inside(reference, image, mask)
    with np.errstate(divide='ignore', invalid='ignore'):
        return float(np.sqrt(np.mean((truth - other) ** 2) / np.mean(truth**2)))


def correlation(reference: np.ndarray, image: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Pearson correlation of the two images (NaN where one is constant)."""
    truth, other = _inside(reference, image, mask)
    truth, other = truth - truth.mean(), other - other.mean()
    scale = np.sqrt(np.sum(truth**2) * np.sum(other**2))
    return float(np.sum(truth * other) / scale) if scale > 0 else float('nan')


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Dice overlap of two boolean arrays; 1 where both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 2 * int(np.logical_and(first, second).sum()) / total if total else 1.0


def jaccard(first: np.ndarray, second: np.ndarray) -> float:
    """Jaccard overlap (intersection over union) of two boolean arrays; 1 where both are empty."""
    union = int(np.logical_or(first, second).sum())
    return int(np.logical_and(first, second).sum()) / union if union else 1.0


def calibration_error(probability: np.ndarray, truth: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: how far probabilities are from the shares that come true.

    Guo et al., On Calibration of Modern Neural Networks (2017), equation 3, for one class.

    Args:
        probability: Of the class, 0 to 1, one value a voxel.
        truth: Boolean array of the same shape.
        bins: Of equal width, whose mean differences are averaged, weighted by their voxels.

    Returns:
        0 (what has probability p is true in a share p of cases) to 1.
    """
    place = np.clip((probability * bins).astype(int), 0, bins - 1).ravel()
    promised = np.bincount(place, probability.ravel(), bins)
    held = np.bincount(place, truth.ravel(), bins)
    return float(np.abs(promised - held).sum() / place.size)


def slice_average(
    measure: Callable[[np.ndarray, np.ndarray, np.ndarray, float], float],
    reference: np.ndarray,
    image: np.ndarray,
    axis: int,
    mask: np.ndarray | None = None,
) -> float:
    """Average a two-dimensional measure over the slices of a volume.

    mDCSRN (section 4.1) gives PSNR, SSIM and NRMSE as averages over the slices of the most
    degraded cross-section.

    Args:
        measure: `slice_psnr`, `slice_ssim` or `slice_nrmse`.
        reference: True image of three axes; its maximum is the peak of every slice.
        image: Image to judge, same shape.
        axis: Array axis that is perpendicular to the slices.
        mask: Where to look; everywhere by default. Slices without it do not count.

    Returns:
        The mean over the slices; NaN where no slice counts.
    """
    inside = np.ones(reference.shape, dtype=bool) if mask is None else mask
    peak = float(np.asarray(reference, dtype=np.float64)[inside].max()) if inside.any() else 0.0
    values = [
        measure(truth, other, within, peak)
        for truth, other, within in zip(
            np.moveaxis(np.asarray(reference, dtype=np.float64), axis, 0),
            np.moveaxis(np.asarray(image, dtype=np.float64), axis, 0),
            np.moveaxis(inside, axis, 0),
            strict=True,
        )
        if truth[within].any()
    ]
    return float(np.mean(values)) if values else float('nan')


def slice_psnr(reference: np.ndarray, image: np.ndarray, mask: np.ndarray, peak: float) -> float:
    """PSNR in dB of one slice, for `slice_average`; the peak is that of the volume."""
    error = float(np.mean((reference[mask] - image[mask]) ** 2))
    return float('inf') if error == 0 else 10 * float(np.log10(peak**2 / error))


def slice_nrmse(
    reference: np.ndarray,
    image: np.ndarray,
    mask: np.ndarray,
    peak: float,  # noqa: ARG001 - as the other measures
) -> float:
    """`nrmse` of one slice, for `slice_average`; the peak has no part in it."""
    return nrmse(reference, image, mask)


def slice_ssim(reference: np.ndarray, image: np.ndarray, mask: np.ndarray, peak: float) -> float:
    """SSIM of one slice, for `slice_average`: Gaussian window of 1.5 pixels.

    Wang et al. (2004), whom mDCSRN cites; constants 0.01 and 0.03 of the peak, 11 x 11 pixels.

    Raises:
        ImageError: The slice is smaller than that.
    """
    _check_size(reference.shape, SLICE_SSIM_PATCH)
    _, similarity = structural_similarity(
        reference,
        image,
        data_range=peak,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    return float(similarity[mask].mean())


def _check_size(shape: tuple[int, ...], patch: int) -> None:
    if min(shape) < patch:
        size = ' x '.join(map(str, shape))
        raise ImageError(
            f'SSIM looks at patches of {patch} voxels along every axis, the image has {size}; '
            'take a larger image or another measure'
        )


def _inside(
    reference: np.ndarray, image: np.ndarray, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    inside = (reference, image) if mask is None else (reference[mask], image[mask])
    truth, other = (np.asarray(values, dtype=np.float64) for values in inside)
    return truth, other
