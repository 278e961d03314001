"""What is kept of one image, under which name and with which sidecar."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_segsr.workflows.image import IMAGE_FIELDS, has_cortex
from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_segsr.bids import sidecars
from bids_segsr.bids.names import bids_uri, derivative_name, model_label, resolution_label
from bids_segsr.interfaces.bids import SaveDerivative

if TYPE_CHECKING:
    from bids_segsr.bids.query import Scan
    from bids_segsr.zoo.card import ModelCard

KNOWN_AFTER = {
    'preproc': {'header_notes': 'HeaderNotes', 'stripped': 'SkullStripped'},
    'brain_mask': {'skull_strip': 'Method'},
    'superresolved': {'device': 'Device'},
    'probability': {'device': 'Device'},
    'entropy': {'device': 'Device'},
    'disagreement': {'device': 'Device'},
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
    name: str = 'derivatives',
) -> pe.Workflow:
    """Build the graph that writes the derivatives of one image.

    Args:
        root: Root of the derivatives.
        scan: The scan; its entities are kept in every name.
        raw_uri: BIDS-URI of the scan.
        mask_uri: BIDS-URI of the brain mask that was given, or None.
        provenance: How the images are made.
        card: Card of the model.
        name: Name of the workflow.

    Returns:
        A workflow whose `inputnode` takes `workflows.image.IMAGE_FIELDS`.
    """
    suffix = scan.entities['suffix']
    res, desc = resolution_label(provenance.resolution), model_label(card.name)
    names = {
        'preproc': _name(scan, suffix, desc='preproc'),
        'brain_mask': _name(scan, 'mask', desc='brain'),
        'superresolved': _name(scan, suffix, res=res, desc=desc),
        'probability': _name(scan, 'probseg', res=res, label='CGM'),
        'dseg': _name(scan, 'dseg', res=res),
        'structure_mask': _name(scan, 'mask', res=res, label='CGM'),
        'regions': _name(scan, 'dseg', seg='regions', res=res),
        'entropy': _name(scan, 'map', res=res, desc='entropy'),
        'disagreement': _name(scan, 'map', res=res, desc='disagreement'),
        'residual': _name(scan, 'map', desc='residual'),
        'qc': _name(scan, 'qc', extension='.json'),
    }
    masked = provenance.skull_stripped
    preproc, image, probseg = (
        bids_uri('', names[key]) for key in ('preproc', 'superresolved', 'probability')
    )
    seen = [preproc, bids_uri('', names['brain_mask'])] if masked else [preproc]
    cortex = 'the cortical grey matter'
    metadata: dict[str, dict[str, Any]] = {
        'preproc': sidecars.preprocessed_scan([raw_uri, *([mask_uri] if mask_uri else [])]),
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
        metadata['dseg'] = sidecars.segmentation(provenance, [probseg], cortex)
        metadata['structure_mask'] = sidecars.structure_mask(provenance, [probseg], cortex)
    if card.regions:
        metadata['regions'] = sidecars.segmentation(provenance, seen, 'regions')

    workflow = pe.Workflow(name=name)
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


def _name(scan: Scan, suffix: str, **entities: str) -> Path:
    return Path(derivative_name(scan.entities, suffix=suffix, **entities))
