"""The forward model Y = H B X + N: what a thick-slice scanner makes of a fine image.

SegSRGAN (2020) equation 1. B blurs through the slice, H takes the slice positions; both work in
mm on the grids themselves, so that input and output are aligned exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter1d

from bids_segsr.extensions import extension_names
from bids_segsr.imaging.conform import axis_along, slice_axis, spacing_of
from bids_segsr.imaging.resample import (
    FWHM_PER_SIGMA,
    AxisMatrices,
    Grid,
    centred_grid,
    resample,
    resample_matrices,
)

INTERPOLATIONS = ('cubic', 'linear', 'zero-fill')
"""How images of a training come to the fine grid, but for what other packages bring."""


@dataclass(frozen=True)
class ForwardModel:
    """How a low-resolution image is made. [forward] of a recipe.

    Ranges are drawn from uniformly, anew for every sample; equal ends fix the value.

    Attributes:
        kind: 'thick-slices' (SegSRGAN), 'isotropic' (ReCNN: blur, coarser along all axes) or
            'k-space' (mDCSRN: the outer part of k-space is cut off along the two phase-encoding
            axes).
        spacing_mm: Thick slices: distance of the slices in mm.
        factor: Spacing of the low-resolution image over that of the high-resolution one, along
            every axis that gets coarser.
        factors: List to choose from instead, a factor per axis (multi-scale ReCNN).
        in_plane_mm: Thick slices: in-plane spacing in mm; None leaves it as it is.
        profile: Slice profile: 'gaussian' (FWHM = slice thickness), 'box', or the path of a
            measured one (text, two columns: position in mm, weight), which has its own width.
        gap: Thick slices: share of the slice distance that no slice covers.
        sigma: Isotropic: standard deviation of the blur in high-resolution voxels; None: a
            Gaussian whose FWHM is the low-resolution spacing.
        axis: Array axis of the slices (k-space: of the readout, which keeps its resolution);
            None: drawn for label maps, axis 2 (inferior to superior) for images.
        interpolation: How the low-resolution image comes back to the fine grid: 'cubic'
            (B-spline), 'linear' (mDCSRN), for k-space 'zero-fill', or what another package brings
            (`bids_segsr.extensions`).

    Raises:
        ValueError: A value is out of its range, or of another kind of model.
    """

    kind: Literal['thick-slices', 'isotropic', 'k-space'] = 'thick-slices'
    spacing_mm: tuple[float, float] | None = None
    factor: tuple[float, float] | None = None
    factors: tuple[tuple[float, float, float], ...] = ()
    in_plane_mm: tuple[float, float] | None = None
    profile: str = 'gaussian'
    gap: tuple[float, float] = (0.0, 0.0)
    sigma: float | None = None
    axis: int | None = None
    interpolation: str = 'cubic'

    @property
    def last_axis(self) -> int:
        """Array axis of images that networks see last: that of thick slices."""
        return self.axis if self.kind == 'thick-slices' and self.axis is not None else 2

    def __post_init__(self) -> None:
        for key in ('spacing_mm', 'factor', 'in_plane_mm', 'gap'):
            limits = getattr(self, key)
            if limits is not None and not 0 <= limits[0] <= limits[1]:
                raise ValueError(f'{key} is {limits}; give the lower limit first, none below 0')
        if self.gap[1] >= 1:
            raise ValueError(f'gap is {self.gap}; give shares below 1')
        rows = [*self.factors, *((self.factor,) if self.factor else ())]
        if any(factor < 1 for row in rows for factor in row):
            raise ValueError('factors make an image coarser: give 1 or more')
        if self.axis not in (None, 0, 1, 2):
            raise ValueError(f'axis is {self.axis}; give 0, 1 or 2')
        if self.sigma is not None and self.sigma <= 0:
            raise ValueError(f'sigma is {self.sigma:g}; give more than 0')
        slices = (
            self.spacing_mm is None and self.in_plane_mm is None and self.profile == 'gaussian'
        )
        if self.kind != 'thick-slices' and not (slices and self.gap[1] == 0):
            raise ValueError(f'{self.kind}: spacing_mm, in_plane_mm, profile, gap are of slices')
        if self.profile not in ('gaussian', 'box') and self.gap[1] > 0:
            raise ValueError('gap goes with profile gaussian or box; a measured one has its width')
        if self.sigma is not None and self.kind != 'isotropic':
            raise ValueError('sigma goes with kind isotropic')
        known = (*INTERPOLATIONS, *extension_names('interpolations'))
        if self.interpolation not in known:
            raise ValueError(
                f'interpolation is {self.interpolation!r}; give one of {", ".join(known)}'
            )
        if self.interpolation == 'zero-fill' and self.kind != 'k-space':
            raise ValueError('interpolation zero-fill goes with kind k-space')


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
    i, j, k = data.shape
    found = degrade_matrices(Grid((i, j, k), affine), grid, slice_thickness)
    if found is not None:
        return found.apply(np.asarray(data, dtype=np.float32))
    fine, axis, sigma = _oversampled(affine, grid, slice_thickness)
    samples = resample(data, affine, fine)
    samples = gaussian_filter1d(samples, sigma, axis=axis, mode='nearest')
    return np.ascontiguousarray(samples[_centres(fine, grid, axis)])


def with_noise(scan: np.ndarray, sd: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise, N of the forward model.

    Args:
        scan: Image of any shape.
        sd: Standard deviation, in the unit of the image.
        rng: Source of random numbers; as many are drawn without noise as with it.

    Returns:
        The noisy image, float32 where the image is.
    """
    return scan + np.float32(sd) * rng.standard_normal(scan.shape, dtype=np.float32)


def degrade_matrices(
    fine: Grid, grid: Grid, slice_thickness: float | None = None
) -> AxisMatrices | None:
    """Return what `degrade` does, as matrices.

    Args:
        fine: Grid of the fine image.
        grid: As in `degrade`.
        slice_thickness: As in `degrade`.

    Returns:
        The matrices; None where the axes of the grids are not parallel.
    """
    sampled, axis, sigma = _oversampled(fine.affine, grid, slice_thickness)
    found = resample_matrices(fine, sampled)
    if found is None:
        return None
    samples = sampled.shape[axis]
    blur = gaussian_filter1d(np.eye(samples), sigma, axis=0, mode='nearest')
    blur = blur[_centres(sampled, grid, axis)[axis]]
    matrices = list(found.matrices)
    thin = matrices[axis]
    matrices[axis] = blur if thin is None else blur @ thin
    return AxisMatrices(found.axes, (matrices[0], matrices[1], matrices[2]))


def _oversampled(
    affine: np.ndarray, grid: Grid, slice_thickness: float | None
) -> tuple[Grid, int, float]:
    """Sample the slice direction of a grid as finely as an image does.

    Returns:
        That grid, the slice axis, and the standard deviation of the slice profile in its voxels.
    """
    axis = slice_axis(grid.spacing)
    slice_spacing = grid.spacing[axis]
    thickness = slice_spacing if slice_thickness is None else slice_thickness
    direction = grid.affine[:3, axis] / slice_spacing
    factor = int(np.ceil(slice_spacing / spacing_of(affine)[axis_along(affine, direction)]))
    factor += 1 - factor % 2  # odd, so that a fine sample lies on the centre of every slice
    shape = np.array(grid.shape)
    shape[axis] *= factor
    spacing = np.array(grid.spacing)
    spacing[axis] /= factor
    fine = centred_grid(shape, spacing, grid.affine, np.array(grid.shape))
    return fine, axis, thickness / FWHM_PER_SIGMA / spacing[axis]


def _centres(fine: Grid, grid: Grid, axis: int) -> tuple[slice, ...]:
    """Where, on a grid from `_oversampled`, the centres of the slices lie."""
    factor = fine.shape[axis] // grid.shape[axis]
    taken = [slice(None)] * 3
    taken[axis] = slice(factor // 2, None, factor)
    return tuple(taken)
