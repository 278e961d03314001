"""Reading, checking and writing of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from nibabel.orientations import (
    apply_orientation,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)

from bids_segsr.exceptions import ImageError, denied
from bids_segsr.files import complete
from bids_segsr.imaging.conform import slice_axis, spacing_of
from bids_segsr.imaging.dicom import read_series
from bids_segsr.imaging.intensities import few_values, fill_lost_slices, lost_slices, settle
from bids_segsr.imaging.nifti import read_image

FEWEST_VOXELS = 3
"""Along any axis of a scan: between two slices a cubic spline has nothing to go by."""

VOXEL_SIZES_MM = (0.05, 25.0)
"""Distances of voxels that a scan of a head can have."""

FIELDS_OF_VIEW_MM = (10.0, 1000.0)
"""Extents in plane of a scan that can show a brain: from a part of a fetal one to the bore."""

SMALL_FIELD_OF_VIEW_MM = 40.0
"""Extent in plane below which no whole brain can be in view: at 20 weeks of gestation the head
is some 47 mm wide."""

GRID_TOLERANCE_MM = 0.1
"""How far a corner of a mask may lie from that of its image."""

FURTHEST_MM = 10_000.0
"""Largest distance from the origin: beyond, a float32 header cannot hold a thousandth of a mm."""


@dataclass(frozen=True)
class Volume:
    """A 3-D image and where it lies.

    Attributes:
        data: Intensities, float32, array axes (i, j, k) as stored in the file.
        affine: Voxel index to RAS+ mm (4 x 4), axes orthogonal.
        notes: What had to be mended in the header, one sentence each.
        warnings: What may be wrong with place, size or intensities, one sentence each.
        slice_thickness: In mm, where the file itself tells it (DICOM).
        lost_slices: Slices inside the stack that hold no signal.
    """

    data: np.ndarray
    affine: np.ndarray
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    slice_thickness: float | None = None
    lost_slices: int = 0

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in mm between voxel centres along each array axis."""
        return spacing_of(self.affine)


def load_scan(path: str | Path, mem_gb: float | None = None) -> Volume:
    """Read a scan as acquired: what no scan of a head can be is refused, the rest is settled.

    Beyond what `load_volume` does, the size of voxels and field of view must be possible, slices
    without any signal inside the stack are filled (`intensities.fill_lost_slices`), and
    intensities begin at 0 (`intensities.settle`), which all that follows takes for granted.

    Args:
        path: A `.nii` or `.nii.gz` file, or a folder that holds one DICOM series.
        mem_gb: Memory that may be used, GB; None for what the machine or container allows.

    Returns:
        The image in its stored axis order.

    Raises:
        ImageError: As `load_volume`; or there are fewer than three voxels along an axis, voxels
            outside 0.05 to 25 mm, a field of view outside 10 to 1000 mm in plane (and below 1000
            mm through it), a place further than 10 m from the origin, or intensities out of range.
    """
    path = Path(path)
    volume = load_volume(path, mem_gb)
    doubts = _check_geometry(volume, path)
    count = few_values(volume.data)
    if count is not None:
        doubts.append(f'The image holds {count} different values: a mask or labels, and no scan?')
    volume = _settled(volume, path)
    across = slice_axis(volume.spacing)
    lost = lost_slices(volume.data, across)
    try:
        data, told = fill_lost_slices(volume.data, across)
    except ValueError as error:
        raise _unusable(path, error) from error
    warnings = (*doubts, *volume.warnings, *told)
    return replace(volume, data=data, warnings=warnings, lost_slices=len(lost))


def load_fine(path: str | Path, mem_gb: float | None = None) -> Volume:
    """Read an image that was not acquired in thick slices, such as one to be trained on.

    Beyond what `load_volume` does, intensities begin at 0 by the rule of scans
    (`intensities.settle`).

    Args:
        path: A `.nii` or `.nii.gz` file, or a folder that holds one DICOM series.
        mem_gb: Memory that may be used, GB; None for what the machine or container allows.

    Returns:
        The image in its stored axis order.

    Raises:
        ImageError: As `load_volume`, or intensities are out of range.
    """
    path = Path(path)
    return _settled(load_volume(path, mem_gb), path)


def load_volume(path: str | Path, mem_gb: float | None = None) -> Volume:
    """Read a NIfTI file or a folder of DICOM slices, and check that it is an image.

    Args:
        path: A `.nii` or `.nii.gz` file, or a folder that holds one DICOM series.
        mem_gb: Memory that may be used, GB; None for what the machine or container allows.

    Returns:
        The image in its stored axis order, its header mended (see `conform.mend_affine`).

    Raises:
        ImageError: The file is missing, empty, damaged or no NIfTI; is not 3-D; has a single
            slice; does not fit the memory; holds NaN, infinite or only constant voxels; or no
            affine can be inverted.
    """
    path = Path(path)
    try:
        if path.is_dir():
            series = read_series(path)
            told = series.warnings
            volume = Volume(series.data, series.affine, (), told, series.slice_thickness)
        else:
            volume = _load_nifti(path, mem_gb)
    except PermissionError as error:
        raise ImageError(denied(error)) from error
    if min(volume.data.shape) < 2:
        raise ImageError(
            f'{path}: a single slice (shape {volume.data.shape}) cannot be super-resolved; '
            'give the whole stack.'
        )
    _check_voxels(volume.data, path)
    return volume


def load_mask(path: str | Path, like: Volume) -> np.ndarray:
    """Read a mask that must lie on the grid of an image; its axes may run otherwise.

    Args:
        path: NIfTI file; voxels above 0.5 are inside.
        like: The image that the mask belongs to.

    Returns:
        Boolean array of the image's shape.

    Raises:
        ImageError: The file cannot be read, lies on another grid (shape, or any corner more than
            0.1 mm away), or is empty.
    """
    path = Path(path)
    found = _load_nifti(path)
    turn = ornt_transform(io_orientation(found.affine), io_orientation(like.affine))
    data = apply_orientation(found.data, turn)
    affine = found.affine @ inv_ornt_aff(turn, found.data.shape)
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in like.data.shape]), -1).reshape(-1, 3)
    apart = np.abs(apply_affine(affine, corners) - apply_affine(like.affine, corners)).max()
    if data.shape != like.data.shape or not apart <= GRID_TOLERANCE_MM:
        told = f'shape {data.shape}'
        if data.shape == like.data.shape:
            told = f'of the same shape, up to {apart:.3g} mm away'
        raise ImageError(
            f'{path}: the mask lies on another grid ({told}) than its image '
            f'(shape {like.data.shape}); resample it to the image, or leave it out.'
        )
    mask = data > 0.5
    if not mask.any():
        numbers = data[~np.isnan(data)]
        told = f'the largest is {numbers.max():g}' if numbers.size else 'all are NaN'
        raise ImageError(
            f'{path}: the mask is empty (no voxel above 0.5, {told}); mend it, or leave it out.'
        )
    return mask


def load_map(path: str | Path) -> Volume:
    """Read a map of our own making, such as a probability map; it may be constant.

    Raises:
        ImageError: The file cannot be read.
    """
    return _load_nifti(Path(path))


def save_volume(
    path: str | Path, data: np.ndarray, affine: np.ndarray, dtype: type | None = None
) -> Path:
    """Write an image as NIfTI-1, with sform and qform alike (code 1, scanner) and units mm.

    Args:
        path: Where to; `.nii` or `.nii.gz` (compressed without a time stamp: same bytes for the
            same image).
        data: Image of three axes; a boolean image is stored as uint8, a floating one as float32,
            other integers as they are.
        affine: Voxel to RAS+ mm (4 x 4), axes orthogonal.
        dtype: Stored type where the rule above is not wanted.

    Returns:
        The path; the file is complete or not there.

    Raises:
        UserError: It cannot be written.
    """
    data = np.asarray(data)
    if dtype is None:
        if data.dtype == bool:
            dtype = np.uint8
        elif np.issubdtype(data.dtype, np.floating):
            dtype = np.float32
        else:
            dtype = data.dtype.type
    # in the order of the file: nibabel writes slice by slice, which it would gather voxel by voxel
    image = nib.Nifti1Image(np.asarray(data, dtype=dtype, order='F'), affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units('mm')
    image.header.set_slope_inter(1, 0)
    path = Path(path)
    with complete(path) as part:
        nib.save(image, part)
    return path


def _load_nifti(path: Path, mem_gb: float | None = None) -> Volume:
    data, placement = read_image(path, mem_gb)
    return Volume(data, placement.affine, placement.notes, placement.warnings)


def _settled(volume: Volume, path: Path) -> Volume:
    try:
        data, told = settle(volume.data)
    except ValueError as error:
        raise _unusable(path, error) from error
    return replace(volume, data=data, warnings=(*volume.warnings, *told))


def _unusable(path: Path, error: ValueError) -> ImageError:
    return ImageError(f'{path}: {error}; convert the image again.')


def _check_geometry(volume: Volume, path: Path) -> list[str]:
    """Refuse sizes that no scan of a head has; return a warning where no whole brain fits."""
    shape, spacing = volume.data.shape, volume.spacing
    told = f'{_times(shape)} voxels of {_times(spacing)} mm'
    remedy = 'check the voxel sizes and the unit of length (xyzt_units) in the header.'
    if min(shape) < FEWEST_VOXELS:
        raise ImageError(
            f'{path}: {told}: at least {FEWEST_VOXELS} are needed along each axis; '
            'give the whole stack.'
        )
    least, most = VOXEL_SIZES_MM
    if not all(least <= size <= most for size in spacing):
        raise ImageError(
            f'{path}: {told}: no head is scanned with voxels outside {least:g} to {most:g} mm; '
            f'{remedy}'
        )
    extents = [n * size for n, size in zip(shape, spacing, strict=True)]
    least, most = FIELDS_OF_VIEW_MM
    across = slice_axis(spacing)
    in_plane = [extent for axis, extent in enumerate(extents) if axis != across]
    if min(in_plane) < least or max(extents) > most:
        raise ImageError(
            f'{path}: {told}: a field of view of {_times(extents)} mm shows no brain (in plane '
            f'{least:g} to {most:g} mm); {remedy}'
        )
    if np.abs(volume.affine[:3, 3]).max() > FURTHEST_MM:
        raise ImageError(
            f'{path}: the header puts the image {np.abs(volume.affine[:3, 3]).max():.3g} mm from '
            'the origin; mend the affine.'
        )
    if min(in_plane) < SMALL_FIELD_OF_VIEW_MM:
        return [
            f'The field of view is {_times(extents)} mm, too small for any whole brain: {remedy}'
        ]
    return []


def _check_voxels(data: np.ndarray, path: Path) -> None:
    bad = int(data.size - np.isfinite(data).sum())
    if bad:
        raise ImageError(
            f'{path}: {bad} of {data.size} voxels are NaN or infinite; '
            'set them to a number, or convert the image again.'
        )
    if data.min() == data.max():
        raise ImageError(
            f'{path}: every voxel has the value {data.min():g}; this image holds no signal.'
        )


def _times(values: Sequence[float]) -> str:
    return ' x '.join(f'{value:.4g}' for value in values)
