"""What a training was given: its files, its subjects, its spacings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class DataFile(NamedTuple):
    """One file of the data; what a run that is taken up compares.

    Attributes:
        split: 'train' or 'validation'.
        subject: Whose it is; empty for a label map.
        role: 'image', 'label', 'mask', 'guide' or 'label map'.
        file: Its name, without the folder, which may move.
        digest: See `subjects.content_digest`.
    """

    split: str
    subject: str
    role: str
    file: str
    digest: str


@dataclass(frozen=True)
class TrainingData:
    """Where the patches come from.

    Attributes:
        source: What the user gave: file or folder.
        subjects: Split to names of its subjects.
        spacing_mm: Finest and coarsest spacing of the high-resolution images, mm.
        slice_thickness_mm: Thinnest and thickest slices that are simulated, mm.
        files: What is read to train and to validate, in order.
    """

    source: str
    subjects: Mapping[str, Sequence[str]]
    spacing_mm: tuple[float, float]
    slice_thickness_mm: tuple[float, float]
    files: tuple[DataFile, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Split to number of its subjects."""
        return {split: len(names) for split, names in self.subjects.items()}


def changed_file(before: Sequence[Sequence[str]], now: Sequence[DataFile]) -> str | None:
    """Find what makes two trainings see other data.

    Args:
        before: Files that a run was begun with.
        now: Files that it shall go on with.

    Returns:
        The first difference in words; None if there is none.
    """
    old, new = [DataFile(*entry) for entry in before], list(now)
    contents = {entry[:4]: entry.digest for entry in new}
    for entry in old:
        if entry[:4] not in contents:
            return f'{_words(entry)} is not there any more'
        if contents[entry[:4]] != entry.digest and entry not in new:
            return f'{_words(entry)} has another content'
    added = [entry for entry in new if entry not in old]
    if added:
        return f'{_words(added[0])} is new'
    return None if old == new else 'the files are in another order'


def _words(entry: DataFile) -> str:
    of = f' of {entry.subject}' if entry.subject else ''
    return f'{entry.role} {entry.file}{of} ({entry.split})'
