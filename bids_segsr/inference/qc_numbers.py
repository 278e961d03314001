"""The numbers of one image: how good scan, mask and result are, as one QC record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bids_segsr.bids.participants import Age, brain_ml_expected
from bids_segsr.bids.sidecars import software_versions
from bids_segsr.imaging.brain_mask import brightness, pieces, share_at_border, solidity
from bids_segsr.imaging.conform import slice_axis, spacing_of
from bids_segsr.imaging.measures import scan_quality
from bids_segsr.imaging.resample import Grid, resample_mask
from bids_segsr.imaging.volume import Volume
from bids_segsr.inference.processing import Processing
from bids_segsr.inference.qc import qc_record
from bids_segsr.zoo.card import ModelCard

CORTEX, WHITE_MATTER = 'cortical grey matter', 'white matter'
"""Classes whose contrast is measured."""

SKIPPED = 'skipped'
"""How a mask of every voxel came about."""


def known_facts(
    name: str,
    card: ModelCard,
    processing: Processing,
    warnings: Sequence[str],
    age: Age | None = None,
    lost_slices: int = 0,
    reason: str = '',
) -> dict[str, Any]:
    """Return the entries of the QC record that are known before the run.

    Args:
        name: Of the image.
        card: Card of the model.
        processing: Settled choices.
        warnings: Of `settle` and `expectations`.
        age: Of the participant, see `bids.participants.find_age`.
        lost_slices: How many the scan lacks.
        reason: Why this model was chosen; empty where it was given.
    """
    return {
        'bids_name': name,
        'model': card.name,
        'model_version': card.version,
        'model_sha256': card.sha256,
        'model_reason': reason or None,
        'resolution_mm': processing.resolution,
        'slice_thickness_mm': processing.slice_thickness,
        'lost_slices': lost_slices,
        'age': age.text if age else None,
        'brain_volume_expected_ml': list(brain_ml_expected(age)),
        'versions': software_versions(),
        'warnings': list(warnings),
    }


def quality(
    *,
    facts: Mapping[str, Any],
    corrected: Volume,
    mask: np.ndarray,
    affine: np.ndarray,
    method: str,
    device: str,
    warnings: Sequence[str],
    numbers: Mapping[str, Any],
    maps: Mapping[str, np.ndarray],
    precision: str = 'fp32',
    regions: np.ndarray | None = None,
    names: Sequence[str] = (),
) -> dict[str, Any]:
    """Make the QC record of an image.

    Args:
        facts: What was known before the run, see `known_facts`.
        corrected: Bias-corrected scan, with what was mended in its header.
        mask: Brain mask on the isotropic grid.
        affine: Of that grid.
        method: How the brain mask came about.
        device: Where the network ran.
        warnings: Of the network and of guides.
        numbers: Of `segment` and `check`.
        maps: Maps of uncertainty on the isotropic grid, `entropy` and `disagreement`, whose means
            inside the brain are told; a disagreement of 0 everywhere is that of one patch.
        precision: How precisely the network ran, see `predict.Prediction`.
        regions: Tissues on the isotropic grid, 0 the background; None where none are told apart.
        names: What their numbers from 1 on are called.

    Returns:
        The record, see `inference.qc`.
    """
    brain = resample_mask(mask, affine, Grid(corrected.data.shape, corrected.affine))
    signs = {}
    if method != SKIPPED:
        signs = {'brain_volume_ml': float(mask.sum() * np.prod(spacing_of(affine)) / 1000)}
        signs |= _mask_signs(corrected, brain)
    signs |= _scan_signs(corrected, brain, affine, regions, names)
    # one patch agrees with itself: that says nothing, and a mask may be finer than this grid
    told = {
        name: data
        for name, data in maps.items()
        if mask.any() and (name != 'disagreement' or data.any())
    }
    i, j, k = corrected.spacing
    known = dict(facts)
    expected = known.pop('warnings', [])
    return qc_record(
        **known,
        **numbers,
        device=device,
        precision=precision,
        spacing_i=i,
        spacing_j=j,
        spacing_k=k,
        slice_axis='ijk'[slice_axis(corrected.spacing)],
        skull_strip=method,
        **signs,
        **{f'{name}_mean': float(data[mask].mean()) for name, data in told.items()},
        header_notes=list(corrected.notes),
        warnings=[*expected, *warnings],
    )


def _mask_signs(corrected: Volume, brain: np.ndarray) -> dict[str, Any]:
    """Return shape, place and brightness of a brain mask on the grid of the scan."""
    return {
        'brain_solidity': solidity(brain, corrected.spacing),
        'brain_at_border': share_at_border(brain),
        'brain_pieces': pieces(brain),
        'brain_brightness': brightness(corrected.data, brain),
    }


def _scan_signs(
    corrected: Volume,
    brain: np.ndarray,
    affine: np.ndarray,
    regions: np.ndarray | None,
    names: Sequence[str],
) -> dict[str, Any]:
    """Return how good the scan is inside the brain; a number that cannot be had is left out.

    Args:
        corrected: Bias-corrected scan.
        brain: Brain mask on its grid.
        affine: Of the regions.
        regions: See `quality`.
        names: See there.
    """
    scan, axis = corrected.data, slice_axis(corrected.spacing)
    brain = brain & (scan > 0)
    if not brain.any():
        return {}
    noise = scan_quality.noise_level(scan, brain, axis)
    found = {
        'snr': scan_quality.snr(scan, brain, noise),
        'tissue_contrast': scan_quality.tissue_contrast(scan, brain, noise),
        'stripes': scan_quality.stripes(scan, brain, axis),
        'slice_shift_mm': scan_quality.slice_shift_mm(scan, brain, axis, corrected.spacing),
    }
    if regions is not None and {CORTEX, WHITE_MATTER} <= set(names):
        tissues = scan_quality.on_grid(regions, affine, scan.shape, corrected.affine)
        grey, white = (tissues == names.index(name) + 1 for name in (CORTEX, WHITE_MATTER))
        found['cnr'] = scan_quality.cnr(scan, grey, white, noise)
    return {key: value for key, value in found.items() if np.isfinite(value)}
