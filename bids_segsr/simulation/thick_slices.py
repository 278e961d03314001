"""Thick slices for training: drawn, acquired, disturbed by noise and motion, interpolated."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bids_segsr.imaging import acquisition as forward
from bids_segsr.imaging.back_projection import WHOLE, surroundings
from bids_segsr.simulation.tables import AcquisitionRanges

OUTLINE = 1.5
"""Standard deviation in voxels of the blur that makes the outline of a mask smooth."""

NOTHING = 1e-3
"""Intensity over the largest up to which a masked scan shows nothing."""


@dataclass(frozen=True)
class BackProjection:
    """What an interpolated image gets before the network sees it (`imaging.back_projection`).

    Attributes:
        share: Of the difference to the slices that a step puts back.
        steps: How many.
    """

    share: float
    steps: int


@dataclass(frozen=True)
class Stack:
    """One drawn acquisition.

    Attributes:
        ratio: Slice distance in output voxels.
        thickness: Full width at half maximum of the slice profile in output voxels.
        profile: 'gaussian' or 'box'.
        in_plane: In-plane spacing in output voxels, at least 1.
        noise: Standard deviation of the noise relative to the image maximum.
        rician: Rician instead of Gaussian noise.
        motion: Standard deviation of the in-plane shifts of the slices, in voxels of theirs.
        gain: Standard deviation of their relative intensity.
        stripped: Whether what surrounds the brain is cut away from the slices.
    """

    ratio: float
    thickness: float
    profile: str = 'gaussian'
    in_plane: float = 1.0
    noise: float = 0.0
    rician: bool = False
    motion: float = 0.0
    gain: float = 0.0
    stripped: bool = False


def draw_stack(acquisition: AcquisitionRanges, rng: np.random.Generator) -> Stack:
    """Draw an acquisition.

    Args:
        acquisition: What is random.
        rng: Source of random numbers.

    Returns:
        What is simulated.
    """
    if rng.random() < acquisition.usual_share:
        ratio = rng.uniform(*acquisition.usual_ratio)
    else:
        ratio = float(np.exp(rng.uniform(*np.log(acquisition.ratio))))
    coarse = rng.random() < acquisition.in_plane_share
    moves = rng.random() < acquisition.motion_share
    return Stack(
        ratio,
        thickness=ratio * rng.uniform(1 - acquisition.gap, 1 + acquisition.overlap),
        profile='box' if rng.random() < acquisition.box_share else 'gaussian',
        # The slices stay the coarsest axis.
        in_plane=min(rng.uniform(*acquisition.in_plane), 0.8 * ratio) if coarse else 1.0,
        # most scans are good
        noise=float(np.interp(rng.random() ** 2, (0, 1), acquisition.noise)),
        rician=bool(rng.random() < acquisition.rician_share),
        motion=rng.uniform(*acquisition.motion) if moves else 0.0,
        gain=rng.uniform(*acquisition.gain) if moves else 0.0,
        stripped=bool(rng.random() < acquisition.stripped_share),
    )


def acquire(
    truth: Tensor,
    brain: Tensor | None,
    stack: Stack,
    rng: np.random.Generator,
    projection: BackProjection | None = None,
) -> tuple[Tensor, Tensor]:
    """Simulate thick slices along the last axis, interpolate them back and strip the skull.

    Args:
        truth: Fine image (i, j, k), voxels of one unit.
        brain: Fine brain mask; None for a head that is not masked.
        stack: What is simulated.
        rng: Source of random numbers.
        projection: Back-projection of the interpolated image as in a prediction
            (`back_projection_alone`), with a Gaussian profile as wide as the slice distance,
            which is all that one knows; None for none.

    Returns:
        On the grid and device of `truth`: float32 image, 0 outside the brain, and the brain mask
        that follows from a mask of the thick slices, much as it does in the workflow.
    """
    spacing = (stack.in_plane, stack.in_plane, stack.ratio)
    scan = forward.Acquisition('thick-slices', spacing, 2, stack.thickness, stack.profile)
    down, up = _matrices(truth, scan)
    clean, most = _apply(down, truth), float(truth.max())
    low = _disturb(clean, most, stack, rng)
    if brain is None:
        inside = torch.ones_like(truth, dtype=torch.bool)
    else:
        # what was taken away is exactly 0, without noise
        low = low * (clean > NOTHING * most)
        if stack.stripped:
            low = low * (_apply(down, brain.float()) > 0.5)
        inside = _resampled(brain, dataclasses.replace(scan, spacing=(1.0, 1.0, stack.ratio)))
    image = _apply(up, low)
    if projection is not None:
        assumed = forward.Acquisition('thick-slices', spacing, 2, stack.ratio)
        seen, _ = _matrices(truth, assumed)
        filled = _apply(seen, inside.float())
        around = surroundings(low.cpu().numpy(), filled.cpu().numpy())
        within = torch.ones_like(inside) if around == 'scan' else inside
        counted = filled > (WHOLE if around == 'cut away' else -1)
        image = image * within
        for _ in range(projection.steps):
            lacking = (low - _apply(seen, image)) * counted
            image = image + projection.share * within * _apply(up, lacking)
    return torch.where(inside, image, 0), inside


def _resampled(brain: Tensor, scan: forward.Acquisition) -> Tensor:
    """Take a mask the way of the workflow: to the slices and back."""
    down, up = _matrices(brain, scan)
    outline = blurred((_apply(down, brain.float()) > 0.5).float(), OUTLINE, (0, 1))
    # linear between the slices, of a mask that is smooth within them: nearly what shape-based
    # interpolation gives (`imaging.resample.resample_mask`), without its distance transforms
    return _apply(_between(up, brain.device), outline) > 0.5


Matrices = tuple[Tensor | None, ...]


def _matrices(truth: Tensor, scan: forward.Acquisition) -> tuple[Matrices, Matrices]:
    i, j, k = truth.shape
    both = forward.acquisition_matrices((i, j, k), (1.0, 1.0, 1.0), scan)
    down, up = (
        tuple(
            None if m is None else torch.from_numpy(m.astype(np.float32)).to(truth.device)
            for m in matrices
        )
        for matrices in both
    )
    return down, up


def _apply(matrices: Matrices, data: Tensor) -> Tensor:
    for axis, matrix in enumerate(matrices):
        if matrix is not None:
            data = torch.tensordot(data, matrix, ([axis], [1])).movedim(-1, axis)
    return data


def _disturb(low: Tensor, maximum: float, stack: Stack, rng: np.random.Generator) -> Tensor:
    """Shift and scale the slices (i, j, slices), and add noise."""
    device = low.device
    if stack.motion > 0 or stack.gain > 0:
        i, j, slices = low.shape
        moves = np.zeros((slices, 2, 3), np.float32)
        moves[:, 0, 0] = moves[:, 1, 1] = 1
        moves[:, :, 2] = 2 * rng.normal(0, stack.motion, (slices, 2)) / (j, i)
        gain = torch.from_numpy((1 + rng.normal(0, stack.gain, slices)).astype(np.float32))
        stacked = low.movedim(-1, 0)[:, None]
        grid = functional.affine_grid(
            torch.from_numpy(moves).to(device), list(stacked.shape), align_corners=False
        )
        moved = functional.grid_sample(
            stacked, grid, mode='bicubic', padding_mode='border', align_corners=False
        )
        low = moved[:, 0].movedim(0, -1) * gain.to(device)
    generator = torch.Generator(device).manual_seed(int(rng.integers(2**63 - 1)))
    if stack.noise <= 0:
        return low
    noise = torch.randn((2, *low.shape), generator=generator, device=device)
    noise *= stack.noise * maximum
    real = low + noise[0]
    return torch.hypot(real, noise[1]) if stack.rician else real


def blurred(volume: Tensor, sd: float, axes: Sequence[int] = (0, 1, 2)) -> Tensor:
    """Blur a volume (i, j, k) by a Gaussian of `sd` voxels along some axes; its border goes on."""
    reach = int(np.ceil(3 * sd))
    offsets = torch.arange(-reach, reach + 1, device=volume.device)
    kernel = torch.exp(-0.5 * (offsets / sd) ** 2)
    kernel = (kernel / kernel.sum()).reshape(1, 1, -1)
    for axis in axes:
        moved = volume.movedim(axis, -1)
        lines = functional.pad(moved.reshape(-1, 1, moved.shape[-1]), (reach,) * 2, 'replicate')
        volume = functional.conv1d(lines, kernel).reshape(moved.shape).movedim(-1, axis)
    return volume


def _between(up: Matrices, device: torch.device) -> Matrices:
    """Turn cubic interpolation between slices into linear, at the same places."""
    assert up[2] is not None  # noqa: S101 - narrows
    n, slices = up[2].shape
    centres = torch.linspace(0, slices - 1, slices, device=device)
    # a spline reproduces straight lines away from the ends
    places = torch.clamp(up[2] @ centres, 0, slices - 1)
    linear = torch.clamp(1 - (places[:, None] - centres).abs(), min=0)
    return None, None, linear.reshape(n, slices)
