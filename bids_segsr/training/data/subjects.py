"""Which images train a network: subjects, their files and their split."""

from __future__ import annotations

import csv
import hashlib
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from nibabel.affines import apply_affine

from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.imaging.nifti import image_stem, read_header

logger = logging.getLogger(__name__)

Split = Literal['train', 'validation', 'test']

GRID_TOLERANCE_MM = 0.1
"""Largest distance of a corner voxel in two images that still lie on one grid."""

COLUMNS = ('HR_image', 'Label_image', 'Base', 'Mask_image', 'Subject')
"""Of a list of training data, besides those that begin with GUIDE."""

GUIDE = 'Guide_image'

_ENDS = 2**16


@dataclass(frozen=True)
class Subject:
    """One high-resolution image and what belongs to it, all on one grid.

    Attributes:
        name: Of the person; all images of a person are in one split.
        image: High-resolution image; None where only a label map is given.
        label: Label map; None where no segmentation is learnt.
        split: What the subject is for.
        mask: Brain mask or class mask.
        guides: High-resolution images of other contrasts (multimodal ReCNN).
    """

    name: str
    image: Path | None
    label: Path | None
    split: Split
    mask: Path | None = None
    guides: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files, the image first."""
        return tuple(path for _, path in self.roles)

    @property
    def roles(self) -> tuple[tuple[str, Path], ...]:
        """All files with what they are, the image first."""
        named = (('image', self.image), ('label', self.label), ('mask', self.mask))
        given = tuple((role, path) for role, path in named if path is not None)
        return (*given, *(('guide', path) for path in self.guides))


def read_csv(path: str | Path, *, labelled: bool = False) -> list[Subject]:
    """Read the list of training data, in the form of the original SegSRGAN program.

    Args:
        path: CSV file with the columns HR_image, Label_image (may be empty) and Base (Train,
            Validation or Test, in any case), and optionally Mask_image, Subject and Guide_image
            (more of them: Guide_image_2, ...); the case of column names does not matter, others
            are told and left alone. Relative paths are relative to the file. Without
            Subject, the name is the `sub-` entity of the image, or else its file name.
        labelled: Whether the column Label_image must be there.

    Returns:
        One subject a row.

    Raises:
        UserError: The list cannot be read, a column or value is missing, or see `check_subjects`.
    """
    path = Path(path)
    try:
        # Excel begins a file with a byte order mark, which is no part of the first column.
        with path.open(newline='', encoding='utf-8-sig') as stream:
            reader = csv.DictReader(stream, skipinitialspace=True)
            rows = list(reader)
            given = list(reader.fieldnames or [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, 'strerror', None) or ' '.join(str(error).split())
        raise UserError(f'{path}: cannot be read ({reason}).') from None
    if any('\0' in str(value) for row in rows for value in row.values()):
        raise UserError(f'{path}: holds bytes that are no text; mend the list.')
    columns = {column: _column(column or '') for column in given}
    for needed in ('HR_image', *(['Label_image'] if labelled else []), 'Base'):
        if needed not in columns.values():
            raise UserError(
                f'{path}: no column {needed}; the first line must name the columns '
                f'({", ".join(given)} found).'
            )
    twice = [name for name in COLUMNS if [*map(columns.get, given)].count(name) > 1]
    if twice:
        raise UserError(f'{path}: the column {twice[0]} is there twice; leave one out.')
    if not rows:
        raise UserError(f'{path}: names no image.')
    guides = [name for name in columns.values() if name.startswith(GUIDE)]
    unknown = [name for name in columns.values() if name not in ('', *COLUMNS, *guides)]
    if unknown:
        logger.warning(
            '%s: columns that are not read: %s; known are %s',
            path,
            ', '.join(unknown),
            ', '.join((*COLUMNS, GUIDE)),
        )
    rows = [{columns[key]: value for key, value in row.items() if key in columns} for row in rows]
    subjects = [_subject(path, number, row, guides) for number, row in enumerate(rows, start=2)]
    check_subjects(subjects, path)
    return subjects


def check_subjects(subjects: Sequence[Subject], source: Path) -> None:
    """Check a list of training data by the headers of its files.

    Args:
        subjects: The list.
        source: Where it comes from, for messages.

    Raises:
        UserError: A person or an image is in two splits; subjects have different numbers of
            guides.
        ImageError: A file is missing or no NIfTI; files of a subject lie on different grids.
    """
    splits: dict[str, str] = {}
    images: dict[Path, Subject] = {}
    for subject in subjects:
        known = splits.setdefault(subject.name, subject.split)
        if known != subject.split:
            raise UserError(
                f'{source}: subject {subject.name} is in {known} and in {subject.split}; '
                'all images of a person belong in one of them.'
            )
        if subject.image is not None:
            same = images.setdefault(subject.image.resolve(), subject)
            if same is not subject and same.split == subject.split:
                logger.warning('%s: %s is listed twice, and counts twice', source, subject.image)
            if same.split != subject.split:
                raise UserError(
                    f'{source}: {subject.image} is in {same.split} (subject {same.name}) and in '
                    f'{subject.split} (subject {subject.name}); an image belongs in one of them.'
                )
        if len(subject.guides) != len(subjects[0].guides):
            raise UserError(
                f'{source}: subject {subject.name} has {len(subject.guides)} guide images, '
                f'{subjects[0].name} has {len(subjects[0].guides)}; give all the same number.'
            )
        grids = [(path, *_grid(path)) for path in subject.files]
        for other, shape, affine in grids[1:]:
            first, first_shape, first_affine = grids[0]
            if shape != first_shape or not _same_corners(shape, affine, first_affine):
                raise ImageError(
                    f'{other}: lies on another grid (shape {shape}) than {first} '
                    f'(shape {first_shape}); resample it to the image.'
                )


def volume_shape(path: Path) -> tuple[int, ...]:
    """Read the shape of an image from its header.

    Raises:
        ImageError: The file is missing or no NIfTI.
    """
    return _grid(path)[0]


def content_digest(path: Path) -> str:
    """Tell the content of a file, wherever it lies and whenever it was copied.

    Args:
        path: The file. Of a gzip file size, beginning and end are read: there stand the header
            and the checksum of all that is compressed. Others are read whole.

    Returns:
        Hexadecimal digits.

    Raises:
        ImageError: The file cannot be read.
    """
    try:
        with path.open('rb') as stream:
            if stream.read(2) != b'\x1f\x8b':
                stream.seek(0)
                digest = hashlib.sha256()
                while part := stream.read(2**20):
                    digest.update(part)
                return digest.hexdigest()
            size = stream.seek(0, os.SEEK_END)
            parts = [str(size).encode()]
            for start in (0, max(0, size - _ENDS)):
                stream.seek(start)
                parts.append(stream.read(_ENDS))
            return hashlib.sha256(b''.join(parts)).hexdigest()
    except OSError as error:
        raise ImageError(f'{path}: cannot be read ({error.strerror}); check the path.') from None


def _column(given: str) -> str:
    """Spell a column as it is known."""
    name = given.strip()
    for known in COLUMNS:
        if name.lower() == known.lower():
            return known
    begins = name.lower().startswith(GUIDE.lower())
    return GUIDE + name[len(GUIDE) :] if begins else name


def _subject(path: Path, number: int, row: Mapping[str, str], guides: Sequence[str]) -> Subject:
    def file(column: str) -> Path | None:
        value = (row.get(column) or '').strip()
        return path.parent / value if value else None

    image = file('HR_image')
    if image is None:
        raise UserError(f'{path}: line {number} names no HR_image; mend the list.')
    base = (row.get('Base') or '').strip().lower()
    for split in get_args(Split):
        if base == split:
            break
    else:
        raise UserError(
            f'{path}: line {number} has Base {base!r}; write Train, Validation or Test.'
        )
    named = [file(column) for column in guides]
    return Subject(
        name=(row.get('Subject') or '').strip() or _name(image),
        image=image,
        label=file('Label_image'),
        split=split,
        mask=file('Mask_image'),
        guides=tuple(guide for guide in named if guide is not None),
    )


def _name(image: Path) -> str:
    entity = re.match(r'sub-[a-zA-Z0-9+]+', image.name)
    return entity[0] if entity else image_stem(image)


def _grid(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    header = read_header(path)
    return header.shape, header.placement.affine


def _same_corners(shape: Sequence[int], first: np.ndarray, second: np.ndarray) -> bool:
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in shape]), -1).reshape(-1, len(shape))
    distance = apply_affine(first, corners) - apply_affine(second, corners)
    return bool(np.linalg.norm(distance, axis=1).max() <= GRID_TOLERANCE_MM)
