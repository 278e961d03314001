"""Edges of patches: one number for cubes, or three."""

from __future__ import annotations

PatchSize = int | tuple[int, int, int]
"""Voxels along every axis, or along each in the order in which the network sees them."""


def edges(patch_size: PatchSize) -> tuple[int, int, int]:
    """Return the voxels of a patch along each axis."""
    return patch_size if isinstance(patch_size, tuple) else (patch_size,) * 3


def edges_in_image(patch_size: PatchSize, last_axis: int) -> tuple[int, int, int]:
    """Return the voxels of a patch along each axis of an image.

    Args:
        patch_size: See `PatchSize`.
        last_axis: Axis of the image that the network sees last; the others keep their order.
    """
    i, j, k = edges(patch_size)
    return ((k, i, j), (i, k, j), (i, j, k))[last_axis]


def patch_text(patch_size: PatchSize) -> str:
    """Return a patch size as it is given on the command line: `64`, or `64x40x64`."""
    return str(patch_size) if isinstance(patch_size, int) else 'x'.join(map(str, patch_size))
