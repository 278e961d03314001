"""Volumes that are read in parts: each is decompressed once and mapped into memory from then on.

The cache holds one file a volume and no patches: it is as large as the images are uncompressed.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.files import complete, write_text
from bids_segsr.imaging.acquisition import (
    Acquisition,
    acquire,
    draw_acquisition,
    interpolate,
)
from bids_segsr.imaging.conform import spacing_of, to_canonical
from bids_segsr.imaging.degrade import ForwardModel, with_noise
from bids_segsr.imaging.nifti import image_stem
from bids_segsr.imaging.volume import load_fine, load_map
from bids_segsr.networks.standardise import volume_scale
from bids_segsr.training.data.subjects import Subject
from bids_segsr.training.data_tables import NORMALISATIONS

FORMAT = 4
"""Of the cache; another number leaves old files alone."""

NOISE_DRAWS = 4
"""Of which the mean maximum of a noisy image is taken; it varies by some percent."""

ELSEWHERE = 'choose another folder for decompressed volumes (--cache)'

logger = logging.getLogger(__name__)

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class StoredVolume:
    """A volume in the cache, its axes canonical (closest to right, anterior, superior).

    Attributes:
        source: The image file.
        path: The array file (.npy); integers stay integers.
        shape: Voxels along each axis.
        affine: Voxel to RAS+ mm (4 x 4).
        foreground: Bounding box of the voxels above 0.
        maximum: Largest value.
        mean: Of the voxels above 0.
        numbers: Of a label map: those that it holds.
    """

    source: Path
    path: Path
    shape: tuple[int, int, int]
    affine: np.ndarray
    foreground: Box
    maximum: float
    mean: float
    numbers: tuple[int, ...] = ()

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in mm between voxel centres along each array axis."""
        return spacing_of(self.affine)

    def open(self) -> np.ndarray:
        """Map the array into memory, read-only; nothing is kept open, so that workers may."""
        array: np.ndarray = np.load(self.path, mmap_mode='r')
        return array

    def read(self, start: Sequence[int], stop: Sequence[int]) -> np.ndarray:
        """Read a box as float32; outside of the volume the outermost voxels go on.

        Args:
            start: First voxel along each axis, may be negative.
            stop: One past the last voxel.

        Returns:
            Array of shape `stop - start`.
        """
        limits = list(zip(start, stop, self.shape, strict=True))
        inside = tuple(slice(max(a, 0), min(b, n)) for a, b, n in limits)
        data = np.asarray(self.open()[inside], dtype=np.float32)
        padding = [(max(-a, 0), max(b - n, 0)) for a, b, n in limits]
        return np.pad(data, padding, mode='edge') if np.any(padding) else data


def store_volume(path: Path, cache: Path, kind: Literal['image', 'label']) -> StoredVolume:
    """Bring a volume into the cache, or find it there.

    Several processes may do this at once: a file appears complete or not at all.

    Args:
        path: NIfTI file of any orientation.
        cache: Folder; made.
        kind: A label map must hold whole numbers and may be constant.

    Returns:
        The stored volume. A file that changes (size or time) is stored anew.

    Raises:
        ImageError: The file cannot be read or does not hold what it should.
        UserError: The cache cannot be written.
    """
    status = _status(path)
    text = f'{path.resolve()}|{status}|{kind}|{FORMAT}'
    stem = image_stem(path)
    name = f'{stem}-{hashlib.sha256(text.encode()).hexdigest()[:16]}'
    array, about = cache / f'{name}.npy', cache / f'{name}.json'
    if not (array.is_file() and about.is_file()):
        data, affine = _load(path, kind)
        found = np.nonzero(data > 0)
        box = [[int(a.min()), int(a.max()) + 1] if a.size else [0, 0] for a in found]
        facts = {
            'affine': affine.tolist(),
            'foreground': box,
            'maximum': float(data.max()),
            'mean': volume_scale(data, 'volume-mean'),
            'numbers': np.unique(data).tolist() if kind == 'label' else [],
        }
        with complete(array, ELSEWHERE) as part:
            np.save(part, data)
        _write_facts(about, facts)
    facts = json.loads(about.read_text(encoding='utf-8'))
    i, j, k = np.load(array, mmap_mode='r').shape
    x, y, z = (slice(*limits) for limits in facts['foreground'])
    affine = np.array(facts['affine'])
    numbers = tuple(facts['numbers'])
    return StoredVolume(
        path, array, (i, j, k), affine, (x, y, z), facts['maximum'], facts['mean'], numbers
    )


@dataclass(frozen=True)
class SubjectVolumes:
    """The stored volumes of a subject.

    Attributes:
        name: Of the subject.
        image: High-resolution image.
        label: Label map, or None.
        mask: Brain mask or class mask, or None.
        guides: Images of other contrasts.
        scale: Maximum of the low-resolution image without noise, by which intensities are divided
            when they are read; noise is a share of it.
        level: What a prediction divides the interpolated image with the noise by, as a share of
            `scale`; in a training that standardises patches, its maximum.
        guide_scales: What the guides are divided by.
    """

    name: str
    image: StoredVolume
    label: StoredVolume | None
    mask: StoredVolume | None
    guides: tuple[StoredVolume, ...]
    scale: float
    level: float
    guide_scales: tuple[float, ...] = ()

    @property
    def foreground(self) -> StoredVolume:
        """The volume that is above 0 where patches are wanted: the mask, else the image."""
        return self.mask or self.image


def store_subject(
    subject: Subject,
    cache: Path,
    forward: ForwardModel | None,
    noise: float = 0.0,
    normalisation: str = 'volume-max',
) -> SubjectVolumes:
    """Bring all volumes of a subject into the cache.

    Args:
        subject: The subject, with an image.
        cache: Folder; made.
        forward: Model whose image at the middle of its ranges gives the scale; None takes the
            high-resolution image itself.
        noise: Standard deviation of the noise, as a share of the maximum, with which the level is
            estimated.
        normalisation: As in `Sampling`.

    Returns:
        The volumes.

    Raises:
        UserError: There is no image, or no signal in it.
        ImageError: A file cannot be read.
    """
    if subject.image is None:
        raise UserError(f'subject {subject.name}: no high-resolution image to train on.')
    image = store_volume(subject.image, cache, 'image')
    scale, level = _scale_and_level(image, forward, noise, normalisation)
    guides = tuple(store_volume(path, cache, 'image') for path in subject.guides)
    volumes = SubjectVolumes(
        name=subject.name,
        image=image,
        label=store_volume(subject.label, cache, 'label') if subject.label else None,
        mask=store_volume(subject.mask, cache, 'label') if subject.mask else None,
        guides=guides,
        scale=scale,
        level=level,
        guide_scales=tuple(_own_scale(guide, normalisation) for guide in guides),
    )
    if scale <= 0 or volumes.foreground.foreground[0].stop == 0:
        raise ImageError(f'{volumes.foreground.source}: no voxel is above 0.')
    return volumes


def _own_scale(volume: StoredVolume, normalisation: str) -> float:
    if normalisation == 'volume-mean':
        return volume.mean
    if normalisation in NORMALISATIONS:
        return volume.maximum
    return volume_scale(np.asarray(volume.open(), np.float32), normalisation)


def _scale_and_level(
    image: StoredVolume, forward: ForwardModel | None, noise: float, normalisation: str
) -> tuple[float, float]:
    """Return the maximum of the low-resolution image, and the level; see `SubjectVolumes`."""
    try:
        acquisition = (
            Acquisition('isotropic', image.spacing)
            if forward is None
            else draw_acquisition(forward, image.spacing, None)
        )
        text = f'{acquisition!r}|{noise!r}'
        if normalisation not in NORMALISATIONS:
            text += f'|{normalisation}'
        key = hashlib.sha256(text.encode()).hexdigest()[:12]
        about = image.path.with_name(f'{image.path.stem}-{key}.json')
        if not about.is_file():
            low, _ = acquire(np.asarray(image.open(), np.float32), image.affine, acquisition)
            scale = float(low.max())
            rng = np.random.default_rng(0)
            tops = []
            for _ in range(NOISE_DRAWS if noise else 1):
                noisy = with_noise(low, noise * scale, rng)
                fine = interpolate(noisy, image.shape, image.affine, acquisition)
                tops.append(
                    float(fine.max())
                    if normalisation in NORMALISATIONS
                    else volume_scale(fine, normalisation)
                )
            level = float(np.mean(tops)) / scale if scale > 0 else 1.0
            _write_facts(about, {'scale': scale, 'level': level})
    except UserError as error:
        raise UserError(f'{image.source}: {error}') from None
    facts = json.loads(about.read_text(encoding='utf-8'))
    if normalisation == 'volume-mean' and facts['scale'] > 0:
        # Slices leave the mean of a brain as it is, so that the fine image tells it.
        return facts['scale'], image.mean / facts['scale']
    return facts['scale'], facts['level']


def _status(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        raise ImageError(f'{path}: no such file; check the path.') from None
    return f'{status.st_size}|{status.st_mtime_ns}'


def _load(path: Path, kind: str) -> tuple[np.ndarray, np.ndarray]:
    volume = load_fine(path) if kind == 'image' else load_map(path)
    for warning in volume.warnings:
        logger.warning('%s: %s', path, warning)
    data, affine = to_canonical(volume.data, volume.affine)
    whole = np.rint(data)
    if kind == 'label' and not (np.isfinite(data).all() and np.abs(data - whole).max() < 1e-3):
        raise ImageError(f'{path}: not a label map (values that are no whole numbers).')
    if kind == 'label' or np.array_equal(data, whole):
        types = (np.uint8, np.int16, np.int32)
        low, high = float(whole.min()), float(whole.max())
        for dtype in types:
            limits = np.iinfo(dtype)
            if limits.min <= low and high <= limits.max:
                return np.ascontiguousarray(whole, dtype=dtype), affine
    return np.ascontiguousarray(data, dtype=np.float32), affine


def _write_facts(path: Path, facts: dict[str, Any]) -> None:
    write_text(path, json.dumps(facts))
