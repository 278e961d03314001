"""The figures and tables of one image in the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bids_segsr.workflows.image import IMAGE_FIELDS, has_cortex
from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_segsr.bids.names import derivative_name
from bids_segsr.interfaces.bids import SaveDerivative
from bids_segsr.interfaces.reports import (
    BeforeAfterReport,
    FidelityReport,
    ImageSummary,
    MaskReport,
    QCTable,
    SegmentationReport,
    UncertaintyReport,
    Viewer,
)
from bids_segsr.reports.summary_html import SHOWN_METADATA

if TYPE_CHECKING:
    from bids_segsr.bids.query import Scan
    from bids_segsr.zoo.card import ModelCard


def init_figures_wf(
    *,
    root: Path,
    scan: Scan,
    file_name: str,
    card: ModelCard,
    masked: bool,
    corrected: bool,
    fine_gb: float,
    name: str = 'figures',
) -> LiterateWorkflow:
    """Build the graph that draws the report of one image.

    Args:
        root: Root of the derivatives.
        scan: The scan.
        file_name: Its path relative to the dataset.
        card: Card of the model.
        masked: Whether there is a brain mask to show.
        corrected: Whether there is a correction of the bias field to show.
        fine_gb: Memory of one float32 map on the isotropic grid, in GB.
        name: Name of the workflow.

    Inputs:
        the fields of `workflows.image.IMAGE_FIELDS`, at `inputnode`.

    Outputs:
        none; files are written below `root`.
    """
    workflow = LiterateWorkflow(name=name)
    inputnode = pe.Node(niu.IdentityInterface(fields=list(IMAGE_FIELDS)), name='inputnode')
    told = {key: scan.metadata[key] for key in SHOWN_METADATA if key in scan.metadata}
    summary = ImageSummary(file_name=file_name, metadata=told)
    figures = {
        'summary': (
            summary,
            {'qc': 'qc_file', 'scan': 'scan_file', 'superresolved': 'fine_file'},
        ),
        'superresolution': (
            BeforeAfterReport(before_label='Interpolated', after_label='Super-resolved'),
            {
                'interpolated': 'before',
                'superresolved': 'after',
                'fine_mask': 'mask_file',
                'scan': 'scan_file',
            },
        ),
        'fidelity': (
            FidelityReport(),
            {'residual': 'residual_file', 'preproc': 'in_file', 'brain_mask': 'mask_file'},
        ),
        'viewer': (
            Viewer(title=scan.label, names=_tissues(card)),
            {
                'superresolved': 'in_file',
                'interpolated': 'interpolated_file',
                'fine_mask': 'mask_file',
                'preproc': 'scan_file',
                'residual': 'residual_file',
            },
        ),
        'qc': (QCTable(), {'qc': 'qc_file'}),
    }
    if corrected:
        figures['n4'] = (
            BeforeAfterReport(before_label='Acquired', after_label='Bias-corrected'),
            {'scan': 'before', 'preproc': 'after', 'brain_mask': 'mask_file'},
        )
    if masked:
        figures['brainmask'] = (MaskReport(), {'preproc': 'in_file', 'brain_mask': 'mask_file'})
    if has_cortex(card):
        tissues = 'regions' if card.regions else 'dseg'
        figures['viewer'][1][tissues] = 'segmentation_file'
        figures['segmentation'] = (
            SegmentationReport(names=_tissues(card)),
            {
                'superresolved': 'in_file',
                tissues: 'segmentation_file',
                'scan': 'scan_file',
            },
        )
        figures['uncertainty'] = (
            UncertaintyReport(),
            {
                'entropy': 'entropy_file',
                'disagreement': 'disagreement_file',
                'superresolved': 'in_file',
                'scan': 'scan_file',
            },
        )

    suffix = scan.entities['suffix']
    for desc, (interface, fields) in figures.items():
        draw = pe.Node(interface, name=f'draw_{desc}', mem_gb=0.5 + 6 * fine_gb)
        workflow.connect([(inputnode, draw, list(fields.items()))])
        extension = '.html' if desc in ('summary', 'qc', 'viewer') else '.svg'
        outputs = [('out_report', desc, extension)]
        if desc == 'viewer':
            outputs.append(('thumbnail', 'thumbnail', '.jpg'))
        for field, label, extension in outputs:
            target = derivative_name(
                scan.entities, suffix=suffix, datatype='figures', desc=label, extension=extension
            )
            save = pe.Node(
                SaveDerivative(base_directory=str(root), name=str(target)),
                name=f'save_{label}',
                run_without_submitting=True,
            )
            workflow.connect([(draw, save, [(field, 'in_file')])])
    return workflow


def _tissues(card: ModelCard) -> dict[int, str]:
    """Return what the labels of the segmentation that is drawn are called."""
    return dict(enumerate(card.regions, start=1)) if card.regions else dict(card.labels)
