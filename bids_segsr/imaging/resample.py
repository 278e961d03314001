"""Target grids and interpolation whose positions are exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import distance_transform_edt, gaussian_filter1d

from bids_segsr.exceptions import UserError
from bids_segsr.imaging.axis_matrices import apply_matrices, interpolation_matrix
from bids_segsr.imaging.conform import axis_along, slice_axis, spacing_of

FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))

PARALLEL = 1e-4
"""Voxels that a point may lie off, for grids to count as parallel or the same."""

_INTERPOLATORS = {0: sitk.sitkNearestNeighbor, 1: sitk.sitkLinear, 3: sitk.sitkBSpline}
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Grid:
    """Voxel centres in space.

    Attributes:
        shape: Number of voxels along each array axis.
        affine: Voxel index to RAS+ mm (4 x 4), axes orthogonal.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in mm between voxel centres along each array axis."""
        return spacing_of(self.affine)


def auto_resolution(spacing: Sequence[float], finest: float = 0.5, coarsest: float = 1.0) -> float:
    """Choose the isotropic resolution for a thick-slice image.

    Args:
        spacing: Voxel spacing in mm.
        finest: Lower bound in mm.
        coarsest: Upper bound in mm.

    Returns:
        The finest in-plane spacing, to a hundredth of a millimetre, kept within the bounds.
    """
    through_plane = slice_axis(spacing)
    in_plane = min(spacing[axis] for axis in range(3) if axis != through_plane)
    return float(np.clip(round(in_plane, 2), finest, coarsest))


def isotropic_grid(shape: Sequence[int], affine: np.ndarray, resolution: float) -> Grid:
    """Lay an isotropic grid over the field of view of an image.

    The axes are the image's own, reordered and flipped to run closest to right, anterior,
    superior (obliqueness is kept). The new field of view has the same centre and covers the old
    one; it is larger by less than one new voxel.

    Args:
        shape: Shape of the image.
        affine: Voxel to RAS+ mm (4 x 4) of the image.
        resolution: Spacing of the new grid in mm.

    Returns:
        The grid.
    """
    import nibabel as nib

    orientation = nib.io_orientation(affine)
    canonical = affine @ nib.orientations.inv_ornt_aff(orientation, tuple(shape))
    order = np.argsort(orientation[:, 0])
    extent = np.array([shape[axis] for axis in order]) * np.array(spacing_of(canonical))
    return centred_grid(
        np.ceil(extent / resolution - 1e-3).astype(int),
        np.full(3, float(resolution)),
        canonical,
        np.array([shape[axis] for axis in order]),
    )


def centred_grid(
    new_shape: np.ndarray, new_spacing: np.ndarray, affine: np.ndarray, shape: np.ndarray
) -> Grid:
    """Lay a grid along the axes of another one, with the same centre of the field of view.

    Args:
        new_shape: Number of voxels along each axis of the new grid.
        new_spacing: Their spacing in mm.
        affine: Voxel to RAS+ mm (4 x 4) of the old grid.
        shape: Shape of the old grid.

    Returns:
        The new grid.
    """
    grid_affine = np.eye(4)
    grid_affine[:3, :3] = affine[:3, :3] / spacing_of(affine) * new_spacing
    centre = affine[:3, :3] @ ((shape - 1) / 2) + affine[:3, 3]
    grid_affine[:3, 3] = centre - grid_affine[:3, :3] @ ((new_shape - 1) / 2)
    i, j, k = (int(max(n, 1)) for n in new_shape)
    return Grid((i, j, k), grid_affine)


def resample(data: np.ndarray, affine: np.ndarray, grid: Grid, order: int = 3) -> np.ndarray:
    """Interpolate an image at the voxel centres of another grid.

    With order 3 (cubic B-spline, mirrored at the borders), an axis along which the grid is
    coarser than the image is smoothed first by a Gaussian whose FWHM is the root of the
    difference of the squared spacings, so that nothing aliases. Voxel centres of the grid outside
    the field of view of the image take the nearest voxel. An image of two voxels along an axis is
    interpolated linearly: ITK's spline needs three, and reads memory beyond its coefficients else.

    Args:
        data: Image of three axes.
        affine: Voxel to RAS+ mm (4 x 4) of the image, axes orthogonal.
        grid: Where to sample.
        order: 3 cubic B-spline, 1 linear, 0 nearest neighbour.

    Returns:
        float32 array of the grid's shape.
    """
    data = np.asarray(data, dtype=np.float32)
    if order == 3:
        order = 3 if min(data.shape) > 2 else 1
        i, j, k = data.shape
        # parallel axes, as nearly all have: the same in a tenth of the time
        found = resample_matrices(Grid((i, j, k), affine), grid) if order == 3 else None
        if found is not None:
            return found.apply(data)
        data = _antialias(data, affine, grid)
    reference = sitk.Image([int(n) for n in grid.shape], sitk.sitkUInt8)
    _set_geometry(reference, grid.affine)
    resampler = sitk.ResampleImageFilter()
    resampler.SetReferenceImage(reference)
    resampler.SetInterpolator(_INTERPOLATORS[order])
    resampler.UseNearestNeighborExtrapolatorOn()
    resampler.SetOutputPixelType(sitk.sitkFloat32)
    return from_sitk(resampler.Execute(to_sitk(data, affine)))[0]


@dataclass(frozen=True)
class AxisMatrices:
    """An operator from one grid to another with parallel axes, as one matrix an axis.

    Attributes:
        axes: For each axis of the new grid, the axis of the old one that runs along it.
        matrices: For each axis of the new grid, (voxels of the new grid, voxels of the old one),
            float64; None where the voxel centres are the same.
    """

    axes: tuple[int, int, int]
    matrices: tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]

    def apply(self, data: np.ndarray) -> np.ndarray:
        """Bring an image (float32) on the old grid to the new one."""
        single = [None if m is None else m.astype(np.float32) for m in self.matrices]
        return np.ascontiguousarray(apply_matrices(single, data.transpose(self.axes)))


def resample_by(kind: str, data: np.ndarray, affine: np.ndarray, grid: Grid) -> np.ndarray:
    """Interpolate by a kernel of another package.

    Args:
        kind: See `axis_matrices.interpolation_matrix`.
        data: Image of three axes.
        affine: Voxel to RAS+ mm (4 x 4) of the image, axes orthogonal.
        grid: Where to sample; its axes run along those of the image.

    Returns:
        float32 array of the grid's shape.

    Raises:
        UserError: No package brings the interpolation, or the axes are not parallel.
    """
    i, j, k = data.shape
    found = resample_matrices(Grid((i, j, k), affine), grid, kind)
    if found is None:
        raise UserError(f'interpolation {kind}: the axes of image and grid are not parallel.')
    return found.apply(np.asarray(data, dtype=np.float32))


def resample_matrices(old: Grid, new: Grid, kind: str = 'cubic') -> AxisMatrices | None:
    """Return what `resample` does with order 3, as matrices.

    Args:
        old: Grid of the image.
        new: Where to sample. (Where it reaches out of the old field of view, each axis takes the
            nearest voxel by itself, whereas `resample` takes the nearest voxel of all.)
        kind: Another kernel than the spline.

    Returns:
        The matrices; None where the axes of the grids are not parallel.
    """
    to_old = np.linalg.inv(old.affine) @ new.affine
    axes = np.abs(to_old[:3, :3]).argmax(axis=0)
    turned = to_old[:3, :3].copy()
    turned[axes, range(3)] = 0
    reach = np.abs(turned) @ np.array(new.shape)
    if len(set(axes)) < 3 or reach.max() > PARALLEL:
        return None
    i, j, k = (int(axis) for axis in axes)
    first, second, third = (
        _axis_matrix(
            old.shape[axis],
            to_old[axis, 3] + to_old[axis, n] * np.arange(new.shape[n]),
            new.spacing[n] / old.spacing[axis],
            kind,
        )
        for n, axis in enumerate((i, j, k))
    )
    return AxisMatrices((i, j, k), (first, second, third))


def _axis_matrix(n: int, positions: np.ndarray, coarser: float, kind: str) -> np.ndarray | None:
    """Sample an axis of n voxels at positions in voxels, which lie `coarser` voxels apart."""
    if len(positions) == n and np.allclose(positions, np.arange(n), rtol=0, atol=PARALLEL):
        return None
    outside = (positions < -0.5) | (positions > n - 0.5)
    positions = np.where(outside, np.clip(np.rint(positions), 0, n - 1), positions)
    matrix = interpolation_matrix(kind, n, positions)
    sigma = _antialias_sigma(n, coarser)
    return (
        matrix if sigma is None else matrix @ gaussian_filter1d(np.eye(n), sigma, 0, mode='mirror')
    )


def resample_mask(mask: np.ndarray, affine: np.ndarray, grid: Grid) -> np.ndarray:
    """Interpolate a mask between thick slices by its shape.

    Shape-based interpolation (Raya and Udupa 1990): the signed distance to the outline within each
    slice is interpolated linearly, and is positive inside. Interpolating the mask itself would
    repeat the outline of each slice, a staircase seen from the side. That is what is left to do
    where slices lie no further apart than the voxels in plane.

    Args:
        mask: Boolean array of three axes.
        affine: Voxel to RAS+ mm (4 x 4), axes orthogonal.
        grid: Where to sample.

    Returns:
        Boolean array of the grid's shape.
    """
    spacing = spacing_of(affine)
    across = slice_axis(spacing)
    in_plane = [s for axis, s in enumerate(spacing) if axis != across]
    # a slice without outline counts as that far away; more would widen its neighbours
    furthest = spacing[across]
    if np.allclose(in_plane, furthest):
        return resample(np.where(mask, np.float32(1), np.float32(-1)), affine, grid, order=1) >= 0
    distance = np.empty(mask.shape, dtype=np.float32)
    for inside, signed in zip(
        np.moveaxis(mask, across, 0), np.moveaxis(distance, across, 0), strict=True
    ):
        if inside.all() or not inside.any():
            signed[...] = furthest if inside.all() else -furthest
            continue
        to_outline = distance_transform_edt(inside, in_plane)
        to_outline -= distance_transform_edt(~inside, in_plane)
        signed[...] = np.clip(to_outline, -furthest, furthest)
    return resample(distance, affine, grid, order=1) >= 0


def _antialias(data: np.ndarray, affine: np.ndarray, grid: Grid) -> np.ndarray:
    directions = affine[:3, :3] / spacing_of(affine)
    for axis, spacing in enumerate(spacing_of(affine)):
        coarser = grid.spacing[axis_along(grid.affine, directions[:, axis])]
        sigma = _antialias_sigma(data.shape[axis], coarser / spacing)
        if sigma is not None:
            data = gaussian_filter1d(data, sigma, axis=axis, mode='mirror')
    return data


def _antialias_sigma(n: int, coarser: float) -> float | None:
    """Standard deviation in voxels for an axis of n voxels that gets coarser by a factor."""
    if coarser <= 1.001 or n == 1:
        return None
    return float(np.sqrt(coarser**2 - 1) / FWHM_PER_SIGMA)


def to_sitk(data: np.ndarray, affine: np.ndarray) -> sitk.Image:
    """Wrap an array (i, j, k) with its RAS+ affine as a SimpleITK image (LPS)."""
    if data.dtype == bool:
        data = data.astype(np.uint8)
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.transpose()))
    _set_geometry(image, affine)
    return image


def from_sitk(image: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
    """Return the array (i, j, k) and the RAS+ affine (4 x 4) of a SimpleITK image."""
    direction = np.array(image.GetDirection()).reshape(3, 3)
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).transpose(), _LPS_TO_RAS @ affine


def _set_geometry(image: sitk.Image, affine: np.ndarray) -> None:
    lps = _LPS_TO_RAS @ affine
    spacing = np.array(spacing_of(affine))
    image.SetSpacing([float(s) for s in spacing])
    image.SetOrigin([float(x) for x in lps[:3, 3]])
    image.SetDirection([float(x) for x in (lps[:3, :3] / spacing).ravel()])
