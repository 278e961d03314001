"""The graph of the figures: what is drawn, from what, and what is left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from bids_segsr.workflows.reportlets import init_figures_wf
from niworkflows.engine.workflows import LiterateWorkflow
from test_card import make_card
from test_derivatives import ENTITIES, IMAGE, TISSUES

from bids_segsr.bids.query import Scan
from bids_segsr.zoo.card import ModelCard

ALWAYS = {'summary', 'superresolution', 'fidelity', 'viewer', 'qc'}


def graph(root: Path, card: ModelCard, *, masked: bool, corrected: bool) -> LiterateWorkflow:
    scan = Scan(Path('scan.nii.gz'), ENTITIES, {'EchoTime': 0.1, 'Secret': 'x'})
    return init_figures_wf(
        root=root,
        scan=scan,
        file_name='sub-01/anat/scan.nii.gz',
        card=card,
        masked=masked,
        corrected=corrected,
        fine_gb=0.1,
    )


def links(workflow: LiterateWorkflow, start: str, end: str) -> set[tuple[str, str]]:
    nodes = workflow.get_node(start), workflow.get_node(end)
    return set(workflow._graph.get_edge_data(*nodes)['connect'])


@pytest.mark.parametrize(
    ('card', 'masked', 'corrected', 'more'),
    [
        (IMAGE, False, False, set()),
        (IMAGE, True, True, {'n4', 'brainmask'}),
        (make_card(), False, True, {'n4', 'segmentation', 'uncertainty'}),
        (TISSUES, True, False, {'brainmask', 'segmentation', 'uncertainty'}),
    ],
)
def test_every_figure_is_drawn_and_saved_once(
    tmp_path: Path, card: ModelCard, masked: bool, corrected: bool, more: set[str]
) -> None:
    workflow = graph(tmp_path, card, masked=masked, corrected=corrected)
    drawn = ALWAYS | more
    assert set(workflow.list_node_names()) == {
        'inputnode',
        'save_thumbnail',
        *(f'{verb}_{desc}' for desc in drawn for verb in ('draw', 'save')),
    }
    for desc in drawn:
        assert links(workflow, f'draw_{desc}', f'save_{desc}') == {('out_report', 'in_file')}
        kind = 'html' if desc in ('summary', 'qc', 'viewer') else 'svg'
        name = workflow.get_node(f'save_{desc}').inputs.name
        assert name == f'sub-01/figures/sub-01_run-2_desc-{desc}_T2w.{kind}'
    assert links(workflow, 'draw_viewer', 'save_thumbnail') == {('thumbnail', 'in_file')}


@pytest.mark.parametrize(
    ('card', 'shown', 'names'),
    [
        (make_card(), 'dseg', {1: 'cortical grey matter'}),
        (TISSUES, 'regions', {1: 'cortical grey matter'}),
    ],
)
def test_figures_show_the_tissues_where_there_are_some(
    tmp_path: Path, card: ModelCard, shown: str, names: dict[int, str]
) -> None:
    workflow = graph(tmp_path, card, masked=True, corrected=True)
    for figure in ('viewer', 'segmentation'):
        assert (shown, 'segmentation_file') in links(workflow, 'inputnode', f'draw_{figure}')
        assert workflow.get_node(f'draw_{figure}').inputs.names == names
    assert links(workflow, 'inputnode', 'draw_n4') == {
        ('scan', 'before'),
        ('preproc', 'after'),
        ('brain_mask', 'mask_file'),
    }
    assert workflow.get_node('draw_summary').inputs.metadata == {'EchoTime': 0.1}
