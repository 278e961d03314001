"""Query of the input with pybids: which images are processed, with which masks and metadata."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from bids_segsr.bids.database import make_index
from bids_segsr.bids.listing import (
    EXTENSIONS,
    AnatomicalFile,
    anatomical_files,
    closed_folders,
    is_ignored,
    misplaced_images,
    read_bidsignore,
)
from bids_segsr.bids.masks import find_mask, mask_datasets, missing_mask
from bids_segsr.bids.metadata import read_metadata
from bids_segsr.bids.names import scan_label
from bids_segsr.exceptions import UserError

if TYPE_CHECKING:
    from bids import BIDSLayout

logger = logging.getLogger(__name__)

# Only anatomical folders are walked: folders at the root whose files are no scans of this dataset
# (figures, logs, work folders of other programs), other data types, and links to a folder above.
NOT_INDEXED = (
    re.compile(r'^/(?!sub-)[^/]+'),
    re.compile(r'^/sub-[^/]+/(?!(?:anat|ses-[^/]+)(?:/|$))'),
    re.compile(r'^/sub-[^/]+/ses-[^/]+/(?!anat(?:/|$))'),
    re.compile(r'/anat/[^/]+/'),
    re.compile(r'/\.'),
)
NOT_WALKED = ('code', 'derivatives', 'models', 'sourcedata', 'stimuli')
# Of a complex image, only these hold intensities.
NO_MAGNITUDE = ('phase', 'real', 'imag')
MOST_NAMED = 20


@dataclass(frozen=True)
class Scan:
    """One image of the input.

    Attributes:
        path: The NIfTI file.
        entities: BIDS entities by their long names (subject, session, run, ..., suffix,
            datatype, extension), as text.
        metadata: The sidecars' values, inherited as BIDS defines.
        brain_mask: An existing brain mask, or None.
    """

    path: Path
    entities: dict[str, str]
    metadata: dict[str, Any] = field(default_factory=dict)
    brain_mask: Path | None = None

    @property
    def subject(self) -> str:
        """Participant label without `sub-`."""
        return self.entities['subject']

    @property
    def session(self) -> str | None:
        """Session label without `ses-`, or None."""
        return self.entities.get('session')

    @property
    def label(self) -> str:
        """Name without extension, such as `sub-01_ses-02_run-1_T2w`."""
        return scan_label(self.entities)


@dataclass(frozen=True)
class Unusable:
    """An image that cannot be processed, as its name or its sidecars tell.

    Attributes:
        image: Name of the image, or its path below the root of the dataset where it has no name
            that BIDS allows there.
        subject: Participant label of its folder, without `sub-`.
        message: Why, in one line that names the file.
    """

    image: str
    subject: str
    message: str


class Collection(NamedTuple):
    """What a query chose."""

    scans: list[Scan]
    unusable: list[Unusable]


def select_participants(bids_dir: Path, labels: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the participants to be processed, from the folders of the dataset.

    Args:
        bids_dir: Root of the dataset.
        labels: Those that were asked for, without `sub-`; empty means all.

    Returns:
        Sorted labels without `sub-`.

    Raises:
        UserError: If the dataset has no participant, or not the one asked for.
    """
    present = _present(bids_dir)
    if not present:
        raise UserError(f'{bids_dir}: no sub-XX folder; give the root of a BIDS dataset')
    missing = sorted(set(labels) - set(present))
    if missing:
        raise UserError(
            f'{bids_dir}: no such participant: {_named(missing)}; present are {_named(present)}'
        )
    return tuple(sorted(set(labels))) if labels else tuple(present)


def _present(root: Path) -> list[str]:
    """Return the labels of all participants, sorted."""
    return sorted(path.name[4:] for path in root.glob('sub-*') if path.is_dir())


def open_layout(
    bids_dir: Path, database_dir: Path | None = None, participants: Sequence[str] = ()
) -> BIDSLayout:
    """Index a dataset, leaving out derivatives, source data and code.

    Args:
        bids_dir: Root of the dataset.
        database_dir: Folder of an index to reuse, or to write when it holds none or one that
            knows other images than the dataset has. Such an index covers all participants, and
            parallel runs may share it.
        participants: Labels without `sub-` that are indexed without `database_dir`; empty means
            all.

    Returns:
        The layout.

    Raises:
        UserError: If the dataset cannot be indexed, or the index belongs to another one.
    """
    from bids import BIDSLayout, BIDSLayoutIndexer

    ignore: list[Any] = [*NOT_WALKED, *NOT_INDEXED]
    indexed: Sequence[str] = participants if database_dir is None else ()
    if indexed:
        kept = '|'.join(map(re.escape, indexed))
        ignore.append(re.compile(rf'^/sub-(?!(?:{kept})(?:/|$))'))
    # pybids stops at the first
    for closed in closed_folders(bids_dir, indexed or _present(bids_dir)):
        folder = re.escape(str(closed.path.relative_to(bids_dir)))
        ignore.append(re.compile(rf'^/{folder}(?:/|$)'))

    def index(folder: Path | None) -> BIDSLayout:
        return BIDSLayout(
            bids_dir,
            validate=False,
            config=[rooted('bids', bids_dir)],
            database_path=folder,
            indexer=BIDSLayoutIndexer(validate=False, index_metadata=False, ignore=ignore),
        )

    _check_description(bids_dir / 'dataset_description.json')
    try:
        if database_dir is not None:
            make_index(database_dir, index)
        layout = index(database_dir)
        if Path(layout.root).resolve() != bids_dir.resolve():
            raise UserError(
                f'{database_dir}: this index belongs to {layout.root}, not to {bids_dir}; '
                'give another --bids-database-dir'
            )
        if database_dir is not None and not _is_current(layout):
            logger.warning('%s: knows other images than %s has: made anew', database_dir, bids_dir)
            make_index(database_dir, index, anew=True)
            layout = index(database_dir)
    except UserError:
        raise
    except Exception as error:  # pybids lets through what its libraries raise
        raise UserError(f'{bids_dir}: cannot be indexed: {_one_line(error)}') from error
    return layout


def _check_description(path: Path) -> None:
    """Refuse a description that pybids stumbles over; without one, it goes on."""
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return
    if not isinstance(content, dict):
        raise UserError(f'{path}: no JSON object ({{"Name": ...}}); mend it')


def _is_current(layout: BIDSLayout) -> bool:
    """Tell whether an index knows the images that lie in the dataset."""
    root = Path(layout.root)
    there = {
        str(file.path)
        for file in anatomical_files(root, _present(root))
        if file.path.name.endswith(EXTENSIONS)
    }
    known = layout.get(datatype='anat', extension=list(EXTENSIONS), return_type='filename')
    return there == set(known)


def open_derivatives(root: Path, ignore: Sequence[Any] | None = None) -> BIDSLayout:
    """Index a dataset of derivatives, without its sidecars.

    Args:
        root: Of the dataset.
        ignore: Names and patterns that are left out; None for those of pybids.

    Returns:
        The layout.

    Raises:
        UserError: If it cannot be indexed.
    """
    from bids import BIDSLayout, BIDSLayoutIndexer

    left_out = None if ignore is None else list(ignore)
    try:
        return BIDSLayout(
            root,
            validate=False,
            is_derivative=True,
            config=[rooted(name, root) for name in ('bids', 'derivatives')],
            indexer=BIDSLayoutIndexer(validate=False, index_metadata=False, ignore=left_out),
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f'{root}: cannot be indexed: {_one_line(error)}; check --derivatives'
        ) from None


def rooted(name: str, root: Path) -> dict[str, Any]:
    """Return a configuration of pybids that reads entities below the root of a dataset alone.

    pybids looks for them in the whole path: of /study/ses-1/bids, or /data/run-2/bids, all images
    would have that session or run.

    Args:
        name: Of a configuration of pybids, `bids` or `derivatives`.
        root: Of the dataset.

    Returns:
        The configuration.
    """
    from bids.config import get_option

    file = Path(get_option('config_paths')[name])
    content: dict[str, Any] = json.loads(file.read_text(encoding='utf-8'))
    anchor = f'^{re.escape(str(root.absolute()))}.*?'  # as pybids: links and .. stay
    for entity in content['entities']:
        # the others are about the end of the name
        if entity['pattern'].startswith('['):
            entity['pattern'] = anchor + entity['pattern']
    return content


def collect_scans(
    layout: BIDSLayout,
    *,
    participants: Sequence[str] = (),
    sessions: Sequence[str] = (),
    modality: str = 'T2w',
    filters: Mapping[str, Mapping[str, Any]] | None = None,
    derivatives: Mapping[str, Path] | None = None,
    allow_missing_masks: bool = True,
) -> Collection:
    """Choose the images to be processed.

    Images that `.bidsignore` names, and the phase, real or imaginary part of complex ones, are
    not chosen.

    Args:
        layout: The dataset, see `open_layout`.
        participants: Labels without `sub-`; empty means all.
        sessions: Labels without `ses-`; empty means all.
        modality: BIDS suffix of the images.
        filters: See `filters.load_filters`; those of other modalities are not used.
        derivatives: Roots of datasets with brain masks, by name.
        allow_missing_masks: Whether an image without a mask in `derivatives` is usable.

    Returns:
        The scans, sorted by path, and the images that cannot be processed: with a name that BIDS
        does not allow in its folder, the same name as another one, a sidecar that cannot be read,
        or no mask, or several; and folders that cannot be looked through.

    Raises:
        UserError: If there is no such participant, session or image, or no such dataset of masks.
    """
    bids_dir = Path(layout.root)
    subjects = select_participants(bids_dir, participants)
    _check_sessions(bids_dir, subjects, sessions)
    datasets = mask_datasets(derivatives or {})
    on_disk = {
        file.path: file
        for file in _images_on_disk(bids_dir, subjects, modality)
        if not sessions or file.folders.get('ses') in sessions
    }
    unusable = [
        Unusable(str(file.path.relative_to(bids_dir)), file.folders['sub'], f'{file.path}: {why}')
        for file in on_disk.values()
        if (why := file.trouble) is not None
    ]
    unusable += _closed(bids_dir, subjects, sessions)
    if not participants:
        unusable += _misspelt_participants(bids_dir)
    query: dict[str, Any] = {'subject': list(subjects), 'suffix': modality, 'datatype': 'anat'}
    query |= {'extension': list(EXTENSIONS)}
    chosen = (filters or {}).get(modality.lower(), {})
    found = {
        Path(file.path): _text(file.entities) for file in layout.get(**(query | dict(chosen)))
    }
    images = [on_disk[path] for path in sorted(found) if path in on_disk]
    images = [image for image in images if image.trouble is None]
    if not images and not unusable:
        raise UserError(_no_image(layout, subjects, sessions, modality, bool(chosen)))
    taken = {image.folders['sub'] for image in images} | {item.subject for item in unusable}
    for subject in sorted(set(subjects) - taken):
        logger.warning('sub-%s: no %s image is chosen; nothing to do', subject, modality)
    names: dict[str, list[AnatomicalFile]] = {}
    for image in images:
        label = scan_label(found[image.path])
        lost = [key for key in image.pairs or () if f'_{key}-' not in f'_{label}']
        if lost:
            told = f'{image.path}: {lost[0]}- is no entity of an anatomical image; rename it'
            name = str(image.path.relative_to(bids_dir))
            unusable.append(Unusable(name, image.folders['sub'], told))
        else:
            names.setdefault(label, []).append(image)
    scans = []
    for label, same in names.items():
        image, entities = same[0], found[same[0].path]
        try:
            if len(same) > 1:
                raise UserError(f'{same[1].path}: same entities as {image.path}; keep one of them')
            mask = find_mask(image, datasets)
            if datasets and mask is None and not allow_missing_masks:
                raise UserError(f'{image.path}: {missing_mask(image, datasets)}')
            scans.append(Scan(image.path, entities, read_metadata(image, bids_dir), mask))
        except UserError as error:
            unusable.append(Unusable(label, image.folders['sub'], str(error)))
    return Collection(scans, unusable)


def _images_on_disk(
    bids_dir: Path, subjects: Sequence[str], modality: str
) -> Iterable[AnatomicalFile]:
    """Yield the images of a modality, by whatever name, that are to be taken."""
    patterns = read_bidsignore(bids_dir)
    endings = tuple(modality + extension for extension in EXTENSIONS)
    named = (f for f in anatomical_files(bids_dir, subjects) if f.path.name.endswith(endings))
    for file in (*named, *misplaced_images(bids_dir, subjects, modality)):
        if is_ignored(PurePosixPath(file.path.relative_to(bids_dir)), patterns):
            logger.info('%s: left out by .bidsignore', file.path)
        elif (part := (file.pairs or {}).get('part')) in NO_MAGNITUDE:
            logger.info('%s: holds no intensities (part-%s)', file.path, part)
        else:
            yield file


def _closed(
    bids_dir: Path, subjects: Sequence[str], sessions: Sequence[str]
) -> Iterable[Unusable]:
    """Yield folders in which images may lie that nobody can see."""
    patterns = read_bidsignore(bids_dir)
    for folder in closed_folders(bids_dir, subjects):
        place = folder.path.relative_to(bids_dir)
        asked = not sessions or len(place.parts) == 1 or folder.folders.get('ses') in sessions
        if asked and not is_ignored(PurePosixPath(place / 'anat'), patterns):
            told = f'{folder.path}: {folder.misplaced}'
            yield Unusable(f'{place}/', folder.folders['sub'], told)


def _misspelt_participants(bids_dir: Path) -> list[Unusable]:
    """Tell of folders that are meant to be participants'."""
    patterns = read_bidsignore(bids_dir)
    return [
        Unusable(f'{path.name}/', '', f'{path}: BIDS writes sub- in small letters; rename it')
        for path in sorted(bids_dir.glob('[Ss][Uu][Bb]-*'))
        if path.is_dir()
        and not path.name.startswith('sub-')
        and not is_ignored(PurePosixPath(path.name), patterns)
    ]


def _check_sessions(bids_dir: Path, subjects: Iterable[str], sessions: Sequence[str]) -> None:
    present = {
        path.name[4:]
        for subject in subjects
        for path in (bids_dir / f'sub-{subject}').glob('ses-*')
        if path.is_dir()
    }
    missing = sorted(set(sessions) - present)
    if missing:
        found = f'present are {_named(sorted(present))}' if present else 'there are no sessions'
        raise UserError(f'{bids_dir}: no such session: {_named(missing)}; {found}')


def _no_image(
    layout: BIDSLayout,
    subjects: Sequence[str],
    sessions: Sequence[str],
    modality: str,
    filtered: bool,
) -> str:
    """Return the message for a query without an image, with what there is instead."""
    query: dict[str, Any] = {'subject': list(subjects), 'extension': list(EXTENSIONS)}
    if sessions:
        query['session'] = list(sessions)
    found = layout.get(datatype='anat', target='suffix', return_type='id', **query)
    where = f'{layout.root}: no {modality} image of {_named([f"sub-{s}" for s in subjects])}'
    if modality in found and filtered:
        return f'{where} passes the filters; mend --bids-filter-file'
    if modality in found:
        return f'{where} is left by .bidsignore, or all are parts of complex images'
    if not found:
        return f'{where}; there is no anatomical image at all'
    return f'{where}; found are {", ".join(sorted(found))} (choose with --modality)'


def _text(entities: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in entities.items()}


def _named(values: Sequence[str]) -> str:
    more = len(values) - MOST_NAMED
    return ', '.join(values[:MOST_NAMED]) + (f' and {more} more' if more > 0 else '')


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split())
