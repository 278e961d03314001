"""Query of the input with pybids: which images are processed, with which masks and metadata."""

from __future__ import annotations

import json
import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_segsr.bids.database import make_index
from bids_segsr.bids.names import scan_entities, scan_label
from bids_segsr.exceptions import UserError

if TYPE_CHECKING:
    from bids import BIDSLayout

logger = logging.getLogger(__name__)

MODALITIES = ('T2w', 'T1w', 'FLAIR', 'PDw', 'T2starw', 'inplaneT1', 'inplaneT2', 'UNIT1')
EXTENSIONS = ('.nii.gz', '.nii')
# Folders at the root whose files are no scans of this dataset; figures, logs and work folders of
# other programs may lie there as well, so that all but sub-XX is left out.
NOT_INDEXED = (re.compile(r'^/(?!sub-)[^/]+/'), re.compile(r'/\.'))
NOT_WALKED = ('code', 'derivatives', 'models', 'sourcedata', 'stimuli')
# Entities that put a mask on another grid or tie it to another structure than the brain.
OTHER_GRID = ('res', 'den', 'label', 'hemi', 'segmentation', 'atlas', 'roi')
# A raw suffix inside a name (sub-01_T2w_desc-brain_mask) is no entity, yet pybids reads past it.
MASK_NAME = re.compile(r'(?:[a-zA-Z]+-[a-zA-Z0-9+]+_)+mask\.nii(?:\.gz)?')
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
    present = sorted(path.name[4:] for path in bids_dir.glob('sub-*') if path.is_dir())
    if not present:
        raise UserError(f'{bids_dir}: no sub-XX folder; give the root of a BIDS dataset')
    missing = sorted(set(labels) - set(present))
    if missing:
        raise UserError(
            f'{bids_dir}: no such participant: {_named(missing)}; present are {_named(present)}'
        )
    return tuple(sorted(set(labels))) if labels else tuple(present)


def open_layout(
    bids_dir: Path, database_dir: Path | None = None, participants: Sequence[str] = ()
) -> BIDSLayout:
    """Index a dataset, leaving out derivatives, source data and code.

    Args:
        bids_dir: Root of the dataset.
        database_dir: Folder of an index to reuse, or to write when it holds none. Such an index
            covers all participants, and parallel runs may share it.
        participants: Labels without `sub-` that are indexed without `database_dir`; empty means
            all.

    Returns:
        The layout.

    Raises:
        UserError: If a sidecar cannot be read or the index belongs to another dataset.
    """
    from bids import BIDSLayout, BIDSLayoutIndexer

    ignore: list[Any] = [*NOT_WALKED, *NOT_INDEXED]
    if participants and database_dir is None:
        kept = '|'.join(map(re.escape, participants))
        ignore.append(re.compile(rf'^/sub-(?!(?:{kept})(?:/|$))'))

    def index(folder: Path | None) -> BIDSLayout:
        return BIDSLayout(
            bids_dir,
            validate=False,
            config=[rooted('bids', bids_dir)],
            database_path=folder,
            indexer=BIDSLayoutIndexer(validate=False, ignore=ignore),
        )

    try:
        if database_dir is not None:
            make_index(database_dir, index)
        layout = index(database_dir)
    except (OSError, ValueError) as error:
        # pybids names the broken sidecar in its message.
        raise UserError(f'{bids_dir}: cannot be indexed: {_one_line(error)}') from None
    if Path(layout.root).resolve() != bids_dir.resolve():
        raise UserError(
            f'{database_dir}: this index belongs to {layout.root}, not to {bids_dir}; '
            'give another --bids-database-dir'
        )
    return layout


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
    anchor = f'^{re.escape(os.path.abspath(root))}.*?'  # noqa: PTH100 - as pybids, links stay
    for entity in content['entities']:
        # the others are about the end of the name
        if entity['pattern'].startswith('['):
            entity['pattern'] = anchor + entity['pattern']
    return content


def load_filters(path: Path) -> dict[str, dict[str, Any]]:
    """Read pybids filters as fMRIPrep defines them.

    Args:
        path: JSON file such as `{"t2w": {"acquisition": "sag", "ceagent": null}}`. The keys are
            modalities in lower case. null means that the entity is absent, "*" that it is
            present; a list means any of its values.

    Returns:
        Filters by modality in lower case, ready for `BIDSLayout.get`.

    Raises:
        UserError: If the file cannot be read, or names an unknown modality or entity.
    """
    try:
        table = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror})') from None
    except ValueError as error:
        raise UserError(f'{path}: not valid JSON ({_one_line(error)})') from None
    if not isinstance(table, dict) or not all(isinstance(part, dict) for part in table.values()):
        raise UserError(f'{path}: needs the form {{"t2w": {{"acquisition": "sag"}}}}')
    known = [modality.lower() for modality in MODALITIES]
    entities = _entity_names()
    for key, part in table.items():
        if key not in known:
            raise UserError(f'{path}: unknown key {key!r}; known are {", ".join(known)}')
        for entity in part:
            if entity not in entities:
                raise UserError(
                    f'{path}: unknown entity {entity!r} under {key!r}; '
                    f'known are {", ".join(entities)}'
                )
    return {
        key: {entity: _query(value) for entity, value in part.items()}
        for key, part in table.items()
    }


def collect_scans(
    layout: BIDSLayout,
    *,
    participants: Sequence[str] = (),
    sessions: Sequence[str] = (),
    modality: str = 'T2w',
    filters: Mapping[str, Mapping[str, Any]] | None = None,
    derivatives: Mapping[str, Path] | None = None,
) -> list[Scan]:
    """Choose the images to be processed.

    Args:
        layout: The dataset, see `open_layout`.
        participants: Labels without `sub-`; empty means all.
        sessions: Labels without `ses-`; empty means all.
        modality: BIDS suffix of the images.
        filters: See `load_filters`; those of other modalities are not used.
        derivatives: Roots of datasets with brain masks, by name.

    Returns:
        The scans, sorted by path.

    Raises:
        UserError: If there is no such participant, session or image, if two files have the same
            entities, if several masks fit one image, or a dataset of masks cannot be indexed.
    """
    bids_dir = Path(layout.root)
    subjects = select_participants(bids_dir, participants)
    _check_sessions(bids_dir, subjects, sessions)
    query: dict[str, Any] = {'subject': list(subjects), 'suffix': modality, 'datatype': 'anat'}
    query |= {'extension': list(EXTENSIONS)}
    chosen = (filters or {}).get(modality.lower(), {})
    files = [
        file
        for file in layout.get(**(query | dict(chosen)))
        if file.entities.get('subject') in subjects
        and (not sessions or file.entities.get('session') in sessions)
    ]
    if not files:
        raise UserError(_no_image(layout, subjects, sessions, modality, bool(chosen)))
    for subject in sorted(set(subjects) - {file.entities['subject'] for file in files}):
        logger.warning('sub-%s: no %s image is chosen; nothing to do', subject, modality)
    masks: dict[tuple[str | None, ...], list[tuple[Path, dict[str, str]]]] = defaultdict(list)
    for root in (derivatives or {}).values():
        for mask_path, own in _masks(root, subjects):
            masks[_scan_key(own)].append((mask_path, own))
    scans: dict[str, Scan] = {}
    for file in sorted(files, key=lambda item: item.path):
        path = Path(file.path)
        # A broken link is content that was not fetched (DataLad): that image alone is left out.
        if not path.exists() and not path.is_symlink():
            raise UserError(f'{path}: in the index, but not on disk; delete the pybids index')
        entities = _text(file.entities)
        mask = _match_mask(path, entities, masks.get(_scan_key(entities), []))
        scan = Scan(path, entities, file.get_metadata(), mask)
        if scan.label in scans:
            raise UserError(f'{path}: same entities as {scans[scan.label].path}; keep one of them')
        scans[scan.label] = scan
    return list(scans.values())


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
    if not found:
        return f'{where}; there is no anatomical image at all'
    return f'{where}; found are {", ".join(sorted(found))} (choose with --modality)'


def _masks(root: Path, subjects: Sequence[str]) -> list[tuple[Path, dict[str, str]]]:
    """Return the brain masks of a derivatives dataset with their entities."""
    kept = '|'.join(map(re.escape, subjects))
    ignore = [*NOT_INDEXED, re.compile(rf'^/sub-(?!(?:{kept})(?:[/_.]|$))')]
    layout = open_derivatives(root, ignore)
    files = layout.get(suffix='mask', desc='brain', datatype='anat', extension=list(EXTENSIONS))
    return [
        (Path(file.path), _text(file.entities))
        for file in files
        if MASK_NAME.fullmatch(file.filename)
    ]


def _match_mask(
    path: Path, entities: Mapping[str, str], masks: Iterable[tuple[Path, dict[str, str]]]
) -> Path | None:
    """Return the mask of a scan among those with its entities."""
    fitting = [
        mask
        for mask, own in masks
        if own.get('space', 'orig') in ('orig', entities['suffix'])
        and not any(key in own for key in OTHER_GRID)
    ]
    if len(fitting) > 1:
        raise UserError(
            f'{path}: several brain masks fit: {", ".join(map(str, sorted(fitting)))}; '
            'give one of the datasets with --derivatives'
        )
    return fitting[0] if fitting else None


def _scan_key(entities: Mapping[str, str]) -> tuple[str | None, ...]:
    """Return the entities that a scan and what is made of it share."""
    return tuple(entities.get(key) for key in scan_entities())


def _entity_names() -> list[str]:
    from bids.layout.models import Config

    return list(Config.load('bids').entities)


def _query(value: Any) -> Any:
    from bids.layout import Query

    if isinstance(value, list):
        return [_query(item) for item in value]
    if value is None:
        return Query.NONE
    return Query.ANY if value == '*' else value


def _text(entities: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in entities.items()}


def _named(values: Sequence[str]) -> str:
    more = len(values) - MOST_NAMED
    return ', '.join(values[:MOST_NAMED]) + (f' and {more} more' if more > 0 else '')


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split())
