"""The forward model Y = H B X + N: what a thick-slice scanner makes of a fine image.

SegSRGAN (2020) equation 1. B blurs through the slice, H takes the slice positions; both work in
mm on the grids themselves, so that input and output are aligned exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter1d

from bids_segsr.imaging.conform import axis_along, slice_axis, spacing_of
from bids_segsr.imaging.resample import FWHM_PER_SIGMA, Grid, centred_grid, resample


def thick_slice_grid(shape: Sequence[int], affine: np.ndarray, spacing: float, axis: int) -> Grid:
    """Lay thick slices over the field of view of a fine image.

    Args:
        shape: Shape of the fine image.
        affine: Voxel to RAS+ mm (4 x 4) of the fine image.
        spacing: Distance of the slices in mm.
        axis: Array axis of the fine image along which the slices follow each other.

    Returns:
        The grid: whole slices only, the same centre, the other axes unchanged.
    """
    old_shape = np.array(shape)
    new_spacing = np.array(spacing_of(affine))
    new_shape = old_shape.copy()
    new_shape[axis] = int(np.floor(old_shape[axis] * new_spacing[axis] / spacing + 1e-3))
    new_spacing[axis] = spacing
    return centred_grid(new_shape, new_spacing, affine, old_shape)


def degrade(
    data: np.ndarray, affine: np.ndarray, grid: Grid, slice_thickness: float | None = None
) -> np.ndarray:
    """Acquire a fine image with thick slices (without noise).

    The slice profile is a Gaussian whose full width at half maximum is the slice thickness, as in
    SegSRGAN (2020, section 4.1.2). It is applied on a grid that runs along the slices and samples
    the slice direction as finely as the image, so the image may lie at any angle to the slices.
    In plane, an axis that gets coarser is smoothed against aliasing (see `resample`).

    Args:
        data: Fine image of three axes.
        affine: Voxel to RAS+ mm (4 x 4) of the fine image.
        grid: The grid of the acquired slices; its coarsest axis is the slice direction.
        slice_thickness: FWHM of the slice profile in mm; by default the distance of the slices.

    Returns:
        float32 array of the grid's shape, in the intensities of `data`.
    """
    axis = slice_axis(grid.spacing)
    slice_spacing = grid.spacing[axis]
    thickness = slice_spacing if slice_thickness is None else slice_thickness

    direction = grid.affine[:3, axis] / slice_spacing
    factor = int(np.ceil(slice_spacing / spacing_of(affine)[axis_along(affine, direction)]))
    factor += 1 - factor % 2  # odd, so that a fine sample lies on the centre of every slice
    fine_shape = np.array(grid.shape)
    fine_shape[axis] *= factor
    fine_spacing = np.array(grid.spacing)
    fine_spacing[axis] /= factor
    fine = centred_grid(fine_shape, fine_spacing, grid.affine, np.array(grid.shape))

    samples = resample(data, affine, fine)
    sigma = thickness / FWHM_PER_SIGMA / fine_spacing[axis]
    samples = gaussian_filter1d(samples, sigma, axis=axis, mode='nearest')
    taken = [slice(None)] * 3
    taken[axis] = slice(factor // 2, None, factor)
    return np.ascontiguousarray(samples[tuple(taken)])
