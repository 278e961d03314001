"""Brain masks: where they come from, and a network that finds the brain in whole heads."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from bids_segsr.exceptions import ImageError
from bids_segsr.imaging.brain_mask import (
    find_template,
    foreground_mask,
    is_skull_stripped,
    mask_by_registration,
)
from bids_segsr.imaging.components import bounding_box, keep_largest_component
from bids_segsr.imaging.conform import spacing_of
from bids_segsr.imaging.resample import Grid, isotropic_grid, resample
from bids_segsr.inference.skull_strip_tools import SkullStripTool, check_tool, mask_by_tool
from bids_segsr.zoo.contract import FOUND_BY_NETWORK
from bids_segsr.zoo.feeding import feed, scales
from bids_segsr.zoo.find import BRAIN_MASK_MODEL, load_model
from bids_segsr.zoo.store import TrainedModel

FAR = 2.0
"""How much coarser the voxels of the first look are."""

MARGIN_MM = 16.0
"""Of the box around the brain that the second look is limited to."""

SMALLEST_BRAIN_ML = 20.0
LARGEST_BRAIN_ML = 2500.0

POSSIBLE = 0.2
CERTAIN = 0.8
"""Probabilities from where on a voxel may be brain, and surely is."""

LEAST_CERTAINTY = 0.77
"""Overlap of what may be brain with what surely is, below which a mask is refused.

Half-way between a wrong mask (0.73) and a right one (0.81) of two fetal stacks; heads of adults
have 0.9 and more. `benchmarks/brain_mask.py` measures it."""

REMEDY = (
    'give a brain mask (App: --derivatives, segsr predict: --mask), or strip the image and use '
    '--skull-strip skip.'
)

_AXIS_MULTIPLE = 8


def find_brain_mask(
    data: np.ndarray,
    affine: np.ndarray,
    *,
    existing: np.ndarray | None = None,
    mode: str = 'auto',
    tool: SkullStripTool = 'builtin',
    template: str | None = None,
    suffix: str = 'T1w',
) -> tuple[np.ndarray, str]:
    """Find the brain in a scan.

    Args:
        data: Bias-corrected scan of three axes.
        affine: Voxel to RAS+ mm (4 x 4).
        existing: Mask on the scan's grid, which is taken as it is.
        mode: `auto` recognises a stripped image and looks for the brain in any other, `skip`
            takes every voxel, `force` looks for it in any image.
        tool: What looks: `builtin`, or a tool of others (`skull_strip_tools`).
        template: TemplateFlow name of a template that is registered to the image, with
            `:cohort-N` where the template has cohorts; None for the model
            that finds brains (`zoo.find.BRAIN_MASK_MODEL`).
        suffix: Contrast of the template, `T1w` or `T2w`.

    Returns:
        Boolean array, and how it came about in a few words.

    Raises:
        UserError: The template, the model or the tool is not at hand.
        ImageError: The network is not sure, or the mask has no size that a brain can have.
    """
    if existing is not None:
        return existing, 'existing mask'
    if mode == 'skip':
        return np.ones(data.shape, dtype=bool), 'skipped'
    if mode == 'auto' and is_skull_stripped(data):
        return foreground_mask(data), 'stripped already'
    if tool != 'builtin':
        method = check_tool(tool)
        mask = mask_by_tool(tool, data, affine)
    elif template is None:
        model = load_model(BRAIN_MASK_MODEL)
        method = f'{FOUND_BY_NETWORK} {model.card.name} {model.card.version}'
        mask, certainty = predict_brain_mask(model, data, affine)
        if certainty < LEAST_CERTAINTY:
            raise ImageError(
                f'{method} is not sure where the brain is (certainty {certainty:.2f}, '
                f'{LEAST_CERTAINTY} is asked for): not found; {REMEDY}'
            )
    else:
        method = f'registration to {template}'
        mask = mask_by_registration(data, affine, *find_template(template, suffix))
    volume_ml = float(mask.sum() * np.prod(spacing_of(affine)) / 1000)
    if not SMALLEST_BRAIN_ML <= volume_ml <= LARGEST_BRAIN_ML:
        raise ImageError(f'{method} gives a brain of {volume_ml:.0f} ml: it failed; {REMEDY}')
    return mask, method


def predict_brain_mask(
    model: TrainedModel, data: np.ndarray, affine: np.ndarray
) -> tuple[np.ndarray, float]:
    """Find the brain in an image that shows more.

    The network looks twice: from afar at the whole image, then closely at a box around what it
    found. Its instance normalisation depends on what else is in view, and a mother's body around a
    fetal head, or a neck, is much else. So is the emptiness around a stack of few slices, which
    both looks show as the training did.

    Args:
        model: Network on the CPU whose channel 1 is the probability of the brain; the card tells
            the spacing that it works at and the edge of its patches, a multiple of 8.
        data: Scan of three axes.
        affine: Voxel to RAS+ mm (4 x 4).

    Returns:
        Boolean array on the grid of the scan: one component without holes; empty where the
        network sees no brain. And how sure the network is, 0 to 1: the Dice overlap, in the
        second look, of what may be brain with what surely is; 1 where it sees none.
    """
    near = model.card.contract.spacing_mm[0]
    whole = isotropic_grid(data.shape, affine, FAR * near)
    grid = isotropic_grid(data.shape, affine, near)
    first = keep_largest_component(_probability(model, _look(data, affine, whole)) >= 0.5)
    if not first.any():
        return np.zeros(data.shape, dtype=bool), 1.0
    image = _look(data, affine, grid)
    # by the nearest voxel: a single one must not fade away between the finer ones
    seen = resample(first.astype(np.float32), whole.affine, grid, order=0) >= 0.5
    margin = int(np.ceil(MARGIN_MM / near))
    box = bounding_box(seen, margin)
    probability = np.zeros(image.shape, dtype=np.float32)
    probability[box] = _probability(model, image[box])
    fine = resample(probability, grid.affine, Grid(data.shape, affine), order=1)
    mask: np.ndarray = ndimage.binary_fill_holes(keep_largest_component(fine >= 0.5))
    possible, certain = (float((probability >= level).sum()) for level in (POSSIBLE, CERTAIN))
    return mask, 2 * certain / (certain + possible) if possible else 1.0


def _look(data: np.ndarray, affine: np.ndarray, grid: Grid) -> np.ndarray:
    """Interpolate; what the spline swings below the darkest voxel is no signal."""
    seen: np.ndarray = np.maximum(resample(data, affine, grid), float(data.min()))
    return seen


@torch.inference_mode()
def _probability(model: TrainedModel, image: np.ndarray) -> np.ndarray:
    """Probability of the brain, (i, j, k); what the axes lack is 0, as in the training."""
    card = model.card
    learnt = card.contract.patch_size
    wanted = (max(n + -n % _AXIS_MULTIPLE, learnt) for n in image.shape)
    pads = [(0, edge - n) for edge, n in zip(wanted, image.shape, strict=True)]
    output = feed(
        model.network,
        card,
        torch.from_numpy(np.pad(image, pads))[None, None],
        scales=scales(card, [image], np.ones(image.shape, dtype=bool)),
        resolution=max(card.contract.slice_thickness_mm),
        mirror_axis=None,
    )
    i, j, k = image.shape
    probability: np.ndarray = output[0, 1, :i, :j, :k].numpy()
    return probability
