"""What is kept of an image: which files, under which names, from what."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from bids_segsr.workflows.derivatives import init_derivatives_wf
from niworkflows.engine.workflows import LiterateWorkflow
from test_card import make_card

from bids_segsr.bids.query import Scan
from bids_segsr.bids.sidecars import Provenance
from bids_segsr.inference.processing import Processing
from bids_segsr.zoo.card import ModelCard

ENTITIES = {'subject': '01', 'run': '2', 'suffix': 'T2w', 'datatype': 'anat'}
ALWAYS = {'save_preproc', 'save_superresolved', 'save_residual', 'save_qc'}
CORTEX = {
    f'save_{field}'
    for field in ('entropy', 'disagreement', 'probability', 'dseg', 'structure_mask')
}
IMAGE = make_card(
    architecture='recnn',
    options={'depth': 2, 'filters': 2},
    channels=('intensity',),
    labels={},
)
TISSUES = make_card(
    architecture='tissue-unet',
    options={'base_filters': 2, 'classes': 2},
    channels=('intensity', 'cortex', 'background', 'cortical grey matter'),
)


def graph(root: Path, card: ModelCard, *, masked: bool) -> LiterateWorkflow:
    processing = asdict(Processing().settled(resolution=0.5, slice_thickness=3.0))
    model = {'Name': card.name, 'Version': card.version, 'SHA-256': card.sha256}
    return init_derivatives_wf(
        root=root,
        scan=Scan(Path('scan.nii.gz'), ENTITIES),
        raw_uri='bids:raw:scan',
        mask_uri='bids:masks:mask' if masked else None,
        provenance=Provenance(model, processing, masked, bool(card.regions)),
        card=card,
        masked=masked,
    )


@pytest.mark.parametrize(
    ('card', 'masked', 'kept'),
    [
        (IMAGE, False, ALWAYS),
        (IMAGE, True, {*ALWAYS, 'save_brain_mask'}),
        (make_card(), False, ALWAYS | CORTEX),
        (TISSUES, True, {*ALWAYS, *CORTEX, 'save_brain_mask', 'save_regions'}),
    ],
)
def test_what_is_kept_depends_on_mask_and_model(
    tmp_path: Path, card: ModelCard, masked: bool, kept: set[str]
) -> None:
    workflow = graph(tmp_path, card, masked=masked)
    nodes = {name: workflow.get_node(name) for name in workflow.list_node_names()}
    assert set(nodes) == {'inputnode', *kept}
    names = [nodes[name].inputs.name for name in kept]
    assert len(set(names)) == len(names)
    assert all(name.startswith('sub-01/anat/sub-01_run-2_') for name in names)
    assert {nodes[name].inputs.base_directory for name in kept} == {str(tmp_path)}
    for name in kept:
        links = workflow._graph.get_edge_data(nodes['inputnode'], nodes[name])['connect']
        assert (name.removeprefix('save_'), 'in_file') in links


def test_sidecars_name_sources_and_what_is_known_after_the_run_is_connected(
    tmp_path: Path,
) -> None:
    workflow = graph(tmp_path, TISSUES, masked=True)

    def sources(field: str) -> list[str]:
        found: list[str] = workflow.get_node(f'save_{field}').inputs.metadata['Sources']
        return found

    preproc, mask = (
        f'bids::sub-01/anat/sub-01_run-2_{rest}.nii.gz'
        for rest in ('desc-preproc_T2w', 'desc-brain_mask')
    )
    assert sources('preproc') == ['bids:raw:scan', 'bids:masks:mask']
    assert sources('brain_mask') == ['bids:masks:mask']
    assert sources('superresolved') == [preproc, mask]
    # of a network that tells tissues apart, the cortex is drawn from their map
    (drawn,) = sources('dseg')
    assert drawn.endswith('_seg-regions_res-0p5mm_dseg.nii.gz')
    assert graph(tmp_path, make_card(), masked=False).get_node('save_dseg').inputs.metadata[
        'Sources'
    ] == [drawn.replace('_seg-regions_res-0p5mm_dseg', '_res-0p5mm_label-CGM_probseg')]
    inputs, saved = (workflow.get_node(name) for name in ('inputnode', 'save_superresolved'))
    assert sorted(workflow._graph.get_edge_data(inputs, saved)['connect']) == [
        ('device', 'Device'),
        ('precision', 'Precision'),
        ('superresolved', 'in_file'),
    ]
