"""Distances between the surfaces of two segmentations, in mm, as MONAI measures them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from torch import Tensor

PERCENTILE = 95


def hausdorff95(first: np.ndarray, second: np.ndarray, spacing: Sequence[float]) -> float:
    """95th percentile of the Hausdorff distance.

    The larger of the two directed values: the 95th percentile of the distances from the surface
    voxels of one segmentation to the nearest surface voxel of the other.

    Args:
        first: Boolean array of three axes.
        second: Boolean array, same shape.
        spacing: Voxel spacing in mm along each axis.

    Returns:
        mm; 0 where both are empty, infinite where one is.
    """
    return _measured(compute_hausdorff_distance, first, second, spacing, percentile=PERCENTILE)


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
    return _measured(compute_average_surface_distance, first, second, spacing, symmetric=True)


def _measured(
    measure: Callable[..., Tensor],
    first: np.ndarray,
    second: np.ndarray,
    spacing: Sequence[float],
    **options: Any,
) -> float:
    full = [bool(np.any(mask)) for mask in (first, second)]
    if not all(full):
        return float('inf') if any(full) else 0.0
    one, two = (torch.from_numpy(np.asarray(mask, bool))[None, None] for mask in (first, second))
    with warnings.catch_warnings():
        # MONAI 1.5 warns of an argument that it gives itself
        warnings.simplefilter('ignore', FutureWarning)
        distance = measure(one, two, include_background=True, spacing=list(spacing), **options)
    return float(distance)
