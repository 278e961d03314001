"""Whole heads at low resolution, for a network that finds the brain.

In the manner of SynthSeg (Billot et al., Medical Image Analysis 2023): every label outside the
brain gets a random intensity, so that no contrast is special; the brain has mostly one of the
usual. Where a label map holds a brain alone, random tissue is laid around it: shells like skull
and scalp, then blobs; around most of the fetal ones its bone and skin, its body, the fluid that it
lies in, and the mother. Real scans with masks are turned, scaled and bent as the label maps are;
their intensities are varied instead of painted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from bids_segsr.exceptions import ImageError
from bids_segsr.imaging.conform import spacing_of
from bids_segsr.imaging.resample import FWHM_PER_SIGMA
from bids_segsr.simulation.anatomy import (
    brain_hull,
    fill_sulci,
    indices,
    label_numbers,
    read_labels,
)
from bids_segsr.simulation.contrast import draw_contrast
from bids_segsr.simulation.deformation import rotation, smooth_field
from bids_segsr.simulation.tables import OUTSIDE, TISSUES, Appearance

BRAIN = Appearance(random_share=0.15, jitter=0.07)
"""How the brain looks: most often as in a sequence that is usual at that age."""

SLICE_MM = (2.0, 6.0)
"""Thinnest and thickest slices; none is thinner than the voxels of the volume."""

STRIPPED_SHARE = 0.1
"""Share of the volumes that show the brain alone."""

WOMB_SHARE = 0.75
"""Share of the fetal brains with bone, skin, a body, fluid and a mother around them."""

ABSENT_SHARE = 0.08
"""Share of the lone brains whose place something else fills, within what is laid around them."""

STRANGE_SHARE = 0.3
"""Share of the real scans whose intensities are mapped to others, bright ones to dark ones say."""

THICKER_SHARE = 0.4
"""Share of the real scans whose slices are made thicker than they are."""

NEWBORN_SHARE = 0.2
"""Share of the whole heads that are as small as those of newborns."""

MOST_NOISE = 0.05
"""Largest standard deviation of the noise of the slices, as a share of bright intensities."""

MOST_OFFSET = 0.3
"""Largest distance of the brain from the middle, as a share of the field of view."""

_OUTER = 40
_FIRST_SHELL = 200
_SHELLS = 4
_BLOBS = 8
_BONE, _SKIN, _FLUID, _FAT, _MOTHER = 220, 221, 222, 223, 230
_LIMBS = 4
_SUBVOXELS = 0.25 * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], np.float32)
"""Where a voxel is looked at: the corners of a tetrahedron, each in the middle of an eighth."""


@dataclass(frozen=True)
class Head:
    """Regions of one head.

    Attributes:
        name: File name of the label map.
        labelling: Key of LABELLINGS, or one of `tables.MASKED`.
        regions: (i, j, k) uint8: index in TISSUES; outside the brain 40 and more, one a label of
            the map; 0 background. The mask, where the image is real.
        brain: (i, j, k) bool, see `brain_hull`.
        spacing: Of the voxels along each axis, mm.
        image: (i, j, k) float32, a real scan with values of about 0 to 1; else None.
    """

    name: str
    labelling: str
    regions: np.ndarray
    brain: np.ndarray
    spacing: tuple[float, float, float]
    image: np.ndarray | None = None

    @property
    def whole(self) -> bool:
        """Whether it is known what surrounds the brain."""
        return self.image is not None or bool(self.regions.max() >= _OUTER)

    @property
    def fetal(self) -> bool:
        """Whether it lies as it likes, in few slices."""
        return self.labelling.startswith('fetal')


def read_head(
    path: Path, labelling: str, numbers: Mapping[str, Sequence[int]] | None = None
) -> Head:
    """Read a label map with all that it holds.

    Args:
        path: NIfTI label map.
        labelling: Key of LABELLINGS.
        numbers: Tissue to label numbers, where they are not those of the labelling.

    Returns:
        The head, canonical (RAS+) axes.

    Raises:
        ImageError: The map holds no brain.
        UserError: `numbers` names a tissue that is not known.
    """
    numbers = label_numbers(path, labelling, numbers)
    labels, affine = read_labels(path)
    inner = {TISSUES.index(name): numbers.get(name, ()) for name in TISSUES[OUTSIDE:]}
    around = {value for name in TISSUES[1:OUTSIDE] for value in numbers.get(name, ())}
    outer = sorted(around & set(np.unique(labels).tolist()))
    each = {_OUTER + place: (value,) for place, value in enumerate(outer)}
    regions = indices(labels, {**inner, **each})
    csf = TISSUES.index('csf')
    tissue = (regions > csf) & (regions < _OUTER)
    if not tissue.any():
        raise ImageError(f'{path}: none of its labels is one of a brain ({labelling})')
    spacing = spacing_of(affine)
    brain = brain_hull(tissue, regions == csf, spacing, labelling)
    regions[brain & ~tissue] = csf
    return Head(path.name, labelling, regions, brain, spacing)


def read_scan(path: Path, image: Path, labelling: str) -> Head:
    """Read a real scan and the mask of its brain, whose sulci are filled as `brain_hull` does.

    Args:
        path: NIfTI mask, above 0 in the brain.
        image: The scan, on the grid of the mask.
        labelling: One of `tables.MASKED`.

    Returns:
        The head, canonical (RAS+) axes.

    Raises:
        ImageError: The mask is empty, or the scan has another grid or no intensities.
    """
    labels, affine = read_labels(path)
    if not (labels > 0).any():
        raise ImageError(f'{path}: the mask is empty')
    brain = fill_sulci(labels > 0, spacing_of(affine))
    scan = nib.as_closest_canonical(nib.load(image))
    values = scan.get_fdata(dtype=np.float32)
    if values.shape != brain.shape or not np.allclose(scan.affine, affine, atol=1e-3):
        raise ImageError(f'{image}: not on the grid of {path}')
    bright = float(np.percentile(values, 99.5))
    if not np.isfinite(bright) or bright <= 0:
        raise ImageError(f'{image}: shows nothing')
    values = np.clip(values / bright, 0, 2)
    return Head(path.name, labelling, brain.astype(np.uint8), brain, spacing_of(affine), values)


def draw_levels(rng: np.random.Generator, levels: Mapping[str, float]) -> np.ndarray:
    """Draw the intensity of every region outside the brain.

    Args:
        rng: Source of random numbers.
        levels: Intensity of every tissue; used for those of the brain.

    Returns:
        (256,) float32 in the numbers of `Head.regions`.
    """
    drawn = rng.uniform(0, 1, 256).astype(np.float32)
    for index, tissue in enumerate(TISSUES[OUTSIDE:], start=OUTSIDE):
        drawn[index] = levels[tissue]
    if rng.random() < 0.9:  # as in the T2w images that fetuses are scanned with
        drawn[_BONE] = rng.uniform(0, 0.3)
        drawn[_FLUID] = rng.uniform(0.7, 1.2)
        drawn[_MOTHER : _MOTHER + _BLOBS + 1] *= rng.uniform(0.4, 1)
    drawn[0] = 0 if rng.random() < 0.8 else rng.uniform(0, 0.3)
    return drawn


def make_head(
    head: Head,
    shape: tuple[int, int, int],
    spacing_mm: float,
    offset_mm: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Make one training volume.

    Args:
        head: The head.
        shape: Voxels of the volume.
        spacing_mm: Their spacing.
        offset_mm: Standard deviation of the distance of the brain from the middle, each axis.
        rng: Source of random numbers; the same state gives the same volume.

    Returns:
        Image (i, j, k) float32 with intensities of about one; the brain mask, bool, empty where
        something else fills the place of the brain; the distance of the slices in mm.
    """
    positions, matrix = _positions(head, shape, spacing_mm, offset_mm, rng)
    image, brain = (_paint if head.image is None else _vary)(head, positions, matrix, rng)
    image *= np.exp(smooth_field(shape, 40, rng.uniform(0, 0.35), rng).numpy())
    if rng.random() < STRIPPED_SHARE and brain.any():
        image *= brain
    ratio = max(1.0, float(rng.uniform(*SLICE_MM)) / spacing_mm)
    if head.image is not None and rng.random() >= THICKER_SHARE:
        ratio = 1.0
    # Few slices make a field of view that is short across them.
    axis = int(np.argmin(shape) if min(shape) < max(shape) / 2 else rng.integers(3))
    return _thicken(image, axis, ratio, rng), brain, ratio * spacing_mm


def _paint(
    head: Head, positions: np.ndarray, matrix: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Paint the regions of a label map: image and mask."""
    shape = positions.shape[1:]
    brain = _nearest(head.brain, positions).astype(bool)
    surround = None
    if not head.whole or rng.random() < 0.1:
        womb = head.fetal and rng.random() < WOMB_SHARE
        surround = _womb(brain, rng) if womb else _surround(brain, rng)
    filling = None
    if surround is not None and not head.whole and rng.random() < ABSENT_SHARE:
        hole = brain | np.isin(surround, (_BONE, _SKIN))
        filling = _fill(surround, hole, rng)
    levels = draw_levels(rng, draw_contrast(head.labelling, BRAIN, rng).levels)
    image = np.zeros(shape, np.float32)
    for offset in _SUBVOXELS:
        regions = _nearest(head.regions, positions + (matrix @ offset)[:, None, None, None])
        if surround is not None:
            regions = np.where(brain, regions, surround)
        if filling is not None:
            regions = np.where(hole, filling, regions)
        image += levels[regions] / len(_SUBVOXELS)
    texture = rng.normal(0, 1, shape).astype(np.float32)
    image *= 1 + rng.uniform(0, 0.15) * ndimage.gaussian_filter(texture, rng.uniform(0, 1.5))
    image = ndimage.gaussian_filter(image, rng.uniform(0.3, 0.8))
    return image, brain if filling is None else np.zeros_like(brain)


def _vary(
    head: Head, positions: np.ndarray, matrix: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate a real scan and its mask; intensities are varied."""
    image = np.zeros(positions.shape[1:], np.float32)
    for offset in _SUBVOXELS:
        places = positions + (matrix @ offset)[:, None, None, None].astype(np.float32)
        image += ndimage.map_coordinates(head.image, places, order=1) / len(_SUBVOXELS)
    inside = ndimage.map_coordinates(head.brain.view(np.uint8), positions, np.float32, order=1)
    image **= np.exp(rng.normal(0, 0.3))
    if rng.random() < STRANGE_SHARE:
        nodes = np.array([0, 0.05, 0.25, 0.5, 0.75, 1])
        # air stays dark; half of them are an inverted scan
        levels = 1.05 - nodes if rng.random() < 0.5 else rng.uniform(0.05, 1, len(nodes))
        levels[0] = 0
        image = np.interp(image, nodes, levels).astype(np.float32)
    return image, inside > 0.5


def _fill(outside: np.ndarray, hole: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fill a hole by what is next to it, or by random blobs: regions, uint8."""
    nearest = ndimage.distance_transform_edt(hole, return_distances=False, return_indices=True)
    filling: np.ndarray = outside[tuple(nearest)]
    if rng.random() < 0.5:
        blobs = _blobs(hole.shape, _FIRST_SHELL + _SHELLS, rng)
        filling = np.where(blobs > 0, blobs, filling)
    return filling


def _positions(
    head: Head,
    shape: tuple[int, int, int],
    spacing_mm: float,
    offset_mm: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Where in the label map each voxel lies, turned, scaled and bent at random.

    Returns:
        Positions, (3, *shape), and the matrix (3, 3) of a step from voxel to voxel.
    """
    upright = head.whole and not head.fetal
    size = rng.uniform(0.85, 1.15) if upright or rng.random() < 0.5 else rng.uniform(0.55, 1.1)
    if upright and rng.random() < NEWBORN_SHARE:
        size = rng.uniform(0.6, 0.8)
    # Adults lie straight in the scanner; a fetus lies as it likes. Left and right are alike.
    angles = rng.normal(0, 12, 3) if head.whole else rng.uniform(-180, 180, 3)
    if head.image is not None and head.fetal:  # the slices stay across an axis, or nearly so
        angles += 90 * rng.integers(4, size=3)
    turn = np.diag([rng.choice((-1.0, 1.0)), 1, 1]) @ rotation(angles)
    stretch = np.exp(rng.normal(0, 0.06, 3))
    matrix = turn * stretch * (spacing_mm / size) / np.array(head.spacing)[:, None]
    # every fourth voxel tells the centre as well
    inside = np.argwhere(head.brain[::4, ::4, ::4]) * 4.0
    # so that the brain stays in view, whatever the field of view
    reach = np.array(shape) * MOST_OFFSET
    offset = np.clip(rng.normal(0, offset_mm / spacing_mm, 3), -reach, reach)
    centre = inside.mean(0) + matrix @ offset
    offsets = [np.arange(n, dtype=np.float32) - (n - 1) / 2 for n in shape]
    grid = np.stack(np.meshgrid(*offsets, indexing='ij'))
    for component in grid:
        component += smooth_field(shape, 16, 1.0, rng).numpy()
    return np.tensordot(matrix, grid, 1) + centre[:, None, None, None], matrix


def _nearest(volume: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Values of the nearest voxels, 0 outside of the volume."""
    index = np.rint(positions).astype(np.int32)
    limit = np.array(volume.shape)[:, None, None, None]
    within = ((index >= 0) & (index < limit)).all(0)
    index = np.where(within, index, 0)
    values: np.ndarray = np.where(within, volume[tuple(index)], 0)
    return values


def _blobs(shape: tuple[int, ...], first: int, rng: np.random.Generator) -> np.ndarray:
    """Random regions of all sizes, uint8, numbered from first; 0 between them."""
    regions = np.zeros(shape, np.uint8)
    for blob in range(_BLOBS):
        field = smooth_field(shape, float(rng.uniform(6, 30)), 1.0, rng).numpy()
        regions[field > rng.uniform(0.2, 1.0)] = first + blob
    return regions


def _surround(brain: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random regions around a brain: shells and blobs, 0 in the brain."""
    shape = brain.shape
    distance = ndimage.distance_transform_edt(~brain).astype(np.float32)
    distance += smooth_field(shape, 12, 0.7, rng).numpy()
    regions = _blobs(shape, _FIRST_SHELL + _SHELLS, rng)
    edge = 0.0
    for shell in range(int(rng.integers(0, _SHELLS + 1))):
        width = float(rng.uniform(0.6, 4.0))
        regions[(distance > edge) & (distance <= edge + width)] = _FIRST_SHELL + shell
        edge += width
    if rng.random() < 0.3:
        regions[distance > edge + rng.uniform(0, 30)] = 0
    return np.where(brain, 0, regions).astype(np.uint8)


def _womb(brain: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What surrounds a fetal brain: bone, skin, limbs, fluid, the mother; 0 in the brain.

    All lengths are shares of the radius of the brain, which grows with the weeks as they do.
    """
    shape = brain.shape
    radius = float(np.cbrt(max(brain.sum(), 1) * 3 / (4 * np.pi)))
    # Half a voxel, for the distance of the neighbours is one.
    distance = ndimage.distance_transform_edt(~brain).astype(np.float32) - 0.5
    distance += smooth_field(shape, 12, 0.3, rng).numpy()
    wobble = np.exp(smooth_field(shape, max(4.0, radius / 2), 0.5, rng).numpy())
    centre = np.argwhere(brain).mean(0) if brain.any() else np.array(shape) / 2
    offsets = np.indices(shape, np.float32) - centre[:, None, None, None].astype(np.float32)

    def ellipsoid(place: np.ndarray, semi_axes: np.ndarray) -> np.ndarray:
        turn = rotation(rng.uniform(-180, 180, 3)) / semi_axes[:, None]
        apart = np.tensordot(turn, offsets - place[:, None, None, None], 1)
        within: np.ndarray = np.sqrt((apart**2).sum(0)) / wobble**0.2
        return within

    regions = _blobs(shape, _MOTHER, rng)
    regions[regions == 0] = _MOTHER + _BLOBS
    depth = ellipsoid(radius * rng.normal(0, 0.8, 3), radius * rng.uniform(3, 6, 3))
    regions[depth > rng.uniform(0.85, 1)] = _FAT
    regions[distance < radius * rng.uniform(0.1, 1.2) * wobble] = _FLUID
    if rng.random() < 0.7:
        regions[depth > 1] = 0
    for limb in range(int(rng.integers(1, _LIMBS + 1))):
        direction = rng.normal(size=3)
        place = radius * rng.uniform(1.2, 2.5) * direction / np.linalg.norm(direction)
        inside = ellipsoid(place, radius * rng.uniform(0.25, 1.1, 3)) < 1
        regions[inside] = _FIRST_SHELL + limb
    bone = max(0.5, radius * rng.uniform(0.02, 0.06))
    skin = bone + radius * rng.uniform(0.03, 0.15)
    regions[distance < skin] = _SKIN
    regions[distance < bone] = _BONE
    return np.where(brain, 0, regions).astype(np.uint8)


def _thicken(image: np.ndarray, axis: int, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """Thick slices along an axis, Rician noise, linear interpolation back."""
    image = ndimage.gaussian_filter1d(image, ratio / FWHM_PER_SIGMA, axis=axis)
    size = list(image.shape)
    slices = size.copy()
    slices[axis] = max(4, round(size[axis] / ratio))
    low = functional.interpolate(
        torch.from_numpy(image)[None, None], size=slices, mode='trilinear'
    )
    # relative to what is bright, for a single speck may be far brighter
    sd = float(rng.uniform(0, MOST_NOISE)) * float(np.percentile(image, 99))
    noise = torch.from_numpy(rng.normal(0, sd, (2, *low.shape)).astype(np.float32))
    low = torch.hypot(low + noise[0], noise[1])
    return functional.interpolate(low, size=size, mode='trilinear')[0, 0].numpy()
