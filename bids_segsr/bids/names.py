"""Names of derivatives: entity order of BIDS 1.11, patterns kept as data in `io_spec.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any

LABEL = re.compile(r'[a-zA-Z0-9+]+')


def derivative_name(
    entities: Mapping[str, str],
    *,
    suffix: str,
    extension: str = '.nii.gz',
    datatype: str = 'anat',
    space: str | None = None,
    seg: str | None = None,
    res: str | None = None,
    label: str | None = None,
    desc: str | None = None,
) -> PurePosixPath:
    """Name a derivative of a scan.

    Args:
        entities: Entities of the scan by their long names (`Scan.entities`); what identifies the
            scan (subject, session, acquisition, run, ...) is kept, the rest is not used.
        suffix: BIDS suffix of the derivative.
        extension: With its leading dot.
        datatype: 'anat', or 'figures' for a figure of the report (no session folder).
        space: Label of the reference space.
        seg: Label of the segmentation.
        res: Label of the resolution, see `resolution_label`.
        label: Label of the one structure.
        desc: Description label.

    Returns:
        Path relative to the root of the derivatives, such as
        `sub-01/ses-02/anat/sub-01_ses-02_res-0p5mm_dseg.nii.gz`.

    Raises:
        ValueError: If a label is not alphanumeric or no pattern fits.
    """
    from bids.layout.writing import build_path

    values: dict[str, Any] = {key: entities[key] for key in scan_entities() if key in entities}
    values |= {'space': space, 'seg': seg, 'res': res, 'label': label, 'desc': desc}
    for key, value in values.items():
        if value is not None and not LABEL.fullmatch(str(value)):
            raise ValueError(f'{key}-{value}: a BIDS label is alphanumeric')
    values |= {'suffix': suffix, 'extension': extension, 'datatype': datatype}
    path = build_path(values, _specification()['patterns'], strict=True)
    if path is None:
        raise ValueError(f'no name for datatype {datatype!r} with extension {extension!r}')
    return PurePosixPath(path)


def output_entities(suffix: str, resolution: float, model: str) -> dict[str, dict[str, str]]:
    """Tell how the files of an image are named, whoever writes them.

    Args:
        suffix: BIDS suffix of the image.
        resolution: Of the isotropic grid in mm.
        model: Name of the model.

    Returns:
        What is written to entities and suffix (and extension, unless it is an image).
    """
    res, desc = resolution_label(resolution), model_label(model)
    return {
        'preproc': {'suffix': suffix, 'desc': 'preproc'},
        'brain_mask': {'suffix': 'mask', 'desc': 'brain'},
        'superresolved': {'suffix': suffix, 'res': res, 'desc': desc},
        'probability': {'suffix': 'probseg', 'res': res, 'label': 'CGM'},
        'structure_mask': {'suffix': 'mask', 'res': res, 'label': 'CGM'},
        'dseg': {'suffix': 'dseg', 'res': res},
        'regions': {'suffix': 'dseg', 'res': res, 'seg': 'regions'},
        'entropy': {'suffix': 'map', 'res': res, 'desc': 'entropy'},
        'disagreement': {'suffix': 'map', 'res': res, 'desc': 'disagreement'},
        'residual': {'suffix': 'map', 'desc': 'residual'},
        'qc': {'suffix': 'qc', 'extension': '.json'},
    }


def plain_name(stem: str, entities: Mapping[str, str]) -> str:
    """Name a file of an image that is in no BIDS dataset: as there, after the image's own name.

    Args:
        stem: What the name begins with.
        entities: One of `output_entities`.
    """
    labels = [
        f'{key}-{entities[key]}' for key in ('seg', 'res', 'label', 'desc') if key in entities
    ]
    extension = entities.get('extension', '.nii.gz')
    return '_'.join([stem, *labels, entities['suffix']]) + extension


def scan_label(entities: Mapping[str, str]) -> str:
    """Return the name of a scan without folder and extension, such as `sub-01_run-1_T2w`.

    Args:
        entities: Entities by their long names, with the suffix.

    Raises:
        ValueError: If a label is not alphanumeric.
    """
    name = derivative_name(entities, suffix=entities['suffix']).name
    return name.removesuffix('.nii.gz')


def graph_name(label: str) -> str:
    """Return the name of the graph of a scan: Nipype takes word characters and hyphens.

    Args:
        label: Name of the scan, see `scan_label`; a `+` in it becomes two hyphens.
    """
    return f'{label.replace("+", "--")}_wf'


def graph_of_node(node: str) -> str:
    """Return the part of a Nipype node's full name that is the graph of a scan, or ''.

    Args:
        node: Such as `bids_segsr_wf.sub-01_T2w_wf.image.conform`.
    """
    found = (part for part in node.split('.') if re.fullmatch('sub-.+_wf', part))
    return next(found, '')


def label_of_node(node: str) -> str:
    """Return the name of the scan that a Nipype node works on, or ''.

    Args:
        node: Full name of the node.
    """
    name = graph_of_node(node).removesuffix('_wf')

    # of an odd number of hyphens, the first one stands between key and label
    def hyphens(run: re.Match[str]) -> str:
        return '-' * (len(run[0]) % 2) + '+' * (len(run[0]) // 2)

    return re.sub('-{2,}', hyphens, name)


def derivatives_of(root: Path, label: str) -> list[Path]:
    """Find what earlier runs, of whatever model and resolution, wrote of a scan.

    Args:
        root: Root of the derivatives.
        label: Name of the scan, see `scan_label`.

    Returns:
        Images, sidecars and QC file; files of other names in the same folder are not among them.
    """
    start, _, suffix = label.rpartition('_')
    session = re.match(r'sub-[^_]+_(ses-[^_]+)', label)
    folder = root / label.split('_')[0] / (session[1] if session else '') / 'anat'
    free = 'X0X'  # stands for any resolution and any model
    written = output_entities(suffix, 1.0, free).values()
    names = [
        plain_name(start, given | ({'res': free} if 'res' in given else {})) for given in written
    ]
    stems = (re.escape(name.partition('.')[0]).replace(free, '[^_]+') for name in names)
    own = re.compile(rf'(?:{"|".join(stems)})\.(?:nii\.gz|json)')
    return sorted(path for path in folder.glob(f'{start}_*') if own.fullmatch(path.name))


def bids_uri(dataset: str, relative: str | PurePosixPath | Path) -> str:
    """Return a BIDS-URI.

    Args:
        dataset: Key of `DatasetLinks`, or '' for the dataset that holds the sidecar.
        relative: Path relative to the root of that dataset.

    Returns:
        Such as `bids:raw:sub-01/anat/sub-01_T2w.nii.gz`.
    """
    return f'bids:{dataset}:{PurePosixPath(relative)}'


def resolution_label(mm: float) -> str:
    """Return the `res` label of a voxel size in mm: 0.5 gives `0p5mm`."""
    return f'{mm:g}mm'.replace('.', 'p')


def model_label(name: str) -> str:
    """Return the `desc` label of a model: its letters and digits.

    Raises:
        ValueError: If the name has none.
    """
    label = re.sub(r'[^a-zA-Z0-9]', '', name)
    if not label:
        raise ValueError(f'{name!r} has no letter or digit for a BIDS label')
    return label


def scan_entities() -> tuple[str, ...]:
    """Return the entities, in BIDS order, that tell the scans of a dataset apart."""
    return tuple(_specification()['entities'])


@cache
def _specification() -> dict[str, list[str]]:
    text = files('bids_segsr.bids').joinpath('io_spec.json').read_text(encoding='utf-8')
    specification: dict[str, list[str]] = json.loads(text)
    return specification
