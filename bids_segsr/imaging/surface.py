"""Distances between the surfaces of two segmentations, in mm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

PERCENTILE = 95


def hausdorff95(first: np.ndarray, second: np.ndarray, spacing: Sequence[float]) -> float:
    """95th percentile of the Hausdorff distance.

    The larger of the two directed values: the 95th percentile of the distances from the surface
    voxels of one segmentation to the nearest surface voxel of the other (as MONAI defines it).

    Args:
        first: Boolean array of three axes.
        second: Boolean array, same shape.
        spacing: Voxel spacing in mm along each axis.

    Returns:
        mm; 0 where both are empty, infinite where one is.
    """
    there, back = surface_distances(first, second, spacing)
    if not len(there) or not len(back):
        return _nothing_to_measure(there, back)
    return float(max(np.percentile(there, PERCENTILE), np.percentile(back, PERCENTILE)))


def average_surface_distance(
    first: np.ndarray, second: np.ndarray, spacing: Sequence[float]
) -> float:
    """Average symmetric surface distance: the mean over the surface voxels of both segmentations.

    Args:
        first: Boolean array of three axes.
        second: Boolean array, same shape.
        spacing: Voxel spacing in mm along each axis.

    Returns:
        mm; 0 where both are empty, infinite where one is.
    """
    there, back = surface_distances(first, second, spacing)
    if not len(there) or not len(back):
        return _nothing_to_measure(there, back)
    return float(np.concatenate([there, back]).mean())


def surface_distances(
    first: np.ndarray, second: np.ndarray, spacing: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Distance of every surface voxel of each segmentation to the surface of the other.

    A surface voxel is one inside with a neighbour outside through a face; what lies beyond the
    array is outside.

    Args:
        first: Boolean array of three axes.
        second: Boolean array, same shape.
        spacing: Voxel spacing in mm along each axis.

    Returns:
        Distances in mm from the first to the second, (n,), and back, (m,); infinite where the
        segmentation to go to is empty, none where that to come from is.
    """
    outlines = [surface(np.asarray(mask, dtype=bool)) for mask in (first, second)]
    box = ndimage.find_objects((outlines[0] | outlines[1]).astype(np.uint8))
    outlines = [outline[box[0]] if box else outline for outline in outlines]
    there, back = (
        _distance_to(to, spacing)[of]
        for of, to in ((outlines[0], outlines[1]), (outlines[1], outlines[0]))
    )
    return there, back


def surface(mask: np.ndarray) -> np.ndarray:
    """Return the voxels of a mask that have a neighbour outside through a face."""
    return mask & ~ndimage.binary_erosion(mask)


def _distance_to(outline: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    if not outline.any():
        return np.full(outline.shape, np.inf)
    return ndimage.distance_transform_edt(~outline, sampling=list(spacing))


def _nothing_to_measure(there: np.ndarray, back: np.ndarray) -> float:
    return float('inf') if len(there) or len(back) else 0.0
