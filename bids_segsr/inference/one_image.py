"""One image without BIDS and without a workflow engine: the steps one after another, and files."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bids_segsr.bids.description import dseg_table
from bids_segsr.bids.metadata import read_sidecar
from bids_segsr.bids.names import output_entities, plain_name
from bids_segsr.bids.participants import Age
from bids_segsr.exceptions import UserError
from bids_segsr.files import write_text
from bids_segsr.imaging.nifti import image_stem
from bids_segsr.imaging.volume import Volume, load_mask, load_scan, save_volume
from bids_segsr.inference import qc_numbers, steps
from bids_segsr.inference.model_choice import choose_model, known_brain_ml
from bids_segsr.inference.predict import Prediction
from bids_segsr.inference.processing import Processing
from bids_segsr.inference.qc import check_same_image, qc_json
from bids_segsr.inference.step_memory import brain_mask_gb, check_fits, memory_of_steps
from bids_segsr.inference.verdict import judge
from bids_segsr.zoo.card import ModelCard
from bids_segsr.zoo.contract import check_guides, check_restores
from bids_segsr.zoo.find import load_model
from bids_segsr.zoo.store import TrainedModel

logger = logging.getLogger(__name__)

_NAMED = re.compile(r'(.+_)?(?P<suffix>T1w|T2w|FLAIR|PDw|T2starw|inplaneT[12]|UNIT1)')


@dataclass(frozen=True)
class Source:
    """An image and what belongs to it.

    Attributes:
        image: NIfTI file, or folder of one DICOM series.
        mask: Brain mask on the grid of the image, or None.
        guides: Images of other contrasts for a model that needs them, registered to the image, on
            any grid; their bias field is corrected too.
    """

    image: Path
    mask: Path | None = None
    guides: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """Name of the image without extension."""
        return image_stem(self.image)

    @property
    def modality(self) -> str | None:
        """BIDS suffix that the name ends with, or None."""
        named = _NAMED.fullmatch(self.name)
        return named['suffix'] if named else None

    @property
    def stem(self) -> str:
        """What the names of its results begin with: its name without the suffix."""
        return self.name.removesuffix(f'_{self.modality}')

    def outputs(self, folder: Path, resolution: float, model: str) -> dict[str, Path]:
        """Return the paths of all that may be written, by what it is (`bids.names`).

        Args:
            folder: Of the results.
            resolution: Of the isotropic grid in mm.
            model: Name of the model.
        """
        stem = self.stem
        written = output_entities(self.modality or 'image', resolution, model)
        return {key: folder / plain_name(stem, given) for key, given in written.items()} | {
            'report': folder / f'{stem}_report.html',
            'table': folder / f'{stem}_seg-regions_dseg.tsv',
        }

    def check_free(
        self, folder: Path, resolution: float, model: str, *, overwrite: bool = False
    ) -> None:
        """Refuse to overwrite.

        Args:
            folder: Of the results.
            resolution: Of the isotropic grid in mm.
            model: Name of the model.
            overwrite: Whether results of this image may be there.

        Raises:
            UserError: Something that would be written is there already, or results of another
                image.
        """
        outputs = self.outputs(folder, resolution, model)
        check_same_image(outputs['qc'], self.name)
        taken = [path for path in outputs.values() if path.exists()]
        if taken and not overwrite:
            raise UserError(f'{taken[0]}: exists already; give --overwrite, or another folder.')

    def metadata(self) -> dict[str, Any]:
        """Return what a JSON file of the same name beside the image tells."""
        sidecar = self.image.with_name(f'{self.name}.json')
        # a link that leads nowhere is told, as the App does
        there = os.path.lexists(sidecar) and not self.image.is_dir()
        return read_sidecar(sidecar) if there else {}


@dataclass(frozen=True)
class Processed:
    """What is made of one image; arrays on the scan's grid or on that of `fine`.

    Attributes:
        source: The image.
        card: Card of the model.
        chosen: The choices as they were made.
        processing: Settled choices.
        scan: As conformed.
        corrected: Bias-corrected.
        brain: Brain mask on the grid of the scan.
        method: How it came about.
        fine: The isotropic grid.
        prediction: Maps of the network.
        segmentation: None for a model that does not segment.
        residual: Of the fidelity check, on the grid of the scan.
        qc: The QC record.
    """

    source: Source
    card: ModelCard
    chosen: Processing
    processing: Processing
    scan: Volume
    corrected: Volume
    brain: np.ndarray
    method: str
    fine: steps.Fine
    prediction: Prediction
    segmentation: steps.Segmentation | None
    residual: np.ndarray
    qc: dict[str, Any] = field(default_factory=dict)

    @property
    def masked(self) -> bool:
        """Whether there is a brain mask."""
        return self.method != qc_numbers.SKIPPED


def process_image(
    source: Source,
    model: TrainedModel | str,
    processing: Processing,
    *,
    age: Age | None = None,
    mem_gb: float | None = None,
    free: Callable[[Processing, ModelCard], None] = lambda *_: None,
    tell: Callable[[str], None] = logger.info,
    progress: Callable[[str, float], None] = lambda *_: None,
) -> Processed:
    """Take one image through all steps.

    Args:
        source: The image.
        model: Generator and card, or what to load or choose them by (`model_choice`).
        processing: The choices.
        age: Of the person in the scanner, if known.
        mem_gb: Memory that may be used, GB; None for what the machine, container or job allows.
        free: Given the settled choices and the card before any work, may refuse them.
        tell: Takes what a person should know, one line each.
        progress: Takes the name of the step that runs, and the share of it that is done.

    Returns:
        What was made of it; nothing is written.

    Raises:
        UserError: The image, the mask, a guide, the model or a choice cannot be used, or a step
            takes more memory than there is.
    """
    if not isinstance(model, str):
        _check_model(model, source)
    progress('reading', 0)
    scan = steps.conform(source.image, mem_gb)
    existing = load_mask(source.mask, scan) if source.mask is not None else None
    reason = ''
    if isinstance(model, str):
        check_fits({'brain_mask': brain_mask_gb(scan.data.shape, scan.affine)}, mem_gb)
        look = processing.skull_strip != 'force'
        measure = partial(known_brain_ml, scan, existing, look=look)
        choice = choose_model(model, source.modality, age, measure)
        model, reason = load_model(choice.model), choice.reason
        _check_model(model, source)
        if reason:
            tell(f'model {model.card.name}: {reason}')
    card = model.card
    others = [load_scan(guide, mem_gb) for guide in source.guides]
    settled, warnings = steps.settle(processing, scan, source.metadata())
    free(settled, card)
    check_fits(memory_of_steps(scan.data.shape, scan.affine, card, settled), mem_gb)
    masked = existing is not None or settled.skull_strip != 'skip'
    warnings += steps.expectations(card, settled, modality=source.modality, masked=masked)
    for note in scan.notes:
        tell(note)
    for path, other in zip(source.guides, others, strict=True):
        for note in other.notes:
            tell(f'{path.name}: {note}')
        warnings += [f'{path.name}: {warning}' for warning in other.warnings]
    progress('bias field', 0)
    corrected = steps.correct(scan, settled, existing)
    progress('brain mask', 0)
    brain, method = steps.find_brain(
        corrected, settled, existing=existing, modality=source.modality
    )
    progress('interpolation', 0)
    fine = steps.interpolate(corrected, brain, settled)
    guiding = [
        steps.guide(path, other, fine, card, settled)
        for path, other in zip(source.guides, others, strict=True)
    ]
    progress('network', 0)
    prediction = steps.restore(
        model,
        corrected,
        fine,
        settled,
        guides=[data for data, _ in guiding],
        progress=partial(progress, 'network'),
    )
    progress('segmentation', 0)
    segmentation, numbers, maps = None, {}, {}
    if len(prediction.probabilities):
        spacing = [settled.resolution or 0.0] * 3
        segmentation = steps.segment(prediction.probabilities, spacing, card, settled)
        numbers = segmentation.qc
        maps = {'entropy': prediction.entropy, 'disagreement': prediction.disagreement}
    progress('fidelity check', 0)
    checked = steps.check(prediction.image, fine, corrected, settled)
    facts = qc_numbers.known_facts(
        source.name, card, settled, warnings, age, scan.lost_slices, reason
    )
    if source.guides:
        facts['guides'] = [path.name for path in source.guides]
    qc = qc_numbers.quality(
        facts=facts,
        corrected=corrected,
        mask=fine.mask,
        affine=fine.affine,
        method=method,
        device=prediction.device,
        precision=prediction.precision,
        warnings=[*(warning for _, warning in guiding if warning), *prediction.warnings],
        numbers=numbers | checked.qc,
        maps=maps,
        regions=None if segmentation is None else segmentation.regions,
        names=card.regions,
    )
    verdict = judge(qc)
    for reason in verdict.reasons:
        tell(f'WARNING: {verdict.word}: {reason}')
    for warning in qc['warnings']:
        tell(warning)
    return Processed(
        source, card, processing, settled, scan, corrected, brain, method, fine, prediction,
        segmentation, checked.residual, qc,
    )  # fmt: skip


def _check_model(model: TrainedModel, source: Source) -> None:
    """Refuse a model that does not restore images, or wants other guides."""
    check_restores(model.card)
    check_guides(model.card, len(source.guides), '--guide')


def write_result(result: Processed, outputs: dict[str, Path]) -> dict[str, Path]:
    """Write what the App would write of an image, its QC record last.

    Args:
        result: Of `process_image`.
        outputs: Paths, of `Source.outputs`.

    Returns:
        What was written: bias-corrected scan, super-resolved image and residual; brain mask where
        there is one; with a segmentation its probability, mask, labels, entropy and disagreement;
        with classes their map and its table; the QC record (JSON).

    Raises:
        UserError: A file cannot be written.
    """
    on_scan = {'preproc': result.corrected.data, 'residual': result.residual}
    on_fine = {'superresolved': result.prediction.image}
    if result.masked:
        on_scan['brain_mask'] = result.brain
    found = result.segmentation
    if found is not None:
        on_fine |= {
            'probability': result.prediction.probabilities[0],
            'structure_mask': found.cortex,
            'dseg': found.labelled(min(result.card.labels, default=1)),
            'entropy': result.prediction.entropy,
            'disagreement': result.prediction.disagreement,
        }
        if found.regions is not None:
            on_fine['regions'] = found.regions
    written = {
        key: save_volume(outputs[key], data, affine)
        for maps, affine in ((on_scan, result.scan.affine), (on_fine, result.fine.affine))
        for key, data in maps.items()
    }
    if 'regions' in written:
        names = dict(enumerate(result.card.regions, start=1))
        written['table'] = write_text(outputs['table'], dseg_table(names))
    written['qc'] = write_text(outputs['qc'], qc_json(result.qc))
    return written
