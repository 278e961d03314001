"""How much memory the steps of an image take, known before they run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from bids_segsr.exceptions import UserError
from bids_segsr.imaging.resample import isotropic_grid
from bids_segsr.inference.processing import Processing
from bids_segsr.inference.tiling import full_resolution_filters, peak_memory_gb
from bids_segsr.memory import memory_limit
from bids_segsr.zoo.card import ModelCard
from bids_segsr.zoo.find import BRAIN_MASK_MODEL, find_card

GB_PER_VOXEL = 4e-9
"""Size of one float32 map, in GB a voxel."""

ITK_GB = 0.25
"""Interpreter and SimpleITK, before the first voxel."""

LIBRARIES_GB = 0.7
"""Interpreter, torch and MONAI, before the first voxel."""

REGISTRATION_GB = 0.3
"""ANTs with a template of 2 mm."""


def map_gb(shape: Sequence[int]) -> float:
    """Return the memory of one float32 map of this shape in GB."""
    return math.prod(shape) * GB_PER_VOXEL


def memory_of_steps(
    shape: Sequence[int], affine: np.ndarray, card: ModelCard, processing: Processing
) -> dict[str, float]:
    """Estimate the memory of a process that runs one step of an image.

    Args:
        shape: Voxels of the scan.
        affine: Its voxel to RAS+ mm (4 x 4).
        card: Card of the model.
        processing: Settled choices.

    Returns:
        Step, as its node of the workflow is called, to GB (1e9 bytes).
    """
    grid = isotropic_grid(shape, affine, processing.resolution or 0.0)
    scan, fine = map_gb(shape), map_gb(grid.shape)
    channels = len(card.channels)
    filters = full_resolution_filters(card.architecture, card.options)
    network = peak_memory_gb(grid.shape, processing.patches[0], filters=filters, channels=channels)
    return {
        'conform': ITK_GB + 3 * scan,
        'bias_field': ITK_GB + 8 * scan,
        'brain_mask': brain_mask_gb(shape, affine),
        'interpolate': ITK_GB + 6 * fine,
        'superresolve': LIBRARIES_GB + network,
        'fidelity': ITK_GB + 12 * fine,
        'collect_qc': ITK_GB + 4 * fine + 8 * scan,
    }


def brain_mask_gb(shape: Sequence[int], affine: np.ndarray) -> float:
    """Estimate the memory of the search for the brain in a scan, GB."""
    card = find_card(BRAIN_MASK_MODEL)
    grid = isotropic_grid(shape, affine, card.contract.spacing_mm[0]).shape
    filters = full_resolution_filters(card.architecture, card.options)
    network = peak_memory_gb(grid, 0, filters=filters, channels=len(card.channels))
    return LIBRARIES_GB + max(REGISTRATION_GB, network) + 4 * map_gb(shape)


def check_fits(memory_gb: Mapping[str, float], mem_gb: float | None) -> None:
    """Refuse an image of which a step takes more memory than there is.

    Args:
        memory_gb: Step to GB.
        mem_gb: What the user allows (--mem), GB; None for what the machine, container or job
            allows.

    Raises:
        UserError: A step does not fit.
    """
    limit = memory_limit(mem_gb)
    largest = max(memory_gb, key=lambda step: memory_gb[step])
    if memory_gb[largest] > limit.gb:
        raise UserError(
            f'step {largest} takes {memory_gb[largest]:.3g} GB, and {limit.source} is '
            f'{limit.gb:.3g} GB; give more memory or a coarser --resolution'
        )
