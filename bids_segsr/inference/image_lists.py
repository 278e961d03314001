"""Several images: a folder or a list of them, and where the results of each go."""

from __future__ import annotations

import csv
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from bids_segsr.exceptions import UserError
from bids_segsr.imaging.nifti import image_suffixes
from bids_segsr.inference.one_image import Source

LIST = '.csv'

logger = logging.getLogger(__name__)


def listed_images(path: Path) -> list[Source]:
    """Return the images that an argument stands for.

    Args:
        path: NIfTI file, folder of them or of one DICOM series, or CSV list.

    Raises:
        UserError: A list cannot be read.
    """
    if path.suffix.lower() == LIST:
        return _read_list(path)
    try:
        there = sorted(path.iterdir()) if path.is_dir() else []
    except PermissionError:  # told when it is read, as its own failure
        there = []
    images = [p for p in there if p.name.lower().endswith(image_suffixes())]
    return [Source(image) for image in images] or [Source(path)]


def result_folders(sources: Sequence[Source], output: Path) -> list[Path]:
    """Return the folder for the results of each image.

    Images whose results would have the same names get folders inside the output, named after as
    many of the folders that they lie in as it takes to tell them apart; those of several contrasts
    have folders of their own names within these.

    Args:
        sources: The images.
        output: Folder for all of them.

    Returns:
        One folder an image.

    Raises:
        UserError: An image is listed twice.
    """
    alike = defaultdict(list)
    for source in sources:
        alike[source.stem].append(source)
    folders = {}
    for group in alike.values():
        if len(group) == 1:
            folders[group[0]] = output
            continue
        named = len({s.name for s in group}) > 1
        places = {s: _place(s, named) for s in group}
        if len({(place, s.image.name) for s, place in places.items()}) < len(group):
            raise UserError(f'{group[0].image}: is listed twice.')
        depth = 1
        while len({place[-depth:] for place in places.values()}) < len(group):
            depth += 1
            if depth > max(map(len, places.values())):
                raise UserError(f'{group[0].image}: lies beside another image of its name.')
        for source, place in places.items():
            folders[source] = output.joinpath(*(part for part in place[-depth:] if part != os.sep))
    return [folders[source] for source in sources]


def _place(source: Source, named: bool) -> tuple[str, ...]:
    """Return the folders that an image lies in, without links and `..`, and its name if wanted."""
    return (*source.image.parent.resolve().parts, *[source.name] * named)


def _read_list(path: Path) -> list[Source]:
    """Read a CSV list; SegSRGAN (2020, appendix A.3) has the images in the first column."""
    try:
        # Excel begins a file with a byte order mark, which is no part of the first column.
        with path.open(newline='', encoding='utf-8-sig') as stream:
            lines = [row for row in csv.reader(stream) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f'{path}: cannot be read ({error}).') from error
    if any('\0' in cell for row in lines for cell in row):
        raise UserError(f'{path}: holds bytes that are no text; mend the list.')
    names = [cell.strip().lower() for cell in lines[0]] if lines else []
    if 'image' not in names:
        first = lines[0][0].strip() if lines else ''
        # unlike that of Path, this has False for a text that is no path at all
        there = bool(first) and os.path.exists(path.parent / first)  # noqa: PTH110
        if not first.lower().endswith(image_suffixes()) and not there:
            raise UserError(
                f'{path}: no column "image"; the first line must name the columns, or the first '
                'column hold images.'
            )
        if any(cell.strip() for row in lines for cell in row[1:]):
            logger.warning('%s: names no columns: only the first one is read', path)
        return [Source(path.parent / row[0].strip()) for row in lines]
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise UserError(f'{path}: the column {twice[0]} is there twice; leave one out.')
    guides = [name for name in names if name == 'guide' or name.startswith('guide_')]
    unknown = [name for name in names if name and name not in ('image', 'mask', *guides)]
    if unknown:
        logger.warning(
            '%s: columns that are not read: %s; known are image, mask, guide, guide_2 ...',
            path,
            ', '.join(unknown),
        )
    found = []
    for number, line in enumerate(lines[1:], start=1):
        if any(cell.strip() for cell in line[len(names) :]):
            raise UserError(
                f'{path}: row {number} has more cells than there are columns; put paths with a '
                'comma in quotes.'
            )
        row = {name: cell.strip() for name, cell in zip(names, line, strict=False)}
        if not row.get('image'):
            raise UserError(f'{path}: row {number} names no image; mend the list.')
        found.append(
            Source(
                path.parent / row['image'],
                path.parent / row['mask'] if row.get('mask') else None,
                tuple(path.parent / row[name] for name in guides if row.get(name)),
            )
        )
    if not found:
        raise UserError(f'{path}: lists no image.')
    return found
