"""How good a scan is before anything is made of it: noise, contrast, stripes, resolution."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import (
    binary_erosion,
    convolve,
    gaussian_filter,
    map_coordinates,
    uniform_filter,
)

from bids_segsr.imaging.components import bounding_box

MAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""

FEWEST_VOXELS = 50
"""In a slice that is judged."""

HALF_POWER = 0.5
_LAPLACIAN = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
MIDDLE = (10, 90)
"""Percentiles between which intensities are compared, so that a rim of partial volumes and single
vessels do not count."""

MIDDLE_SD = 2.563
"""How many standard deviations of a normal distribution lie between them."""

_HIGH_PASS_MM = 16.0
_SHORTEST_PERIOD = 2.0


def noise_level(scan: np.ndarray, brain: np.ndarray, axis: int) -> float:
    """Return the standard deviation of the noise in the slices of a scan.

    The difference of two Laplacians, which anatomy passes but little, over the brain (J. Immerkær,
    Fast noise variance estimation, Computer Vision and Image Understanding 1996); its median, so
    that edges do not count. What a scanner has smoothed or interpolated in plane shows less noise
    than was there.

    Args:
        scan: Intensities of three axes.
        brain: Where; boolean array.
        axis: Across the slices.

    Returns:
        In the intensities of the scan; NaN where the brain is too small.
    """
    slices, inside = np.moveaxis(scan, axis, 0), np.moveaxis(brain, axis, 0)
    inner = binary_erosion(inside, np.ones((1, 3, 3)))
    if inner.sum() < FEWEST_VOXELS:
        return float('nan')
    response = convolve(slices.astype(np.float32), _LAPLACIAN[None], mode='nearest')[inner]
    return spread(response) / 6


def spread(values: np.ndarray) -> float:
    """Return the standard deviation of values about 0 by their median: outliers do not count."""
    return float(MAD * np.median(np.abs(values)))


def snr(scan: np.ndarray, brain: np.ndarray, noise: float) -> float:
    """Return the median of the brain over the noise of the scan, see `noise_level`."""
    return float(np.median(scan[brain])) / noise if noise > 0 else float('nan')


def cnr(scan: np.ndarray, grey: np.ndarray, white: np.ndarray, noise: float) -> float:
    """Return the contrast between cortex and white matter over their spread.

    As MRIQC has it: the difference of the means over the root of the summed variances of both
    and of the noise (Magnotta and Friedman, Journal of Digital Imaging 2006).

    Args:
        scan: Intensities.
        grey: Cortical grey matter, boolean array.
        white: White matter, boolean array.
        noise: See `noise_level`.
    """
    if min(grey.sum(), white.sum()) < FEWEST_VOXELS:
        return float('nan')
    inside, outside = scan[white].astype(float), scan[grey].astype(float)
    spread = np.sqrt(inside.var() + outside.var() + (0 if np.isnan(noise) else noise) ** 2)
    return float(abs(inside.mean() - outside.mean()) / spread) if spread else float('nan')


def tissue_contrast(scan: np.ndarray, brain: np.ndarray, noise: float) -> float:
    """Return how far the intensities inside a brain lie apart for another reason than noise.

    The standard deviation, from the 10th to the 90th percentile, less that of the noise, over the
    median. After the bias field is gone, tissues alone are left. Heads have 0.12 to 0.40: T1w, T2w
    and FLAIR of adults 0.18 to 0.40, stacks of a fetus 0.33 to 0.40, T1w of newborns 0.12 to 0.41
    and 0.06 where the tissues look hardly different; a uniform phantom has up to 0.03 from what
    its bias field leaves.

    Args:
        scan: Bias-corrected intensities of three axes.
        brain: Where; boolean array.
        noise: See `noise_level`.

    Returns:
        0 or more; NaN where the brain is too small, or not bright.
    """
    if not noise >= 0:
        return float('nan')
    low, middle, high = np.percentile(scan[brain], (MIDDLE[0], 50, MIDDLE[1]))
    spread = float(high - low) / MIDDLE_SD
    return float(np.sqrt(max(spread**2 - noise**2, 0)) / middle) if middle > 0 else float('nan')


def stripes(scan: np.ndarray, brain: np.ndarray, axis: int) -> float:
    """Return by which share odd slices are brighter or darker than even ones.

    Interleaved slices that saturate each other differ in turn. Each slice is compared with the
    mean of its neighbours, which a slope of intensities leaves alone.

    Args:
        scan: Intensities of three axes.
        brain: Where; boolean array.
        axis: Across the slices.

    Returns:
        0 or more; NaN with fewer than four slices to compare.
    """
    ratios = {}
    for k, slices in _triples(scan, brain, axis).items():
        here, expected = slices[1], (slices[0] + slices[2]) / 2
        seen = expected > 0
        if seen.sum() >= FEWEST_VOXELS:
            ratios[k] = float(np.median(here[seen] / expected[seen])) - 1
    odd = [ratio for k, ratio in ratios.items() if k % 2]
    even = [ratio for k, ratio in ratios.items() if not k % 2]
    if min(len(odd), len(even)) < 2:
        return float('nan')
    # a slice that is brighter by a is above its neighbours by a and makes them lie below by a
    return abs(float(np.median(odd) - np.median(even))) / 2


def slice_shift_mm(
    scan: np.ndarray, brain: np.ndarray, axis: int, spacing: tuple[float, float, float]
) -> float:
    """Return how far slices lie beside the mean of their neighbours, in plane.

    A head that moves between slices shifts them against each other. The shift that explains best
    what differs, to first order (B. Lucas and T. Kanade, IJCAI 1981); the median over the slices.

    Args:
        scan: Intensities of three axes.
        brain: Where; boolean array.
        axis: Across the slices.
        spacing: Of the three axes in mm.

    Returns:
        mm; NaN with fewer than four slices to compare.
    """
    in_plane = [size for n, size in enumerate(spacing) if n != axis]
    slices, inside = np.moveaxis(scan, axis, 0), np.moveaxis(brain, axis, 0)
    shifts = []
    for k in range(1, len(slices) - 1):
        where = binary_erosion(inside[k - 1] & inside[k] & inside[k + 1])
        if where.sum() < FEWEST_VOXELS:
            continue
        here, around = slices[k].astype(float), (slices[k - 1] + slices[k + 1]) / 2.0
        around *= here[where].mean() / max(around[where].mean(), 1e-9)
        slopes = np.stack([g[where] for g in np.gradient((here + around) / 2, *in_plane)], axis=-1)
        shift, *_ = np.linalg.lstsq(slopes, (around - here)[where], rcond=None)
        shifts.append(float(np.linalg.norm(shift)))
    return float(np.median(shifts)) if len(shifts) >= 4 else float('nan')


def resolution_across(image: np.ndarray, mask: np.ndarray, axis: int, spacing_mm: float) -> float:
    """Return what the voxels of an isotropic image resolve across the slices of its scan.

    Anatomy has about the same detail in all directions: where the power across the slices falls
    below half of that in plane, detail is missing. Half of that period is the spacing of slices
    that would have shown as much.

    Args:
        image: Isotropic image of three axes.
        mask: Brain mask.
        axis: Across the slices of the scan.
        spacing_mm: Of its voxels.

    Returns:
        mm, the spacing of the voxels at least; NaN where the brain is too small.
    """
    detail = _detail(image, mask, round(_HIGH_PASS_MM / spacing_mm))
    if detail is None:
        return float('nan')
    frequencies = np.linspace(1 / 16, 1 / (_SHORTEST_PERIOD * spacing_mm), 64)
    across = _power(detail, axis, spacing_mm, frequencies)
    others = [_power(detail, n, spacing_mm, frequencies) for n in range(3) if n != axis]
    in_plane = np.mean(others, axis=0)
    low = np.flatnonzero(across < HALF_POWER * in_plane)
    return spacing_mm if low.size == 0 else float(1 / (2 * frequencies[low[0]]))


def on_grid(
    labels: np.ndarray, affine: np.ndarray, shape: tuple[int, ...], grid_affine: np.ndarray
) -> np.ndarray:
    """Return the label nearest to each voxel of another grid, 0 outside.

    Args:
        labels: Integers of three axes.
        affine: Of the labels, voxel to RAS+ mm (4 x 4).
        shape: Of the other grid.
        grid_affine: Of the other grid.
    """
    to_index = np.linalg.inv(affine) @ grid_affine
    index = np.tensordot(to_index[:3, :3], np.indices(shape, dtype=np.float32), axes=1)
    index += to_index[:3, 3][:, None, None, None]
    return map_coordinates(labels, index, order=0, mode='constant', cval=0)


def _triples(scan: np.ndarray, brain: np.ndarray, axis: int) -> dict[int, list[np.ndarray]]:
    """Return voxels inside the brain of a slice and of its two neighbours, by its number."""
    slices, inside = np.moveaxis(scan, axis, 0), np.moveaxis(brain, axis, 0)
    found = {}
    for k in range(1, len(slices) - 1):
        where = inside[k - 1] & inside[k] & inside[k + 1]
        if where.sum() >= FEWEST_VOXELS:
            found[k] = [slices[n][where].astype(float) for n in (k - 1, k, k + 1)]
    return found


def _detail(image: np.ndarray, mask: np.ndarray, width: int) -> np.ndarray | None:
    """Return what is finer than some voxels, fading out towards the edge of the mask."""
    box = bounding_box(mask)
    inner, image = binary_erosion(mask[box], iterations=2), image[box]
    if inner.sum() < FEWEST_VOXELS**2:
        return None
    box = bounding_box(inner)
    inner, values = inner[box], np.where(inner, image, 0)[box].astype(np.float32)
    inside = inner.astype(np.float32)
    low = uniform_filter(values, width) / np.maximum(uniform_filter(inside, width), 1e-6)
    return np.where(inner, values - low, 0) * gaussian_filter(inside, 2)


def _power(
    detail: np.ndarray, axis: int, spacing_mm: float, frequencies: np.ndarray
) -> np.ndarray:
    lines = np.moveaxis(detail, axis, -1)
    lines = lines[lines.any(axis=-1)]
    spectrum = (np.abs(np.fft.rfft(lines, axis=-1)) ** 2).mean(axis=0)
    own = np.fft.rfftfreq(lines.shape[-1], spacing_mm)
    # neighbouring frequencies together: a single one is noisy
    smooth = np.convolve(spectrum, np.ones(5) / 5, mode='same')
    return np.interp(frequencies, own, smooth) / lines.shape[-1]
