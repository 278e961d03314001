"""Slices of results, kept beside the rows for the figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bids_segsr.evaluation.cases import Case
from bids_segsr.evaluation.systems import Output
from bids_segsr.files import complete
from bids_segsr.imaging.components import bounding_box
from bids_segsr.imaging.conform import spacing_of

FOLDER = 'pictures'


@dataclass(frozen=True)
class Picture:
    """The middle slice of one result and of the truth, seen across the slices of the scan.

    Attributes:
        image: (rows, columns), first row on top.
        truth: The same slice of the true image.
        outline: Boolean, the first structure found; all False where nothing segments.
        true_outline: The same structure of the truth.
        mask: The whole structure, boolean, cut to the brain; None where nothing segments, or of
            an earlier version.
        true_mask: That of the truth, or None.
        spacing: Of both in mm.
    """

    image: np.ndarray
    truth: np.ndarray
    outline: np.ndarray
    true_outline: np.ndarray
    mask: np.ndarray | None = None
    true_mask: np.ndarray | None = None
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0)


def save_picture(out: Path, key: str, case: Case, output: Output) -> None:
    """Keep the middle slice of a result.

    Args:
        out: Folder of the results.
        key: Key of its rows.
        case: What it was made from.
        output: The result.
    """
    nothing = np.zeros(case.inside.shape, dtype=bool)
    name = next(iter(output.structures), '')
    true = case.reference.structures.get(name) if name else None
    if not name:
        # the truth of a system that does not segment is outlined as that of the others
        true = next(iter(case.reference.structures.values()), None)
    truth = np.where(case.seen, case.reference.image, 0)
    box = bounding_box(case.inside)
    whole: dict[str, Any] = {}
    if name and true is not None:
        whole = {'mask': output.structures[name][box], 'true_mask': true[box]}
    with complete(out / FOLDER / f'{key}.npz') as part:
        np.savez_compressed(
            part,
            image=_cut(output.image, case),
            truth=_cut(truth, case),
            outline=_cut(output.structures.get(name, nothing), case),
            true_outline=_cut(nothing if true is None else true, case),
            spacing=spacing_of(case.reference.affine),
            **whole,
        )


def load_picture(out: Path, key: str) -> Picture | None:
    """Read the slice of a result; None where none was kept."""
    path = out / FOLDER / f'{key}.npz'
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as held:
        outline = held['outline']
        # of an earlier version, there is none
        true = held['true_outline'] if 'true_outline' in held else np.zeros_like(outline)
        masks = (held['mask'], held['true_mask']) if 'mask' in held else (None, None)
        spacing = held['spacing'] if 'spacing' in held else np.ones(3)
        return Picture(
            held['image'], held['truth'], outline, true, masks[0], masks[1], tuple(spacing)
        )


def _cut(volume: np.ndarray, case: Case) -> np.ndarray:
    """Cut the slice through the middle of the brain, superior or anterior up."""
    box = bounding_box(case.inside)
    middle = (box[case.across].start + box[case.across].stop) // 2
    cut = np.moveaxis(volume, case.across, 0)[middle]
    in_plane = [box[axis] for axis in range(3) if axis != case.across]
    return np.ascontiguousarray(cut[in_plane[0], in_plane[1]].T[::-1])
