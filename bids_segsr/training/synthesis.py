"""Training images from label maps: anatomy, contrast, acquisition.

A label map becomes smooth tissue fractions; a random contrast turns them into a fine image; the
forward model of SegSRGAN (2020, equation 1) turns that into thick slices, and cubic B-spline
interpolation back into what the generator sees. Texture inside tissues is kept low and smooth:
fine independent texture is lost in the slices and would only hide what can be learnt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from bids_segsr.exceptions import ImageError
from bids_segsr.imaging.degrade import degrade, thick_slice_grid
from bids_segsr.imaging.resample import Grid, resample

TISSUES = (
    'background',
    'surround',
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
_INDEX = {name: index for index, name in enumerate(TISSUES)}

_FREESURFER: dict[str, tuple[int, ...]] = {
    'csf': (24,),
    'ventricles': (4, 5, 14, 15, 31, 43, 44, 63, 72, 136, 137, 163, 164),
    'cortex': (3, 42),
    'white': (2, 25, 29, 41, 57, 85),
    'deep-grey': (10, 11, 12, 13, 26, 28, 49, 50, 51, 52, 58, 60),
    'hippocampus': (17, 18, 53, 54),
    'cerebellum-grey': (8, 47),
    'cerebellum-white': (7, 46),
    'brainstem': (16,),
}
LABELLINGS: dict[str, dict[str, tuple[int, ...]]] = {
    'adult': _FREESURFER,
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

CONTRASTS: dict[str, dict[str, float]] = {
    name: dict(zip(TISSUES, (0.0, *levels), strict=True))
    for name, levels in {
        # In the order of TISSUES, background left out.
        'adult-T1w': (0.45, 0.17, 0.14, 0.58, 0.92, 0.72, 0.60, 0.58, 0.88, 0.84),
        'adult-T2w': (0.40, 0.95, 1.00, 0.56, 0.38, 0.42, 0.58, 0.55, 0.40, 0.40),
        'adult-FLAIR': (0.45, 0.15, 0.12, 0.75, 0.58, 0.66, 0.78, 0.72, 0.58, 0.58),
        'newborn-T2w': (0.45, 1.00, 0.97, 0.48, 0.76, 0.48, 0.52, 0.44, 0.55, 0.46),
        'newborn-T1w': (0.45, 0.20, 0.18, 0.68, 0.48, 0.68, 0.66, 0.66, 0.70, 0.70),
    }.items()
}
"""Intensity of each tissue, typical of a sequence and an age; relative units."""

_PRIORS = {
    'adult': {'adult-T1w': 0.36, 'adult-T2w': 0.36, 'adult-FLAIR': 0.08, 'newborn-T2w': 0.20},
    'fetal': {'newborn-T2w': 0.75, 'newborn-T1w': 0.15, 'adult-T2w': 0.10},
}


@dataclass(frozen=True)
class Anatomy:
    """Tissue fractions of one subject.

    Attributes:
        name: File name of the label map.
        labelling: Key of LABELLINGS.
        fractions: (tissues, i, j, k) uint8, 255 for one; canonical (RAS+) axes, cropped to the
            brain with a margin.
    """

    name: str
    labelling: str
    fractions: np.ndarray


@dataclass(frozen=True)
class Acquisition:
    """How thick slices are simulated; each range is drawn uniformly.

    Attributes:
        ratio: Slice distance over output spacing.
        usual_ratio: The ratio of half of the samples.
        gap: Largest share of the slice distance that no slice covers.
        noise: Standard deviation, relative to the image maximum, added to the slices.
        rician_share: Share of samples with Rician instead of Gaussian noise.
    """

    ratio: tuple[float, float] = (2.0, 5.0)
    usual_ratio: float = 3.0
    gap: float = 0.2
    noise: tuple[float, float] = (0.0, 0.02)
    rician_share: float = 0.5


@dataclass(frozen=True)
class Appearance:
    """How tissues look; each range is drawn uniformly.

    Attributes:
        random_share: Share of samples whose tissue intensities are all random.
        jitter: Standard deviation added to each prior intensity.
        texture: Standard deviation of the smooth texture.
        bias: Standard deviation of the logarithm of the bias field.
        rim_share: Share of samples with surroundings, which blur into the brain before it is
            masked; the others were masked before.
        loose_share: Share of samples whose mask leaves a rim of the surroundings.
        voxel: Output spacing over that of the label map.
    """

    random_share: float = 0.05
    jitter: float = 0.05
    texture: tuple[float, float] = (0.0, 0.03)
    bias: tuple[float, float] = (0.0, 0.1)
    rim_share: float = 0.4
    loose_share: float = 0.1
    voxel: tuple[float, float] = (0.65, 1.2)


@dataclass(frozen=True)
class Sample:
    """One training volume, slice axis last.

    Attributes:
        image: Interpolated thick slices, float32, 0 outside the brain mask.
        truth: Fine image, float32, same units, masked alike.
        cortex: Cortex fraction, float32 in [0, 1], masked alike.
        brain: Brain mask, bool.
    """

    image: np.ndarray
    truth: np.ndarray
    cortex: np.ndarray
    brain: np.ndarray


@dataclass(frozen=True)
class Recipe:
    """Everything that is drawn at random for a sample."""

    appearance: Appearance = field(default_factory=Appearance)
    acquisition: Acquisition = field(default_factory=Acquisition)


def read_anatomy(path: Path, labelling: str, smoothing: float = 0.5) -> Anatomy:
    """Read a label map as tissue fractions.

    Args:
        path: NIfTI label map.
        labelling: 'adult' (FreeSurfer numbers) or 'fetal'.
        smoothing: Standard deviation in voxels of the Gaussian that turns labels into fractions.

    Returns:
        The fractions; the outer CSF is limited to a closed hull around the brain, since many maps
        let it reach the skull, and is filled in where a map has none.

    Raises:
        ImageError: If the map holds no cortex.
    """
    image = nib.as_closest_canonical(nib.load(path))
    labels = np.rint(np.asarray(image.dataobj)).astype(np.int16)
    numbers = LABELLINGS[labelling]
    table = np.zeros(max(int(labels.max()) + 1, 1024), np.uint8)
    for name, values in numbers.items():
        table[list(values)] = _INDEX[name]
    tissue = table[labels]
    if not (tissue == _INDEX['cortex']).any():
        raise ImageError(f'{path}: no {labelling} cortex label {numbers["cortex"]}')

    box = ndimage.find_objects((tissue > _INDEX['csf']).astype(np.uint8))[0]
    margin = 12
    tissue = np.pad(tissue[box], margin)
    hull = ndimage.binary_dilation(tissue > _INDEX['csf'], iterations=4)
    hull = ndimage.binary_fill_holes(ndimage.binary_erosion(hull, iterations=2))
    tissue[(tissue == _INDEX['csf']) & ~hull] = 0
    tissue[(tissue == 0) & hull] = _INDEX['csf']
    rim = ndimage.binary_dilation(hull, iterations=5)
    tissue[(tissue == 0) & rim] = _INDEX['surround']

    fractions = np.empty((len(TISSUES), *tissue.shape), np.uint8)
    for index in range(len(TISSUES)):
        smooth = ndimage.gaussian_filter(255 * (tissue == index).astype(np.float32), smoothing)
        fractions[index] = smooth + 0.5
    return Anatomy(path.name, labelling, fractions)


def draw_contrast(
    labelling: str, appearance: Appearance, rng: np.random.Generator
) -> dict[str, float]:
    """Draw the intensity of every tissue.

    Args:
        labelling: Key of LABELLINGS: which priors suit.
        appearance: How much is random.
        rng: Source of random numbers.

    Returns:
        Tissue name to intensity, background 0, all others at least 0.02.
    """
    if rng.random() < appearance.random_share:
        levels = dict(zip(TISSUES, rng.uniform(0.05, 1.0, len(TISSUES)), strict=True))
    else:
        priors = _PRIORS[labelling]
        name = rng.choice(list(priors), p=list(priors.values()))
        levels = {
            tissue: max(0.02, level + rng.normal(0, appearance.jitter))
            for tissue, level in CONTRASTS[name].items()
        }
    levels['background'] = 0.0
    return levels


def paint(
    anatomy: Anatomy, levels: Mapping[str, float], rim: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Mix the tissues of an anatomy.

    Args:
        anatomy: Fractions, (tissues, i, j, k).
        levels: Intensity of every tissue.
        rim: Paint what surrounds the brain as well.

    Returns:
        Image (i, j, k) float32 and cortex fraction (i, j, k) float32.
    """
    weights = np.array([levels[name] for name in TISSUES], np.float32)
    if not rim:
        weights[_INDEX['surround']] = 0
    image = np.zeros(anatomy.fractions.shape[1:], np.float32)
    for weight, fraction in zip(weights, anatomy.fractions, strict=True):
        if weight:
            image += (weight / 255) * fraction
    return image, anatomy.fractions[_INDEX['cortex']].astype(np.float32) / 255


def brain_of(anatomy: Anatomy) -> np.ndarray:
    """Brain mask (i, j, k) bool of an anatomy: where brain and CSF make up more than half."""
    fractions = anatomy.fractions
    outside = fractions[_INDEX['background']].astype(int) + fractions[_INDEX['surround']]
    return outside < 127


def _smooth_field(
    shape: tuple[int, ...], width: float, sd: float, rng: np.random.Generator
) -> np.ndarray:
    """Random field: normal values at nodes `width` voxels apart, linear between them."""
    nodes = [max(4, int(np.ceil(n / width)) + 3) for n in shape]
    coarse = rng.normal(0, sd, nodes).astype(np.float32)
    zoom = [n / m for n, m in zip(shape, nodes, strict=True)]
    return ndimage.zoom(coarse, zoom, order=1, grid_mode=True, mode='nearest')


def _crop_turned(
    anatomy: Anatomy, shape: tuple[int, int, int], voxel: float, rng: np.random.Generator
) -> tuple[Anatomy, np.ndarray]:
    """Cut a box around a random cortical voxel, its axes permuted and flipped at random.

    The box is the part of the fractions that a volume of `shape` output voxels needs; the second
    value is where, in the box, the first output voxel lies.
    """
    axes = rng.permutation(3)
    fractions = anatomy.fractions.transpose(0, *(1 + axes))
    flips = tuple(slice(None, None, rng.choice((-1, 1))) for _ in range(3))
    fractions = fractions[(slice(None), *flips)]
    cortex = np.flatnonzero(fractions[_INDEX['cortex']] > 127)
    centre = np.array(np.unravel_index(rng.choice(cortex), fractions.shape[1:]))
    extent = voxel * (np.array(shape) - 1)
    # Even a box near the border shall be filled with brain, as far as the brain reaches.
    limit = np.maximum(np.array(fractions.shape[1:]) - 1 - extent, 0)
    start = np.clip(centre - extent / 2, 0, limit)
    low = np.floor(start).astype(int)
    high = np.ceil(start + extent).astype(int) + 2
    box = fractions[(slice(None), *(slice(a, b) for a, b in zip(low, high, strict=True)))]
    return Anatomy(anatomy.name, anatomy.labelling, box), start - low


def acquire(
    truth: np.ndarray,
    brain: np.ndarray,
    ratio: float,
    thickness: float,
    noise: float,
    rician: bool,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Simulate thick slices along the last axis, interpolate them back and strip the skull.

    Args:
        truth: Fine image (i, j, k), voxels of one unit.
        brain: Fine brain mask.
        ratio: Slice distance in voxels.
        thickness: Full width at half maximum of the slice profile in voxels.
        noise: Standard deviation of the noise in the slices, in intensity units.
        rician: Rician noise instead of Gaussian.
        rng: Source of random numbers.

    Returns:
        On the grid of `truth`: float32 image, 0 outside the brain, and the brain mask that
        follows from a mask of the thick slices, as it does in the workflow.
    """
    affine = np.eye(4)
    slices = thick_slice_grid(truth.shape, affine, ratio, axis=2)
    low = degrade(truth, affine, slices, thickness)
    if noise > 0:
        real = low + rng.normal(0, noise, low.shape)
        low = np.hypot(real, rng.normal(0, noise, low.shape)) if rician else real
    low_brain = degrade(brain, affine, slices) > 0.5
    i, j, k = truth.shape
    grid = Grid((i, j, k), affine)
    inside = resample(low_brain, slices.affine, grid, order=1) >= 0.5
    return np.where(inside, resample(low, slices.affine, grid), np.float32(0)), inside


def make_sample(
    anatomy: Anatomy,
    shape: tuple[int, int, int],
    recipe: Recipe,
    rng: np.random.Generator,
    contrast: str | None = None,
) -> Sample:
    """Make one training volume.

    Args:
        anatomy: The subject.
        shape: Voxels of the volume, slice axis last.
        recipe: What is drawn at random.
        rng: Source of random numbers; the same state gives the same sample.
        contrast: Key of CONTRASTS, taken without jitter; drawn from the recipe when None.

    Returns:
        The sample, in arbitrary intensity units of about one.
    """
    appearance, acquisition = recipe.appearance, recipe.acquisition
    voxel = rng.uniform(*appearance.voxel)
    ratio = rng.uniform(*acquisition.ratio)
    if rng.random() < 0.5:
        ratio = acquisition.usual_ratio
    # Interpolation near the ends of the stack is worse than inside it: make more, cut it off.
    margin = int(np.ceil(2 * ratio))
    full = (shape[0], shape[1], shape[2] + 2 * margin)

    box, offset = _crop_turned(anatomy, full, voxel, rng)
    levels = CONTRASTS[contrast] if contrast else draw_contrast(anatomy.labelling, appearance, rng)
    loose = rng.random() < appearance.loose_share
    rim = loose or rng.random() < appearance.rim_share
    image, cortex = paint(box, levels, rim=rim)
    outside = box.fractions[_INDEX['background']].astype(np.float32)
    if not loose:
        outside += box.fractions[_INDEX['surround']]
    scale = np.diag(np.full(3, voxel))
    truth, cortex, outside = (
        ndimage.affine_transform(a, scale, offset, full, order=1) for a in (image, cortex, outside)
    )
    truth *= 1 + _smooth_field(full, 4, rng.uniform(*appearance.texture), rng)
    truth *= np.exp(_smooth_field(full, 60, rng.uniform(*appearance.bias), rng))

    noise = rng.uniform(*acquisition.noise) * float(truth.max())
    thickness = ratio * rng.uniform(1 - acquisition.gap, 1)
    rician = rng.random() < acquisition.rician_share
    interpolated, brain = acquire(truth, outside < 127, ratio, thickness, noise, rician, rng)
    inner = (slice(None), slice(None), slice(margin, margin + shape[2]))
    truth, cortex = truth * brain, cortex * brain
    return Sample(interpolated[inner], truth[inner], cortex[inner], brain[inner])
