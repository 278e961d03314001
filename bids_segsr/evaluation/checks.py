"""Before results are trusted: structures that nobody has, images that models are not made for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from bids_segsr.evaluation.cases import Case
from bids_segsr.evaluation.scores import STRUCTURAL
from bids_segsr.evaluation.systems import System
from bids_segsr.exceptions import UserError
from bids_segsr.imaging.conform import spacing_of
from bids_segsr.imaging.volume import load_map
from bids_segsr.training.data.label_volumes import LabelFacts, label_facts
from bids_segsr.training.data.subjects import Subject, content_digest
from bids_segsr.training.loop.model_card import SEEN
from bids_segsr.zoo.contract import contract_warnings

_MODALITY = re.compile(r'_(T1w|T2w|T2starw|PDw|FLAIR)\.nii')


def check_structures(
    systems: Sequence[System],
    datasets: Mapping[str, Sequence[Subject]],
    labels: Mapping[str, tuple[int, ...]],
    *,
    named: bool,
    metrics: Sequence[str] | None,
) -> None:
    """Make sure that the structures to score exist in the models and in the label images.

    Args:
        systems: What is compared.
        datasets: Name to subjects; those of the split `test` count.
        labels: Structure to its numbers in the label images.
        named: Whether the structures were asked for by name; those of a recipe or of the default
            need not all be there.
        metrics: What was asked for; None for what a protocol has by default.

    Raises:
        UserError: No model segments a structure that was asked for, or any where a measure of
            segmentations was; no label image holds a structure.
    """
    wanted = STRUCTURAL if metrics is None else [m for m in metrics if m in STRUCTURAL]
    channels = {
        name for system in systems if system.models for name in system.models[-1].card.channels[1:]
    }
    for structure in labels:
        if named and structure not in channels:
            known = f'they have {", ".join(sorted(channels))}' if channels else 'none segments'
            raise UserError(f'--label {structure}: no model has such a channel; {known}.')
    scored = {name: numbers for name, numbers in labels.items() if name in channels and numbers}
    if metrics and wanted and not scored:
        raise UserError(
            f'--metrics {wanted[0]}: no model segments {" or ".join(labels)}; give a model that '
            'does, or its channels with --label.'
        )
    tests = [s for subjects in datasets.values() for s in subjects if s.split == 'test']
    files = [subject.label for subject in tests if subject.label is not None]
    if metrics and wanted and tests and not files:
        raise UserError(
            f'--metrics {wanted[0]}: no image has a Label_image to compare with; add that column.'
        )
    if not wanted or not files:
        return
    for structure in _missing(scored, files):
        numbers = ','.join(map(str, labels[structure]))
        raise UserError(
            f'--label {structure}={numbers}: no label image of the list holds that; give its '
            'numbers there.'
        )


def labels_of_datasets(
    datasets: Mapping[str, Sequence[Subject]], labels: Mapping[str, tuple[int, ...]]
) -> dict[str, LabelFacts]:
    """Measure the label images of the datasets; one that cannot be read is told of later.

    Args:
        datasets: Name to subjects; those of the split `test` count.
        labels: Structure to its numbers in the label images.

    Returns:
        Name of each dataset with label images to what they hold.
    """
    found = {}
    for name, subjects in datasets.items():
        paths = [s.label for s in subjects if s.split == 'test' and s.label is not None]
        with suppress(UserError):
            if paths:
                found[name] = label_facts(name, paths, labels)
    return found


def model_warnings(system: System, case: Case, image: Path | None) -> list[str]:
    """Compare a simulated scan with what the models of a system were made for.

    Args:
        system: The system.
        case: The scan.
        image: File of the true image; its BIDS suffix, if it has one, tells the modality.

    Returns:
        A sentence for each expectation that is not met, and for an image that a model knows.
    """
    suffix = _MODALITY.search(image.name) if image is not None else None
    found = []
    for number, model in enumerate(system.models):
        contract = model.card.contract
        found += contract_warnings(
            model.card,
            modality=suffix[1] if suffix else None,
            resolution=max(spacing_of(case.reference.affine)),
            # the second of a pipeline sees no slices any more
            slice_thickness=case.thickness if number == 0 else contract.slice_thickness_mm[0],
            skull_stripped=True,
        )
        seen = model.card.training.get(SEEN, ())
        if image is not None and seen and content_digest(image) in seen:
            found.append(
                f'{image}: the training of {model.card.name} read this image, so that the scores '
                'tell nothing about others'
            )
    return found


def _missing(labels: Mapping[str, tuple[int, ...]], files: Sequence[Path]) -> list[str]:
    """Structures that none of some label images holds; an image that fails is told of later."""
    missing = dict(labels)
    for path in files:
        if not missing:
            break
        try:
            held = np.rint(load_map(path).data)
        except UserError:
            return []
        missing = {n: v for n, v in missing.items() if not np.isin(held, v).any()}
    return list(missing)
