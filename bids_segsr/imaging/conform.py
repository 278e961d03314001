"""Which axis is through-plane, which affine is meant, and the canonical order of the axes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine

SHEAR_TOLERANCE = 1e-4
"""Largest cosine between two voxel axes that still counts as orthogonal."""

DISAGREEMENT_TOLERANCE_MM = 1e-2
"""Largest distance of a corner voxel under sform and qform that still counts as agreement."""


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


def mend_affine(
    header: nib.Nifti1Header, shape: Sequence[int]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Choose the affine of a NIfTI header and make its axes orthogonal.

    The sform is taken where it is valid, then the qform, then the plain voxel sizes: the order of
    nibabel and of fMRIPrep. A sheared sform gives way to the qform, and where there is none, to
    the nearest orthogonal axes (polar decomposition), turned about the centre of the image. ITK
    accepts no sheared image, and a wrong spacing would change every volume that is reported.

    Args:
        header: A NIfTI-1 or NIfTI-2 header.
        shape: Shape of the image, three axes.

    Returns:
        The affine, voxel to RAS+ mm (4 x 4), and a sentence for everything that was mended.

    Raises:
        ValueError: No affine of the header can be inverted.
    """
    notes: list[str] = []
    candidates: dict[str, np.ndarray] = {}
    for name, code in (('sform', 'sform_code'), ('qform', 'qform_code')):
        if int(header[code]) <= 0:
            continue
        try:
            affine = header.get_sform() if name == 'sform' else header.get_qform()
        except ValueError:  # a quaternion longer than one
            affine = np.zeros((4, 4))
        if _is_invertible(affine):
            candidates[name] = affine
        else:
            notes.append(f'The {name} cannot be inverted and was left out.')

    if not candidates:
        affine = header.get_base_affine()
        if notes or not _is_invertible(affine):
            raise ValueError('no affine of the header can be inverted')
        notes.append(
            'The header holds no orientation (sform and qform codes are 0): '
            'left and right may be wrong.'
        )
        return affine, tuple(notes)

    if 'qform' in candidates and _is_sheared(candidates.get('sform')):
        notes.append(
            f'The sform is sheared (moves corners by up to '
            f'{_corner_distance(candidates["sform"], candidates["qform"], shape):.3g} mm '
            'against the qform): the qform was used.'
        )
        del candidates['sform']
    elif len(candidates) == 2:
        distance = _corner_distance(candidates['sform'], candidates['qform'], shape)
        if distance > DISAGREEMENT_TOLERANCE_MM:
            notes.append(
                f'sform and qform disagree by up to {distance:.3g} mm: the sform was used.'
            )

    affine = candidates['sform'] if 'sform' in candidates else candidates['qform']
    orthogonal = _orthogonalise(affine, shape)
    moved = _corner_distance(affine, orthogonal, shape)
    if _is_sheared(affine):
        notes.append(
            f'The voxel axes were sheared and were made orthogonal (corners moved by up to '
            f'{moved:.3g} mm).'
        )
    return orthogonal, tuple(notes)


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


def _is_sheared(affine: np.ndarray | None) -> bool:
    if affine is None:
        return False
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() > SHEAR_TOLERANCE)


def _orthogonalise(affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
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
