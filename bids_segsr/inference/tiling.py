"""Patches over a volume: their size, distance and memory; without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bids_segsr.exceptions import UserError

DEFAULT_PATCH_SIZE = 96
DEFAULT_STEP = 64
AXIS_MULTIPLE = 4

FULL_RESOLUTION_FILTERS: dict[str, tuple[str, int]] = {
    'segsrgan': ('base_filters', 16),
    'segsrgan-unet': ('base_filters', 28),
    'recnn': ('filters', 64),
    'tissue-unet': ('base_filters', 16),
    'tissue-unet-pair': ('base_filters', 16),
}
"""Option that holds the channels at full resolution, and its default."""

MANY_FILTERS = 256
"""Channels at full resolution of any other network: dense blocks grow to some hundreds."""


def resolve_patches(patch_size: int | None, step: int | None) -> tuple[int, int]:
    """Fill in and check patch size and step (voxels).

    Raises:
        UserError: The patch is no multiple of 4, or the step leaves gaps between the patches.
    """
    if patch_size is None:
        patch_size = DEFAULT_PATCH_SIZE
    if patch_size < 0 or patch_size % AXIS_MULTIPLE or 0 < patch_size < 2 * AXIS_MULTIPLE:
        raise UserError(
            f'--patch-size {patch_size}: give a multiple of {AXIS_MULTIPLE} from '
            f'{2 * AXIS_MULTIPLE} on, or 0 for the whole volume.'
        )
    if step is None:
        step = patch_size * DEFAULT_STEP // DEFAULT_PATCH_SIZE
    if patch_size and not 1 <= step <= patch_size:
        raise UserError(f'--step {step}: give 1 to {patch_size}, the patch size.')
    return patch_size, step


def peak_memory_gb(shape: Sequence[int], patch_size: int, filters: int, channels: int) -> float:
    """Estimate the memory that `predict` needs beyond the interpreter and its libraries.

    `benchmarks/inference.py` compares the estimate with what is used.

    Args:
        shape: Shape of the image (or of the box around its mask).
        patch_size: Edge of a patch in voxels; 0 for the whole volume.
        filters: Channels of the network at full resolution.
        channels: Output channels of the network.

    Returns:
        Gigabytes (1e9 bytes).
    """
    volume = math.prod(shape)
    patch = patch_size**3 if patch_size else volume
    patch = min(patch, volume)
    # input and mask, sums, weights, copies on the way out; five feature maps alive at a time
    return 4e-9 * (volume * (3 * channels + 8) + patch * filters * 5)


def full_resolution_filters(architecture: str, options: Mapping[str, Any]) -> int:
    """Return how many channels a network holds at full resolution, rather too many.

    Args:
        architecture: Name known to `bids_segsr.networks.create`.
        options: Its options.
    """
    option, default = FULL_RESOLUTION_FILTERS.get(architecture, ('', MANY_FILTERS))
    return int(options.get(option, default))
