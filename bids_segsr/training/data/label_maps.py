"""The label maps that training images are made from: which there are, and which is taken when."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from nibabel import load as load_header

from bids_segsr import imaging, simulation
from bids_segsr.exceptions import UserError
from bids_segsr.imaging.conform import spacing_of
from bids_segsr.training.data_tables import Heads, LabelMaps, LabelSource, Sampling

EPOCH = 1000
"""Patches of an epoch where the recipe does not say."""

VALIDATION_VOLUMES = 4
"""Fixed patches of every map that the training is followed on."""

VALIDATION_SHARE = 0.1
"""Share of the maps for that, where the recipe names none."""


@dataclass(frozen=True)
class LabelMap:
    """A label map on disk.

    Attributes:
        path: NIfTI file.
        source: Its kind.
        share: Its share of the samples.
        spacing: Its finest spacing in mm.
        image: Real image on its grid, or None.
    """

    path: Path
    source: LabelSource
    share: float
    spacing: float
    image: Path | None = None


class LabelMapOrder:
    """Which label map each sample is made from, and how many samples an epoch has.

    Args:
        shares: Of the samples, one of each label map.
        sampling: Length of an epoch.
        in_order: Few fixed samples of every label map, one after the other: for validation.
    """

    def __init__(self, shares: Sequence[float], sampling: Sampling, *, in_order: bool) -> None:
        self.shares = np.array(shares) / np.sum(shares)
        self._in_order = in_order
        self._length = sampling.patches_per_epoch or EPOCH

    def __len__(self) -> int:
        """Samples of an epoch."""
        return VALIDATION_VOLUMES * len(self.shares) if self._in_order else self._length

    def label_map(self, number: int, rng: np.random.Generator) -> int:
        """Return the index of the label map of a sample.

        Args:
            number: Of the sample.
            rng: What it is drawn by, where they do not come in order.
        """
        if self._in_order:
            return number // VALIDATION_VOLUMES
        return int(rng.choice(len(self.shares), p=self.shares))


def find_label_maps(
    settings: LabelMaps | Heads, folder: Path, table: str = 'label_maps'
) -> dict[str, list[LabelMap]]:
    """List the label maps of a folder.

    Args:
        settings: Which ones.
        folder: Where.
        table: Table of the recipe that says so.

    Returns:
        Those to train on ('train') and those to follow the training ('validation'), sorted.

    Raises:
        UserError: A source without files, or too few of them.
    """
    found: dict[str, list[LabelMap]] = {'train': [], 'validation': []}
    for source in settings.sources:
        paths = sorted(path for path in folder.glob(source.pattern) if path.is_file())
        paths = [path for path in paths if not _matches(path, settings.hold_out)]
        validation = [path for path in paths if _matches(path, settings.validation)]
        if not settings.validation:
            validation = paths[len(paths) - max(round(VALIDATION_SHARE * len(paths)), 1) :]
        training = [path for path in paths if path not in validation]
        if not training:
            raise UserError(
                f'{folder}: no label map to train on fits {source.pattern!r} '
                f'({len(paths)} found, {len(validation)} of them for validation); '
                f'give more, or other patterns in [{table}].'
            )
        for split, part in (('train', training), ('validation', validation)):
            for path in part:
                spacing = source.spacing_mm or min(spacing_of(load_header(path).affine))
                image = source.image_of(path, folder)
                share = source.share / len(part)
                found[split].append(LabelMap(path, source, share, spacing, image))
    if not found['validation']:
        raise UserError(f'{folder}: no label map fits {table}.validation; give other patterns.')
    return found


def _matches(path: Path, patterns: Sequence[str]) -> bool:
    return any(fnmatch(path.name, pattern) for pattern in patterns)


def file_facts(label_map: LabelMap) -> tuple[object, ...]:
    """Say what tells the files of a label map, and what is made of them, apart.

    What an older generator made must not train a network of today.
    """
    files = [path for path in (label_map.path, label_map.image) if path is not None]
    made_by = [source_digest(Path(room.__path__[0])) for room in (imaging, simulation)]
    facts = ((path.resolve(), path.stat().st_mtime_ns) for path in files)
    return (*facts, label_map.source, *made_by)


def source_digest(room: Path) -> str:
    """Return a digest of the Python sources of a folder, which changes with them.

    Args:
        room: The folder.
    """
    sources = [(path.name, path.read_text()) for path in sorted(room.glob('*.py'))]
    return hashlib.sha256(repr(sources).encode()).hexdigest()


def cache_key(label_map: LabelMap, table: str) -> str:
    """Return what the files of a label map are called in a cache.

    Args:
        label_map: The label map.
        table: Table of the recipe that names its image.

    Raises:
        UserError: Its image is not there.
    """
    image = label_map.image
    if image is not None and not image.is_file():
        raise UserError(f'{image}: no such file, the image of {label_map.path}; see [{table}].')
    return hashlib.sha256(repr(file_facts(label_map)).encode()).hexdigest()[:16]
