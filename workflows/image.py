"""The graph of one image: scan, bias field, brain mask, grid, network, segmentation, checks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_segsr.interfaces.imaging import BrainMask, Conform, CorrectBiasField, Interpolate
from bids_segsr.interfaces.inference import ArgMax, Segment, SuperResolve
from bids_segsr.interfaces.quality import CollectQC, FidelityCheck

if TYPE_CHECKING:
    from pathlib import Path

    from bids_segsr.zoo.card import ModelCard

GB_PER_VOXEL = 4e-9
"""Size of one float32 map, in GB a voxel."""

ITK_GB = 0.25
"""Interpreter and SimpleITK, before the first voxel."""

IMAGE_FIELDS = (
    'scan',
    'preproc',
    'brain_mask',
    'interpolated',
    'fine_mask',
    'superresolved',
    'probability',
    'dseg',
    'structure_mask',
    'regions',
    'entropy',
    'disagreement',
    'residual',
    'qc',
    'device',
    'skull_strip',
    'stripped',
    'header_notes',
)
"""What is known of one image when its graph has run."""


def has_cortex(card: ModelCard) -> bool:
    """Tell whether the second output channel is the probability of the cortex."""
    return len(card.channels) > 1


@dataclass(frozen=True)
class Resources:
    """What one node may use.

    Attributes:
        omp_nthreads: Threads.
        scan_gb: Memory of one float32 map on the scan's grid.
        fine_gb: Memory of one float32 map on the isotropic grid.
        brain_mask_gb: Memory of the brain mask node.
        inference_gb: Memory of the network node.
        use_gpu: Whether the network node takes a GPU slot.
    """

    omp_nthreads: int
    scan_gb: float
    fine_gb: float
    brain_mask_gb: float
    inference_gb: float
    use_gpu: bool


def map_gb(shape: tuple[int, ...]) -> float:
    """Return the memory of one float32 map of this shape in GB."""
    return math.prod(shape) * GB_PER_VOXEL


def init_image_wf(
    *,
    scan: Path,
    mask: Path | None,
    template: str | None,
    template_suffix: str,
    skull_strip: str,
    resolution: float,
    slice_thickness: float,
    card: ModelCard,
    model: str,
    patch_size: int,
    step: int,
    blending: str,
    device: str,
    threshold: float,
    keep_largest: bool,
    facts: dict[str, Any],
    resources: Resources,
    name: str,
) -> pe.Workflow:
    """Build the graph of one image.

    SegSRGAN (2020, Fig. 2): the scan is interpolated, the generator gives image and cortex at
    once; around it stand what a hospital's scan needs before, and what its reader needs after.

    Args:
        scan: The scan as acquired.
        mask: Existing brain mask on its grid, or None.
        template: TemplateFlow name of the template that is registered to find the brain; None for
            the network.
        template_suffix: Contrast of the template.
        skull_strip: `auto`, `skip` or `force`.
        resolution: Spacing of the isotropic grid in mm.
        slice_thickness: FWHM of the slice profile in mm.
        card: Card of the model.
        model: Name or path that the model is loaded from.
        patch_size: Edge of a patch in voxels; 0 for the whole volume.
        step: Distance of the patches in voxels.
        blending: `gaussian` or `uniform`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        threshold: From where on a probability counts as inside, 0 to 1.
        keep_largest: Whether smaller components are removed.
        facts: Entries of the QC file that are known already.
        resources: Memory and threads of the nodes.
        name: Name of the workflow.

    Returns:
        A workflow whose `outputnode` holds the files of the fields in `IMAGE_FIELDS`. A model
        without segmentation leaves `probability`, `dseg`, `structure_mask` and `regions` out.
    """
    workflow = pe.Workflow(name=name)
    outputnode = pe.Node(niu.IdentityInterface(fields=list(IMAGE_FIELDS)), name='outputnode')
    threads, scan_gb, fine_gb = resources.omp_nthreads, resources.scan_gb, resources.fine_gb

    conform = pe.Node(Conform(in_file=str(scan)), name='conform', mem_gb=ITK_GB + 3 * scan_gb)
    bias_field = pe.Node(
        CorrectBiasField(num_threads=threads),
        name='bias_field',
        mem_gb=ITK_GB + 8 * scan_gb,
        n_procs=threads,
    )
    brain_mask = pe.Node(
        BrainMask(mode=skull_strip, suffix=template_suffix, num_threads=threads),
        name='brain_mask',
        mem_gb=resources.brain_mask_gb,
        n_procs=threads,
    )
    if template is not None:
        brain_mask.inputs.template = template
    if mask is not None:
        bias_field.inputs.mask_file = str(mask)
        brain_mask.inputs.mask_file = str(mask)
    interpolate = pe.Node(
        Interpolate(resolution=resolution), name='interpolate', mem_gb=ITK_GB + 6 * fine_gb
    )
    superresolve = pe.Node(
        SuperResolve(
            model=model,
            card_json=card.to_json(),
            slice_thickness=slice_thickness,
            patch_size=patch_size,
            step=step,
            blending=blending,
            device=device,
            use_gpu=resources.use_gpu,
            num_threads=threads,
        ),
        name='superresolve',
        mem_gb=resources.inference_gb,
        # a GPU node's n_procs counts GPU slots in Nipype's MultiProc
        n_procs=1 if resources.use_gpu else threads,
    )
    fidelity = pe.Node(
        FidelityCheck(slice_thickness=slice_thickness),
        name='fidelity',
        mem_gb=ITK_GB + 12 * fine_gb,
    )
    collect_qc = pe.Node(CollectQC(facts=facts), name='collect_qc', mem_gb=ITK_GB + 3 * fine_gb)

    workflow.connect([
        (conform, bias_field, [('out_file', 'in_file')]),
        (bias_field, brain_mask, [('out_file', 'in_file')]),
        (bias_field, interpolate, [('out_file', 'in_file')]),
        (brain_mask, interpolate, [('out_file', 'mask_file')]),
        (bias_field, superresolve, [('out_file', 'scan_file')]),
        (interpolate, superresolve, [('out_file', 'in_file'), ('mask_file', 'mask_file')]),
        (bias_field, fidelity, [('out_file', 'scan_file')]),
        (interpolate, fidelity, [('out_file', 'interpolated_file'), ('mask_file', 'mask_file')]),
        (superresolve, fidelity, [('out_file', 'in_file')]),
        (conform, collect_qc, [('notes', 'header_notes')]),
        (bias_field, collect_qc, [('out_file', 'scan_file')]),
        (brain_mask, collect_qc, [('method', 'skull_strip')]),
        (interpolate, collect_qc, [('mask_file', 'mask_file')]),
        (superresolve, collect_qc, [('device', 'device'), ('warnings', 'warnings')]),
        (fidelity, collect_qc, [('qc', 'fidelity')]),
        (conform, outputnode, [('out_file', 'scan'), ('notes', 'header_notes')]),
        (bias_field, outputnode, [('out_file', 'preproc')]),
        (brain_mask, outputnode, [('out_file', 'brain_mask'), ('method', 'skull_strip'),
                                  ('stripped', 'stripped')]),
        (interpolate, outputnode, [('out_file', 'interpolated'), ('mask_file', 'fine_mask')]),
        (superresolve, outputnode, [('out_file', 'superresolved'), ('device', 'device')]),
        (fidelity, outputnode, [('residual_file', 'residual')]),
        (collect_qc, outputnode, [('out_file', 'qc')]),
    ])  # fmt: skip

    if has_cortex(card):
        segment = pe.Node(
            Segment(threshold=threshold, keep_largest=keep_largest, label=min(card.labels)),
            name='segment',
            mem_gb=ITK_GB + 8 * fine_gb,
        )
        workflow.connect([
            (superresolve, segment, [('probability_file', 'probability_file')]),
            (segment, collect_qc, [('qc', 'segmentation')]),
            (superresolve, collect_qc, [('entropy_file', 'entropy_file'),
                                        ('disagreement_file', 'disagreement_file')]),
            (superresolve, outputnode, [('probability_file', 'probability'),
                                        ('entropy_file', 'entropy'),
                                        ('disagreement_file', 'disagreement')]),
            (segment, outputnode, [('dseg_file', 'dseg'), ('mask_file', 'structure_mask')]),
        ])  # fmt: skip
    if card.regions:
        classes_gb = (2 * len(card.channels) + 2) * fine_gb
        regions = pe.Node(ArgMax(), name='regions', mem_gb=ITK_GB + classes_gb)
        workflow.connect([
            (superresolve, regions, [('region_files', 'probability_files')]),
            (regions, outputnode, [('dseg_file', 'regions')]),
        ])  # fmt: skip
    return workflow
