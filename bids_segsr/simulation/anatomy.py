"""Label maps as smooth fractions of tissues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.imaging.components import bounding_box
from bids_segsr.imaging.conform import spacing_of
from bids_segsr.simulation.tables import LABELLINGS, OUTSIDE, TISSUES

CLOSING_MM = 8.0
"""Radius of the ball that closes the sulci of a brain mask."""
RIM_MM = 1.0
"""How far a brain mask reaches beyond the tissue."""
SHEET_SLOPE, SHEET_MM = 0.6, 1.4
"""Where banks touch: largest slope of the depth below the surface of white matter, least depth."""
CAPSULE_MM = 4.0
"""Radius of the ball that closes the deep grey matter over the internal capsules."""
NEARNESS_MM = 6.0
"""Standard deviation of the blur that makes `deep_nearness`."""
_INDEX = {name: index for index, name in enumerate(TISSUES)}
_MARGIN = 12
_RIM = 5


@dataclass(frozen=True)
class Anatomy:
    """Tissue fractions of one subject.

    Attributes:
        name: File name of the label map.
        labelling: Key of LABELLINGS.
        maps: (tissues + 3, i, j, k) uint8, 255 for one; canonical (RAS+) axes, cropped to the
            brain with a margin: the fractions of TISSUES, then `sulci`, `capsules`,
            `deep_nearness`.
        image: (i, j, k) float32 on the same grid, a real image of this subject with values of
            about 0 to 1, for those who are not painted; else None.
    """

    name: str
    labelling: str
    maps: np.ndarray | Tensor
    image: np.ndarray | Tensor | None = None

    @property
    def fractions(self) -> np.ndarray | Tensor:
        """Tissue fractions alone, (tissues, i, j, k) uint8."""
        return self.maps[: len(TISSUES)]

    def to(self, device: torch.device | str) -> Anatomy:
        """Return the anatomy as tensors on a device."""
        image = None if self.image is None else as_tensor(self.image).to(device)
        return replace(self, maps=as_tensor(self.maps).to(device), image=image)


def read_anatomy(
    path: Path,
    labelling: str,
    smoothing: float = 0.7,
    image: Path | None = None,
    numbers: Mapping[str, Sequence[int]] | None = None,
) -> Anatomy:
    """Read a label map as tissue fractions.

    Args:
        path: NIfTI label map.
        labelling: 'adult' (FreeSurfer numbers) or 'fetal'.
        smoothing: Standard deviation in voxels of the Gaussian that turns labels into fractions.
        image: A real image on the grid of the label map, to be used instead of painted ones.
        numbers: Tissue to label numbers, where they are not those of the labelling.

    Returns:
        The fractions; the outer CSF is limited to what a brain mask covers (`brain_hull`), and is
        filled in there where a map has none.

    Raises:
        ImageError: If the map holds no cortex, or the image has another grid.
        UserError: If `numbers` names a tissue that is not known.
    """
    numbers = label_numbers(path, labelling, numbers)
    labels, affine = read_labels(path)
    tissue = indices(labels, {_INDEX[name]: values for name, values in numbers.items()})
    if not (tissue == _INDEX['cortex']).any():
        raise ImageError(f'{path}: no {labelling} cortex label {numbers.get("cortex", ())}')

    box = _brain_box(tissue)
    tissue = _close_brain(_cut_padded(tissue, box), spacing_of(affine), labelling)
    maps = np.empty((len(TISSUES) + 3, *tissue.shape), np.uint8)
    for index in range(len(TISSUES)):
        smooth = ndimage.gaussian_filter(255 * (tissue == index).astype(np.float32), smoothing)
        maps[index] = smooth + 0.5
    maps[-3] = 255 * sulci(tissue, spacing_of(affine)) + 0.5
    maps[-2] = 255 * capsules(tissue, spacing_of(affine)) + 0.5
    maps[-1] = 255 * deep_nearness(tissue, spacing_of(affine)) + 0.5
    real = None
    if image is not None:
        canonical = nib.as_closest_canonical(nib.load(image))
        values = canonical.get_fdata(dtype=np.float32)
        if values.shape != labels.shape or not np.allclose(canonical.affine, affine, atol=1e-3):
            raise ImageError(f'{image}: not on the grid of {path}')
        real = _cut_padded(values, box)
        real = np.clip(real / np.percentile(real[tissue >= OUTSIDE], 99.5), 0, 1.5)
    return Anatomy(path.name, labelling, maps, real)


def label_numbers(
    path: Path, labelling: str, numbers: Mapping[str, Sequence[int]] | None
) -> Mapping[str, Sequence[int]]:
    """Say what the numbers of a label map mean.

    Args:
        path: The label map, for messages.
        labelling: Key of LABELLINGS.
        numbers: Tissue to label numbers, where they are not those of the labelling.

    Returns:
        Tissue to label numbers.

    Raises:
        UserError: If `numbers` names a tissue that is not known.
    """
    if numbers is None:
        return LABELLINGS[labelling]
    unknown = ', '.join(sorted(set(numbers) - set(TISSUES)))
    if unknown:
        raise UserError(f'{path}: unknown tissue {unknown}; known are {", ".join(TISSUES)}')
    return numbers


def read_labels(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a label map, int16 (i, j, k), and its affine, axes canonical (RAS+)."""
    image = nib.as_closest_canonical(nib.load(path))
    return np.rint(np.asarray(image.dataobj)).astype(np.int16), image.affine


def indices(labels: np.ndarray, numbers: Mapping[int, Sequence[int]]) -> np.ndarray:
    """Replace label numbers by the index that they belong to, 0 for those of none; uint8."""
    table = np.zeros(max(int(labels.max()) + 1, 1024), np.uint8)
    for index, values in numbers.items():
        table[list(values)] = index
    replaced: np.ndarray = table[labels]
    return replaced


def _brain_box(tissue: np.ndarray) -> tuple[slice, slice, slice]:
    return bounding_box(tissue > _INDEX['csf'])


def _cut_padded(array: np.ndarray, box: tuple[slice, slice, slice]) -> np.ndarray:
    low = [max(0, s.start - _MARGIN) for s in box]
    high = [min(n, s.stop + _MARGIN) for s, n in zip(box, array.shape, strict=True)]
    pads = [
        (_MARGIN - (s.start - a), _MARGIN - (b - s.stop))
        for s, a, b in zip(box, low, high, strict=True)
    ]
    return np.pad(array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], pads)


def brain_hull(
    tissue: np.ndarray, csf: np.ndarray, spacing: tuple[float, float, float], labelling: str
) -> np.ndarray:
    """Say what a brain mask covers.

    Masks that are drawn, or found by other tools, fill the sulci and end just outside of the
    cortex.

    Args:
        tissue: (i, j, k) bool, the brain without its outer CSF.
        csf: (i, j, k) bool, the outer CSF of the label map.
        spacing: Of the voxels along each axis, mm.
        labelling: Key of LABELLINGS.

    Returns:
        (i, j, k) bool: the tissue, closed by a ball of CLOSING_MM, and RIM_MM around it; of a
        fetus all CSF, too, which is wide at that age and covered by masks of fetal stacks.
    """
    hull = fill_sulci(tissue, spacing, RIM_MM)
    if labelling == 'fetal':
        hull = ndimage.binary_fill_holes(hull | csf)
    return hull


def fill_sulci(
    mask: np.ndarray, spacing: tuple[float, float, float], rim_mm: float = 0.0
) -> np.ndarray:
    """Close a brain mask by a ball of CLOSING_MM.

    Args:
        mask: (i, j, k) bool.
        spacing: Of the voxels along each axis, mm.
        rim_mm: Kept around it.

    Returns:
        (i, j, k) bool, without holes.
    """
    found = bounding_box(mask)
    pad = int(np.ceil((CLOSING_MM + rim_mm) / min(spacing))) + 1
    inner = _closed(np.pad(mask[found], pad), spacing, CLOSING_MM, rim_mm)
    hull = np.zeros(np.array(mask.shape) + 2 * pad, dtype=bool)
    hull[tuple(slice(s.start, s.stop + 2 * pad) for s in found)] = inner
    brain: np.ndarray = ndimage.binary_fill_holes(hull[pad:-pad, pad:-pad, pad:-pad] | mask)
    return brain


def _close_brain(
    tissue: np.ndarray, spacing: tuple[float, float, float], labelling: str
) -> np.ndarray:
    """Limit the outer CSF to what a brain mask covers, fill it, and surround that."""
    csf, surround = _INDEX['csf'], _INDEX['surround']
    hull = brain_hull(tissue > csf, tissue == csf, spacing, labelling)
    tissue = tissue.copy()
    tissue[(tissue == csf) & ~hull] = surround
    tissue[(tissue < csf) & hull] = csf
    rim = ndimage.binary_dilation(hull, iterations=_RIM)
    tissue[(tissue == 0) & rim] = surround
    return tissue


def sulci(tissue: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Find where the banks of a sulcus touch.

    Label maps of 1 mm join them: the thin sheet of CSF between them is lost. It lies where the
    distance to what is below the cortex no longer grows.

    Args:
        tissue: (i, j, k), indices in TISSUES.
        spacing: Of the voxels along each axis, mm.

    Returns:
        (i, j, k) float32, 0 to 1: 1 on the middle of the sheet, a voxel wide.
    """
    below = tissue > _INDEX['cortex']
    depth = ndimage.distance_transform_edt(~below, spacing).astype(np.float32)
    smooth = ndimage.gaussian_filter(depth, 0.6)
    slope = np.sqrt(sum(g**2 for g in np.gradient(smooth, *spacing)))
    sheet = (tissue == _INDEX['cortex']) & (slope < SHEET_SLOPE) & (depth >= SHEET_MM)
    widened = ndimage.gaussian_filter(sheet.astype(np.float32), 0.5)
    found: np.ndarray = np.clip(2 * widened, 0, 1)
    return found


def capsules(tissue: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Find the white matter between the nuclei, which labels of newborns count as deep grey.

    Args:
        tissue: (i, j, k), indices in TISSUES.
        spacing: Of the voxels along each axis, mm.

    Returns:
        (i, j, k) float32, 0 to 1.
    """
    deep = tissue == _INDEX['deep-grey']
    if not deep.any():
        return np.zeros(tissue.shape, np.float32)
    closed = _closed(deep, spacing, CAPSULE_MM)
    between = (closed & (tissue == _INDEX['white'])).astype(np.float32)
    found: np.ndarray = ndimage.gaussian_filter(between, 0.5)
    return found


def _closed(
    mask: np.ndarray, spacing: tuple[float, float, float], radius: float, rim: float = 0.0
) -> np.ndarray:
    """Close a mask (i, j, k) by a ball of `radius` mm, and keep `rim` mm around it."""
    near = ndimage.distance_transform_edt(~mask, spacing) <= radius + rim
    closed: np.ndarray = ndimage.distance_transform_edt(near, spacing) > radius
    return closed


def deep_nearness(tissue: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Say how close the deep grey matter and the brainstem are, where myelination begins.

    Args:
        tissue: (i, j, k), indices in TISSUES.
        spacing: Of the voxels along each axis, mm.

    Returns:
        (i, j, k) float32, 0 to 1.
    """
    deep = np.isin(tissue, (_INDEX['deep-grey'], _INDEX['brainstem'])).astype(np.float32)
    near: np.ndarray = ndimage.gaussian_filter(deep, [NEARNESS_MM / s for s in spacing])
    return np.clip(2.5 * near, 0, 1)


def as_tensor(voxels: np.ndarray | Tensor) -> Tensor:
    """Return voxels as a tensor; those that are mapped from a file are read."""
    return voxels if isinstance(voxels, Tensor) else torch.from_numpy(np.array(voxels))
