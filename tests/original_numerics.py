"""Training numerics of the original SegSRGAN program, for comparison alone.

Nothing of the project is trained with this. Its scipy mode spreads slices unevenly (6 or 7 voxels
apart at a factor of 6) and stretches the brain by n / (n - 1); its sitk mode shifts input against
target by half a slice less half a voxel; the blur, meant in mm, is applied in voxels; and one seed
makes all epochs alike. `imaging.acquisition` simulates without these errors. What the program
computes is kept here, so that claims about it can be checked against numbers it gave.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from bids_segsr.imaging.resample import FWHM_PER_SIGMA

Mode = Literal['scipy', 'sitk']


def crop_to_factor(data: np.ndarray, factor: Sequence[float]) -> np.ndarray:
    """Keep the first `int(n - fmod(n, factor))` voxels of each axis.

    Args:
        data: Image of three axes.
        factor: Low over high resolution along each axis.

    Returns:
        A view.
    """
    kept = (int(n - np.fmod(n, f)) for n, f in zip(data.shape, factor, strict=True))
    return data[tuple(slice(n) for n in kept)]


def low_resolution(
    data: np.ndarray, spacing: Sequence[float], resolution: Sequence[float], mode: Mode
) -> np.ndarray:
    """Blur and decimate a cropped image.

    Args:
        data: High-resolution image, cropped by `crop_to_factor`.
        spacing: Of its voxels in mm.
        resolution: Spacing aimed at in mm. The standard deviation of the blur is this over 2.355,
            taken as voxels.
        mode: 'scipy' takes the nearest voxels to positions that align the outermost voxels,
            'sitk' every n-th voxel from the first one.

    Returns:
        Low-resolution image.
    """
    factor = np.divide(resolution, spacing)
    blurred = gaussian_filter(data, np.asarray(resolution) / FWHM_PER_SIGMA)
    if mode == 'scipy':
        return zoom(blurred, 1 / factor, order=0)
    i, j, k = (round(f) for f in factor)
    return blurred[::i, ::j, ::k]


def interpolate(
    data: np.ndarray, factor: Sequence[float], mode: Mode, interpolator: str = 'BSpline'
) -> np.ndarray:
    """Bring a low-resolution image back.

    Args:
        data: Low-resolution image.
        factor: Low over high resolution along each axis; rounded in mode 'sitk'.
        mode: 'scipy' is `scipy.ndimage.zoom` of order 3, 'sitk' is `SimpleITK.Expand`.
        interpolator: Name of a SimpleITK interpolator without `sitk`, for mode 'sitk'.

    Returns:
        Image on the high-resolution grid, or one voxel off it.
    """
    if mode == 'scipy':
        return zoom(data, factor, order=3)
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(data.transpose()))
    expanded = sitk.Expand(
        image, [round(float(f)) for f in factor], getattr(sitk, f'sitk{interpolator}')
    )
    return sitk.GetArrayFromImage(expanded).transpose()


def augment(
    high: np.ndarray,
    low: np.ndarray,
    power: float,
    noise: float,
    rng: np.random.RandomState,
) -> tuple[np.ndarray, np.ndarray]:
    """Raise both images to a power; add noise to the low-resolution one and cut it off at 0.

    Args:
        high: High-resolution image; negative values become NaN.
        low: Low-resolution image.
        power: The exponent.
        noise: Standard deviation over the maximum of the low-resolution image, after the power.
        rng: Legacy generator of the program.

    Returns:
        High-resolution image in its type, low-resolution image float64.
    """
    high, low = high**power, low**power
    noisy = low + rng.normal(0, noise * low.max(), low.shape)
    return high, np.maximum(noisy, 0)


def normalise(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divide both images by the maximum of the low-resolution one."""
    largest = low.max()
    return low / largest, high / largest


def bounding_box(data: np.ndarray) -> tuple[slice, ...]:
    """Return the box of positive voxels, without its last plane along each axis."""
    found = np.nonzero(data > 0)
    return tuple(slice(int(axis.min()), int(axis.max())) for axis in found)


def shuffled_patches(
    stack: np.ndarray, patch: int, stride: int, rng: np.random.RandomState
) -> np.ndarray:
    """Cut every patch on a grid from the first voxel on and shuffle them with seed 0.

    Args:
        stack: (C, i, j, k).
        patch: Edge in voxels.
        stride: Distance of the patches in voxels.
        rng: Generator, which is seeded anew: the error that makes all epochs alike.

    Returns:
        (patches, C, patch, patch, patch).
    """
    windows = np.lib.stride_tricks.sliding_window_view(stack, (len(stack), *(patch,) * 3))[0]
    windows = windows[::stride, ::stride, ::stride]
    patches = windows.reshape(-1, len(stack), patch, patch, patch)
    rng.seed(0)
    return patches[rng.permutation(len(patches))]
