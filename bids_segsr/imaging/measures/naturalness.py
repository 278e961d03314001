"""How natural an image looks, without a reference: PIQE and NIQE, as mDCSRN reports them.

Both are made for photographs of 8 bits, so a slice is scaled such that the brightest voxel of the
volume is 255. Lower is better.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import convolve1d
from scipy.special import gamma
from skimage.transform import resize

PEAK = 255.0
FOREGROUND_SHARE = 0.25
"""Least share of a slice that the brain covers for the slice to count (mDCSRN, section 4.1)."""

BLOCK = 16
ACTIVE_VARIANCE = 0.1
EDGE_SEGMENT = 6
FLAT_DEVIATION = 0.1

PATCH = 96
SHARP_SHARE = 0.75
FEATURES = 36

_SHAPES = np.arange(0.2, 10.0005, 0.001)
_SHAPE_RATIOS = gamma(2 / _SHAPES) ** 2 / (gamma(1 / _SHAPES) * gamma(3 / _SHAPES))
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))


@dataclass(frozen=True)
class NaturalModel:
    """What patches of pristine images look like: a multivariate Gaussian of their features.

    Attributes:
        mean: (36,).
        covariance: (36, 36).
        patch: Edge of a patch in pixels.
    """

    mean: np.ndarray
    covariance: np.ndarray
    patch: int


def brain_slices(
    volume: np.ndarray, axis: int, mask: np.ndarray, peak: float | None = None
) -> list[np.ndarray]:
    """Cut the slices that perceptual scores are computed on.

    Args:
        volume: Image of three axes.
        axis: Array axis perpendicular to the slices.
        mask: Brain mask, same shape.
        peak: Intensity that becomes 255; the maximum of the volume inside the mask by default.

    Returns:
        Slices of which the brain covers more than a quarter, 0 to 255, 0 outside the brain.
    """
    inside = np.where(mask, volume, 0).astype(np.float64)
    top = float(inside.max()) if peak is None else peak
    scaled = np.clip(inside * (PEAK / top), 0, PEAK) if top > 0 else inside
    return [
        image
        for image, brain in zip(
            np.moveaxis(scaled, axis, 0), np.moveaxis(mask, axis, 0), strict=True
        )
        if brain.mean() > FOREGROUND_SHARE
    ]


def piqe(image: np.ndarray) -> float:
    """Perception-based image quality evaluator of one slice.

    Venkatanath et al. (NCC 2015): among the blocks of 16 x 16 pixels that show something, the
    share that is distorted; a block counts with 1 - v where a piece of its edge is flat
    (noticeable artefact), with v where it is noisy, v being its variance after local
    normalisation.

    Args:
        image: Two axes, 0 to 255.

    Returns:
        0 (good) to 100, where the variances stay below 1; 100 where no block shows anything.
    """
    padding = [(0, -n % BLOCK) for n in image.shape]
    normalised, _ = locally_normalised(np.pad(image.astype(np.float64), padding, mode='edge'))
    rows, columns = (n // BLOCK for n in normalised.shape)
    blocks = (
        normalised.reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2).reshape(-1, BLOCK, BLOCK)
    )
    variance = blocks.var(axis=(1, 2), ddof=1)
    active = variance > ACTIVE_VARIANCE
    blocks, variance = blocks[active], variance[active]

    edges = np.stack([blocks[:, 0], blocks[:, -1], blocks[:, :, 0], blocks[:, :, -1]], axis=1)
    segments = np.lib.stride_tricks.sliding_window_view(edges, EDGE_SEGMENT, axis=-1)
    artefact = (segments.std(axis=-1, ddof=1) < FLAT_DEVIATION).any(axis=(1, 2))

    middle = [BLOCK // 2 - 1, BLOCK // 2]
    centre = blocks[:, :, middle].std(axis=(1, 2), ddof=1)
    around = np.delete(blocks, middle, axis=2).std(axis=(1, 2), ddof=1)
    ratio = np.divide(centre, around, out=np.zeros_like(centre), where=around > 0)
    deviation = np.sqrt(variance)
    noise = deviation > 2 * np.abs(deviation - ratio) / np.maximum(deviation, ratio)

    distortion = float(np.sum(artefact * (1 - variance) + noise * variance))
    return 100 * (distortion + 1) / (int(active.sum()) + 1)


def fitting_patch(shapes: Iterable[Sequence[int]]) -> int:
    """Return the edge of a patch that fits any slice: 96 pixels, or the shortest axis, even.

    Args:
        shapes: Of slices or volumes.
    """
    return min([PATCH, *(min(shape) // 2 * 2 for shape in shapes)])


def fit_natural_model(images: Iterable[np.ndarray], patch: int | None = None) -> NaturalModel:
    """Learn what pristine images look like, for `niqe`.

    Mittal, Soundararajan and Bovik (2013): features of the patches whose sharpness is above three
    quarters of that of the sharpest patch of their image.

    Args:
        images: Slices of pristine images, 0 to 255; with a patch, one is held at a time.
        patch: Edge of a patch, even; 96 pixels by default, less where a slice is smaller.

    Returns:
        The model.

    Raises:
        ValueError: If there are fewer than two patches.
    """
    if patch is None:
        images = list(images)
        patch = fitting_patch(image.shape for image in images)
    features = []
    for image in images:
        found, sharpness = _patch_features(image, patch)
        features.append(found[sharpness > SHARP_SHARE * sharpness.max(initial=0)])
    stacked = _complete(np.concatenate(features)) if features else np.zeros((0, FEATURES))
    if len(stacked) < 2:
        raise ValueError(f'{len(stacked)} patches of {patch} pixels, at least 2 are needed')
    return NaturalModel(stacked.mean(axis=0), np.cov(stacked, rowvar=False), patch)


def niqe(images: list[np.ndarray], model: NaturalModel) -> float:
    """Natural image quality evaluator.

    Distance between the Gaussian of the features of these images and that of pristine images
    (Mittal et al. 2013, equation 10). The slices of a volume are taken together, since one slice
    of a brain holds few patches.

    Args:
        images: Slices, 0 to 255.
        model: Of pristine images.

    Returns:
        The distance, 0 for the pristine images themselves (all patches alike in sharpness); NaN
        where there are fewer than two patches.
    """
    features = [_patch_features(image, model.patch)[0] for image in images]
    stacked = _complete(np.concatenate(features)) if features else np.zeros((0, FEATURES))
    if len(stacked) < 2:
        return float('nan')
    difference = stacked.mean(axis=0) - model.mean
    pooled = (np.cov(stacked, rowvar=False) + model.covariance) / 2
    return float(np.sqrt(difference @ np.linalg.pinv(pooled) @ difference))


def locally_normalised(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Subtract the local mean and divide by the local deviation plus one (Mittal et al. 2013).

    Args:
        image: Two axes, 0 to 255.

    Returns:
        The coefficients and the local deviation; window 7 x 7, Gaussian of 7/6 pixels.
    """
    mean = _windowed(image)
    deviation = np.sqrt(np.abs(_windowed(image**2) - mean**2))
    return (image - mean) / (deviation + 1), deviation


def _windowed(image: np.ndarray) -> np.ndarray:
    offsets = np.arange(-3, 4)
    weights = np.exp(-(offsets**2) / (2 * (7 / 6) ** 2))
    weights /= weights.sum()
    for axis in (0, 1):
        image = convolve1d(image, weights, axis=axis, mode='nearest')
    return image


def _patch_features(image: np.ndarray, patch: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the features (n, 36) of the patches of an image, and their sharpness (n,)."""
    rows, columns = (n // patch for n in image.shape)
    if rows * columns == 0:
        return np.zeros((0, FEATURES)), np.zeros(0)
    image = image[: rows * patch, : columns * patch].astype(np.float64)
    half = resize(image, (image.shape[0] // 2, image.shape[1] // 2), order=3, anti_aliasing=True)
    scales = []
    sharpness = np.zeros(0)
    for scaled, edge in ((image, patch), (half, patch // 2)):
        coefficients, deviation = locally_normalised(scaled)
        tiles = [_tiles(coefficients, edge)]
        tiles += [
            _tiles(coefficients * np.roll(coefficients, shift, (0, 1)), edge)
            for shift in _NEIGHBOURS
        ]
        scales.append(
            [_scale_features([kind[n] for kind in tiles]) for n in range(rows * columns)]
        )
        if edge == patch:
            sharpness = _tiles(deviation, edge).mean(axis=(1, 2))
    return np.hstack([np.reshape(one, (-1, FEATURES // 2)) for one in scales]), sharpness


def _tiles(image: np.ndarray, edge: int) -> np.ndarray:
    rows, columns = (n // edge for n in image.shape)
    return image.reshape(rows, edge, columns, edge).swapaxes(1, 2).reshape(-1, edge, edge)


def _scale_features(tiles: list[np.ndarray]) -> list[float]:
    """Shape and width of the coefficients; shape, mean, widths of four neighbour products."""
    shape, left, right = fit_asymmetric_gaussian(tiles[0])
    features = [shape, (left + right) / 2]
    for product in tiles[1:]:
        shape, left, right = fit_asymmetric_gaussian(product)
        mean = (right - left) * gamma(2 / shape) / gamma(1 / shape)
        features += [shape, mean, left, right]
    return [float(value) for value in features]


def fit_asymmetric_gaussian(values: np.ndarray) -> tuple[float, float, float]:
    """Fit an asymmetric generalised Gaussian by its moments (Lasmar et al. 2009).

    Args:
        values: Samples, any shape.

    Returns:
        Shape alpha (2: Gaussian, 1: Laplacian), scale beta of the left and of the right side;
        NaN where one side has no sample.
    """
    left = float(np.sqrt(np.mean(values[values < 0] ** 2))) if (values < 0).any() else 0.0
    right = float(np.sqrt(np.mean(values[values > 0] ** 2))) if (values > 0).any() else 0.0
    if left == 0 or right == 0:
        return float('nan'), float('nan'), float('nan')
    skew = left / right
    ratio = float(np.mean(np.abs(values)) ** 2 / np.mean(values**2))
    ratio *= (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape = float(_SHAPES[np.argmin((_SHAPE_RATIOS - ratio) ** 2)])
    width = float(np.sqrt(gamma(1 / shape) / gamma(3 / shape)))
    return shape, left * width, right * width


def _complete(features: np.ndarray) -> np.ndarray:
    """Drop patches that show nothing."""
    return features[np.isfinite(features).all(axis=1)]
