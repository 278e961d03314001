"""Images and grids of known truth that several tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bids_segsr.imaging.back_projection import Slices

SHARED = Path(__file__).resolve().parents[2] / 'shared'


def oblique_affine(
    spacing: tuple[float, float, float], degrees: tuple[float, float, float] = (0, 0, 0)
) -> np.ndarray:
    """Affine of a rotated image whose centre is not the origin."""
    from scipy.spatial.transform import Rotation

    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler('xyz', degrees, degrees=True).as_matrix() * spacing
    affine[:3, 3] = (-31.0, 12.5, 7.25)
    return affine


def all_orientations(
    shape: tuple[int, int, int], affine: np.ndarray
) -> list[tuple[tuple[int, ...], np.ndarray]]:
    """The 48 ways to permute and flip the axes of one grid: shape and affine of each."""
    import itertools

    import nibabel as nib

    found = []
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            orientation = np.array(list(zip(order, flips, strict=True)), dtype=float)
            new_shape = np.zeros(3, dtype=int)
            new_shape[list(order)] = shape
            found.append((
                tuple(int(n) for n in new_shape),
                affine @ nib.orientations.inv_ornt_aff(orientation, shape),
            ))  # fmt: skip
    return found


def gaussian_blob(
    shape: tuple[int, ...], affine: np.ndarray, centre: np.ndarray, sigma: float
) -> np.ndarray:
    """Image of a Gaussian at a point in space (mm), sampled at the voxel centres."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing='ij'), -1)
    points = index @ affine[:3, :3].T + affine[:3, 3]
    return np.exp(-((points - centre) ** 2).sum(-1) / (2 * sigma**2)).astype(np.float32)


def centre_of_mass(data: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Centre of mass in mm."""
    from scipy.ndimage import center_of_mass

    return affine[:3, :3] @ np.array(center_of_mass(data.astype(float))) + affine[:3, 3]


def laid(
    image: np.ndarray,
    axis: int = 2,
    *,
    left_right: int = 0,
    distance: float = 3.0,
) -> Slices:
    """A scan for an image of 1 mm whose slices follow each other along an array axis.

    For tests of what does not look at the voxels of the scan: they are those of the image.
    """
    order = [left_right, *(n for n in range(3) if n != left_right)]
    fine = np.zeros((4, 4))
    fine[range(3), order] = fine[3, 3] = 1
    coarse = fine.copy()
    coarse[:3, axis] *= distance
    return Slices(image, coarse, fine)
