"""Images of the dataset without a result, and why, for the group level."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_segsr.reports.run_errors import Problem, read_problems

STOPPED = (
    'no result and no message: its run was stopped (time, memory, cancelled) or goes on; '
    'start the same command again'
)
NOT_STARTED = 'not processed yet'
RUN_AGAIN = 'remove it and run this participant again'


@dataclass(frozen=True)
class LeftOut:
    """An image that is missing among the results, or a step of it.

    Attributes:
        image: Label such as `sub-01_T2w`; its path or that of a folder where it has no
            label, the participant alone where a message names neither.
        message: Why, in one line.
    """

    image: str
    message: str

    @property
    def subject(self) -> str:
        """The participant with `sub-`."""
        return re.split('[_/]', self.image)[0]


def qc_records(root: Path) -> dict[Path, dict[str, Any]]:
    """Read the QC records of all images, of whatever modality.

    Args:
        root: Root of the derivatives.

    Returns:
        QC file to its record, which is empty where the file is damaged; sorted.
    """
    # figures and logs hold most of the files, and are not looked through
    paths = [*root.glob('sub-*/anat/*_qc.json'), *root.glob('sub-*/ses-*/anat/*_qc.json')]
    return {path: _record(path) for path in sorted(paths)}


def left_out(
    root: Path, bids_dir: Path, modality: str, records: Mapping[Path, Mapping[str, Any]]
) -> list[LeftOut]:
    """Find what failed in the last run of each participant, and images without a sound result.

    Args:
        root: Root of the derivatives.
        bids_dir: Root of the input.
        modality: BIDS suffix of the images.
        records: See `qc_records`.

    Returns:
        Sorted by image; images that no run was asked for are among them.
    """
    names = {'<input>': bids_dir, '<output>': root}
    found = []
    earlier: dict[str, LeftOut] = {}
    for folder in sorted(root.glob('sub-*/log')):
        runs = sorted(path for path in folder.iterdir() if path.is_dir())
        for run in runs:
            told = [_told(p, folder.parent.name) for p in read_problems(run, names)]
            earlier |= {item.image: item for item in told}
            if run == runs[-1]:
                found += told
    named = {item.image for item in found}
    damaged = {
        path: path.name.removesuffix('_qc.json') for path, record in records.items() if not record
    }
    for label, path in _images(bids_dir, modality):
        result = root / path.parent / f'{label.removesuffix(f"_{modality}")}_qc.json'
        if result in damaged:
            damaged[result] = label
        elif label not in named and result not in records:
            started = (root / path.parts[0] / 'log').is_dir()
            unknown = LeftOut(label, STOPPED if started else NOT_STARTED)
            found.append(earlier.get(label, unknown))
    found += [
        LeftOut(label, f'{path.name} is no QC file; {RUN_AGAIN}')
        for path, label in damaged.items()
        if label not in named
    ]
    return sorted(found, key=lambda item: (item.image, item.message))


def left_out_tsv(items: Sequence[LeftOut]) -> str:
    """Return a table with the columns participant_id, image and message."""
    rows = ['participant_id\timage\tmessage']
    rows += [f'{i.subject}\t{i.image}\t{" ".join(i.message.split())}' for i in items]
    return '\n'.join(rows) + '\n'


def _images(bids_dir: Path, modality: str) -> Iterator[tuple[str, Path]]:
    """Yield label and relative path of the images; no index is needed for it."""
    for folder in ('sub-*/anat', 'sub-*/ses-*/anat'):
        for extension in ('.nii.gz', '.nii'):
            for path in bids_dir.glob(f'{folder}/*_{modality}{extension}'):
                yield path.name.removesuffix(extension), path.relative_to(bids_dir)


def _record(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding='utf-8'))
        return content if content['bids_name'] else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _told(problem: Problem, subject: str) -> LeftOut:
    named = problem.image.startswith(subject)
    return LeftOut(problem.image if named else subject, problem.message)
