"""How a network is fed and what its output means, from its card alone.

Prediction, brain mask, the first stage of a training, evaluation and `segsr models verify` all go
through here: a property of a card changes what happens to an image in this file and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from bids_segsr.imaging.acquisition import Acquisition, interpolate
from bids_segsr.imaging.back_projection import (
    Slices,
    back_project,
    back_projection_alone,
    noise_of,
)
from bids_segsr.imaging.brain_mask import otsu_foreground
from bids_segsr.imaging.conform import acquired_axis, left_right_axis, slice_axis, spacing_of
from bids_segsr.imaging.resample import Grid, resample, resample_by
from bids_segsr.networks.standardise import restore, standardise, volume_scale
from bids_segsr.networks.tissue_unet import TissueUNetPair
from bids_segsr.zoo.card import INTERPOLATIONS, ModelCard, Precision

EXAMPLE_EDGE = 32
"""Voxels along each axis of the patch that models are tried on."""

LEAST_FOREGROUND = 0.65
"""Share of a brain mask that Otsu's foreground takes at least: dark CSF leaves 0.78 of it."""

DARK = 0.1
"""Brightness of a background over that of the brain at most."""


def interpolated(
    card: ModelCard, scan: Slices, mask: np.ndarray, simulated: Acquisition | None = None
) -> np.ndarray:
    """Bring a scan to the fine grid as the network's training did, back-projected where it was.

    Args:
        card: Card of the model.
        scan: The scan and the affine of the grid.
        mask: Brain mask on the grid, boolean array (X, Y, Z).
        simulated: How the scan was made from an image on the grid; None for one of a scanner. What
            has no slices is not back-projected, and only k-space is filled with zeros.

    Returns:
        float32 array of its shape; what a network of brains is shown of it is not masked yet.
    """
    i, j, k = mask.shape
    grid = Grid((i, j, k), scan.fine_affine)
    contract = card.contract
    if simulated is not None and simulated.kind != 'thick-slices':
        filled = contract.interpolation == 'zero-fill' and simulated.kind != 'k-space'
        kind = 'cubic' if filled else contract.interpolation
        return interpolate(
            scan.data, grid.shape, grid.affine, replace(simulated, interpolation=kind)
        )
    if contract.back_projection and contract.input_back_projection_steps:
        return back_projection_alone(
            scan,
            shown(card, mask),
            contract.input_back_projection_steps,
            contract.back_projection,
        )
    if contract.interpolation not in INTERPOLATIONS:
        return resample_by(contract.interpolation, scan.data, scan.affine, grid)
    return resample(scan.data, scan.affine, grid, INTERPOLATIONS[contract.interpolation])


def shown(card: ModelCard, mask: np.ndarray) -> np.ndarray:
    """Return where the network sees the image, boolean: in the brain, or everywhere.

    Args:
        card: Card of the model. One that was trained on whole heads is shown whole heads.
        mask: Brain mask, boolean array.
    """
    return mask if card.contract.skull_stripped else np.ones_like(mask)


def axes(card: ModelCard, scan: Slices) -> tuple[int, int | None]:
    """Tell which way the network sees the fine grid.

    Args:
        card: Card of the model.
        scan: The scan and the affine of the grid.

    Returns:
        The array axis that becomes the network's last: that of the slices, where the card asks for
        it. And the axis, in the order in which the network sees them, along which left and right
        are mirrored for a second look; None for a model that did not see mirrored heads.
    """
    last = acquired_axis(scan.affine, scan.fine_affine) if card.contract.slice_axis_last else 2
    if not card.contract.mirrored:
        return last, None
    order = [*(axis for axis in range(3) if axis != last), last]
    return last, order.index(left_right_axis(scan.fine_affine))


def resolution(scan: Slices) -> float:
    """Return what a conditional network is told: the distance of the slices in mm."""
    spacing = spacing_of(scan.affine)
    return spacing[slice_axis(spacing)]


def precision(card: ModelCard, device: str) -> Precision:
    """Tell how precisely a network is run: mixed where its scores allow it and the device has it.

    Args:
        card: Card of the model.
        device: `cpu`, `cuda` or `cuda:N`. A CPU without bf16 would imitate it, slowly.
    """
    if card.contract.precision == 'fp32':
        return 'fp32'
    if torch.device(device).type == 'cuda':
        known = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # torch has no public name for this yet
        known = getattr(torch.cpu, '_is_avx512_bf16_supported', bool)()
    return 'bf16' if known else 'fp32'


def scales(card: ModelCard, images: Sequence[np.ndarray], mask: np.ndarray) -> list[float]:
    """Find what intensities are divided by, image and guides each for themselves.

    The mean of a brain must be that of a brain: where much of what a mask shows is background,
    Otsu's foreground stands for it, for a background seldom is exactly 0.

    Args:
        card: Card of the model.
        images: (X, Y, Z) each.
        mask: Boolean array: what the network is shown.

    Returns:
        A positive number an image; for 'patch-standard' the numbers are not used by `feed`.
    """
    contract, mask = card.contract, np.asarray(mask, dtype=bool)
    found = []
    for image in images:
        inside = mask
        if contract.normalisation == 'volume-mean' and contract.skull_stripped:
            masked = np.where(mask, image, 0)
            coarse = (slice(None, None, 2),) * 3
            if mask.all() or _is_loose(mask[coarse], masked[coarse]):
                inside = mask & otsu_foreground(masked)
        found.append(volume_scale(np.where(inside, image, 0), contract.normalisation))
    return found


def _is_loose(mask: np.ndarray, masked: np.ndarray) -> bool:
    """Tell whether much of what a mask shows is background."""
    brain = mask & otsu_foreground(masked)
    if not brain.any() or brain.sum() >= LEAST_FOREGROUND * mask.sum():
        return False
    return bool(np.abs(masked[mask & ~brain]).mean() < DARK * masked[brain].mean())


def feed(
    network: nn.Module,
    card: ModelCard,
    patches: Tensor,
    *,
    scales: Sequence[float] | None,
    resolution: Tensor | float,
    mirror_axis: int | None,
    precision: Precision = 'fp32',
) -> Tensor:
    """Run a network on patches of an image, in the units of the image; without gradients.

    Args:
        network: The network of the card.
        card: The card.
        patches: Image and guides, (B, 1 + guides, X, Y, Z), 0 where nothing is shown.
        scales: From `scales`; None for patches that are divided already.
        resolution: Distance of the slices in mm, one number or (B,).
        mirror_axis: From `axes`: the network sees the patches and their mirror images, and its
            outputs are averaged; of a pair, the half for the tissues alone, since the image gains
            next to nothing. Mirror images for a network that takes `block` voxels together
            are moved by half of them: what differs from end to end of a block evens out. None
            for the patches alone.
        precision: Of the network's convolutions; all else is float32.

    Returns:
        (B, C, X, Y, Z) float32: the intensity in the units of the patches, then probabilities.
    """
    if mirror_axis is not None:
        axis = mirror_axis + 2  # after batch and channel
        by = getattr(network, 'block', 1) // 2
        again_by = network.tissues if isinstance(network, TissueUNetPair) else network
        once, again = (
            feed(
                part,
                card,
                seen,
                scales=scales,
                resolution=resolution,
                mirror_axis=None,
                precision=precision,
            )
            for part, seen in ((network, patches), (again_by, moved(patches.flip(axis), by)))
        )
        # what was moved lies a voxel on, along the mirrored axis a voxel before
        places = [
            (slice(by, None), slice(length - by))
            if n == axis
            else (slice(length - by), slice(by, None))
            for n, length in enumerate(once.shape)
            if n > 1
        ]
        here, there = zip(*places, strict=True)
        first = int(again_by is not network)
        # map by map: flipping all of them at once takes three times as long
        maps = (found[:, first:].unbind(1) for found in (once, again))
        for one, mirrored in zip(*maps, strict=True):
            one[(..., *here)].add_(mirrored.flip(axis - 1)[(..., *there)]).div_(2)
        return once
    kind = patches.device.type
    mixed = torch.autocast(kind, torch.bfloat16) if precision == 'bf16' else nullcontext()
    if card.contract.normalisation == 'patch-standard':
        scaled, mean, sd = standardise(patches)
        with mixed:
            output = told(network, scaled, resolution, conditional=card.conditional).float()
        output[:, :1] = restore(output[:, :1], mean[:, :1], sd[:, :1])
    else:
        factors = patches.new_tensor(scales or [1.0] * patches.shape[1]).reshape(-1, 1, 1, 1)
        scaled = patches / factors
        with mixed:
            output = told(network, scaled, resolution, conditional=card.conditional).float()
        output[:, :1] *= factors[0]
    return output


def moved(patches: Tensor, by: int) -> Tensor:
    """Move patches by some voxels along each axis; the first ones are repeated."""
    i, j, k = patches.shape[2:]
    return pad(patches, (by, 0) * 3, mode='replicate')[..., :i, :j, :k]


def told(
    network: nn.Module, patches: Tensor, resolution: Tensor | float, *, conditional: bool
) -> Tensor:
    """Run a network; a conditional one is told the distance of the slices in mm, (B,)."""
    output: Tensor = (
        network(patches, patches.new_ones(len(patches)) * resolution)
        if conditional
        else network(patches)
    )
    return output


def projected_back(
    card: ModelCard, restored: np.ndarray, mask: np.ndarray, scan: Slices
) -> np.ndarray:
    """Put back into a restored image what its slices show, as far as the card asks for it.

    Args:
        card: Card of the model.
        restored: Image (X, Y, Z), 0 outside the mask.
        mask: Boolean array of its shape.
        scan: What it was restored from.

    Returns:
        Array of the same shape.
    """
    share, steps = card.contract.back_projection, card.contract.back_projection_steps
    if not (share and steps):
        return restored
    return back_project(restored, mask, scan, share, steps, noise_of(scan, mask))


def example_inputs(card: ModelCard) -> tuple[Tensor, ...]:
    """Make up what a network takes: always the same random numbers.

    Args:
        card: Card of the model.

    Returns:
        A patch (1, 1 + guides, 32, 32, 32), 0 to 1; for a conditional network also the distance
        of the slices (1,) in mm, the smallest that the card allows.
    """
    shape = (1, 1 + card.contract.guides, *[EXAMPLE_EDGE] * 3)
    patch = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    if not card.conditional:
        return (patch,)
    return patch, torch.tensor([card.contract.slice_thickness_mm[0]])


def first_stage_misfit(card: ModelCard, recipe: Mapping[str, Any]) -> str | None:
    """Compare what a model is fed with what the recipe of a second stage gives it.

    Args:
        card: Card of the first stage.
        recipe: What its patches are like: 'normalisation', 'interpolation', 'skull_stripped',
            'slice_axis_last'; the names of the card's contract.

    Returns:
        What to set in the recipe, or None where the model is fed as it was trained.
    """
    contract = card.contract
    if contract.guides:
        return 'it needs guide images, which a first stage does not get: take another model'
    for name, given in recipe.items():
        wanted = getattr(contract, name)
        if name == 'normalisation' and wanted == 'patch-standard':
            continue  # it scales every patch for itself, whatever the unit
        if name == 'slice_axis_last' and not wanted:
            continue
        if wanted != given:
            return f'it was trained with {name} = {wanted!r}, the recipe gives {given!r}'
    return None
