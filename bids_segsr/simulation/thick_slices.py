"""Thick slices for training: drawn, acquired, disturbed by noise and motion, interpolated."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bids_segsr.imaging import acquisition as forward
from bids_segsr.imaging.resample import Grid, resample_mask


@dataclass(frozen=True)
class AcquisitionRanges:
    """How thick slices are simulated; each range is drawn uniformly.

    Attributes:
        ratio: Slice distance over output spacing, drawn uniformly in its logarithm.
        usual_share: Share of samples with `usual_ratio` instead.
        usual_ratio: See there.
        gap: Largest share of the slice distance that no slice covers.
        in_plane: In-plane spacing over output spacing where the scan is coarser than the output.
        in_plane_share: Share of such samples.
        noise: Standard deviation, relative to the image maximum, added to the slices.
        rician_share: Share of samples with Rician instead of Gaussian noise.
        motion: Standard deviation of the shifts of the slices in plane, in voxels of theirs.
        gain: Standard deviation of the relative intensity of the slices.
        motion_share: Share of samples with motion and gain.
    """

    ratio: tuple[float, float] = (1.5, 8.0)
    usual_share: float = 0.5
    usual_ratio: tuple[float, float] = (2.8, 4.2)
    gap: float = 0.25
    in_plane: tuple[float, float] = (1.0, 1.6)
    in_plane_share: float = 0.15
    noise: tuple[float, float] = (0.0, 0.03)
    rician_share: float = 0.5
    motion: tuple[float, float] = (0.0, 0.5)
    gain: tuple[float, float] = (0.0, 0.03)
    motion_share: float = 0.15


@dataclass(frozen=True)
class Stack:
    """One drawn acquisition.

    Attributes:
        ratio: Slice distance in output voxels.
        thickness: Full width at half maximum of the slice profile in output voxels.
        in_plane: In-plane spacing in output voxels, at least 1.
        noise: Standard deviation of the noise relative to the image maximum.
        rician: Rician instead of Gaussian noise.
        motion: Standard deviation of the in-plane shifts of the slices, in voxels of theirs.
        gain: Standard deviation of their relative intensity.
    """

    ratio: float
    thickness: float
    in_plane: float = 1.0
    noise: float = 0.0
    rician: bool = False
    motion: float = 0.0
    gain: float = 0.0


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
        thickness=ratio * rng.uniform(1 - acquisition.gap, 1),
        # The slices stay the coarsest axis.
        in_plane=min(rng.uniform(*acquisition.in_plane), 0.8 * ratio) if coarse else 1.0,
        noise=rng.uniform(*acquisition.noise),
        rician=bool(rng.random() < acquisition.rician_share),
        motion=rng.uniform(*acquisition.motion) if moves else 0.0,
        gain=rng.uniform(*acquisition.gain) if moves else 0.0,
    )


def acquire(
    truth: np.ndarray, brain: np.ndarray | None, stack: Stack, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Simulate thick slices along the last axis, interpolate them back and strip the skull.

    Args:
        truth: Fine image (i, j, k), voxels of one unit.
        brain: Fine brain mask; None for a head that is not masked.
        stack: What is simulated.
        rng: Source of random numbers.

    Returns:
        On the grid of `truth`: float32 image, 0 outside the brain, and the brain mask that
        follows from a mask of the thick slices, as it does in the workflow.
    """
    affine = np.eye(4)
    scan = forward.Acquisition(
        'thick-slices', (stack.in_plane, stack.in_plane, stack.ratio), 2, stack.thickness
    )
    low, _ = forward.acquire(truth, affine, scan)
    low = _disturb(low, float(truth.max()), stack, rng)
    image = forward.interpolate(low, truth.shape, affine, scan)
    if brain is None:
        return image, np.ones(truth.shape, dtype=bool)
    masked = dataclasses.replace(scan, spacing=(1.0, 1.0, stack.ratio))
    low_brain, slices = forward.acquire(brain, affine, masked)
    i, j, k = truth.shape
    inside = resample_mask(low_brain > 0.5, slices.affine, Grid((i, j, k), affine))
    return np.where(inside, image, np.float32(0)), inside


def _disturb(
    low: np.ndarray, maximum: float, stack: Stack, rng: np.random.Generator
) -> np.ndarray:
    """Shift and scale the slices (i, j, slices), and add noise."""
    if stack.motion > 0 or stack.gain > 0:
        low = low.copy()
        for index in range(low.shape[2]):
            shift = rng.normal(0, stack.motion, 2)
            moved = ndimage.shift(low[..., index], shift, order=3, mode='nearest')
            low[..., index] = moved * (1 + rng.normal(0, stack.gain))
    if stack.noise <= 0:
        return low
    sd = stack.noise * maximum
    noise = rng.standard_normal((2, *low.shape), dtype=np.float32) * np.float32(sd)
    real = low + noise[0]
    return np.hypot(real, noise[1]) if stack.rician else real
