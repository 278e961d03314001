"""Fidelity check: what the super-resolved image would look like to the scanner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bids_segsr.imaging.degrade import degrade
from bids_segsr.imaging.measures.metrics import correlation, nrmse
from bids_segsr.imaging.resample import Grid

COVERED_SHARE = 0.9


@dataclass(frozen=True)
class Fidelity:
    """Agreement of a fine image with the scan it was made from.

    Attributes:
        residual: Degraded fine image minus scan, on the scan's grid, in its intensities; 0 outside
            what is compared.
        nrmse: Root mean square of the residual over that of the scan, where both
            are compared (NaN where nothing is).
        correlation: Pearson correlation there.
    """

    residual: np.ndarray
    nrmse: float
    correlation: float


def fidelity(
    images: Sequence[np.ndarray],
    fine_affine: np.ndarray,
    scan: np.ndarray,
    scan_affine: np.ndarray,
    fine_mask: np.ndarray,
    slice_thickness: float | None = None,
) -> list[Fidelity]:
    """Put fine images through the forward model and compare each with the acquired scan.

    An image that shows anatomy which the scan does not hold cannot pass this; an image that
    passes may still be wrong where the scan holds nothing.

    Args:
        images: Super-resolved, or interpolated, on one grid.
        fine_affine: Of that grid, voxel to RAS+ mm (4 x 4).
        scan: Acquired scan, bias-corrected as the input of the network was.
        scan_affine: Its affine.
        fine_mask: Boolean array on the fine grid: where the fine images hold something. A voxel
            of the scan is compared when nine tenths of its slice profile lie inside.
        slice_thickness: FWHM of the slice profile in mm; by default the distance of the slices.

    Returns:
        The residual map of each image and its summary.
    """
    grid = Grid(scan.shape, scan_affine)
    covered = degrade(fine_mask.astype(np.float32), fine_affine, grid, slice_thickness)
    mask = covered >= COVERED_SHARE
    if not mask.any():
        nothing = np.zeros(scan.shape, dtype=np.float32)
        return [Fidelity(nothing, float('nan'), float('nan')) for _ in images]
    found = []
    for fine in images:
        acquired = degrade(fine, fine_affine, grid, slice_thickness)
        residual = np.where(mask, acquired - scan, 0).astype(np.float32)
        found.append(
            Fidelity(residual, nrmse(scan, acquired, mask), correlation(scan, acquired, mask))
        )
    return found
