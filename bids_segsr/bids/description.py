"""The files at the root of the derivatives dataset; each write is atomic and may be repeated."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

from bids_segsr import __version__
from bids_segsr.files import locked, write_text

logger = logging.getLogger(__name__)

BIDS_VERSION = '1.11.1'
# What parallel runs extend is read and written under this lock.
LOCK = Path('logs', '.lock-dataset')
# What has no BIDS name. Folders are written without a slash: with one, the validator (3.0.2)
# still reports the folder itself.
IGNORED = (
    '*.html',
    'figures',
    'log',
    'group_*',
    'ratings',
    '*_map.nii.gz',
    '*_map.json',
    '*_qc.json',
)
# Abbreviation: name, colour, and index in the common label table of BIDS-Derivatives. Fluid of the
# ventricles and around the brain maps to the one fluid of that table.
STANDARD_LABELS = {
    'BG': ('Background', '#000000', 0),
    'GM': ('Gray Matter', '#808080', 1),
    'WM': ('White Matter', '#ffb000', 2),
    'CSF': ('Cerebrospinal Fluid', '#5f8dff', 3),
    'eCSF': ('Outer CSF', '#5f8dff', 3),
    'VEN': ('Ventricles', '#c59bff', 3),
    'B': ('Bone', '#f5deb3', 4),
    'ST': ('Soft Tissue', '#ffa07a', 5),
    'NB': ('Non-brain', '#a0522d', 6),
    'L': ('Lesion', '#ff0000', 7),
    'CGM': ('Cortical Gray Matter', '#00bfff', 8),
    'SGM': ('Subcortical Gray Matter', '#32cd32', 9),
    'DGM': ('Deep Gray Matter', '#32cd32', 9),
    'BS': ('Brainstem', '#ff5a5a', 10),
    'CBM': ('Cerebellum', '#ff69b4', 11),
}


def write_dataset_description(
    root: Path, bids_dir: Path, derivatives: Mapping[str, Path] | None = None
) -> Path:
    """Write `dataset_description.json`.

    Links of an earlier run into the same folder are kept, so that its BIDS-URIs stay valid; those
    of runs at the same time as well.

    Args:
        root: Root of the derivatives.
        bids_dir: Root of the input, whose DOI and licence are passed on.
        derivatives: Datasets whose masks were used, by name.

    Returns:
        Path of the file.
    """
    raw = _read_json(bids_dir / 'dataset_description.json')
    path = root / 'dataset_description.json'
    sources = {'raw': bids_dir, **(derivatives or {})}
    links = {name: _uri(folder, root) for name, folder in sources.items()}
    with locked(root / LOCK):
        description = _description(root, raw, links, _read_json(path))
        return write_text(path, json.dumps(description, indent=2, ensure_ascii=False) + '\n')


def _description(
    root: Path, raw: Mapping[str, Any], links: dict[str, str], earlier: Mapping[str, Any]
) -> dict[str, Any]:
    for program in earlier.get('GeneratedBy', []):
        if program.get('Name') == 'bids_segsr' and program.get('Version') != __version__:
            logger.warning(
                '%s: made by version %s, this is %s', root, program.get('Version'), __version__
            )
    description: dict[str, Any] = {
        'Name': 'bids_segsr: isotropic super-resolution and cortex segmentation of brain MRI',
        'BIDSVersion': BIDS_VERSION,
        'DatasetType': 'derivative',
        'GeneratedBy': [_program()],
        'HowToAcknowledge': 'Cite the papers and the software named in logs/CITATION.md.',
        'SourceDatasets': [_source(raw, links['raw'])],
        'DatasetLinks': earlier.get('DatasetLinks', {}) | links,
    }
    if raw.get('License'):
        description['License'] = raw['License']
    return description


def write_bidsignore(root: Path) -> Path:
    """Write `.bidsignore`, keeping the lines that it holds already.

    Args:
        root: Root of the derivatives.

    Returns:
        Path of the file.
    """
    path = root / '.bidsignore'
    with locked(root / LOCK):
        lines = path.read_text(encoding='utf-8').splitlines() if path.is_file() else []
        lines += [pattern for pattern in IGNORED if pattern not in lines]
        return write_text(path, '\n'.join(lines) + '\n')


def write_dseg_tsv(root: Path, labels: Mapping[int, str], seg: str | None = None) -> Path:
    """Write `dseg.tsv`, the look-up table of the hard segmentations of the dataset.

    Args:
        root: Root of the derivatives.
        labels: Value in the segmentation to structure, by the name or the abbreviation that BIDS
            gives it; any other structure stands for itself and maps to nothing.
        seg: Label of the segmentation that the table is for; None for those without one.

    Returns:
        Path of the file.
    """
    name = f'seg-{seg}_dseg.tsv' if seg else 'dseg.tsv'
    return write_text(root / name, dseg_table(labels))


def dseg_table(labels: Mapping[int, str]) -> str:
    """Return the text of such a table; see `write_dseg_tsv`."""
    rows = ['index\tname\tabbreviation\tcolor\tmapping']
    for index, label in sorted(labels.items()):
        rows.append(f'{index}\t' + '\t'.join(structure(label)))
    return '\n'.join(rows) + '\n'


def structure(label: str) -> tuple[str, str, str, str]:
    """Return name, abbreviation, colour and standard index of a structure.

    Args:
        label: Its name or abbreviation; of any other, all but the name are `n/a`.
    """
    spelled = label.lower().replace('grey', 'gray')
    for abbreviation, (name, colour, mapping) in STANDARD_LABELS.items():
        if spelled in (name.lower(), abbreviation.lower()):
            return name, abbreviation, colour, str(mapping)
    return label, 'n/a', 'n/a', 'n/a'


def _program() -> dict[str, Any]:
    program: dict[str, Any] = {'Name': 'bids_segsr', 'Version': __version__}
    if url := _code_url():
        program['CodeURL'] = url
    if tag := os.environ.get('BIDS_SEGSR_DOCKER_TAG'):
        program['Container'] = {'Type': 'docker', 'Tag': f'bids_segsr:{tag}'}
    elif url := os.environ.get('BIDS_SEGSR_SINGULARITY_URL'):
        program['Container'] = {'Type': 'singularity', 'URI': url}
    return program


def _code_url() -> str | None:
    """Return the project's address, when the installed package states one."""
    try:
        urls = metadata('bids-segsr').get_all('Project-URL', [])
    except PackageNotFoundError:
        return None
    return urls[0].partition(', ')[2] if urls else None


def _source(raw: Mapping[str, Any], link: str) -> dict[str, str]:
    doi = str(raw.get('DatasetDOI', '')).removeprefix('doi:')
    if not doi:
        return {'URL': link}
    if doi.startswith('http'):
        return {'URL': doi}
    return {'URL': f'https://doi.org/{doi}', 'DOI': doi}


def _uri(folder: Path, root: Path) -> str:
    """Return a link that stays valid when a dataset is moved with the derivatives inside."""
    folder, root = folder.resolve(), root.resolve()
    if folder in root.parents:
        return os.path.relpath(folder, root)
    return folder.as_uri()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
