"""Label maps as smooth fractions of tissues, cut and deformed for a training volume."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.imaging.conform import spacing_of

TISSUES = (
    'background',
    'surround',
    'outer-soft',
    'outer-bright',
    'outer-dark',
    'csf',
    'ventricles',
    'cortex',
    'white',
    'deep-grey',
    'hippocampus',
    'cerebellum-grey',
    'cerebellum-white',
    'brainstem',
)
"""What is painted with an intensity of its own. The first five lie outside the brain; the outer
ones are unnamed in the label maps of heads."""

CLASSES: dict[str, tuple[str, ...]] = {
    'background': TISSUES[:5],
    'cortical grey matter': ('cortex',),
    'white matter': ('white',),
    'outer csf': ('csf',),
    'ventricles': ('ventricles',),
    'deep grey matter': ('deep-grey', 'hippocampus'),
    'cerebellum': ('cerebellum-grey', 'cerebellum-white'),
    'brainstem': ('brainstem',),
}
"""What is segmented, and the tissues that belong to it."""

LABELLINGS: dict[str, dict[str, tuple[int, ...]]] = {
    'adult': {
        'surround': (507,),
        'outer-soft': (511, 509, 506, 514),
        'outer-bright': (515, 508, 512, 530),
        'outer-dark': (516, 502),
        'csf': (24,),
        'ventricles': (4, 5, 14, 15, 31, 43, 44, 63, 72, 136, 137, 163, 164),
        'cortex': (3, 42),
        'white': (2, 25, 29, 41, 57, 85),
        'deep-grey': (10, 11, 12, 13, 26, 28, 49, 50, 51, 52, 58, 60),
        'hippocampus': (17, 18, 53, 54),
        'cerebellum-grey': (8, 47),
        'cerebellum-white': (7, 46),
        'brainstem': (16,),
    },
    'fetal': {
        'csf': (4,),
        'ventricles': (2,),
        'cortex': (5,),
        'white': (1, 8),
        'deep-grey': (6,),
        'cerebellum-grey': (3,),
        'brainstem': (7,),
    },
}
"""Label numbers of each tissue, for FreeSurfer maps and for the fetal atlas."""

OUTSIDE = len(CLASSES['background'])
"""So many of TISSUES, from the first one, lie outside the brain."""
CLOSING_MM = 8.0
"""Radius of the ball that closes the sulci of a brain mask."""
RIM_MM = 1.0
"""How far a brain mask reaches beyond the tissue."""
_INDEX = {name: index for index, name in enumerate(TISSUES)}
_MARGIN = 12
_RIM = 5


@dataclass(frozen=True)
class Anatomy:
    """Tissue fractions of one subject.

    Attributes:
        name: File name of the label map.
        labelling: Key of LABELLINGS.
        fractions: (tissues, i, j, k) uint8, 255 for one; canonical (RAS+) axes, cropped to the
            brain with a margin.
        image: (i, j, k) float32 on the same grid, a real image of this subject with values of
            about 0 to 1, for those who are not painted; else None.
    """

    name: str
    labelling: str
    fractions: np.ndarray
    image: np.ndarray | None = None


def read_anatomy(
    path: Path,
    labelling: str,
    smoothing: float = 0.5,
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
    fractions = np.empty((len(TISSUES), *tissue.shape), np.uint8)
    for index in range(len(TISSUES)):
        smooth = ndimage.gaussian_filter(255 * (tissue == index).astype(np.float32), smoothing)
        fractions[index] = smooth + 0.5
    real = None
    if image is not None:
        canonical = nib.as_closest_canonical(nib.load(image))
        values = canonical.get_fdata(dtype=np.float32)
        if values.shape != labels.shape or not np.allclose(canonical.affine, affine, atol=1e-3):
            raise ImageError(f'{image}: not on the grid of {path}')
        real = _cut_padded(values, box)
        real = np.clip(real / np.percentile(real[tissue >= OUTSIDE], 99.5), 0, 1.5)
    return Anatomy(path.name, labelling, fractions, real)


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
    return ndimage.find_objects((tissue > _INDEX['csf']).astype(np.uint8))[0]


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
    (found,) = ndimage.find_objects(tissue.astype(np.uint8))
    pad = int(np.ceil((CLOSING_MM + RIM_MM) / min(spacing))) + 1
    near = ndimage.distance_transform_edt(~np.pad(tissue[found], pad), spacing)
    inner = ndimage.distance_transform_edt(near <= CLOSING_MM + RIM_MM, spacing) > CLOSING_MM
    hull = np.zeros(np.array(tissue.shape) + 2 * pad, dtype=bool)
    hull[tuple(slice(s.start, s.stop + 2 * pad) for s in found)] = inner
    hull = hull[pad:-pad, pad:-pad, pad:-pad] | tissue
    if labelling == 'fetal':
        hull |= csf
    brain: np.ndarray = ndimage.binary_fill_holes(hull)
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


def smooth_field(
    shape: tuple[int, ...], width: float, sd: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw a random field: normal values at nodes `width` voxels apart, linear between them.

    Args:
        shape: Of the field.
        width: Distance of the nodes in voxels.
        sd: Standard deviation at the nodes.
        rng: Source of random numbers.

    Returns:
        float32 field.
    """
    nodes = [max(4, int(np.ceil(n / width)) + 3) for n in shape]
    coarse = rng.normal(0, sd, nodes).astype(np.float32)
    fine = functional.interpolate(
        torch.from_numpy(coarse)[None, None], size=shape, mode='trilinear', align_corners=True
    )
    return fine[0, 0].numpy()


@dataclass(frozen=True)
class Deformation:
    """How the shape of a subject is varied.

    Attributes:
        voxel: Range of the output spacing over that of the label map (drawn uniformly in its
            logarithm): both the resolution and the size of the head. An adult map of 1 mm at 1.5
            is a newborn brain of two thirds of the size (400 ml, cortex 1.7 mm) seen at 1 mm, or
            at 0.75 one that is seen at 0.5 mm.
        usual_share: Share of samples with `usual_voxel` instead.
        usual_voxel: See there.
        stretch: Standard deviation of the logarithm of the scaling of each axis.
        turn: Standard deviation of the rotations, degrees.
        bend: Standard deviation of the smooth displacements, in output voxels.
        upright_share: Share of samples that lie in the scanner as the workflow hands them over:
            on RAS+ axes, the slice axis last, the others in their order. They are turned by
            `turn` and mirrored left to right alone; all others are turned and mirrored at will.
        slice_axes: Weights of sagittal, coronal and axial slices of those.
    """

    voxel: tuple[float, float] = (0.55, 1.6)
    usual_share: float = 0.4
    usual_voxel: tuple[float, float] = (0.95, 1.1)
    stretch: float = 0.05
    turn: float = 8.0
    bend: float = 1.2
    upright_share: float = 0.0
    slice_axes: tuple[float, float, float] = (1.0, 1.0, 2.0)


def rotation(degrees: np.ndarray) -> np.ndarray:
    """Matrix (3, 3) of rotations about the three axes, in degrees, one after the other."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        i, j = (a for a in range(3) if a != axis)
        turn = np.eye(3)
        turn[[i, j], [i, j]] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


def _draw_axes(deformation: Deformation, rng: np.random.Generator) -> np.ndarray:
    """Draw which axis of a subject (rows, RAS+) each of a sample (columns) is, and its sign."""
    if rng.random() >= deformation.upright_share:
        return np.eye(3)[rng.permutation(3)] * rng.choice((-1, 1), 3)
    weights = np.array(deformation.slice_axes)
    axis = int(rng.choice(3, p=weights / weights.sum()))
    mirror = np.diag([rng.choice((-1.0, 1.0)), 1, 1])
    return mirror @ np.eye(3)[:, [*(other for other in range(3) if other != axis), axis]]


def _positions(
    anatomy: Anatomy,
    shape: tuple[int, int, int],
    deformation: Deformation,
    rng: np.random.Generator,
) -> np.ndarray:
    """Where in the fractions each output voxel lies, (3, *shape), axes permuted and flipped."""
    low, high = (
        deformation.usual_voxel if rng.random() < deformation.usual_share else deformation.voxel
    )
    voxel = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    scale = voxel * np.exp(rng.normal(0, deformation.stretch, 3))
    # Rows: axes of the fractions; columns: those of the sample.
    matrix = _draw_axes(deformation, rng) @ rotation(rng.normal(0, deformation.turn, 3)) * scale

    size = np.array(anatomy.fractions.shape[1:])
    brain = anatomy.fractions[:OUTSIDE].sum(0, dtype=np.uint16) < 127
    centre = np.array(np.unravel_index(rng.choice(np.flatnonzero(brain)), brain.shape), float)
    # Even a box near the border shall be filled with brain, as far as the brain reaches.
    reach = np.minimum(np.abs(matrix) @ ((np.array(shape) - 1) / 2), (size - 1) / 2)
    centre = np.clip(centre, reach, size - 1 - reach)

    offsets = [np.arange(n, dtype=np.float32) - (n - 1) / 2 for n in shape]
    grid = np.stack(np.meshgrid(*offsets, indexing='ij'))
    if deformation.bend:
        for component in grid:
            component += smooth_field(shape, 24, deformation.bend, rng)
    return np.tensordot(matrix, grid, 1) + centre[:, None, None, None]


def sample_anatomy(
    anatomy: Anatomy,
    shape: tuple[int, int, int],
    deformation: Deformation,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Cut a box around a random voxel of the brain, turned, scaled and bent at random.

    Args:
        anatomy: The subject.
        shape: Voxels of the box.
        deformation: What is random.
        rng: Source of random numbers.

    Returns:
        Tissue fractions (tissues, *shape) float32, 1 in all, and the real image (*shape) float32
        where the anatomy has one.
    """
    positions = _positions(anatomy, shape, deformation, rng).astype(np.float32)
    size = np.array(anatomy.fractions.shape[1:])
    low = np.clip(np.floor(positions.min((1, 2, 3))).astype(int), 0, size - 2)
    high = np.clip(np.ceil(positions.max((1, 2, 3))).astype(int) + 1, low + 2, size)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    values = torch.from_numpy(np.array(anatomy.fractions[(slice(None), *box)])).flatten(1) / 255
    if anatomy.image is not None:
        values = torch.cat([values, torch.from_numpy(np.array(anatomy.image[box])).reshape(1, -1)])
    sampled = _interpolate(values, tuple(high - low), positions - low[:, None, None, None])
    fractions = sampled[: len(TISSUES)]
    fractions /= fractions.sum(0)
    return fractions, None if anatomy.image is None else sampled[len(TISSUES)]


def _interpolate(values: torch.Tensor, shape: tuple[int, ...], at: np.ndarray) -> np.ndarray:
    """Interpolate linearly; the nearest voxel is taken outside.

    All channels of a corner lie together here, which is three times as fast as `grid_sample`.

    Args:
        values: (channels, voxels) of a volume of `shape`.
        shape: Of the volume.
        at: Positions in voxels, (3, i, j, k).

    Returns:
        (channels, i, j, k) float32.
    """
    limit = torch.tensor(shape).reshape(3, 1) - 1
    positions = torch.from_numpy(np.ascontiguousarray(at, np.float32)).flatten(1)
    positions = torch.minimum(positions.clamp(min=0), limit - 1e-3)
    base = positions.to(torch.int32)
    part = positions - base
    steps = (shape[1] * shape[2], shape[2], 1)
    first = base[0] * steps[0] + base[1] * steps[1] + base[2]
    corners = list(itertools.product((0, 1), repeat=3))
    indices = torch.empty((len(first), len(corners)), dtype=torch.int32)
    weights = torch.empty((len(first), len(corners)))
    for column, corner in enumerate(corners):
        indices[:, column] = first + sum(c * s for c, s in zip(corner, steps, strict=True))
        sides = [part[axis] if c else 1 - part[axis] for axis, c in enumerate(corner)]
        weights[:, column] = sides[0] * sides[1] * sides[2]
    sampled = functional.embedding_bag(
        indices, values.T.contiguous(), mode='sum', per_sample_weights=weights
    )
    return sampled.T.contiguous().reshape(-1, *at.shape[1:]).numpy()
