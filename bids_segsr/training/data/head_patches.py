"""Training patches of whole heads, or of what lies beside a brain: for finding brains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
import torch
from torch.utils.data import Dataset

from bids_segsr.files import complete
from bids_segsr.imaging.components import bounding_box
from bids_segsr.imaging.conform import spacing_of
from bids_segsr.imaging.patch_size import edges
from bids_segsr.inference.brain_extraction import FAR
from bids_segsr.networks.standardise import volume_scale
from bids_segsr.simulation.heads import Head, make_head, read_head, read_scan
from bids_segsr.simulation.tables import MASKED
from bids_segsr.training.data.label_maps import (
    LabelMap,
    LabelMapOrder,
    cache_key,
    find_label_maps,
)
from bids_segsr.training.data.patches import Patch
from bids_segsr.training.data_tables import HEAD_CHANNELS, Heads, Sampling
from bids_segsr.training.recipe import Recipe

SHORT_SHARE = 0.4
"""Least share of a patch that the shortest axis of the field of view fills: a stack of slices."""

TIGHT_SHARE = 0.8
"""The same of the two others: a head that fills the image."""

SHORT_MM = 55.0
"""Length of the shortest axis of the field of view of a fetus, scanned in few slices of its
mother's body; where it is less than SHORT_SHARE of a patch."""

FAR_SHARE = 0.35
"""Share of the samples that show the head from afar."""

FILLED_SHARE = 0.7
"""Share of the close looks that fill the patch: then there is a box around the brain, cut out of
more."""

BESIDE_SHARE = {'painted': 0.04, 'real': 0.15}
"""Share of the samples whose field of view ends before the brain: of label maps, of real scans."""

LEAST_SIGNAL = 0.3
"""Bright intensities of such a field of view over the mean of the brain: more than air."""

LEAST_BESIDE = 16
"""Voxels along each axis of a field of view without the brain."""

OFFSETS_MM = {'near': 12.0, 'far': 35.0}
"""Standard deviation of the distance of the brain from the middle, each axis."""


@dataclass(frozen=True)
class StoredHead:
    """A head in the cache.

    Attributes:
        file: NumPy file, (2, i, j, k) uint8: regions and brain.
        labelling: Key of LABELLINGS, or one of MASKED.
        spacing: Of its voxels along each axis, mm.
        share: Its share of the samples.
        scan: NumPy file of a real image, (i, j, k) float32, or None.
    """

    file: Path
    labelling: str
    spacing: tuple[float, float, float]
    share: float
    scan: Path | None = None

    def open(self) -> Head:
        """Return the head, its voxels mapped into memory."""
        regions, brain = np.load(self.file, mmap_mode='r')
        image = None if self.scan is None else np.load(self.scan, mmap_mode='r')
        return Head(self.file.name, self.labelling, regions, brain.view(bool), self.spacing, image)


class HeadDataset(Dataset[Patch]):
    """Patches of heads made from label maps, and of real ones.

    Sample n is the same whenever, and in whatever process, it is asked for. Some of them show the
    head from afar, as `predict_brain_mask` looks first. A field of view seldom is a cube: where it
    ends inside of the patch, all is 0.

    Args:
        heads: What they are made from.
        spacing_mm: Of the voxels.
        sampling: Patch size, length of an epoch, normalisation.
        seed: Of everything that is drawn.
        in_order: Few fixed patches of every head: for validation.

    Attributes:
        edge: Of the patches in voxels.
        channels: Names of the target channels.
    """

    channels: tuple[str, ...] = HEAD_CHANNELS
    on_device = False

    def __init__(
        self,
        heads: Sequence[StoredHead],
        spacing_mm: float,
        sampling: Sampling,
        seed: int,
        *,
        in_order: bool = False,
    ) -> None:
        self.heads = tuple(heads)
        self.spacing_mm = spacing_mm
        self.sampling = sampling
        self.seed = seed
        self.in_order = in_order
        self.edge = max(edges(sampling.patch_size))
        self.order = LabelMapOrder([head.share for head in heads], sampling, in_order=in_order)

    def __len__(self) -> int:
        """Patches of an epoch."""
        return len(self.order)

    def __getitem__(self, index: int) -> Patch:
        """Make a sample.

        Args:
            index: Number of the sample since the beginning of the training.

        Returns:
            The patch; the target intensity is that of the image itself.
        """
        if self.in_order:
            index %= len(self)
        rng = np.random.default_rng([self.seed, index])
        number = self.order.label_map(index, rng)
        far = rng.random() < FAR_SHARE
        head = self.heads[number].open()
        spacing = self.spacing_mm * (FAR if far else 1)
        shape = (self.edge,) * 3
        if far or rng.random() >= FILLED_SHARE:
            shortest = SHORT_SHARE
            if head.fetal:
                shortest = min(shortest, SHORT_MM / (self.edge * spacing))
            shape = _draw_field_of_view(self.edge, shortest, rng)
        image, brain, distance = make_head(
            head,
            shape,
            spacing,
            OFFSETS_MM['far' if far else 'near'],
            rng,
        )
        if rng.random() < BESIDE_SHARE['painted' if head.image is None else 'real']:
            image, brain = _look_beside(image, brain, rng)
        image /= volume_scale(image, self.sampling.normalisation)
        image, brain = _fill_patch(image, brain, self.edge, rng)
        return Patch(
            image=torch.from_numpy(image)[None],
            target=torch.from_numpy(np.stack([image, brain.astype(np.float32)])),
            resolution=torch.tensor(distance, dtype=torch.float32),
        )


def make_head_dataset(
    recipe: Recipe, folder: Path, split: Literal['train', 'validation'], seed: int, cache: Path
) -> HeadDataset:
    """Make the patches of a folder of label maps and scans with masks.

    Args:
        recipe: What to make; without a table [heads] with its defaults.
        folder: Holds the label maps.
        split: Maps to train on, or to follow the training.
        seed: Of everything that is drawn.
        cache: Folder for the regions of the heads.

    Returns:
        The dataset.

    Raises:
        UserError: No label maps.
        ImageError: A label map or a mask cannot be read or holds no brain, or a scan has another
            grid than its mask.
    """
    settings = recipe.heads or Heads()
    chosen = find_label_maps(settings, folder, 'heads')[split]
    heads = [_store(label_map, cache) for label_map in chosen]
    return HeadDataset(
        heads, settings.spacing_mm, recipe.sampling, seed, in_order=split == 'validation'
    )


def _store(label_map: LabelMap, cache: Path) -> StoredHead:
    """Read a label map, or a scan and its mask, and keep the voxels in the cache."""
    source, path = label_map.source, label_map.path
    key = cache_key(label_map, 'heads')
    file, scan = cache / f'head-{key}.npy', cache / f'scan-of-head-{key}.npy'
    if not file.exists():
        if label_map.image is not None:
            head = read_scan(path, label_map.image, source.labelling)
        else:
            numbers: Mapping[str, Sequence[int]] | None = source.table or None
            head = read_head(path, source.labelling, numbers)
        voxels = np.stack([head.regions, head.brain.astype(np.uint8)])
        if head.image is not None:
            with complete(scan) as part:
                np.save(part, head.image)
        with complete(file) as part:
            np.save(part, voxels)
    spacing = spacing_of(nib.as_closest_canonical(nib.load(path)).affine)
    real = scan if source.labelling in MASKED else None
    return StoredHead(file, source.labelling, spacing, label_map.share, real)


def _draw_field_of_view(
    edge: int, shortest: float, rng: np.random.Generator
) -> tuple[int, int, int]:
    """Draw how many voxels of a patch lie in the field of view along each axis."""
    shares = rng.uniform(TIGHT_SHARE, 1, 3)
    shares[rng.integers(3)] = rng.uniform(shortest, 1)
    i, j, k = (max(1, round(edge * share)) for share in shares)
    return i, j, k


def _look_beside(
    image: np.ndarray, brain: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Cut what lies on one side of the brain, if there is enough of it and something to see."""
    if not brain.any():
        return image, brain
    least = LEAST_SIGNAL * float(image[brain].mean())
    box = bounding_box(brain)
    sides = []
    for axis, (inside, edge) in enumerate(zip(box, image.shape, strict=True)):
        for side in (slice(0, inside.start), slice(inside.stop, edge)):
            cut = tuple(side if other == axis else slice(None) for other in range(3))
            long_enough = side.stop - side.start >= LEAST_BESIDE
            if long_enough and np.percentile(image[cut], 90) > least:
                sides.append(cut)
    if not sides:
        return image, brain
    chosen = sides[int(rng.integers(len(sides)))]
    return image[chosen], brain[chosen]


def _fill_patch(
    image: np.ndarray, brain: np.ndarray, edge: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Lay a field of view somewhere in a patch."""
    before = [int(rng.integers(edge - n + 1)) for n in image.shape]
    pads = [(a, edge - n - a) for a, n in zip(before, image.shape, strict=True)]
    return np.pad(image, pads), np.pad(brain, pads)
