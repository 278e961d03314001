"""The images that models are tried on: true image, simulated scan, interpolated scan."""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.ndimage import binary_fill_holes

from bids_segsr.exceptions import ImageError
from bids_segsr.imaging.acquisition import Acquisition, acquire, draw_acquisition, interpolate
from bids_segsr.imaging.back_projection import Slices
from bids_segsr.imaging.conform import spacing_of, to_canonical
from bids_segsr.imaging.degrade import ForwardModel, with_noise
from bids_segsr.imaging.resample import Grid, resample_mask
from bids_segsr.imaging.volume import Volume, load_fine, load_map, load_mask
from bids_segsr.training.data.subjects import Subject, check_subjects
from bids_segsr.zoo.card import ModelCard
from bids_segsr.zoo.feeding import interpolated, shown

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Imaging:
    """How a low-resolution image is made for a test.

    Attributes:
        forward: The forward model; ranges are drawn from, anew for every subject.
        noise: Standard deviation of the Gaussian noise added to the low-resolution image, in the
            units of the image, or of its maximum with `relative_noise`.
        relative_noise: Whether `noise` is a share of the maximum.
        contrast: Power that the intensities of the true image are raised to first, its maximum
            kept (SegSRGAN 2020, section 4.4.3: square and square root).
    """

    forward: ForwardModel
    noise: float = 0.0
    relative_noise: bool = False
    contrast: float = 1.0


@dataclass(frozen=True)
class Reference:
    """A true image and its segmentation, array axes closest to RAS+.

    Attributes:
        name: Of the subject.
        image: (i, j, k) float32.
        affine: Voxel to RAS+ mm (4 x 4).
        brain: Boolean array: what is scored.
        structures: Name to boolean array.
        guides: Images of other contrasts, (i, j, k) float32, for the models that need them.
    """

    name: str
    image: np.ndarray
    affine: np.ndarray
    brain: np.ndarray
    structures: dict[str, np.ndarray]
    guides: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True)
class Case:
    """A simulated scan on the grid of its true image.

    Attributes:
        reference: The truth; its image has the contrast that was asked for.
        interpolated: The scan, interpolated by cubic splines, 0 outside `seen`.
        seen: Boolean array: brain mask of the scan, as the workflow brings it to the fine grid.
        inside: Boolean array: where results are scored, the brain of the truth that the scan
            covers and its mask holds.
        slices: The scan, and how it lies.
        sliced: Whether it has slices.
        acquisition: How it was made.
        resolution: Distance of the slices in mm.
        thickness: Of the slices in mm; the coarsest spacing where the forward model has none.
        across: Array axis whose slices show the axes that lost most; slice-wise scores run along
            it.
        seconds: Wall clock time of the interpolation.
        cpu_seconds: Processor time of the interpolation.
    """

    reference: Reference
    interpolated: np.ndarray
    seen: np.ndarray
    inside: np.ndarray
    slices: Slices
    sliced: bool
    acquisition: Acquisition
    resolution: float
    thickness: float
    across: int
    seconds: float
    cpu_seconds: float

    def fed(self, card: ModelCard) -> np.ndarray:
        """Return the scan as a network sees it: interpolated and masked as its card says."""
        image = interpolated(card, self.slices, self.seen, self.acquisition)
        return np.where(shown(card, self.seen), image, np.float32(0))

    def interpolated_by(self, kind: Literal['nearest', 'bicubic']) -> np.ndarray:
        """Return the scan interpolated otherwise than by splines, 0 outside `seen`."""
        how = replace(self.acquisition, interpolation=kind)
        reference = self.reference
        image = interpolate(self.slices.data, reference.image.shape, reference.affine, how)
        return np.where(self.seen, image, np.float32(0))


def load_reference(subject: Subject, labels: Mapping[str, tuple[int, ...]]) -> Reference:
    """Read a subject's true image, labels, mask and guides.

    Args:
        subject: Files on one grid.
        labels: Structure to its numbers in the label image.

    Returns:
        All of it in the axis order closest to RAS+, nothing interpolated. Without a mask, the
        brain is where the image is above zero, holes filled. Without a label image, there are no
        structures.

    Raises:
        ImageError: A file is missing, cannot be used or lies on another grid.
    """
    if subject.image is None:
        raise ImageError(f'{subject.name}: no high-resolution image to compare with; add one.')
    check_subjects([subject], subject.image)
    volume = load_fine(subject.image)
    for warning in volume.warnings:
        logger.warning('%s: %s', subject.image, warning)
    if subject.mask is None:
        brain = binary_fill_holes(volume.data > 0)
    else:
        brain = load_mask(subject.mask, volume)
    structures = {}
    if subject.label is not None:
        values = np.rint(_canonical(load_map(subject.label).data, volume)).astype(int)
        structures = {name: np.isin(values, wanted) for name, wanted in labels.items()}
    return Reference(
        subject.name,
        _canonical(volume.data, volume),
        to_canonical(volume.data, volume.affine)[1],
        _canonical(brain, volume).astype(bool),
        structures,
        tuple(_canonical(load_fine(path).data, volume) for path in subject.guides),
    )


def make_case(reference: Reference, imaging: Imaging, seed: int) -> Case:
    """Simulate a scan of a true image and interpolate it.

    The whole image is scanned; the brain mask is applied to the interpolated scan, as in the
    workflow. What is drawn depends on the seed and the subject's name alone, so that every model
    and every level of noise meets the same scan.

    Args:
        reference: The truth.
        imaging: How it is scanned.
        seed: Of what is drawn.

    Returns:
        The case.

    Raises:
        UserError: The forward model does not suit the image.
    """
    image, affine = _with_contrast(reference.image, imaging.contrast), reference.affine
    rng = np.random.default_rng([seed, zlib.crc32(reference.name.encode())])
    acquisition = draw_acquisition(imaging.forward, spacing_of(affine), rng)
    scan, grid = acquire(image, affine, acquisition)
    level = imaging.noise * (float(scan.max()) if imaging.relative_noise else 1.0)
    scan = with_noise(scan, level, rng)

    started, cpu_started = time.perf_counter(), time.process_time()
    spline = replace(acquisition, interpolation='cubic')
    interpolated = interpolate(scan, image.shape, affine, spline)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started

    scan_brain = acquire(reference.brain.astype(np.float32), affine, acquisition)[0] > 0.5
    if not scan_brain.any():
        raise ImageError(f'{reference.name}: no brain left in the scan; use thinner slices.')
    i, j, k = image.shape
    seen = resample_mask(scan_brain, grid.affine, Grid((i, j, k), affine))
    ratios = np.array(grid.spacing) / np.array(spacing_of(affine))
    thickness = acquisition.thickness or acquisition.resolution
    return Case(
        reference=replace(reference, image=image),
        interpolated=np.where(seen, interpolated, np.float32(0)),
        seen=seen,
        inside=seen & reference.brain & _covered(image.shape, scan.shape, ratios),
        slices=Slices(scan, grid.affine, affine, thickness),
        sliced=acquisition.kind == 'thick-slices',
        acquisition=acquisition,
        resolution=acquisition.resolution,
        thickness=thickness,
        across=_across(acquisition, ratios),
        seconds=seconds,
        cpu_seconds=cpu_seconds,
    )


def _canonical(data: np.ndarray, volume: Volume) -> np.ndarray:
    return np.ascontiguousarray(to_canonical(data, volume.affine)[0])


def _with_contrast(image: np.ndarray, power: float) -> np.ndarray:
    if power == 1:
        return image
    peak = float(np.abs(image).max())
    return (peak * np.sign(image) * np.abs(image / peak) ** power).astype(np.float32)


def _covered(
    shape: tuple[int, ...], scan_shape: tuple[int, ...], ratios: np.ndarray
) -> np.ndarray:
    """Fine voxels that lie wholly in the field of view of the scan, which has the same centre."""
    covered = np.ones(shape, dtype=bool)
    for axis, (n, samples, ratio) in enumerate(zip(shape, scan_shape, ratios, strict=True)):
        line = np.abs(np.arange(n) - (n - 1) / 2) + 0.5 <= samples * ratio / 2 + 0.01
        covered &= np.moveaxis(line[:, None, None], 0, axis)
    return covered


def _across(acquisition: Acquisition, ratios: np.ndarray) -> int:
    """Axis that lost least; among equals, never that of the slices."""
    others = [axis for axis in range(3) if axis != acquisition.axis]
    return min((*others, acquisition.axis), key=lambda axis: round(float(ratios[axis]), 3))
