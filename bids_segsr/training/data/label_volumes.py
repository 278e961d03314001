"""What label maps hold, before anything is learnt from them or scored against them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from bids_segsr.imaging.components import bounding_box
from bids_segsr.imaging.volume import load_map

MOST_MAPS = 5
"""Label maps of a source that are looked at, evenly spread over the list."""

MOST_NUMBERS = 16
"""Numbers that are told one by one."""

THICKEST_MM = 2.7
"""Depth below its surface that 95 % of a cortex do not exceed: 1.1 to 2.0 mm in maps of adults
(1 mm) and of fetuses of 21 to 34 weeks (0.8 mm), where white matter has 3.3 to 5.2 mm."""


@dataclass(frozen=True)
class LabelFacts:
    """What the label maps of one source hold.

    Attributes:
        text: Numbers and mean volumes, in one line.
        warnings: Where the numbers for the cortex are plainly no cortex.
    """

    text: str
    warnings: tuple[str, ...]


def label_facts(
    source: str, paths: Sequence[Path], structures: Mapping[str, Sequence[int]]
) -> LabelFacts:
    """Measure some label maps of a source.

    Args:
        source: Name of the source, for the warnings.
        paths: Its label maps.
        structures: Channel or tissue to its numbers in them.

    Returns:
        Volumes of the structures and of all numbers, mean of the maps in ml.

    Raises:
        ImageError: A map cannot be read.
    """
    chosen = [paths[k] for k in _spread(len(paths))]
    volumes: dict[int, float] = {}
    warnings: list[str] = []
    for path in chosen:
        volume = load_map(path)
        values = np.rint(volume.data).astype(int)
        ml = float(np.prod(volume.spacing)) / 1000
        for number, count in zip(*np.unique(values, return_counts=True), strict=True):
            if number:
                volumes[int(number)] = volumes.get(int(number), 0.0) + count * ml / len(chosen)
        doubt = _doubt(values, volume.spacing, structures.get('cortex', ()))
        if doubt and not warnings:
            warnings.append(f'{source}: {path.name}: {doubt}; say which numbers are (--label)')
    told = [
        f'{name} = {"+".join(map(str, numbers))}: '
        f'{sum(volumes.get(number, 0.0) for number in numbers):.1f} ml'
        for name, numbers in structures.items()
        if numbers
    ]
    held = [f'{number}: {volume:.1f}' for number, volume in sorted(volumes.items())]
    more = f' and {len(held) - MOST_NUMBERS} more' if len(held) > MOST_NUMBERS else ''
    return LabelFacts(
        f'{", ".join(told)} (mean of {len(chosen)} of {len(paths)} maps; ml of each number: '
        f'{", ".join(held[:MOST_NUMBERS])}{more})',
        tuple(warnings),
    )


def _doubt(
    values: np.ndarray, spacing: tuple[float, float, float], numbers: Sequence[int]
) -> str | None:
    """Return why some numbers are no cortex, which is a thin sheet; None where they may be."""
    inside = np.isin(values, list(numbers))
    if not numbers:
        return None
    told = ', '.join(map(str, numbers))
    if not inside.any():
        return f'holds no voxel of {told}, the numbers for the cortex'
    padded = np.pad(inside[bounding_box(inside)], 1)
    depth = float(np.percentile(ndimage.distance_transform_edt(padded, spacing)[padded], 95))
    if depth <= THICKEST_MM:
        return None
    return f'what has the numbers for the cortex ({told}) reaches {depth:.1f} mm deep, no cortex'


def _spread(count: int) -> list[int]:
    return sorted({round(k) for k in np.linspace(0, count - 1, min(count, MOST_MAPS))})
