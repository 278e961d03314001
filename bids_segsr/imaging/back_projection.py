"""Back-projection: what the acquired slices show and a fine image lacks is put back, in steps.

Irani and Peleg (CVGIP: Graphical Models and Image Processing, 1991); after a learnt image, Yang et
al. (IEEE Transactions on Image Processing, 2010). After cubic B-spline interpolation and without
any network, it is the baseline that a network has to beat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from bids_segsr.imaging.axis_matrices import apply_matrices
from bids_segsr.imaging.components import bounding_box
from bids_segsr.imaging.conform import slice_axis, spacing_of
from bids_segsr.imaging.degrade import degrade, degrade_matrices
from bids_segsr.imaging.measures.scan_quality import noise_level, spread
from bids_segsr.imaging.resample import Grid, resample, resample_matrices

BASELINE_STEPS = 5
BASELINE_SHARE = 0.5
"""Steps and share without a network. Half of the difference a step leaves noise of the slices out;
five such steps put 97 % of what a slice shows back."""

NOISE_LEFT = 0.5
"""Spread of what an image lacks over that of the noise, with which it is left alone: chosen
on simulated newborns of validation subjects (`benchmarks/back_projection.py`)."""

HALF, WHOLE = 0.5, 0.99
"""Share of a voxel of the slices that the brain fills, where noise is told and where differences
are."""

EMPTY = 0.02
"""Share of what a stripped scan shows that lies outside of the brain at most."""

PARTLY = 0.1, 0.4
FADES = 0.1, 2.5
"""Voxels of the slices that the brain fills to such a share; how bright they are there, over that
share of the brain's median, where nothing surrounds it. Scans stripped before slices were made of
them have 0.5 to 1.7, others 0 (what was left of the brain's border was taken away) or, where
the mask is a voxel too tight, 3.3 and more."""

MOSTLY = 0.5, 0.95
DIM = 0.3
"""Voxels that a mask fills to such a share, and how bright they are at least over the brain's
median, where it is no wider than what a stripped scan shows (0.46 to 1.35; else 0 to 0.23)."""

Surroundings = Literal['scan', 'nothing', 'cut away']


@dataclass(frozen=True)
class Slices:
    """A scan, and how a fine image of it lies.

    Attributes:
        data: Acquired slices, bias-corrected as the fine image is; what surrounds the brain is in
            them.
        affine: Their voxels to RAS+ mm (4 x 4).
        fine_affine: Voxels of the fine image to RAS+ mm (4 x 4).
        thickness: FWHM of the slice profile in mm; None for the distance of the slices.
    """

    data: np.ndarray
    affine: np.ndarray
    fine_affine: np.ndarray
    thickness: float | None = None


def back_project(
    fine: np.ndarray,
    mask: np.ndarray,
    slices: Slices,
    share: float,
    steps: int = 1,
    noise: float = 0.0,
) -> np.ndarray:
    """Bring a fine image closer to the slices that it was made from.

    A step is X + share S (Y - D X): D is the forward model (`degrade`), S the cubic B-spline
    interpolation (`resample`). A share below one leaves a part of the noise of the slices out.
    Outside of the mask X is what surrounds the brain (see `surroundings`): the interpolated scan,
    so that the partial volume of the outermost voxels is no difference, or nothing. Where it was
    cut away, voxels that the brain fills in part tell nothing. What a good image lacks in the
    end is the noise of the slices: no step is taken where the difference is small beside it
    (Morozov's discrepancy principle, 1966).

    Args:
        fine: Restored image (X, Y, Z).
        mask: Boolean array of its shape: where it is one.
        slices: What it was made from.
        share: Of the difference, 0 (nothing happens) to 1, in each step.
        steps: How often at most.
        noise: Standard deviation of the noise of the slices; 0 or NaN for all steps.

    Returns:
        float32 array, 0 outside the mask.
    """
    around = surroundings(slices.data, _filled(slices, mask))
    return _back_projected(fine, mask, slices, around, share, steps, noise)


def _back_projected(
    fine: np.ndarray,
    mask: np.ndarray,
    slices: Slices,
    around: Surroundings,
    share: float,
    steps: int,
    noise: float = 0.0,
) -> np.ndarray:
    found = np.where(mask, fine, 0).astype(np.float32)
    if not mask.any():
        return found
    i, j, k = fine.shape
    box = bounding_box(mask)
    scan = _acquisition(slices, Grid((i, j, k), slices.fine_affine), box)
    part, inside = found[box], mask[box]
    brain = scan.acquire(inside.astype(np.float32)) > WHOLE
    if around == 'scan':
        # the forward model is linear: of the interpolated scan, and of how the image differs
        differs = np.where(inside, part - scan.interpolate(scan.data), 0)
        lacking = scan.data - scan.seen(scan.data) - scan.acquire(differs)
    else:
        lacking = scan.data - scan.acquire(np.where(inside, part, 0))
    for step in range(steps):
        if noise and brain.any() and spread(lacking[brain]) <= NOISE_LEFT * noise:
            break
        if around == 'cut away':
            lacking = np.where(brain, lacking, 0)
        added = np.where(inside, np.float32(share) * scan.interpolate(lacking), 0)
        part += added
        if step < steps - 1:
            lacking = lacking - scan.acquire(added)
    return found


def noise_of(slices: Slices, mask: np.ndarray) -> float:
    """Return the standard deviation of the noise of the slices inside a brain, see `noise_level`.

    Args:
        slices: The scan.
        mask: Boolean array (X, Y, Z) on the grid of the fine image.

    Returns:
        In the intensities of the scan; NaN where the brain is too small.
    """
    axis = slice_axis(spacing_of(slices.affine))
    shown = (_filled(slices, mask) > HALF) & (slices.data != 0)
    return noise_level(slices.data, shown, axis)


def surroundings(data: np.ndarray, filled: np.ndarray) -> Surroundings:
    """Tell what surrounds the brain in the slices of a scan.

    Args:
        data: Their intensities.
        filled: Share of each voxel that the brain fills, 0 to 1.

    Returns:
        'scan': what the slices show. 'nothing': all but the brain was taken away before the slices
        were made, so that voxels which it fills in part are as much darker; or the mask reaches
        beyond what is shown. 'cut away': of slices that a scanner made, where those voxels are
        empty or show what surrounded the brain as well.
    """
    shown = np.abs(data)
    if shown[filled < 1 - WHOLE].sum() > EMPTY * shown.sum():
        return 'scan'
    partly, wholly = (filled > PARTLY[0]) & (filled < PARTLY[1]), filled > WHOLE
    if not (partly.any() and wholly.any()):
        return 'nothing' if wholly.all() else 'cut away'
    brain = float(np.median(shown[wholly]))
    mostly = (filled > MOSTLY[0]) & (filled < MOSTLY[1])
    if mostly.any() and float(shown[mostly].mean()) < DIM * brain:
        return 'nothing'
    faded = float(filled[partly].mean()) * brain
    least, most = FADES
    found = least * faded <= float(shown[partly].mean()) <= most * faded
    return 'nothing' if found else 'cut away'


def _filled(slices: Slices, mask: np.ndarray) -> np.ndarray:
    i, j, k = slices.data.shape
    own = Grid((i, j, k), slices.affine)
    return degrade(mask.astype(np.float32), slices.fine_affine, own, slices.thickness)


def interpolated_back_projection(
    slices: Slices,
    grid: Grid,
    steps: int = BASELINE_STEPS,
    share: float = BASELINE_SHARE,
) -> np.ndarray:
    """Interpolate a scan by cubic B-splines and back-project it, without any network ("IBP").

    Args:
        slices: The scan.
        grid: Where it is sampled, in place of `slices.fine_affine`.
        steps: Of back-projection.
        share: Of the difference to the slices that each puts back.

    Returns:
        float32 array of the grid's shape.
    """
    scan = _acquisition(slices, grid, (slice(0, None),) * 3)
    # each step adds an interpolated image: their sum is one sharpened scan, interpolated
    sharpened = scan.data
    for _ in range(steps):
        sharpened = sharpened + np.float32(share) * (scan.data - scan.seen(sharpened))
    return np.ascontiguousarray(scan.interpolate(sharpened))


def back_projection_alone(
    slices: Slices,
    mask: np.ndarray,
    steps: int = BASELINE_STEPS,
    share: float = BASELINE_SHARE,
) -> np.ndarray:
    """Back-project an interpolated scan that knows where the brain is; no network comes in.

    It is what a network has to beat, and what one sees that is fed so.

    Args:
        slices: The scan; stripped or not (see `surroundings`).
        mask: Boolean array (X, Y, Z) on the grid of the fine image.
        steps: Of back-projection.
        share: Of the difference to the slices that each puts back.

    Returns:
        float32 array of its shape, 0 outside.
    """
    i, j, k = mask.shape
    grid = Grid((i, j, k), slices.fine_affine)
    around = surroundings(slices.data, _filled(slices, mask))
    if around == 'scan':
        whole = interpolated_back_projection(slices, grid, steps, share)
        return np.where(mask, whole, np.float32(0))
    spline = resample(slices.data, slices.affine, grid)
    return _back_projected(spline, mask, slices, around, share, steps)


@dataclass(frozen=True)
class _Acquisition:
    """A scan and its operators with a box of a fine image, outside of which that is 0.

    Attributes:
        data: The slices, as far as the box reaches and with its axes where that is possible.
        interpolate: S: slices to the box.
        acquire: D: box to slices.
        seen: D S, of the whole fine image: slices to slices.
    """

    data: np.ndarray
    interpolate: Callable[[np.ndarray], np.ndarray]
    acquire: Callable[[np.ndarray], np.ndarray]
    seen: Callable[[np.ndarray], np.ndarray]


def _acquisition(slices: Slices, grid: Grid, box: tuple[slice, slice, slice]) -> _Acquisition:
    data = np.asarray(slices.data, dtype=np.float32)
    i, j, k = data.shape
    own = Grid((i, j, k), slices.affine)
    up, down = resample_matrices(own, grid), degrade_matrices(grid, own, slices.thickness)
    if up is None or down is None:

        def acquire(part: np.ndarray) -> np.ndarray:
            whole = np.zeros(grid.shape, dtype=np.float32)
            whole[box] = part
            return degrade(whole, grid.affine, own, slices.thickness)

        def interpolate(low: np.ndarray) -> np.ndarray:
            return resample(low, own.affine, grid)

        return _Acquisition(
            data,
            lambda low: interpolate(low)[box],
            acquire,
            lambda low: degrade(interpolate(low), grid.affine, own, slices.thickness),
        )

    # axes that both grids share take no part: what is outside of the box is not needed there
    needed = [slice(None)] * 3
    ups: list[np.ndarray | None] = [None] * 3
    downs, seen = ups.copy(), ups.copy()
    for n, axis in enumerate(up.axes):
        rise, fall = up.matrices[n], down.matrices[axis]
        if rise is None and fall is None:
            needed[n] = box[n]
            continue
        rise = np.eye(data.shape[axis]) if rise is None else rise
        fall = np.eye(data.shape[axis]) if fall is None else fall
        ups[n] = rise[box[n]].astype(np.float32)
        downs[n] = fall[:, box[n]].astype(np.float32)
        seen[n] = (fall @ rise).astype(np.float32)
    return _Acquisition(
        np.ascontiguousarray(data.transpose(up.axes)[tuple(needed)]),
        partial(apply_matrices, ups),
        partial(apply_matrices, downs),
        partial(apply_matrices, seen),
    )
