"""The graph of a run: one workflow an image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bids_segsr.workflows.derivatives import init_derivatives_wf
from bids_segsr.workflows.image import IMAGE_FIELDS, Resources, init_image_wf
from bids_segsr.workflows.reportlets import init_figures_wf
from niworkflows.engine.workflows import LiterateWorkflow

from bids_segsr import __version__
from bids_segsr.bids.names import bids_uri, graph_name
from bids_segsr.bids.sidecars import Provenance
from bids_segsr.execution.preflight import model_for_scan
from bids_segsr.imaging.resample import isotropic_grid
from bids_segsr.imaging.volume import load_scan
from bids_segsr.inference import methods_text, qc_numbers, steps
from bids_segsr.inference.step_memory import map_gb, memory_of_steps
from bids_segsr.zoo.find import find_card

if TYPE_CHECKING:
    from bids_segsr.bids.query import Scan
    from bids_segsr.execution.settings import Settings


def init_bids_segsr_wf(graphs: Sequence[LiterateWorkflow]) -> LiterateWorkflow:
    """Build the graph of a run.

    Args:
        graphs: One of each image, see `init_single_image_wf`.

    Inputs:
        none.

    Outputs:
        none; `visit_desc` tells the methods text.
    """
    # another version must not take this one's results from the work directory
    workflow = LiterateWorkflow(f'bids_segsr_{re.sub("[^0-9a-zA-Z]", "_", __version__)}_wf')
    workflow.__desc__ = methods_text.opening()
    workflow.__postdesc__ = methods_text.closing()
    workflow.add_nodes(list(graphs))
    return workflow


def init_single_image_wf(
    settings: Settings,
    scan: Scan,
    *,
    masks: Sequence[str] = (),
    all_masked: bool = False,
    use_gpu: bool = False,
) -> LiterateWorkflow:
    """Build the graph of one image: its processing, derivatives and figures.

    Args:
        settings: The settings of the run, with the model named.
        scan: A scan that can be read.
        masks: Datasets that brain masks of the run were taken from, for the methods text.
        all_masked: Whether every image of the run has such a mask.
        use_gpu: Whether the network node takes a GPU slot.

    Inputs:
        none.

    Outputs:
        none; files are written below the root of the derivatives.

    Returns:
        The workflow, named after the image (`sub-01_run-1_T2w_wf`).
    """
    volume = load_scan(scan.path)
    modality = scan.entities['suffix']
    masked = scan.brain_mask is not None or settings.processing.skull_strip != 'skip'
    choice, age = model_for_scan(settings, scan, volume)
    card = find_card(choice.model)
    processing, warnings = steps.settle(settings.processing, volume, scan.metadata)
    warnings += steps.expectations(card, processing, modality=modality, masked=masked)
    grid = isotropic_grid(volume.data.shape, volume.affine, processing.resolution or 0.0)
    provenance = Provenance(
        model={'Name': card.name, 'Version': card.version, 'SHA256': card.sha256},
        processing=asdict(processing),
        skull_stripped=masked and card.contract.skull_stripped,
        classes=card.cortex_class is not None,
    )
    image_wf = init_image_wf(
        scan=scan.path,
        mask=scan.brain_mask,
        modality=modality,
        processing=processing,
        card=card,
        model=choice.model,
        facts=qc_numbers.known_facts(
            scan.label, card, processing, warnings, age, volume.lost_slices, choice.reason
        ),
        resources=Resources(
            omp_nthreads=settings.omp_nthreads,
            memory_gb=memory_of_steps(volume.data.shape, volume.affine, card, processing),
            use_gpu=use_gpu,
        ),
        methods=methods_text.image_text(
            card, settings.processing, modality=modality, masks=masks, all_masked=all_masked
        ),
        name='image',
    )
    root = settings.derivatives_root
    file_name = scan.path.relative_to(settings.bids_dir)
    derivatives_wf = init_derivatives_wf(
        root=root,
        scan=scan,
        raw_uri=bids_uri('raw', file_name),
        mask_uri=_mask_uri(scan.brain_mask, settings.derivatives),
        provenance=provenance,
        card=card,
        masked=masked,
    )
    figures_wf = init_figures_wf(
        root=root,
        scan=scan,
        file_name=str(file_name),
        card=card,
        masked=masked,
        corrected=processing.bias_correction != 'none',
        fine_gb=map_gb(grid.shape),
    )
    workflow = LiterateWorkflow(graph_name(scan.label))
    for sink in (derivatives_wf, figures_wf):
        workflow.connect([
            (image_wf, sink, [(f'outputnode.{field}', f'inputnode.{field}')])
            for field in IMAGE_FIELDS
        ])  # fmt: skip
    return workflow


def _mask_uri(mask: Path | None, derivatives: dict[str, Path]) -> str | None:
    if mask is None:
        return None
    for name, root in derivatives.items():
        if mask.is_relative_to(root):
            return bids_uri(name, mask.relative_to(root))
    return None
