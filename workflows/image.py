"""The graph of one image: scan, bias field, brain mask, grid, network, segmentation, checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_segsr.imaging.bias_field import THREADS as N4_THREADS
from bids_segsr.interfaces.imaging import BrainMask, Conform, CorrectBiasField, Interpolate
from bids_segsr.interfaces.inference import SuperResolve
from bids_segsr.interfaces.quality import CollectQC, FidelityCheck

if TYPE_CHECKING:
    from pathlib import Path

    from bids_segsr.inference.processing import Processing
    from bids_segsr.zoo.card import ModelCard

IMAGE_FIELDS = {
    'scan': 'the scan, its header mended',
    'preproc': 'the bias-corrected scan',
    'brain_mask': 'brain mask on the grid of the scan',
    'interpolated': 'cubic B-spline of the scan on the isotropic grid',
    'fine_mask': 'brain mask on the isotropic grid',
    'superresolved': 'the image that the network restored',
    'probability': 'probability of the cortex',
    'dseg': 'the cortex as a label',
    'structure_mask': 'the cortex as a mask',
    'regions': 'number of the likeliest tissue',
    'entropy': 'entropy of the network',
    'disagreement': 'disagreement of overlapping patches',
    'residual': 'the result seen through the forward model, minus the scan',
    'qc': 'the QC record (JSON)',
    'device': 'where the network ran',
    'precision': 'in what precision',
    'skull_strip': 'how the brain mask came about',
    'stripped': 'whether the scan itself holds the brain alone',
    'header_notes': 'what was mended in the header',
}
"""What is known of one image when its graph has run: files, unless they are words."""


def has_cortex(card: ModelCard) -> bool:
    """Tell whether the second output channel is the probability of the cortex."""
    return len(card.channels) > 1


@dataclass(frozen=True)
class Resources:
    """What one node may use.

    Attributes:
        omp_nthreads: Threads.
        memory_gb: Memory by node (`inference.step_memory.memory_of_steps`).
        use_gpu: Whether the network node takes a GPU slot.
    """

    omp_nthreads: int
    memory_gb: Mapping[str, float]
    use_gpu: bool


def init_image_wf(
    *,
    scan: Path,
    mask: Path | None,
    modality: str,
    processing: Processing,
    card: ModelCard,
    model: str,
    facts: dict[str, Any],
    resources: Resources,
    methods: str,
    name: str,
) -> LiterateWorkflow:
    """Build the graph of one image.

    SegSRGAN (2020, Fig. 2): the scan is interpolated, a network restores and segments it; around
    it stand what a hospital's scan needs before, and what its reader needs after. Each node runs a
    function of `inference.steps`.

    Args:
        scan: The scan as acquired.
        mask: Existing brain mask on its grid, or None.
        modality: BIDS suffix of the scan.
        processing: Settled choices (`inference.steps.settle`).
        card: Card of the model.
        model: Name or path that the model is loaded from.
        facts: Entries of the QC file that are known already.
        resources: Memory and threads of the nodes.
        methods: What the methods text tells of these steps (`inference.methods_text.image_text`).
        name: Name of the workflow.

    Inputs:
        none; the scan and its mask are arguments.

    Outputs:
        the fields of `IMAGE_FIELDS`, at `outputnode`. A model without segmentation leaves
        `probability`, `dseg`, `structure_mask`, `entropy` and `disagreement` out, one without
        tissues `regions`.
    """
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = methods
    outputnode = pe.Node(niu.IdentityInterface(fields=list(IMAGE_FIELDS)), name='outputnode')
    threads, memory_gb = resources.omp_nthreads, resources.memory_gb

    conform = pe.Node(Conform(in_file=str(scan)), name='conform', mem_gb=memory_gb['conform'])
    bias_field = pe.Node(
        CorrectBiasField(processing=processing.choices('bias_correction')),
        name='bias_field',
        mem_gb=memory_gb['bias_field'],
        n_procs=min(threads, N4_THREADS),
    )
    brain_mask = pe.Node(
        BrainMask(
            processing=processing.choices(
                'skull_strip', 'skull_strip_tool', 'skull_strip_template'
            ),
            modality=modality,
            num_threads=threads,
        ),
        name='brain_mask',
        mem_gb=memory_gb['brain_mask'],
        n_procs=threads,
    )
    if mask is not None:
        bias_field.inputs.mask_file = str(mask)
        brain_mask.inputs.mask_file = str(mask)
    interpolate = pe.Node(
        Interpolate(processing=processing.choices('resolution')),
        name='interpolate',
        mem_gb=memory_gb['interpolate'],
    )
    superresolve = pe.Node(
        SuperResolve(
            model=model,
            card_json=card.to_json(),
            processing=processing.choices(
                'slice_thickness',
                'patch_size',
                'step',
                'blending',
                'margin',
                'device',
                'threshold',
                'keep_largest',
            ),
            use_gpu=resources.use_gpu,
            num_threads=threads,
        ),
        name='superresolve',
        mem_gb=memory_gb['superresolve'],
        # a GPU node's n_procs counts GPU slots in Nipype's MultiProc
        n_procs=1 if resources.use_gpu else threads,
    )
    fidelity = pe.Node(
        FidelityCheck(processing=processing.choices('slice_thickness')),
        name='fidelity',
        mem_gb=memory_gb['fidelity'],
    )
    collect_qc = pe.Node(
        CollectQC(facts=facts, names=list(card.regions)),
        name='collect_qc',
        mem_gb=memory_gb['collect_qc'],
    )

    workflow.connect([
        (conform, bias_field, [('out_file', 'in_file')]),
        (bias_field, brain_mask, [('out_file', 'in_file')]),
        (bias_field, interpolate, [('out_file', 'in_file')]),
        (brain_mask, interpolate, [('out_file', 'mask_file')]),
        (bias_field, superresolve, [('out_file', 'in_file')]),
        (interpolate, superresolve, [('out_file', 'fine_file'), ('mask_file', 'mask_file')]),
        (bias_field, fidelity, [('out_file', 'scan_file')]),
        (interpolate, fidelity, [('out_file', 'fine_file'), ('mask_file', 'mask_file')]),
        (superresolve, fidelity, [('out_file', 'in_file')]),
        (conform, collect_qc, [('notes', 'header_notes')]),
        (bias_field, collect_qc, [('out_file', 'scan_file')]),
        (brain_mask, collect_qc, [('method', 'skull_strip')]),
        (interpolate, collect_qc, [('mask_file', 'mask_file')]),
        (superresolve, collect_qc, [('device', 'device'), ('precision', 'precision'),
                                    ('warnings', 'warnings')]),
        (fidelity, collect_qc, [('qc', 'fidelity')]),
        (conform, outputnode, [('out_file', 'scan'), ('notes', 'header_notes')]),
        (bias_field, outputnode, [('out_file', 'preproc')]),
        (brain_mask, outputnode, [('out_file', 'brain_mask'), ('method', 'skull_strip'),
                                  ('stripped', 'stripped')]),
        (interpolate, outputnode, [('out_file', 'interpolated'), ('mask_file', 'fine_mask')]),
        (superresolve, outputnode, [('out_file', 'superresolved'), ('device', 'device'),
                                    ('precision', 'precision')]),
        (fidelity, outputnode, [('residual_file', 'residual')]),
        (collect_qc, outputnode, [('out_file', 'qc')]),
    ])  # fmt: skip

    if has_cortex(card):
        workflow.connect([
            (superresolve, collect_qc, [('qc', 'segmentation'), ('entropy_file', 'entropy_file'),
                                        ('disagreement_file', 'disagreement_file')]),
            (superresolve, outputnode, [('probability_file', 'probability'),
                                        ('entropy_file', 'entropy'),
                                        ('disagreement_file', 'disagreement'),
                                        ('dseg_file', 'dseg'),
                                        ('mask_file', 'structure_mask')]),
        ])  # fmt: skip
    if card.regions:
        workflow.connect([
            (superresolve, collect_qc, [('regions_file', 'regions_file')]),
            (superresolve, outputnode, [('regions_file', 'regions')]),
        ])  # fmt: skip
    return workflow
