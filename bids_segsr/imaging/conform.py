"""Which axis is through-plane, which affine is meant, and the canonical order of the axes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from nibabel.spatialimages import HeaderDataError

SHEAR_TOLERANCE = 1e-4
"""Largest cosine between two voxel axes that still counts as orthogonal."""

ROUNDED_SHEAR = 1e-6
"""Largest cosine between two voxel axes that single precision leaves of orthogonal ones."""

NOTABLE_SHEAR = 0.05
"""Cosine between two voxel axes (3 degrees) from which sizes are in doubt."""

DISAGREEMENT_TOLERANCE_MM = 1e-2
"""Largest distance of a corner voxel under sform and qform that still counts as agreement."""

SIZE_TOLERANCE = 0.01
"""Largest relative difference of two voxel sizes that still counts as agreement."""

UNITS = {0: ('mm', 1.0), 1: ('metres', 1e3), 2: ('mm', 1.0), 3: ('micrometres', 1e-3)}
"""Name and length in mm of the units of length of NIfTI, by their code in `xyzt_units`."""


def spacing_of(affine: np.ndarray) -> tuple[float, float, float]:
    """Return the distance in mm between neighbouring voxel centres along each array axis."""
    i, j, k = np.linalg.norm(np.asarray(affine, dtype=float)[:3, :3], axis=0)
    return float(i), float(j), float(k)


def slice_axis(spacing: Sequence[float]) -> int:
    """Find the through-plane axis: the one with the coarsest spacing.

    Args:
        spacing: Voxel spacing in mm of the three array axes.

    Returns:
        The array axis, 0 to 2. Among spacings that agree within 1 %, the last axis is taken, so
        that an isotropic image counts as a stack of slices along its last axis.
    """
    coarsest = max(spacing)
    return max(axis for axis in range(3) if spacing[axis] >= 0.99 * coarsest)


def axis_along(affine: np.ndarray, direction: np.ndarray) -> int:
    """Return the array axis of a grid that runs closest to a direction in space (RAS+)."""
    axes = np.asarray(affine)[:3, :3] / spacing_of(affine)
    return int(np.abs(axes.T @ direction).argmax())


def acquired_axis(scan_affine: np.ndarray, grid_affine: np.ndarray) -> int:
    """Return the axis of a grid along which the slices of a scan follow each other."""
    spacing = spacing_of(scan_affine)
    return axis_along(grid_affine, scan_affine[:3, slice_axis(spacing)])


def left_right_axis(affine: np.ndarray) -> int:
    """Return the axis of a grid that runs closest to from left to right."""
    return axis_along(affine, np.array([1.0, 0.0, 0.0]))


@dataclass(frozen=True)
class Placement:
    """Where a header puts an image.

    Attributes:
        affine: Voxel index to RAS+ mm (4 x 4), axes orthogonal.
        notes: What was mended without doubt, one sentence each.
        warnings: What may be wrong with sizes, sides or directions, one sentence each.
    """

    affine: np.ndarray
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def mend_affine(header: nib.Nifti1Header, shape: Sequence[int]) -> Placement:
    """Choose the affine of a NIfTI header, in mm, and make its axes orthogonal.

    The sform is taken where it is valid, then the qform, then the plain voxel sizes: the order of
    nibabel and of fMRIPrep. Lengths are in the unit that the header names, as NIfTI has it; one
    that names none is in mm. It differs from that order where the header contradicts itself:

    - A sheared sform gives way to the qform, and where there is none, to the nearest orthogonal
      axes (polar decomposition), turned about the centre of the image. ITK accepts no sheared
      image, and a wrong spacing would change every volume that is reported.
    - An sform whose voxels are more than 1 % larger or smaller than the voxel sizes of the header
      holds a scaling, such as that of a registration, or was never filled in. The qform is taken,
      which has the voxel sizes by definition. Without it, an sform without any rotation and
      scaling gets the voxel sizes, and voxel sizes that are all 1 (never filled in) give way to
      the sform; any other contradiction cannot be resolved.
    - Of an sform and a qform that are mirror images of each other, or turned by more than 45
      degrees, the sform is taken, with a warning.

    Args:
        header: A NIfTI-1 or NIfTI-2 header.
        shape: Shape of the image, three axes.

    Returns:
        The affine, and what was mended or is in doubt.

    Raises:
        ValueError: No affine of the header can be inverted, or its parts contradict each other.
    """
    notes: list[str] = []
    warnings: list[str] = []
    unit = _millimetres_a_unit(header, notes)
    candidates = _valid_affines(header, notes)
    if not candidates:
        affine = header.get_base_affine()
        told = any(int(header[code]) > 0 for code in ('sform_code', 'qform_code'))
        if told or not _is_invertible(affine):
            raise ValueError('no affine of the header can be inverted')
        warnings.append(
            'The header holds no orientation (sform and qform codes are 0): '
            'left and right may be wrong.'
        )
        return Placement(_scaled(affine, unit), tuple(notes), tuple(warnings))

    if 'qform' in candidates and _is_sheared(candidates.get('sform')):
        distance = _corner_distance(candidates['sform'], candidates['qform'], shape) * unit
        notes.append(
            f'The sform is sheared (moves corners by up to {distance:.3g} mm '
            'against the qform): the qform was used.'
        )
        del candidates['sform']
    if 'sform' in candidates:
        _settle_voxel_sizes(header, candidates, warnings)
    if len(candidates) == 2:
        _compare(candidates['sform'], candidates['qform'], shape, unit, notes, warnings)

    affine = candidates['sform'] if 'sform' in candidates else candidates['qform']
    orthogonal = _orthogonalise(affine, shape)
    if _is_sheared(affine):
        moved = _corner_distance(affine, orthogonal, shape) * unit
        # sizes and places are known no better than that
        remarks = warnings if _is_sheared(affine, NOTABLE_SHEAR) else notes
        remarks.append(
            f'The voxel axes were sheared and were made orthogonal (corners moved by up to '
            f'{moved:.3g} mm).'
        )
    if np.array_equal(np.abs(affine), np.eye(4)):
        warnings.append(
            'The header was never filled in (voxels of 1 mm, the first one at the origin): sizes '
            'may be wrong, and left and right.'
        )
    return Placement(_scaled(orthogonal, unit), tuple(notes), tuple(warnings))


def _millimetres_a_unit(header: nib.Nifti1Header, notes: list[str]) -> float:
    """Return the millimetres of one unit of length of a header."""
    code = int(header['xyzt_units']) & 7
    if code not in UNITS:
        notes.append(f'The header names no known unit of length (code {code}): mm were assumed.')
        return 1.0
    name, unit = UNITS[code]
    if unit != 1:
        notes.append(f'The header is in {name}: converted to mm.')
    return unit


def _valid_affines(header: nib.Nifti1Header, notes: list[str]) -> dict[str, np.ndarray]:
    candidates: dict[str, np.ndarray] = {}
    for name, code in (('sform', 'sform_code'), ('qform', 'qform_code')):
        if int(header[code]) <= 0:
            continue
        try:
            affine = header.get_sform() if name == 'sform' else header.get_qform()
        except (ValueError, HeaderDataError):  # a quaternion longer than one
            affine = np.zeros((4, 4))
        if _is_invertible(affine):
            candidates[name] = affine
        else:
            notes.append(f'The {name} cannot be inverted and was left out.')
    return candidates


def _settle_voxel_sizes(
    header: nib.Nifti1Header, candidates: dict[str, np.ndarray], warnings: list[str]
) -> None:
    """Take out, or scale, the affine whose voxels are not of the size of the image's."""
    sizes = np.abs(np.asarray(header['pixdim'][1:4], dtype=float))
    sform = candidates['sform']
    found = np.array(spacing_of(sform))
    known = np.isfinite(sizes).all() and (sizes > 0).all()
    if not known or np.allclose(found, sizes, rtol=SIZE_TOLERANCE, atol=0):
        return
    told = f'The voxels are {_sizes(found)} by the sform and {_sizes(sizes)} by the header'
    unfilled = np.array_equal(candidates.get('qform', np.eye(4)), np.eye(4))
    if unfilled and np.array_equal(sizes, np.ones(3)):
        candidates.pop('qform', None)
        warnings.append(f'{told}, whose sizes were never filled in: those of the sform were used.')
    elif 'qform' in candidates:
        del candidates['sform']
        warnings.append(f'{told}: the qform was used, which has the sizes of the header.')
    elif np.array_equal(np.abs(sform[:3, :3]), np.eye(3)):
        # about the first voxel: an sform without sizes has no place either
        candidates['sform'] = sform @ np.diag([*sizes, 1.0])
        warnings.append(f'{told}: the sizes of the header were used.')
    else:
        raise ValueError(f'{told[0].lower()}{told[1:]}, and no qform tells which is right')


def _compare(
    sform: np.ndarray,
    qform: np.ndarray,
    shape: Sequence[int],
    unit: float,
    notes: list[str],
    warnings: list[str],
) -> None:
    distance = _corner_distance(sform, qform, shape) * unit
    if distance <= DISAGREEMENT_TOLERANCE_MM:
        return
    told = f'sform and qform disagree by up to {distance:.3g} mm'
    axes = [''.join(nib.aff2axcodes(affine)) for affine in (sform, qform)]
    if np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0:
        warnings.append(
            f'{told} and are mirror images of each other (axes {axes[0]} and {axes[1]}): '
            'the sform was used, left and right may be swapped.'
        )
    elif _most_turned(sform, qform) < np.cos(np.pi / 4):
        warnings.append(
            f'{told} and turn the axes by more than 45 degrees ({axes[0]} and {axes[1]}): '
            'the sform was used, directions may be wrong.'
        )
    else:
        notes.append(f'{told}: the sform was used.')


def _most_turned(first: np.ndarray, second: np.ndarray) -> float:
    """Return the cosine between the two directions of the axis that differs most."""
    directions = [affine[:3, :3] / spacing_of(affine) for affine in (first, second)]
    return float((directions[0] * directions[1]).sum(axis=0).min())


def _sizes(values: np.ndarray) -> str:
    return ' x '.join(f'{value:.4g}' for value in values)


def _scaled(affine: np.ndarray, unit: float) -> np.ndarray:
    return np.diag([unit, unit, unit, 1.0]) @ affine


def as_stored(affine: np.ndarray) -> np.ndarray:
    """Round an affine to what a NIfTI header holds of it, single precision.

    What is computed on a grid then does not depend on whether the grid was written to a file and
    read on the way.

    Args:
        affine: Voxel to RAS+ mm (4 x 4), axes orthogonal.
    """
    return affine.astype(np.float32).astype(float)


def to_canonical(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reorder and flip the axes so that they run closest to right, anterior, superior.

    Args:
        data: Image, three axes.
        affine: Voxel to RAS+ mm (4 x 4).

    Returns:
        The reordered image (a view) and its affine; no voxel is resampled.
    """
    orientation = nib.io_orientation(affine)
    reordered = nib.apply_orientation(data, orientation)
    return reordered, affine @ nib.orientations.inv_ornt_aff(orientation, data.shape)


def _is_invertible(affine: np.ndarray) -> bool:
    linear = np.asarray(affine, dtype=float)[:3, :3]
    if not np.isfinite(affine).all():
        return False
    lengths = np.linalg.norm(linear, axis=0)
    return bool((lengths > 1e-6).all() and abs(np.linalg.det(linear / lengths)) > 1e-3)


def _is_sheared(affine: np.ndarray | None, tolerance: float = SHEAR_TOLERANCE) -> bool:
    if affine is None:
        return False
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() > tolerance)


def _orthogonalise(affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    if not _is_sheared(affine, ROUNDED_SHEAR):
        return affine  # what was written by us is read as it was
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    u, _, vt = np.linalg.svd(affine[:3, :3] / lengths)
    mended = np.eye(4)
    mended[:3, :3] = (u @ vt) * lengths
    centre = (np.asarray(shape, dtype=float) - 1) / 2
    mended[:3, 3] = affine[:3, :3] @ centre + affine[:3, 3] - mended[:3, :3] @ centre
    return mended


def _corner_distance(first: np.ndarray, second: np.ndarray, shape: Sequence[int]) -> float:
    corners = np.array(list(itertools.product(*((0, n - 1) for n in shape))), dtype=float)
    difference = apply_affine(first, corners) - apply_affine(second, corners)
    return float(np.linalg.norm(difference, axis=1).max())
