"""Size and topology of a segmentation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.measure import euler_number

_STRUCTURES = {
    6: ndimage.generate_binary_structure(3, 1),
    26: ndimage.generate_binary_structure(3, 3),
}
_DUAL = {6: 26, 26: 6}


def bounding_box(mask: np.ndarray, margin: int = 0) -> tuple[slice, slice, slice]:
    """Find the smallest box that holds a mask.

    Args:
        mask: (i, j, k), bool.
        margin: Voxels by which it is wider on each side, up to the border of the array.

    Returns:
        A slice for each axis; the whole array where the mask is empty.
    """
    mask = np.asarray(mask, dtype=bool)
    seen = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    i, j, k = (
        slice(max(0, int(at[0]) - margin), min(n, int(at[-1]) + 1 + margin))
        if len(at)
        else slice(0, n)
        for at, n in zip(seen, mask.shape, strict=True)
    )
    return i, j, k


@dataclass(frozen=True)
class Topology:
    """What a binary segmentation looks like as a shape.

    Attributes:
        components: Number of connected components.
        largest_share: Voxels of the largest component over all voxels, 0 to 1 (0 when empty).
        holes: Number of background components that do not touch the border of the array.
        euler_number: Components + cavities - tunnels.
        voxels: Number of voxels inside.
    """

    components: int
    largest_share: float
    holes: int
    euler_number: int
    voxels: int


def topology(mask: np.ndarray, connectivity: int = 26) -> Topology:
    """Count components, cavities and the Euler number of a segmentation.

    SegSRGAN (2020) reports the number of connected components (section 4.2); the others tell
    whether one component is one sheet.

    Args:
        mask: Boolean array of three axes.
        connectivity: 26 (faces, edges, corners) or 6 (faces) for the inside; the outside is
            taken with the other one.

    Returns:
        The counts.
    """
    mask = np.asarray(mask, dtype=bool)
    voxels = int(mask.sum())
    if voxels == 0:
        return Topology(0, 0.0, 0, 0, 0)
    mask = mask[bounding_box(mask)]
    labels, components = ndimage.label(mask, structure=_STRUCTURES[connectivity])
    largest = int(np.bincount(labels.ravel())[1:].max())
    # the padding joins everything that touches the border into one region
    _, regions = ndimage.label(
        np.pad(~mask, 1, constant_values=True), structure=_STRUCTURES[_DUAL[connectivity]]
    )
    return Topology(
        components=int(components),
        largest_share=largest / voxels,
        holes=int(regions) - 1,
        euler_number=int(euler_number(mask, connectivity=3 if connectivity == 26 else 1)),
        voxels=voxels,
    )


def keep_largest_component(mask: np.ndarray, connectivity: int = 26) -> np.ndarray:
    """Return the largest connected component of a boolean array (the array itself when empty)."""
    mask = np.asarray(mask, dtype=bool)
    labels, components = ndimage.label(mask, structure=_STRUCTURES[connectivity])
    if components < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == sizes.argmax()


def drop_specks(mask: np.ndarray, smallest_share: float, connectivity: int = 26) -> np.ndarray:
    """Return a boolean array without the connected components that are a small share of it.

    Args:
        mask: Boolean array of three axes.
        smallest_share: Of the voxels inside, 0 to 1; smaller components are dropped.
        connectivity: 26 (faces, edges, corners) or 6 (faces).
    """
    labels, _ = ndimage.label(np.asarray(mask, dtype=bool), _STRUCTURES[connectivity])
    sizes = np.bincount(labels.ravel())
    kept = sizes >= smallest_share * sizes[1:].sum()
    kept[0] = False
    return kept[labels]
