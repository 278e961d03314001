"""Patches over a volume: their size, distance and memory; without torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

from bids_segsr.exceptions import UserError
from bids_segsr.imaging.patch_size import PatchSize, edges, patch_text

T = TypeVar('T')

DEFAULT_PATCH_SIZE = 96
DEFAULT_STEP = 80
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


@dataclass(frozen=True)
class Layout:
    """Patches over one volume.

    Attributes:
        size: Voxels of a patch along each axis.
        before: Voxels by which the volume is padded at the start of each axis.
        after: The same at the end.
        starts: First voxels of the patches along each axis, in the padded volume.
    """

    size: tuple[int, int, int]
    before: tuple[int, int, int]
    after: tuple[int, int, int]
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

    @property
    def counts(self) -> tuple[int, int, int]:
        """Patches along each axis."""
        i, j, k = map(len, self.starts)
        return i, j, k

    def boxes(self) -> Iterator[tuple[slice, slice, slice]]:
        """Yield where each patch lies in the padded volume, the last axis fastest."""
        for corner in product(*self.starts):
            i, j, k = (slice(at, at + n) for at, n in zip(corner, self.size, strict=True))
            yield i, j, k


@dataclass(frozen=True)
class Tiling:
    """How patches are put over a volume and made one image again. Three ways.

    With `gaussian` blending, ours: along each axis as many patches as the step asks for, spread
    evenly, so that neighbours overlap alike; the middle of a patch counts more than its edge.

    With `uniform` blending, that of SegSRGAN (2020, section 4.4.1): the volume is padded with
    zeros, as much before as after (as the released code does), to the smallest one that patches
    tile exactly; a step as long as a patch means no overlap. Equation 17 is printed without the
    last patch of an axis: the times of Figure 6 need (n - patch) / step + 1.

    With a margin, that of mDCSRN (section 4.1) and RRDG (section 3.1): so many voxels are cut off
    every patch of the output, and what is left is put side by side, nothing averaged. The border
    of the volume goes on for the margin.

    Attributes:
        patch_size: See `PatchSize`; 0 for the whole volume.
        step: Largest distance of the patches in voxels; with a margin it follows from the patch.
        blending: `gaussian` or `uniform`; of no effect with a margin.
        margin: Voxels cut off at every side of a patch.
    """

    patch_size: PatchSize
    step: int
    blending: str = 'gaussian'
    margin: int = 0

    @property
    def of_articles(self) -> bool:
        """Whether the whole volume is tiled, whatever it shows, as the articles do."""
        return bool(self.patch_size) and (self.margin > 0 or self.blending == 'uniform')

    def layout(self, shape: Sequence[int]) -> Layout:
        """Lay patches over a volume.

        Args:
            shape: Its voxels along each axis.
        """
        axes = list(zip(edges(self.patch_size), shape, strict=True))
        # a volume that is smaller than a patch gets one that networks can just halve twice
        whole = [AXIS_MULTIPLE * math.ceil(n / AXIS_MULTIPLE) for n in shape]
        size = [
            max(2 * AXIS_MULTIPLE, min(patch or n, n))
            for (patch, _), n in zip(axes, whole, strict=True)
        ]
        if not self.of_articles:
            missing = [max(0, edge - n) for n, edge in zip(shape, size, strict=True)]
            before = [n // 2 for n in missing]
            after = [n - first for n, first in zip(missing, before, strict=True)]
            spread = [
                _spread(max(0, n - edge), min(self.step or edge, edge))
                for n, edge in zip(shape, size, strict=True)
            ]
            return Layout(_three(size), _three(before), _three(after), _three(spread))
        if self.margin:
            size = [patch for patch, _ in axes]
        step = [n - 2 * self.margin if self.margin else min(self.step, n) for n in size]
        padded = [n + 2 * self.margin for n in shape]
        counts = [
            1 + math.ceil(max(0, n - edge) / distance)
            for n, edge, distance in zip(padded, size, step, strict=True)
        ]
        missing = [
            edge + (count - 1) * distance - n
            for n, edge, distance, count in zip(shape, size, step, counts, strict=True)
        ]
        before = [self.margin or n // 2 for n in missing]
        after = [n - first for n, first in zip(missing, before, strict=True)]
        starts = [
            tuple(distance * n for n in range(count))
            for distance, count in zip(step, counts, strict=True)
        ]
        return Layout(_three(size), _three(before), _three(after), _three(starts))


def resolve_patches(
    patch_size: PatchSize | None, step: int | None, margin: int = 0
) -> tuple[PatchSize, int]:
    """Fill in and check patch size and step (voxels).

    Args:
        patch_size: See `Tiling`; None for the default.
        step: None for the default; with a margin, it follows from the shortest edge.
        margin: See `Tiling`.

    Raises:
        UserError: The patch is no multiple of 4 (with a margin, it may be any), the step leaves
            gaps between the patches, or the margin leaves nothing of a patch.
    """
    if patch_size is None:
        patch_size = DEFAULT_PATCH_SIZE
    sides = edges(patch_size)
    told = patch_text(patch_size)
    smallest = 2 * AXIS_MULTIPLE
    multiple = 1 if margin else AXIS_MULTIPLE
    if patch_size != 0 and (min(sides) < smallest or any(n % multiple for n in sides)):
        kind = 'edges' if margin else f'a multiple of {AXIS_MULTIPLE}'
        raise UserError(
            f'--patch-size {told}: give {kind} from {smallest} on, or 0 for the whole volume.'
        )
    if margin:
        if margin < 0 or 2 * margin >= min(sides):
            raise UserError(f'--margin {margin}: give 0 or more, less than half a patch ({told}).')
        kept = min(sides) - 2 * margin
        if step not in (None, kept):
            raise UserError(f'--step {step}: follows from --margin; leave one of them out.')
        return patch_size, kept
    if step is None:
        step = min(sides) * DEFAULT_STEP // DEFAULT_PATCH_SIZE
    if patch_size and not 1 <= step <= min(sides):
        raise UserError(f'--step {step}: give 1 to {min(sides)}, the patch size.')
    return patch_size, step


def _spread(reach: int, step: int) -> tuple[int, ...]:
    """Spread starts evenly from 0 to `reach`, at most `step` apart."""
    gaps = math.ceil(reach / step)
    return tuple(round(n * reach / gaps) for n in range(gaps + 1)) if gaps else (0,)


def _three(values: Sequence[T]) -> tuple[T, T, T]:
    i, j, k = values
    return i, j, k


def peak_memory_gb(
    shape: Sequence[int], patch_size: PatchSize, filters: int, channels: int
) -> float:
    """Estimate the memory that `predict` needs beyond the interpreter and its libraries.

    `benchmarks/inference.py` compares the estimate with what is used.

    Args:
        shape: Shape of the image (or of the box around its mask).
        patch_size: Of a patch in voxels; 0 for the whole volume.
        filters: Channels of the network at full resolution.
        channels: Output channels of the network.

    Returns:
        Gigabytes (1e9 bytes).
    """
    volume = math.prod(shape)
    patch = math.prod(edges(patch_size)) if patch_size else volume
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
