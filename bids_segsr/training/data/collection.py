"""What `segsr train` reads: lists, BIDS datasets with derivatives, folders of label maps."""

from __future__ import annotations

import csv
import dataclasses
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from bids_segsr.bids.listing import EXTENSIONS
from bids_segsr.bids.names import scan_entities
from bids_segsr.bids.query import Scan, collect_scans, open_derivatives, open_layout
from bids_segsr.exceptions import UserError
from bids_segsr.imaging.conform import spacing_of
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.simulation.heads import SLICE_MM
from bids_segsr.simulation.tables import LABELLINGS
from bids_segsr.training.data.data_summary import DataFile, TrainingData
from bids_segsr.training.data.label_maps import find_label_maps
from bids_segsr.training.data.label_volumes import LabelFacts, label_facts
from bids_segsr.training.data.subjects import (
    Split,
    Subject,
    check_subjects,
    content_digest,
    read_csv,
)
from bids_segsr.training.data.suitability import check_fit
from bids_segsr.training.data_tables import LabelMaps
from bids_segsr.training.recipe import Recipe

logger = logging.getLogger(__name__)

VALIDATION_SHARE = 0.1
"""Share of the training subjects that follow the training where nothing is said."""

SPLIT_COLUMN = 'split'
"""Column of participants.tsv that is taken where none is named."""


def find_subjects(
    source: Path,
    derivatives: Path | None,
    recipe: Recipe,
    label_desc: str | None,
    split_column: str | None,
) -> list[Subject]:
    """Read the training data of a CSV list or a BIDS dataset.

    Args:
        source: CSV file or root of the dataset.
        derivatives: Root of the derivatives with segmentations, for a dataset.
        recipe: Says which contrast, and whether labels are needed.
        label_desc: The desc entity of the segmentations; None if there is one for each image.
        split_column: Column of participants.tsv with the splits; None for SPLIT_COLUMN, if it is
            there.

    Returns:
        The subjects.

    Raises:
        UserError: If files are missing or do not fit each other.
    """
    if not source.exists():
        raise UserError(f'{source}: no such file or folder; give a CSV list or a BIDS dataset')
    labelled = len(recipe.task.channels) > 1
    if not source.is_dir():
        if split_column is not None:
            raise UserError(
                f'--split-column {split_column}: goes with a BIDS dataset; '
                f'the column Base of {source} names the splits'
            )
        return read_csv(source, labelled=labelled)
    modality = recipe.task.modalities[0]
    roots = {} if derivatives is None else {'labels': derivatives}
    scans, unusable = collect_scans(open_layout(source), modality=modality, derivatives=roots)
    if unusable:
        raise UserError(unusable[0].message)
    if labelled and derivatives is None:
        raise UserError(
            f'{source}: the recipe learns a segmentation; give --derivatives with dseg images'
        )
    found = _derived(derivatives, modality) if derivatives is not None else []
    splits = _splits(source / 'participants.tsv', split_column)
    subjects = []
    for scan in scans:
        label = _label_of(scan, found, label_desc) if labelled else None
        image = scan.path if label is None else _image_on_grid(scan, label, found, modality)
        name = f'sub-{scan.subject}'
        if splits is not None and scan.subject not in splits:
            raise UserError(
                f'{source / "participants.tsv"}: {name} has no row; add one that says whether it '
                'is for train, validation or test'
            )
        split: Split = 'train' if splits is None else splits[scan.subject]
        subjects.append(Subject(name, image, label, split, mask=scan.brain_mask))
    check_subjects(subjects, source)
    return subjects


def with_validation(subjects: Sequence[Subject], recipe: Recipe, source: Path) -> list[Subject]:
    """Set subjects aside to follow the training, where there are none.

    Args:
        subjects: Of all splits.
        recipe: Its seed decides which; nobody is set aside where those that are trained on follow
            the training.
        source: For messages.

    Returns:
        The subjects; if none was for validation, a tenth of those for training (one at least) now
        are.

    Raises:
        UserError: If too few subjects are left.
    """
    trained = recipe.validation.subjects == 'trained'
    if trained or any(subject.split == 'validation' for subject in subjects):
        return list(subjects)
    names = sorted({subject.name for subject in subjects if subject.split == 'train'})
    if len(names) < 2:
        raise UserError(
            f'{source}: {len(names)} subjects to train on; give two at least, one of them is '
            'set aside to follow the training'
        )
    number = max(1, round(VALIDATION_SHARE * len(names)))
    chosen = set(np.random.default_rng(recipe.seed).permutation(names)[:number].tolist())
    logger.warning('%s: no validation subjects; drawn: %s', source, ', '.join(sorted(chosen)))
    return [
        dataclasses.replace(subject, split='validation') if subject.name in chosen else subject
        for subject in subjects
    ]


def data_of_subjects(recipe: Recipe, subjects: Sequence[Subject], source: str) -> TrainingData:
    """Check a list of subjects against a recipe, and summarise it.

    Args:
        recipe: What is trained.
        subjects: The list.
        source: Where it comes from, for messages.

    Returns:
        The summary.

    Raises:
        UserError: There is no image to train on, or see `check_fit`.
    """
    check_fit(recipe, subjects)
    if recipe.task.input_back_projection_steps:
        raise UserError(
            '[task] input_back_projection_steps: goes with images made from label maps '
            '(--label-maps); leave it out'
        )
    spacings = [
        spacing_of(nib.load(subject.image).affine)
        for subject in subjects
        if subject.split == 'train' and subject.image is not None
    ]
    if not spacings:
        raise UserError(f'{source}: no image to train on; mark some as Train')
    edges = [edge for spacing in spacings for edge in spacing]
    names = {
        split: sorted({subject.name for subject in subjects if subject.split == split})
        for split in ('train', 'validation', 'test')
    }
    thickness = slice_thickness(recipe.forward, (min(edges), max(edges)))
    files = tuple(
        DataFile(subject.split, subject.name, role, path.name, content_digest(path))
        for subject in subjects
        if subject.split != 'test'
        for role, path in subject.roles
    )
    spacing = _round(min(edges)), _round(max(edges))
    return TrainingData(source, names, spacing, thickness, files)


def data_of_label_maps(recipe: Recipe, folder: Path) -> TrainingData:
    """Summarise a folder of label maps for the card of the model."""
    if not folder.is_dir():
        raise UserError(f'{folder}: no such folder; give one with label maps')
    if recipe.heads is not None:
        found = find_label_maps(recipe.heads, folder, 'heads')
        spacing = recipe.heads.spacing_mm, recipe.heads.spacing_mm
        thickness = SLICE_MM
    else:
        settings = recipe.label_maps or LabelMaps()
        found = find_label_maps(settings, folder)
        edges = [label_map.spacing for label_map in found['train']]
        low, high = settings.deformation.voxel
        spacing = _round(min(edges) * low), _round(max(edges) * high)
        forward = recipe.forward
        if forward.spacing_mm is None and forward.factor is None:
            forward = dataclasses.replace(forward, factor=settings.acquisition.ratio)
        thickness = slice_thickness(forward, (min(edges), max(edges)))
    names = {split: [label_map.path.name for label_map in maps] for split, maps in found.items()}
    files = tuple(
        DataFile(split, '', role, path.name, content_digest(path))
        for split, maps in found.items()
        for label_map in maps
        for role, path in (('label map', label_map.path), ('image', label_map.image))
        if path is not None
    )
    return TrainingData(str(folder), names, spacing, thickness, files)


def labels_of_subjects(recipe: Recipe, subjects: Sequence[Subject], source: Path) -> LabelFacts:
    """Measure the label images of subjects; see `label_volumes.label_facts`."""
    paths = [s.label for s in subjects if s.label is not None and s.split != 'test']
    channels = recipe.task.channels[1:]
    labels = {name: numbers for name, numbers in recipe.task.labels.items() if name in channels}
    return label_facts(str(source), paths, labels) if paths and labels else LabelFacts('none', ())


def labels_of_maps(recipe: Recipe, folder: Path) -> dict[str, LabelFacts]:
    """Measure the label maps of a folder: pattern of each source of tissues to what it holds."""
    if recipe.heads is not None:
        found = find_label_maps(recipe.heads, folder, 'heads')
    else:
        found = find_label_maps(recipe.label_maps or LabelMaps(), folder)
    maps = [label_map for part in found.values() for label_map in part]
    sources = {m.source.pattern: m.source for m in maps if m.source.labelling in LABELLINGS}
    return {
        pattern: label_facts(
            pattern,
            [label_map.path for label_map in maps if label_map.source is source],
            {'cortex': (source.table or LABELLINGS[source.labelling]).get('cortex', ())},
        )
        for pattern, source in sources.items()
    }


def slice_thickness(forward: ForwardModel, spacing: tuple[float, float]) -> tuple[float, float]:
    """Return the thinnest and thickest slices that a forward model makes, mm.

    Args:
        forward: The forward model.
        spacing: Finest and coarsest spacing of the high-resolution images, mm.
    """
    if forward.spacing_mm is not None:
        return forward.spacing_mm
    factors = forward.factor or (1.0, 1.0)
    if forward.factors:
        largest = [max(axes) for axes in forward.factors]
        factors = (min(largest), max(largest))
    return _round(factors[0] * spacing[0]), _round(factors[1] * spacing[1])


def _derived(root: Path, modality: str) -> list[tuple[Path, dict[str, Any]]]:
    """Return the segmentations and images of a derivatives dataset with their entities."""
    files = open_derivatives(root).get(suffix=['dseg', modality], extension=list(EXTENSIONS))
    return sorted((Path(file.path), dict(file.entities)) for file in files)


def _label_of(
    scan: Scan, found: Sequence[tuple[Path, Mapping[str, Any]]], desc: str | None
) -> Path:
    fitting = [
        path
        for path, entities in found
        if entities.get('suffix') == 'dseg' and _same_scan(scan, entities)
        if desc is None or entities.get('desc') == desc
    ]
    if not fitting:
        raise UserError(
            f'{scan.path}: no dseg image in --derivatives has its subject and entities'
        )
    if len(fitting) > 1:
        names = ', '.join(path.name for path in fitting)
        raise UserError(
            f'{scan.path}: several segmentations fit ({names}); choose by --label-desc'
        )
    return fitting[0]


def _image_on_grid(
    scan: Scan, label: Path, found: Sequence[tuple[Path, Mapping[str, Any]]], modality: str
) -> Path:
    """Return the raw image, or the derived one if that one lies on the grid of the labels."""
    derived = [
        path
        for path, entities in found
        if entities.get('suffix') == modality and _same_scan(scan, entities)
    ]
    grid = nib.load(label)
    for path in (scan.path, *derived):
        image = nib.load(path)
        if image.shape[:3] == grid.shape[:3] and np.allclose(image.affine, grid.affine, atol=1e-2):
            return path
    raise UserError(
        f'{label}: lies on another grid than {scan.path.name} and its derivatives; '
        'resample it to one of them'
    )


def _same_scan(scan: Scan, entities: Mapping[str, Any]) -> bool:
    return all(
        str(entities.get(key)) == str(scan.entities.get(key))
        for key in scan_entities()
        # a segmentation may have been made once for all images of a session
        if key in ('subject', 'session') or entities.get(key) is not None
    )


def _splits(path: Path, named: str | None) -> dict[str, Split] | None:
    """Return the split of every participant, without `sub-`.

    None if there is no such column and none was named.
    """
    rows: list[dict[str, str]] = []
    columns: list[str] = []
    if path.is_file():
        with path.open(newline='', encoding='utf-8-sig') as file:
            reader = csv.DictReader(file, delimiter='\t')
            rows, columns = list(reader), list(reader.fieldnames or [])
    column = named or SPLIT_COLUMN
    if column not in columns:
        if named is None:
            return None
        found = f'has the columns {", ".join(columns)}' if columns else 'is not there'
        raise UserError(f'{path}: {found}, --split-column asks for {named!r}; name one of them')
    known: dict[str, Split] = {'train': 'train', 'validation': 'validation', 'test': 'test'}
    splits = {}
    for row in rows:
        value = (row[column] or '').strip().lower()
        if value not in known:
            raise UserError(
                f'{path}: {row.get("participant_id")} has {column} {row[column]!r}; '
                f'allowed are {", ".join(known)}'
            )
        splits[re.sub('^sub-', '', row.get('participant_id') or '')] = known[value]
    return splits


def _round(edge: float) -> float:
    return round(float(edge), 4)
