"""Volumes as the reader sees them: canonical axes, grey window, and where to cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from bids_segsr.imaging.conform import slice_axis as coarsest_axis
from bids_segsr.imaging.conform import spacing_of, to_canonical

Source = str | Path | tuple[np.ndarray, np.ndarray]
"""A NIfTI file, or an array of three axes with its affine (voxel to RAS+ mm)."""

ENOUGH = 1_000_000
"""Voxels of which percentiles of an image are taken."""


@dataclass(frozen=True)
class Canonical:
    """A volume whose axes run to right, anterior, superior; no voxel was resampled.

    Attributes:
        data: Array (x, y, z); what is not finite counts as 0.
        affine: Voxel to RAS+ mm (4 x 4).
        slice_axis: The through-plane axis of this array.
    """

    data: np.ndarray
    affine: np.ndarray
    slice_axis: int

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in mm between voxel centres along x, y, z."""
        return spacing_of(self.affine)


def read(source: Source, slice_axis: int | None = None) -> Canonical:
    """Read a volume and turn it to canonical axes.

    Args:
        source: NIfTI file or (array, affine).
        slice_axis: Through-plane axis of the array as stored; None takes the coarsest.

    Returns:
        The reordered volume.
    """
    if isinstance(source, tuple):
        data, affine = np.asarray(source[0]), np.asarray(source[1], dtype=float)
    else:
        image = nib.load(source)
        data, affine = np.asanyarray(image.dataobj), image.affine
    axis = coarsest_axis(spacing_of(affine)) if slice_axis is None else slice_axis
    orientation = nib.io_orientation(affine)
    reordered, canonical = to_canonical(data, affine)
    if not np.isfinite(reordered).all():
        reordered = np.nan_to_num(reordered, nan=0.0, posinf=0.0, neginf=0.0)
    return Canonical(reordered, canonical, int(orientation[axis, 0]))


def sampled(values: np.ndarray) -> np.ndarray:
    """Return all values, or as many as percentiles need, drawn at random but always the same."""
    if values.size <= ENOUGH:
        return values
    places = np.random.default_rng(0).integers(values.size, size=ENOUGH)
    drawn: np.ndarray = values.ravel(order='K')[places]
    return drawn


def foreground(data: np.ndarray) -> np.ndarray:
    """Return where an image is brighter than a tenth of its 99th percentile."""
    bright = np.abs(data) > 0.1 * np.percentile(np.abs(sampled(data)), 99)
    return bright if bright.any() else np.ones(data.shape, dtype=bool)


def window(where: np.ndarray, *images: np.ndarray) -> tuple[float, float]:
    """Return the grey window of images of one grid: 0.5th to 99.5th percentile of a foreground."""
    inside = np.concatenate([sampled(image[where]) for image in images])
    everywhere = np.concatenate([sampled(image).ravel() for image in images])
    rims = [plane.ravel() for image in images for plane in (image[0], image[-1], image[:, 0])]
    low, floor, high = np.percentile(inside, (0.5, 5, 99.5))
    # interpolation undershoots beside the brain; the background, not the undershoot, is black
    black = min(float(np.percentile(np.concatenate(rims), 25)), float(floor))
    low = max(min(float(low), float(np.percentile(everywhere, 1))), black)
    return (low, float(high)) if high > low else (low - 1.0, low + 1.0)


def box_around(
    where: np.ndarray, spacing: Sequence[float], margin_mm: float = 6.0
) -> tuple[slice, slice, slice]:
    """Return the bounding box of a mask, wider by a margin on each side, inside the array."""
    inside = where if where.any() else np.ones(where.shape, dtype=bool)
    ranges = []
    for axis in range(3):
        present = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        margin = round(margin_mm / spacing[axis])
        start, stop = (
            max(present[0] - margin, 0),
            min(present[-1] + margin + 1, inside.shape[axis]),
        )
        ranges.append(slice(int(start), int(stop)))
    return ranges[0], ranges[1], ranges[2]


def spread_cuts(where: np.ndarray, axis: int, count: int) -> list[int]:
    """Choose cuts that divide a mask into slabs of equal volume.

    Args:
        where: Boolean array of three axes.
        axis: The axis that the cuts lie across.
        count: How many; fewer are returned where the array has fewer slices.

    Returns:
        Increasing slice indices.
    """
    weight = where.sum(axis=tuple(a for a in range(3) if a != axis)).astype(float)
    if not weight.any():
        weight = np.ones_like(weight)
    share = np.cumsum(weight) / weight.sum()
    wanted = np.arange(1, count + 1) / (count + 1)
    return sorted({int(np.searchsorted(share, q)) for q in wanted})
