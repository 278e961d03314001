"""A box of a brain, turned, stretched and bent at random for a training volume."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bids_segsr.simulation.anatomy import Anatomy, as_tensor
from bids_segsr.simulation.tables import TISSUES, Deformation

AT_ONCE = 2**17
"""Voxels whose corners, weights and values together fit the cache of a processor."""


@dataclass(frozen=True)
class AnatomySample:
    """A box of a subject, turned, scaled and bent.

    Attributes:
        fractions: (tissues, *shape) float32, 1 in all.
        sulci: (*shape) float32, 0 to 1, where the banks of a sulcus touch (see `anatomy.sulci`).
        capsules: (*shape) float32, 0 to 1, the internal capsules (see `anatomy.capsules`).
        deep_nearness: (*shape) float32, 0 to 1, 1 in the middle of deep grey matter and brainstem.
        frontal_occipital: (*shape) float32, 0 half way between the frontal and the occipital end
            of the subject, 1 at either.
        image: (*shape) float32 where the subject has a real image; else None.
    """

    fractions: Tensor
    sulci: Tensor
    capsules: Tensor
    deep_nearness: Tensor
    frontal_occipital: Tensor
    image: Tensor | None


def smooth_field(
    shape: tuple[int, ...],
    width: float,
    sd: float,
    rng: np.random.Generator,
    device: torch.device | str = 'cpu',
) -> Tensor:
    """Draw a random field: normal values at nodes `width` voxels apart, linear between them.

    Args:
        shape: Of the field.
        width: Distance of the nodes in voxels.
        sd: Standard deviation at the nodes.
        rng: Source of random numbers.
        device: Where the field is made.

    Returns:
        float32 field.
    """
    nodes = [max(4, int(np.ceil(n / width)) + 3) for n in shape]
    coarse = torch.from_numpy(rng.normal(0, sd, nodes).astype(np.float32)).to(device)
    fine: Tensor = functional.interpolate(
        coarse[None, None], size=shape, mode='trilinear', align_corners=True
    )
    return fine[0, 0]


def rotation(degrees: np.ndarray) -> np.ndarray:
    """Matrix (3, 3) of rotations about the three axes, in degrees, one after the other."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        i, j = (a for a in range(3) if a != axis)
        turn = np.eye(3)
        turn[[i, j], [i, j]] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


def _draw_axes(deformation: Deformation, rng: np.random.Generator) -> np.ndarray:
    """Draw which axis of a subject (rows, RAS+) each of a sample (columns) is, and its sign."""
    if rng.random() >= deformation.upright_share:
        return np.eye(3)[rng.permutation(3)] * rng.choice((-1, 1), 3)
    weights = np.array(deformation.slice_axes)
    axis = int(rng.choice(3, p=weights / weights.sum()))
    mirror = np.diag([rng.choice((-1.0, 1.0)), 1, 1])
    return mirror @ np.eye(3)[:, [*(other for other in range(3) if other != axis), axis]]


def _positions(
    anatomy: Anatomy,
    shape: tuple[int, int, int],
    deformation: Deformation,
    rng: np.random.Generator,
) -> Tensor:
    """Where in the maps each output voxel lies, (3, *shape), axes permuted and flipped."""
    low, high = (
        deformation.usual_voxel if rng.random() < deformation.usual_share else deformation.voxel
    )
    voxel = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    scale = voxel * np.exp(rng.normal(0, deformation.stretch, 3))
    # Rows: axes of the fractions; columns: those of the sample.
    matrix = _draw_axes(deformation, rng) @ rotation(rng.normal(0, deformation.turn, 3)) * scale

    size = np.array(anatomy.maps.shape[1:])
    reach = np.minimum(np.abs(matrix) @ ((np.array(shape) - 1) / 2), (size - 1) / 2)
    # Even a box near the border shall be filled with brain, as far as the brain reaches.
    centre = np.clip(rng.uniform(0, 1, 3) * (size - 1), reach, size - 1 - reach)

    device = anatomy.maps.device if isinstance(anatomy.maps, Tensor) else 'cpu'
    offsets = [torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2 for n in shape]
    grid = torch.stack(torch.meshgrid(*offsets, indexing='ij'))
    if deformation.bend:
        for component in grid:
            component += smooth_field(shape, 24, deformation.bend, rng, device)
    turn = torch.from_numpy(matrix.astype(np.float32)).to(device)
    middle = torch.from_numpy(centre.astype(np.float32)).to(device)
    return (turn @ grid.flatten(1) + middle[:, None]).reshape(grid.shape)


def sample_anatomy(
    anatomy: Anatomy,
    shape: tuple[int, int, int],
    deformation: Deformation,
    rng: np.random.Generator,
) -> AnatomySample:
    """Cut a box out of a brain, turned, scaled and bent at random.

    Args:
        anatomy: The subject; the sample is made on the device of its maps.
        shape: Voxels of the box.
        deformation: What is random.
        rng: Source of random numbers.

    Returns:
        The sample.
    """
    positions = _positions(anatomy, shape, deformation, rng)
    size = torch.tensor(anatomy.maps.shape[1:], device=positions.device)
    low = positions.amin((1, 2, 3)).floor().long().clamp(min=0)
    low = torch.minimum(low, size - 2)
    high = positions.amax((1, 2, 3)).ceil().long() + 1
    high = torch.minimum(torch.maximum(high, low + 2), size)
    box = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    maps = as_tensor(anatomy.maps[(slice(None), *box)]).flatten(1)
    channels = len(maps) + (anatomy.image is not None)
    values = torch.empty((maps.shape[1], channels), device=maps.device)
    values[:, : len(maps)] = maps.T
    values[:, : len(maps)] /= 255
    if anatomy.image is not None:
        values[:, -1] = as_tensor(anatomy.image[box]).flatten()
    sampled = _interpolate(
        values, tuple((high - low).tolist()), positions - low[:, None, None, None]
    )
    fractions = sampled[: len(TISSUES)]
    return AnatomySample(
        fractions.div_(fractions.sum(0)),
        sulci=sampled[len(TISSUES)],
        capsules=sampled[len(TISSUES) + 1],
        deep_nearness=sampled[len(TISSUES) + 2],
        frontal_occipital=(2 * positions[1] / (float(size[1]) - 1) - 1).abs().clamp(max=1),
        image=None if anatomy.image is None else sampled[-1],
    )


def _interpolate(values: Tensor, shape: tuple[int, ...], at: Tensor) -> Tensor:
    """Interpolate linearly; the nearest voxel is taken outside.

    All channels of a corner lie together here, which is three times as fast as `grid_sample`.

    Args:
        values: (voxels, channels) of a volume of `shape`.
        shape: Of the volume.
        at: Positions in voxels, (3, i, j, k).

    Returns:
        (channels, i, j, k) float32.
    """
    limit = torch.tensor(shape, device=at.device).reshape(3, 1) - 1
    steps = (shape[1] * shape[2], shape[2], 1)
    corners = list(itertools.product((0, 1), repeat=3))
    offsets = torch.tensor(corners, dtype=torch.int32) @ torch.tensor(steps, dtype=torch.int32)
    offsets = offsets.to(at.device)
    sampled = torch.empty((values.shape[1], at[0].numel()), device=at.device)
    for some, out in zip(at.flatten(1).split(AT_ONCE, 1), sampled.split(AT_ONCE, 1), strict=True):
        positions = torch.minimum(some.clamp(min=0), limit - 1e-3)
        base = positions.to(torch.int32)
        far = positions - base
        sides = (1 - far, far)
        first = base[0] * steps[0] + base[1] * steps[1] + base[2]
        weights = [sides[i][0] * sides[j][1] * sides[k][2] for i, j, k in corners]
        out.copy_(
            functional.embedding_bag(
                first[:, None] + offsets,
                values,
                mode='sum',
                per_sample_weights=torch.stack(weights, 1),
            ).T
        )
    return sampled.reshape(-1, *at.shape[1:])
