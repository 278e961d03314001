"""Brain masks: where they come from, and a network that finds the brain in whole heads."""

from __future__ import annotations

import itertools

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
from bids_segsr.imaging.patch_size import edges
from bids_segsr.imaging.resample import Grid, isotropic_grid, resample
from bids_segsr.inference.skull_strip_tools import SkullStripTool, check_tool, mask_by_tool
from bids_segsr.inference.tiling import Tiling
from bids_segsr.zoo.contract import FOUND_BY_NETWORK
from bids_segsr.zoo.feeding import feed, scales
from bids_segsr.zoo.find import BRAIN_MASK_MODEL, load_model
from bids_segsr.zoo.store import TrainedModel

FAR = 2.0
"""How much coarser the voxels of the first look are."""

MOST_CANDIDATES = 3
LEAST_SHARE = 0.05
"""So many components of a wide search are looked at closely, and how large the smallest of them is
over the largest."""

MARGIN_MM = 16.0
"""Around the brain in the smallest window of a close look."""

SURE_ENOUGH = 0.86
"""Certainty from where on no wide search is made: heads of adults have 0.9 and more."""

SMALLEST_BRAIN_ML = 20.0
LARGEST_BRAIN_ML = 2500.0

POSSIBLE = 0.2
CERTAIN = 0.8
"""Probabilities from where on a voxel may be brain, and surely is."""

LEAST_CERTAINTY = 0.55
"""Overlap of what may be brain with what surely is, below which a mask is refused.

A little below the least sure right mask (0.56) of fetal stacks, real and simulated, that it was
chosen on; the surest wrong one had 0.38. Adults have 0.9 and more. `benchmarks/brain_mask.py`
measures it."""

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

    The network looks from afar at the whole image, then closely at the largest that it found, in
    a window that shows the surroundings and in one that ends close to the brain, as they are and
    mirrored. Its instance normalisation depends on what else is in view: a brain looks the same to
    it in all windows, something else rarely. Where that leaves it unsure, as in the body of a
    mother, it searches wide: windows slide over the whole image, and each candidate is looked at
    closely (in the manner of Dadashkarimi et al. 2024, arXiv 2410.20532).

    Args:
        model: Network on the CPU whose channel 1 is the probability of the brain; the card tells
            the spacing that it works at and the edge of its patches, a multiple of 8.
        data: Scan of three axes.
        affine: Voxel to RAS+ mm (4 x 4).

    Returns:
        Boolean array on the grid of the scan: one component without holes; empty where the
        network sees no brain. And how sure the network is, 0 to 1: the Dice overlap of what may be
        brain with what surely is, in the mean of all looks; of several candidates the surest
        counts. 1 where there is none.
    """
    near = model.card.contract.spacing_mm[0]
    margin = int(np.ceil(MARGIN_MM / near))
    whole = isotropic_grid(data.shape, affine, FAR * near)
    grid = isotropic_grid(data.shape, affine, near)
    image = _look(data, affine, grid)
    far = keep_largest_component(_probability(model, _look(data, affine, whole)) >= 0.5)
    # by the nearest voxel: a single one must not fade away between the finer ones
    seen = resample(far.astype(np.float32), whole.affine, grid, order=0) >= 0.5
    best = _examine(model, image, seen, margin)
    certainty = certainty_of(best)
    if certainty < SURE_ENOUGH:
        search = _search(model, image)
        looks = [best] + [_examine(model, image, c, margin) for c in _candidates(search >= 0.5)]
        # what is outside of all windows around a candidate belongs to another
        means = [np.where(look > 0, (2 * look + search) / 3, 0) for look in looks]
        best = max(means, key=certainty_of)
        certainty = certainty_of(best)
    fine = resample(best, grid.affine, Grid(data.shape, affine), order=1)
    mask: np.ndarray = ndimage.binary_fill_holes(keep_largest_component(fine >= 0.5))
    return mask, certainty if best.any() else 1.0


def certainty_of(probability: np.ndarray) -> float:
    """Dice overlap of what may be brain with what surely is; 0 where nothing may be."""
    possible, certain = (float((probability >= level).sum()) for level in (POSSIBLE, CERTAIN))
    return 2 * certain / (certain + possible) if possible else 0.0


def _candidates(seen: np.ndarray) -> list[np.ndarray]:
    """Return the largest components, (i, j, k) bool each, the largest first."""
    labels, count = ndimage.label(seen, np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind='stable')[:MOST_CANDIDATES]
    return [labels == k + 1 for k in order if sizes[k] >= LEAST_SHARE * sizes[order[0]]]


def _search(model: TrainedModel, image: np.ndarray) -> np.ndarray:
    """Slide a window over an image: mean probability of the brain, (i, j, k)."""
    edge = _edge(model) or max(image.shape)
    starts = Tiling(edge, edge // 2).layout(image.shape).starts
    total, count = np.zeros((2, *image.shape), dtype=np.float32)
    for corner in itertools.product(*starts):
        window = tuple(slice(start, start + edge) for start in corner)
        total[window] += _probability(model, image[window])
        count[window] += 1
    mean: np.ndarray = total / count
    return mean


def _examine(model: TrainedModel, image: np.ndarray, seen: np.ndarray, margin: int) -> np.ndarray:
    """Look at a candidate in several windows: mean probability of the brain, (i, j, k)."""
    if not seen.any():
        return np.zeros(image.shape, dtype=np.float32)
    edge = _edge(model)
    probability = np.zeros(image.shape, dtype=np.float32)
    box = _grown(bounding_box(seen, margin), edge, image.shape)
    probability[box] = _probability(model, image[box])
    found = keep_largest_component(probability >= 0.5)
    if not found.any():
        return probability
    tight = bounding_box(found, margin)
    wide = _grown(tight, edge, image.shape)
    windows = [tight] if wide == tight else [tight, wide]
    mean = np.zeros(image.shape, dtype=np.float32)
    for window in windows:
        for mirrored in (False, True):
            mean[window] += _probability(model, image[window], mirrored) / (2 * len(windows))
    return mean


def _edge(model: TrainedModel) -> int:
    """Longest edge of the patches that a network was trained on; 0 where that is not told."""
    return max(edges(model.card.contract.patch_size))


def _grown(
    box: tuple[slice, slice, slice], edge: int, shape: tuple[int, ...]
) -> tuple[slice, slice, slice]:
    """Grow a box around its middle to at least `edge` voxels an axis, as far as the image goes."""
    grown = []
    for side, n in zip(box, shape, strict=True):
        length = min(n, max(edge, side.stop - side.start))
        start = min(max(0, (side.start + side.stop - length) // 2), n - length)
        grown.append(slice(start, start + length))
    i, j, k = grown
    return i, j, k


def _look(data: np.ndarray, affine: np.ndarray, grid: Grid) -> np.ndarray:
    """Interpolate; what the spline swings below the darkest voxel is no signal."""
    seen: np.ndarray = np.maximum(resample(data, affine, grid), float(data.min()))
    return seen


@torch.inference_mode()
def _probability(model: TrainedModel, image: np.ndarray, mirrored: bool = False) -> np.ndarray:
    """Probability of the brain, (i, j, k); what the axes lack is 0, as in the training."""
    if mirrored:
        return _probability(model, image[::-1].copy())[::-1]
    card = model.card
    learnt = _edge(model)
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
