"""Training patches, made on the fly from high-resolution volumes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from bids_segsr.exceptions import UserError
from bids_segsr.imaging.acquisition import Acquisition, Region, draw_acquisition, region_of
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.imaging.patch_size import edges
from bids_segsr.training.data.augmentation import (
    MARGIN,
    Changes,
    add_artefacts,
    add_noise,
    change_contrast,
    deform,
    draw_changes,
)
from bids_segsr.training.data.subjects import Split, Subject
from bids_segsr.training.data.suitability import check_image, check_numbers, patch_in_image
from bids_segsr.training.data.volumes import StoredVolume, SubjectVolumes, store_subject
from bids_segsr.training.data_tables import Augmentation, Sampling
from bids_segsr.training.recipe import Recipe

TRIES = 50
"""Positions that are drawn until a patch holds enough foreground."""

VALIDATION_FOREGROUND = 0.1
"""Least share of foreground of a validation patch: scores of empty ones mean nothing."""


class Patch(TypedDict):
    """One training sample; the slices follow each other along the last axis.

    Attributes:
        image: (1 + guides, P, Q, R) float32: interpolated low-resolution image, then the guides;
            each divided by the maximum of its volume, that of the first one with the noise, or
            by its mean above 0.
        target: (C, P, Q, R) float32: channel 0 the high-resolution image in the units of `image`,
            then label channels in [0, 1].
        resolution: () float32, distance of the slices in mm.
    """

    image: Tensor
    target: Tensor
    resolution: Tensor


class PatchDataset(Dataset[Patch]):
    """Patches of the subjects of one split.

    Sample n is the same whenever, and in whatever process, it is asked for: n counts on over the
    epochs (epoch x length + number in the epoch). Only the part of the volume that a patch needs
    is read, changed, acquired and interpolated.

    Args:
        subjects: Their stored volumes.
        forward: How low-resolution images are made; None gives the high-resolution image itself.
        sampling: Where patches are cut.
        augmentation: What is changed at random.
        channels: Names of the target channels, 'intensity' first.
        labels: Channel to numbers of the label map. A channel without an entry is the background
            of the class channels (all but 'cortex').
        seed: Of everything that is drawn.
        in_order: Patches of the grid one after the other, with the same draws in every epoch:
            for validation.
        powers: Contrast of each subject, instead of one drawn for every patch.

    Attributes:
        size: Voxels of a patch along each axis of the images.
        channels: Names of the target channels.

    Raises:
        ImageError: An image is smaller than a patch, or has no label map where one is needed.
        UserError: No patch holds enough foreground.
    """

    def __init__(
        self,
        subjects: Sequence[SubjectVolumes],
        forward: ForwardModel | None,
        sampling: Sampling,
        augmentation: Augmentation,
        channels: Sequence[str],
        labels: Mapping[str, Sequence[int]],
        seed: int,
        *,
        in_order: bool = False,
        powers: Sequence[float] | None = None,
    ) -> None:
        self.subjects = tuple(subjects)
        self.forward = forward
        self.sampling = sampling
        self.augmentation = augmentation
        self.channels = tuple(channels)
        self.labels = {name: tuple(numbers) for name, numbers in labels.items()}
        self.seed = seed
        self.in_order = in_order
        self.powers = powers
        self.size = patch_in_image(sampling.patch_size, forward)
        self.on_device = False
        for subject in subjects:
            check_image(
                subject.image.source,
                subject.image.shape,
                subject.label is not None,
                self.size,
                self.channels,
            )
        by_grid = in_order or sampling.mode == 'grid'
        self.positions = [
            (number, start)
            for number, subject in enumerate(subjects)
            for start in self._grid(subject, sampling.foreground if by_grid else 0.0)
        ]
        if not self.positions:
            raise UserError(
                f'{subjects[0].image.source}: no patch holds the share of foreground that '
                f'sampling.foreground asks for ({sampling.foreground:g}); give less.'
            )

    def __len__(self) -> int:
        """Patches of an epoch."""
        wanted = None if self.in_order else self.sampling.patches_per_epoch
        return wanted or len(self.positions)

    def __getitem__(self, index: int) -> Patch:
        """Make a sample.

        Args:
            index: Number of the sample since the beginning of the training.

        Returns:
            The patch.
        """
        index = index % len(self) if self.in_order else index
        rng = np.random.default_rng([self.seed, index])
        number, start = self._position(index, rng)
        subject = self.subjects[number]
        changes = draw_changes(self.augmentation, rng)
        if self.powers is not None:
            changes = replace(changes, power=self.powers[number])
        acquisition = self._acquisition(subject, rng)
        image, target = self._simulate(subject, start, acquisition, changes, rng)
        if self.forward is not None:
            last = self.forward.last_axis + 1
            image, target = (np.moveaxis(part, last, -1) for part in (image, target))
        flipped = [axis + 1 for axis in changes.flipped]
        image, target = (np.ascontiguousarray(np.flip(part, flipped)) for part in (image, target))
        return Patch(
            image=torch.from_numpy(image),
            target=torch.from_numpy(target),
            resolution=torch.tensor(acquisition.resolution, dtype=torch.float32),
        )

    def _acquisition(self, subject: SubjectVolumes, rng: np.random.Generator) -> Acquisition:
        spacing = subject.image.spacing
        if self.forward is None:
            return Acquisition('isotropic', spacing)
        return draw_acquisition(self.forward, spacing, rng)

    def _simulate(
        self,
        subject: SubjectVolumes,
        start: tuple[int, ...],
        acquisition: Acquisition,
        changes: Changes,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:
        volume = subject.image
        region = region_of(volume.shape, volume.spacing, acquisition, start, self.size)
        images, labels = self._read(subject, region, changes, rng)
        low = change_contrast(changes, region.acquire(images[0]))
        low = add_noise(changes, low, 1.0, rng)
        low = add_artefacts(changes, low, acquisition.spacing, acquisition.axis, rng)
        inner = (slice(None), *region.inner)
        high, guides, labels = images[:1][inner], images[1:][inner], labels[inner]
        level = np.float32(subject.level)
        image = np.concatenate([region.interpolate(low)[None] / level, guides])
        target = np.concatenate([change_contrast(changes, high) / level, labels])
        return image.astype(np.float32, copy=False), target

    def _read(
        self,
        subject: SubjectVolumes,
        region: Region,
        changes: Changes,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read the source of a region, its shape and bias field changed."""
        start = np.array([part.start for part in region.source])
        stop = np.array([part.stop for part in region.source])
        margin = np.ceil(MARGIN * (stop - start)).astype(int) * bool(changes.shape)
        start, stop = start - margin, stop + margin
        volumes: list[tuple[StoredVolume, float]] = [
            (subject.image, subject.scale),
            *zip(subject.guides, subject.guide_scales, strict=True),
        ]
        images = np.stack([volume.read(start, stop) / np.float32(s) for volume, s in volumes])
        if len(self.channels) > 1 and subject.label is not None:
            labels = self._label_channels(subject.label.read(start, stop))
        else:
            labels = np.empty((0, *images.shape[1:]), dtype=np.float32)
        images, labels = deform(changes, images, labels, subject.image.spacing, rng)
        kept = (slice(None), *(slice(m, n - m) for m, n in zip(margin, stop - start, strict=True)))
        return images[kept], labels[kept]

    def _label_channels(self, numbers: np.ndarray) -> np.ndarray:
        shares = np.zeros((len(self.channels) - 1, *numbers.shape), dtype=np.float32)
        others = np.zeros(numbers.shape, dtype=bool)
        for share, channel in zip(shares, self.channels[1:], strict=True):
            inside = np.isin(numbers, self.labels.get(channel, ()))
            share[inside] = 1
            if channel != 'cortex':
                others |= inside
        for share, channel in zip(shares, self.channels[1:], strict=True):
            if channel not in self.labels:
                share[~others] = 1
        return shares

    def _position(self, index: int, rng: np.random.Generator) -> tuple[int, tuple[int, int, int]]:
        if self.in_order:
            return self.positions[index]
        if self.sampling.mode == 'grid':
            return self.positions[self._turn(index, len(self.positions))]
        number = self._turn(index, len(self.subjects))
        subject = self.subjects[number]
        box = self._box(subject)
        best, most = (0, 0, 0), -1.0
        for _ in range(TRIES):
            i, j, k = (int(rng.integers(low, high + 1)) for low, high in box)
            share = self._foreground(subject, (i, j, k)) if self.sampling.foreground else 1.0
            if share > most:
                best, most = (i, j, k), share
            if share >= self.sampling.foreground:
                break
        return number, best

    def _turn(self, index: int, total: int) -> int:
        """Return the element of an endless series of shuffled rounds through all of them."""
        number, place = divmod(index, total)
        return int(_shuffled(self.seed, number, total)[place])

    def _box(self, subject: SubjectVolumes) -> list[tuple[int, int]]:
        """First and last start of a patch along each axis, within the foreground if it fits."""
        limits = []
        whole = zip(subject.image.shape, subject.foreground.foreground, self.size, strict=True)
        for n, part, edge in whole:
            last = part.stop - edge
            if last < part.start:
                middle = (part.start + part.stop - edge) // 2
                middle = min(max(middle, 0), n - edge)
                limits.append((middle, middle))
            else:
                limits.append((part.start, last))
        return limits

    def _grid(self, subject: SubjectVolumes, foreground: float) -> list[tuple[int, int, int]]:
        steps = (range(low, high + 1, self.sampling.stride) for low, high in self._box(subject))
        starts = [(i, j, k) for i, j, k in itertools.product(*steps)]
        if not foreground:
            return starts
        return [start for start in starts if self._foreground(subject, start) >= foreground]

    def _foreground(self, subject: SubjectVolumes, start: tuple[int, int, int]) -> float:
        box = tuple(slice(n, n + edge) for n, edge in zip(start, self.size, strict=True))
        return float((subject.foreground.open()[box] > 0).mean())


@lru_cache(maxsize=8)
def _shuffled(seed: int, number: int, total: int) -> np.ndarray:
    return np.random.default_rng([seed, number, total]).permutation(total)


def make_dataset(
    recipe: Recipe, subjects: Sequence[Subject], split: Split, seed: int, cache: Path
) -> PatchDataset:
    """Make the patches of one split of a list of subjects.

    Training patches follow the recipe. Validation and test patches are those of the grid with
    some foreground, one after the other; of the augmentation they have what
    `Validation.augmented` says.

    Args:
        recipe: What to make.
        subjects: The list, checked by `subjects.check_subjects`.
        split: Which part of it.
        seed: Of everything that is drawn.
        cache: Folder for the decompressed volumes.

    Returns:
        The dataset.

    Raises:
        UserError: No subject of this split, no label map of the training subjects has the numbers
            of a channel, or see `store_subject` and `PatchDataset`.
    """
    trained = split == 'validation' and recipe.validation.subjects == 'trained'
    chosen = [s for s in subjects if s.split == ('train' if trained else split)]
    if not chosen:
        raise UserError(f'no subject of the split {split!r} in the training data; add one.')
    task, sampling = recipe.task, recipe.sampling
    forward = None if task.input == 'high-resolution' else recipe.forward
    augmentation, powers = recipe.augmentation, None
    if split != 'train':
        augmentation = Augmentation()
        if recipe.validation.augmented:
            contrast = recipe.augmentation.contrast_power
            augmentation = Augmentation(noise=recipe.augmentation.noise)
            powers = np.linspace(1 - contrast, 1 + contrast, len(chosen)).tolist()
        stride = sampling.stride if sampling.mode == 'grid' else min(edges(sampling.patch_size))
        share = max(sampling.foreground, VALIDATION_FOREGROUND)
        sampling = replace(sampling, mode='grid', stride=stride, foreground=share)
    volumes = [
        store_subject(subject, cache, forward, augmentation.noise, sampling.normalisation)
        for subject in chosen
    ]
    dataset = PatchDataset(
        volumes,
        forward,
        sampling,
        augmentation,
        task.channels,
        task.labels,
        seed,
        in_order=split != 'train',
        powers=powers,
    )
    if split == 'train' and len(task.channels) > 1:
        check_numbers(volumes, recipe)
    return dataset
