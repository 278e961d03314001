"""How good a generator is on the validation patches."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from bids_segsr.imaging.measures.metrics import psnr, ssim
from bids_segsr.training.loop.forward_pass import Batch, apply_network
from bids_segsr.training.loop.losses import reconstruction
from bids_segsr.training.recipe import Recipe

HIGHEST_PSNR = 100.0
"""Stands for an infinite ratio, dB."""


def sum_scores(
    network: nn.Module, batches: Iterable[Batch], recipe: Recipe, with_baseline: bool
) -> dict[str, float]:
    """Judge a generator on patches.

    Args:
        network: Generator in evaluation mode.
        batches: Validation patches.
        recipe: Says what the channels mean.
        with_baseline: Judge the interpolated image as well.

    Returns:
        Sums that `as_scores` turns into scores.
    """
    sums: dict[str, float] = defaultdict(float)
    with torch.no_grad():
        for batch in batches:
            output = apply_network(network, batch, recipe.network.conditional).float()
            for sample in range(len(output)):
                _add(sums, output, batch, slice(sample, sample + 1), recipe, with_baseline)
    return dict(sums)


def sum_names(recipe: Recipe, with_baseline: bool) -> list[str]:
    """Names of all sums, the same in every process, whatever its patches hold."""
    names = ['patches', 'loss', *[f'loss_{term}' for term in _loss_terms(recipe)]]
    kinds = ('', 'baseline_') if with_baseline else ('',)
    if recipe.loss.intensity != 'none':
        names += ['judged', *[f'{kind}{name}' for kind in kinds for name in ('psnr', 'ssim')]]
    for channel in scored_channels(recipe):
        names += [f'both_{channel}', f'either_{channel}', f'overlap_{channel}']
    return names


def as_scores(
    sums: Mapping[str, float], recipe: Recipe
) -> tuple[dict[str, float], dict[str, float]]:
    """Turn sums into scores.

    Args:
        sums: Added up over all processes.
        recipe: As for `sum_scores`.

    Returns:
        Scores of the network ('loss' and its terms; 'psnr' in dB and 'ssim', means over the
        patches; 'dice_CHANNEL', as `Validation.dice` says, and their mean 'dice'), and 'psnr' and
        'ssim' of the interpolated image where it was judged.
    """
    patches = max(sums.get('patches', 0), 1)
    scores = {name: value / patches for name, value in sums.items() if name.startswith('loss')}
    baseline = {}
    if sums.get('judged'):
        for name in ('psnr', 'ssim'):
            scores[name] = sums[name] / sums['judged']
            if f'baseline_{name}' in sums:
                baseline[name] = sums[f'baseline_{name}'] / sums['judged']
    overlaps = {}
    for channel in scored_channels(recipe):
        overlaps[f'dice_{channel}'] = (
            _dice(sums[f'both_{channel}'], sums[f'either_{channel}'])
            if recipe.validation.dice == 'pooled'
            else sums[f'overlap_{channel}'] / patches
        )
    if overlaps:
        scores |= {'dice': float(np.mean(list(overlaps.values()))), **overlaps}
    return scores, baseline


def merit(scores: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Weighted sum of scores that decides which weights are the best; the higher the better."""
    return sum(weight * scores.get(name, math.nan) for name, weight in weights.items())


def scored_channels(recipe: Recipe) -> tuple[str, ...]:
    """Segmentation channels with a Dice of their own: all but the background of the classes.

    That is the class without label numbers; where none has any (label maps), the first one. A
    class that is alone has no background beside it.
    """
    channels = recipe.task.channels[1:]
    classes = [name for name in channels if name != 'cortex']
    labelled = [name for name in classes if recipe.task.labels.get(name)]
    chosen = {'cortex', *(labelled or classes[len(classes) > 1 :])}
    return tuple(name for name in channels if name in chosen)


def segment(maps: np.ndarray, channels: Sequence[str]) -> dict[str, np.ndarray]:
    """Turn probabilities into masks.

    Args:
        maps: (C, X, Y, Z), intensity first.
        channels: Their names.

    Returns:
        A boolean array for each segmentation channel: the cortex, or a class that is alone, where
        it is likelier than not; one of several classes where it is the likeliest.
    """
    classes = [name for name in channels[1:] if name != 'cortex']
    alone = ['cortex'] if 'cortex' in channels else []
    if len(classes) == 1:
        alone += classes
    masks = {name: maps[channels.index(name)] > 0.5 for name in alone}
    if len(classes) > 1:
        likeliest = maps[[channels.index(name) for name in classes]].argmax(axis=0)
        masks |= {name: likeliest == number for number, name in enumerate(classes)}
    return masks


def _loss_terms(recipe: Recipe) -> list[str]:
    terms = ['intensity'] if recipe.loss.intensity != 'none' else []
    if len(recipe.task.channels) > 1 and recipe.loss.segmentation != 'none':
        terms.append('segmentation')
        if recipe.loss.segmentation == 'dice+cross-entropy':
            terms += ['dice', 'cross_entropy']
    return terms


def _add(
    sums: dict[str, float],
    output: Tensor,
    batch: Batch,
    sample: slice,
    recipe: Recipe,
    with_baseline: bool,
) -> None:
    channels = recipe.task.channels
    terms = reconstruction(output[sample], batch.target[sample], recipe.loss, channels)
    sums['patches'] += 1
    for name, value in terms.items():
        sums['loss' if name == 'total' else f'loss_{name}'] += value.item()
    if recipe.loss.intensity != 'none':
        images = {'': output[:, :1], 'baseline_': batch.image[:, :1]}
        truth = _volume(batch.in_image_units(batch.target[:, :1]), sample)
        if not with_baseline:
            images.pop('baseline_')
        pairs = {kind: _volume(batch.in_image_units(i), sample) for kind, i in images.items()}
        _add_intensity(sums, truth, pairs)
    if scored_channels(recipe):
        found = segment(output[sample][0].cpu().numpy(), channels)
        true = segment(batch.target[sample][0].cpu().numpy(), channels)
        for name in scored_channels(recipe):
            both = int((found[name] & true[name]).sum())
            either = int(found[name].sum()) + int(true[name].sum())
            sums[f'both_{name}'] += both
            sums[f'either_{name}'] += either
            sums[f'overlap_{name}'] += _dice(both, either)


def _add_intensity(
    sums: dict[str, float], truth: np.ndarray, images: Mapping[str, np.ndarray]
) -> None:
    spread = float(np.ptp(truth))
    # Rounding is all that the standardisation leaves of an empty patch.
    if spread <= 1e-6 * max(1.0, float(np.abs(truth).max())):
        return
    # The background of a skull-stripped image would only add what every method gets right.
    mask = np.abs(truth) > 1e-5 * float(np.abs(truth).max())
    sums['judged'] += 1
    for kind, image in images.items():
        # numpy's minimum hands a NaN on, min() does not
        sums[f'{kind}psnr'] += float(np.minimum(HIGHEST_PSNR, psnr(truth, image, mask)))
        sums[f'{kind}ssim'] += ssim(truth, image, mask)


def _dice(both: float, either: float) -> float:
    return 2 * both / either if either else 1.0


def _volume(tensor: Tensor, sample: slice) -> np.ndarray:
    return tensor[sample][0, 0].float().cpu().numpy()
