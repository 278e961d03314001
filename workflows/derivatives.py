"""What is kept of one image, under which name and with which sidecar."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_segsr.workflows.image import IMAGE_FIELDS, has_cortex
from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_segsr.bids import sidecars
from bids_segsr.bids.names import bids_uri, derivative_name, output_entities
from bids_segsr.interfaces.bids import SaveDerivative

if TYPE_CHECKING:
    from bids_segsr.bids.query import Scan
    from bids_segsr.zoo.card import ModelCard

KNOWN_AFTER = {
    'preproc': {'header_notes': 'HeaderNotes', 'stripped': 'SkullStripped'},
    'brain_mask': {'skull_strip': 'Method'},
    'superresolved': {'device': 'Device', 'precision': 'Precision'},
    'probability': {'device': 'Device', 'precision': 'Precision'},
    'entropy': {'device': 'Device', 'precision': 'Precision'},
    'disagreement': {'device': 'Device', 'precision': 'Precision'},
}
"""Sidecar entries that are known after the run only: field of the image to BIDS name."""


def init_derivatives_wf(
    *,
    root: Path,
    scan: Scan,
    raw_uri: str,
    mask_uri: str | None,
    provenance: sidecars.Provenance,
    card: ModelCard,
    masked: bool,
    name: str = 'derivatives',
) -> LiterateWorkflow:
    """Build the graph that writes the derivatives of one image.

    Args:
        root: Root of the derivatives.
        scan: The scan; its entities are kept in every name.
        raw_uri: BIDS-URI of the scan.
        mask_uri: BIDS-URI of the brain mask that was given, or None.
        provenance: How the images are made.
        card: Card of the model.
        masked: Whether there is a brain mask.
        name: Name of the workflow.

    Inputs:
        the fields of `workflows.image.IMAGE_FIELDS`, at `inputnode`.

    Outputs:
        none; files are written below `root`.
    """
    suffix = scan.entities['suffix']
    written = output_entities(suffix, provenance.processing['resolution'], card.name)
    names = {
        key: Path(derivative_name(scan.entities, **entities)) for key, entities in written.items()
    }
    preproc, image, probseg, regions = (
        bids_uri('', names[key]) for key in ('preproc', 'superresolved', 'probability', 'regions')
    )
    drawn = [regions if provenance.classes else probseg]
    stripped = provenance.skull_stripped
    seen = [preproc, bids_uri('', names['brain_mask'])] if stripped else [preproc]
    cortex = 'the cortical grey matter'
    metadata: dict[str, dict[str, Any]] = {
        'preproc': sidecars.preprocessed_scan(
            provenance, [raw_uri, *([mask_uri] if mask_uri else [])]
        ),
        'superresolved': sidecars.superresolved_image(provenance, seen),
        'residual': sidecars.residual_map(provenance, [image, preproc]),
        'qc': {},
    }
    if masked:
        metadata['brain_mask'] = sidecars.brain_mask([mask_uri or preproc])
    if has_cortex(card):
        metadata['entropy'] = sidecars.uncertainty_map(provenance, [probseg], 'entropy')
        metadata['disagreement'] = sidecars.uncertainty_map(provenance, seen, 'disagreement')
        metadata['probability'] = sidecars.probability(provenance, seen, cortex)
        metadata['dseg'] = sidecars.segmentation(provenance, drawn, cortex)
        metadata['structure_mask'] = sidecars.structure_mask(provenance, drawn, cortex)
    if card.regions:
        metadata['regions'] = sidecars.segmentation(provenance, seen, 'regions')

    workflow = LiterateWorkflow(name=name)
    inputnode = pe.Node(niu.IdentityInterface(fields=list(IMAGE_FIELDS)), name='inputnode')
    for field, sidecar in metadata.items():
        node = pe.Node(
            SaveDerivative(
                sidecar_fields=list(KNOWN_AFTER.get(field, {}).values()),
                base_directory=str(root),
                name=str(names[field]),
                metadata=sidecar,
            ),
            name=f'save_{field}',
            run_without_submitting=True,
        )
        workflow.connect([
            (inputnode, node, [(field, 'in_file'), *KNOWN_AFTER.get(field, {}).items()])
        ])  # fmt: skip
    return workflow
