"""Brain masks of other datasets that belong to a scan."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from bids_segsr.bids.listing import EXTENSIONS, AnatomicalFile, anatomical_files, closed_folders
from bids_segsr.exceptions import UserError

MOST_NAMED = 5


@dataclass(frozen=True)
class MaskDataset:
    """A dataset of brain masks.

    Attributes:
        name: As the user calls it.
        root: Its folder.
    """

    name: str
    root: Path

    def masks_of(self, scan: AnatomicalFile) -> list[Path]:
        """Return the masks that have the entities of a scan and lie on its grid.

        Raises:
            UserError: A folder in which they may lie cannot be looked through.
        """
        for folder in closed_folders(self.root, [scan.folders['sub']]):
            if folder.folders.items() <= scan.folders.items():
                raise UserError(f'{folder.path}: {folder.misplaced}')
        return [
            file.path
            for file in anatomical_files(self.root, [scan.folders['sub']])
            if file.suffix == 'mask' and file.extension in EXTENSIONS and _fits(file, scan)
        ]

    def some_names(self) -> str:
        """Return what masks lie in this dataset, a few names."""
        names = (
            str(Path(folder, name).relative_to(self.root))
            for folder, _, files in os.walk(self.root)
            for name in sorted(files)
            if 'mask' in name and name.endswith(EXTENSIONS)
        )
        found = list(islice(names, MOST_NAMED + 1))
        more = ', ...' if len(found) > MOST_NAMED else ''
        return ', '.join(found[:MOST_NAMED]) + more if found else 'no mask at all'


def _fits(mask: AnatomicalFile, scan: AnatomicalFile) -> bool:
    own = mask.pairs or {}
    entities = {key: value for key, value in own.items() if key not in ('space', 'desc')}
    return (
        mask.trouble is None
        and own.get('desc') == 'brain'
        and own.get('space', 'orig') in ('orig', scan.suffix)
        and entities == scan.pairs
    )


def mask_datasets(derivatives: Mapping[str, Path]) -> list[MaskDataset]:
    """Check that datasets of masks are folders.

    Raises:
        UserError: One is not.
    """
    for name, root in derivatives.items():
        if not root.is_dir():
            raise UserError(f'{root}: no such folder; check --derivatives {name}=')
    return [MaskDataset(name, root) for name, root in derivatives.items()]


def find_mask(scan: AnatomicalFile, datasets: list[MaskDataset]) -> Path | None:
    """Find the brain mask of a scan.

    Args:
        scan: The scan, with a BIDS name.
        datasets: Where to look.

    Returns:
        The mask, or None.

    Raises:
        UserError: Several masks fit, or a folder of them cannot be looked through.
    """
    fitting = [path for dataset in datasets for path in dataset.masks_of(scan)]
    if len(fitting) > 1:
        raise UserError(
            f'{scan.path}: several brain masks fit: {", ".join(map(str, sorted(fitting)))}; '
            'give one of the datasets with --derivatives'
        )
    return fitting[0] if fitting else None


def missing_mask(scan: AnatomicalFile, datasets: list[MaskDataset]) -> str:
    """Return the message for a scan without a mask in datasets that were given for it."""
    name = f'{scan.stem.rpartition("_")[0]}_desc-brain_mask.nii.gz'
    folders = '/'.join(f'{key}-{value}' for key, value in scan.folders.items())
    there = '; '.join(f'in {d.root} ({d.name}) there is {d.some_names()}' for d in datasets)
    return (
        f'no brain mask {folders}/anat/{name} among the derivatives: {there}; name the mask '
        'of this image so, or give --allow-missing-masks to look for the brain in such images'
    )
