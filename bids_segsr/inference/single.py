"""The whole way of one image without BIDS and without a workflow engine."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bids_segsr import __version__
from bids_segsr.exceptions import ImageError
from bids_segsr.imaging.back_projection import Slices
from bids_segsr.imaging.bias_field import correct_bias_field
from bids_segsr.imaging.components import keep_largest_component, topology
from bids_segsr.imaging.conform import slice_axis
from bids_segsr.imaging.fidelity import fidelity
from bids_segsr.imaging.resample import (
    Grid,
    auto_resolution,
    isotropic_grid,
    resample,
    resample_mask,
)
from bids_segsr.imaging.volume import Volume, load_mask, load_scan, save_volume
from bids_segsr.inference.brain_extraction import find_brain_mask
from bids_segsr.inference.predict import predict
from bids_segsr.inference.processing import Blending, Processing
from bids_segsr.zoo.contract import check_guides, check_restores, contract_warnings, mask_warnings
from bids_segsr.zoo.store import TrainedModel

logger = logging.getLogger(__name__)

WHOLE = 0.999
"""Share of the brain from which on a guide covers it."""

EDGE = 1e-3
"""Voxels that rounding may put a point beyond the edge of an image."""


@dataclass(frozen=True)
class Options:
    """How one image is processed; see the App's flags of the same names.

    Attributes:
        resolution: Spacing of the isotropic grid in mm; None for automatic.
        slice_thickness: FWHM of the slice profile in mm; None for the distance of the slices.
        patch_size: Edge of a patch in voxels; 0 for the whole volume, None for the default.
        step: Distance of the patches in voxels; None for the default.
        blending: `gaussian` or `uniform`.
        threshold: From where on a probability counts as cortex, 0 to 1.
        keep_largest: Whether smaller components are removed.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        skull_strip: `auto`, `skip` or `force`.
        skull_strip_template: TemplateFlow name of the template that is registered to find the
            brain; None for the model `brain-mask`.
    """

    resolution: float | None = None
    slice_thickness: float | None = None
    patch_size: int | None = None
    step: int | None = None
    blending: Blending = 'gaussian'
    threshold: float = 0.5
    keep_largest: bool = False
    device: str = 'auto'
    skull_strip: str = 'auto'
    skull_strip_template: str | None = None


def predict_file(
    image: Path,
    output: Path,
    model: TrainedModel,
    options: Options,
    *,
    mask: Path | None = None,
    guides: Sequence[Path] = (),
    tell: Callable[[str], None] = logger.info,
    progress: bool = False,
) -> list[Path]:
    """Super-resolve and segment one image.

    Args:
        image: NIfTI file, or folder of one DICOM series.
        output: Folder for the results, made if missing.
        model: Generator and card.
        options: How it is processed.
        mask: Brain mask on the grid of the image.
        guides: Images of other contrasts for a model that needs them, registered to the image, on
            any grid; their bias field is corrected too.
        tell: Takes a line about each step.
        progress: Show a progress bar of the network.

    Returns:
        The files: super-resolved image; with a segmentation the mask, the probability map and the
        entropy map; with region classes their map; the QC numbers (JSON) last.

    Raises:
        UserError: The image, the mask, a guide, the model or an option cannot be used.
    """
    check_restores(model.card)
    check_guides(model.card, len(guides), '--guide')
    scan = load_scan(image)
    others = [load_scan(guide) for guide in guides]
    existing = load_mask(mask, scan) if mask is not None else None
    for note in scan.notes:
        tell(note)
    for guide, other in zip(guides, others, strict=True):
        for note in (*other.notes, *other.warnings):
            tell(f'{guide.name}: {note}')
    tell('bias field')
    corrected = correct_bias_field(scan.data, scan.affine, existing)
    tell('brain mask')
    brain, method = find_brain_mask(
        corrected,
        scan.affine,
        existing=existing,
        mode=options.skull_strip,
        template=options.skull_strip_template,
    )
    resolution = options.resolution or auto_resolution(scan.spacing)
    grid = isotropic_grid(scan.data.shape, scan.affine, resolution)
    inside = resample_mask(brain, scan.affine, grid)
    interpolated = np.where(inside, resample(corrected, scan.affine, grid), 0)
    guiding = [
        _on_grid(guide, other, grid, inside) for guide, other in zip(guides, others, strict=True)
    ]
    tell(f'network {model.card.name} on {grid.shape} voxels of {resolution:g} mm')
    distance = scan.spacing[slice_axis(scan.spacing)]
    thickness = options.slice_thickness or scan.slice_thickness or distance
    prediction = predict(
        model,
        interpolated,
        Slices(corrected, scan.affine, grid.affine, thickness),
        guides=[data for data, _ in guiding],
        mask=inside,
        processing=Processing(
            patch_size=options.patch_size,
            step=options.step,
            blending=options.blending,
            device=options.device,
        ),
        progress=progress,
    )
    warnings = [
        *scan.warnings,
        *mask_warnings(method),
        *contract_warnings(
            model.card,
            modality=None,
            resolution=resolution,
            slice_thickness=thickness,
            skull_stripped=method != 'skipped',
        ),
        *(warning for _, warning in guiding if warning),
        *prediction.warnings,
    ]
    for warning in warnings:
        tell(warning)
    faithful, spline = (
        fidelity(fine, grid.affine, corrected, scan.affine, inside, thickness)
        for fine in (prediction.image, interpolated)
    )
    qc = {
        'image': str(image),
        'guides': [str(guide) for guide in guides],
        'model': model.card.name,
        'model_sha256': model.card.sha256,
        'bids_segsr': __version__,
        'device': prediction.device,
        'resolution_mm': resolution,
        'slice_thickness_mm': thickness,
        'skull_strip': method,
        'fidelity_nrmse': faithful.nrmse,
        'fidelity_nrmse_spline': spline.nrmse,
        'header_notes': list(scan.notes),
        'warnings': warnings,
    }

    output.mkdir(parents=True, exist_ok=True)
    stem = image.name.removesuffix('.gz').removesuffix('.nii')
    maps = {'superresolved': prediction.image}
    if len(prediction.probabilities):
        cortex = prediction.probabilities[0] > options.threshold
        if options.keep_largest:
            cortex = keep_largest_component(cortex)
        shape = topology(cortex)
        qc['cortex_volume_ml'] = shape.voxels * resolution**3 / 1000
        qc['components'] = shape.components
        qc['largest_share'] = shape.largest_share
        maps |= {
            'cortex': cortex,
            'cortex-probability': prediction.probabilities[0],
            'entropy': prediction.entropy,
        }
    if len(prediction.probabilities) > 2:
        maps['regions'] = prediction.probabilities[1:].argmax(axis=0).astype(np.int16)
    written = [
        save_volume(output / f'{stem}_{name}.nii.gz', data, grid.affine)
        for name, data in maps.items()
    ]
    report = output / f'{stem}_qc.json'
    known = {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in qc.items()}
    report.write_text(json.dumps(known, indent=2) + '\n', encoding='utf-8')
    return [*written, report]


def _on_grid(
    path: Path, guide: Volume, grid: Grid, inside: np.ndarray
) -> tuple[np.ndarray, str | None]:
    """Bring a guide to the grid of the network, 0 where it does not reach; warn of that."""
    covered = _field_of_view(guide, grid)
    share = covered[inside].mean() if inside.any() else 0.0
    if not share:
        raise ImageError(
            f'{path}: does not overlap with the brain in the image; register it to the image.'
        )
    corrected = correct_bias_field(guide.data, guide.affine)
    data = np.where(covered, resample(corrected, guide.affine, grid), 0)
    if share >= WHOLE:
        return data, None
    return data, f'The guide {path.name} covers {share:.0%} of the brain.'


def _field_of_view(volume: Volume, grid: Grid) -> np.ndarray:
    """Voxels of a grid whose centres lie in a voxel of an image, boolean."""
    to_index = np.linalg.inv(volume.affine) @ grid.affine
    places = np.ogrid[tuple(slice(n) for n in grid.shape)]
    covered = np.ones(grid.shape, dtype=bool)
    for row, n in zip(to_index[:3], volume.data.shape, strict=True):
        index = sum(weight * place for weight, place in zip(row[:3], places, strict=True)) + row[3]
        covered &= (index > -0.5 - EDGE) & (index < n - 0.5 + EDGE)
    return covered
