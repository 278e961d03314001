"""Low-resolution acquisitions: drawn from a forward model, applied to an image or a part of it.

Y = H B X (SegSRGAN 2020, equation 1; noise is another matter) and the interpolation back to the
fine grid, S. Every forward model here acts along the array axes of the fine image, at whatever
angle these lie in space, so that each is a matrix an axis whose samples are equidistant and lie
centred in the field of view: input and target are aligned exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from bids_segsr.exceptions import UserError
from bids_segsr.imaging.axis_matrices import (
    apply_matrices,
    fourier_matrix,
    interpolation_matrix,
    spline_matrix,
    support,
)
from bids_segsr.imaging.conform import spacing_of
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.imaging.resample import FWHM_PER_SIGMA, Grid, centred_grid
from bids_segsr.imaging.slice_profile import profile_samples, profile_width

SAMPLES_PER_VOXEL = 4
"""How finely a profile is integrated over the spline through the fine image."""


@dataclass(frozen=True)
class Acquisition:
    """One low-resolution acquisition.

    Attributes:
        kind: As in `ForwardModel`.
        spacing: Of the low-resolution image in mm along each array axis of the fine image.
        axis: Array axis of the slices (k-space: of the readout).
        thickness: Full width at half maximum of the slice profile in mm (thick slices).
        profile: As in `ForwardModel`.
        sigma: Standard deviation of the blur in fine voxels (isotropic); None: a Gaussian whose
            FWHM is the low-resolution spacing.
        interpolation: How the image comes back to the fine grid, as in `ForwardModel`, or by
            'nearest' neighbour or cubic convolution ('bicubic').
    """

    kind: Literal['thick-slices', 'isotropic', 'k-space']
    spacing: tuple[float, float, float]
    axis: int = 2
    thickness: float = 0.0
    profile: str = 'gaussian'
    sigma: float | None = None
    interpolation: str = 'cubic'

    @property
    def resolution(self) -> float:
        """Distance of the slices in mm; of the coarsest axis where there are no slices."""
        return self.spacing[self.axis] if self.kind == 'thick-slices' else max(self.spacing)


@dataclass(frozen=True)
class Region:
    """What a part of the fine image needs: matrices an axis, cut to it; None is the identity.

    Attributes:
        source: Fine voxels that are read.
        inner: Where, among these, the part lies.
        down: Fine voxels read to low-resolution samples.
        up: Low-resolution samples to the voxels of the part.
    """

    source: tuple[slice, slice, slice]
    inner: tuple[slice, slice, slice]
    down: tuple[np.ndarray | None, ...]
    up: tuple[np.ndarray | None, ...]

    def acquire(self, data: np.ndarray) -> np.ndarray:
        """Return the low-resolution samples (without noise) of the fine voxels `source`."""
        return apply_matrices(self.down, data)

    def interpolate(self, low: np.ndarray) -> np.ndarray:
        """Return the part of the fine grid, interpolated from the low-resolution samples."""
        return apply_matrices(self.up, low)


def draw_acquisition(
    model: ForwardModel, spacing: Sequence[float], rng: np.random.Generator | None
) -> Acquisition:
    """Draw an acquisition.

    Args:
        model: The ranges.
        spacing: Of the fine image in mm.
        rng: Source of random numbers; None takes the middle of every range (and the first of a
            list of factors).

    Returns:
        The acquisition.

    Raises:
        UserError: The model does not say how coarse the image is, or not coarser than the fine
            one.
    """
    axis = 2 if model.axis is None else model.axis
    # the range is refused, not one draw of it deep in a training
    if model.spacing_mm is not None and model.spacing_mm[0] < 0.999 * spacing[axis]:
        raise UserError(
            f'forward model: {model.spacing_mm[0]:g} mm is finer than the image '
            f'({spacing[axis]:g} mm); give a coarser one.'
        )
    low = _draw_spacing(model, spacing, rng)
    thickness = 0.0
    if model.kind == 'thick-slices':
        thickness = low[axis] * (1 - _uniform(model.gap, rng))
        thickness = profile_width(model.profile, thickness)
    i, j, k = low
    return Acquisition(
        model.kind, (i, j, k), axis, thickness, model.profile, model.sigma, model.interpolation
    )


def low_resolution_grid(
    shape: Sequence[int], affine: np.ndarray, acquisition: Acquisition
) -> Grid:
    """Lay the grid of an acquisition over the field of view of a fine image.

    Args:
        shape: Shape of the fine image.
        affine: Voxel to RAS+ mm (4 x 4) of the fine image.
        acquisition: The acquisition.

    Returns:
        The grid: same axes and centre; whole samples only (k-space: the field of view is kept and
        the spacing gives way).

    Raises:
        UserError: Fewer than two samples along an axis.
    """
    fine = spacing_of(affine)
    counts = [
        _count(n, coarse / own, acquisition.kind)
        for n, own, coarse in zip(shape, fine, acquisition.spacing, strict=True)
    ]
    new = [
        n * own / m if acquisition.kind == 'k-space' else own if _kept(coarse / own) else coarse
        for n, m, own, coarse in zip(shape, counts, fine, acquisition.spacing, strict=True)
    ]
    return centred_grid(np.array(counts), np.array(new), affine, np.array(shape))


def acquire(
    data: np.ndarray, affine: np.ndarray, acquisition: Acquisition
) -> tuple[np.ndarray, Grid]:
    """Acquire a fine image at low resolution, without noise.

    Args:
        data: Fine image of three axes.
        affine: Voxel to RAS+ mm (4 x 4).
        acquisition: How.

    Returns:
        float32 low-resolution image and its grid.
    """
    down, _ = acquisition_matrices(tuple(data.shape), spacing_of(affine), acquisition)
    low = apply_matrices(down, np.asarray(data, dtype=np.float32))
    return np.ascontiguousarray(low), low_resolution_grid(data.shape, affine, acquisition)


def interpolate(
    low: np.ndarray, shape: Sequence[int], affine: np.ndarray, acquisition: Acquisition
) -> np.ndarray:
    """Bring a low-resolution image back to the grid of the fine image it was acquired from.

    Args:
        low: What `acquire` gave.
        shape: Shape of the fine image.
        affine: Its voxel to RAS+ mm (4 x 4).
        acquisition: How it was acquired, and how it is interpolated.

    Returns:
        float32 array of that shape.
    """
    i, j, k = shape
    _, up = acquisition_matrices((i, j, k), spacing_of(affine), acquisition)
    return np.ascontiguousarray(apply_matrices(up, np.asarray(low, dtype=np.float32)))


def region_of(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    acquisition: Acquisition,
    start: Sequence[int],
    size: Sequence[int],
) -> Region:
    """Find what a part of a fine image needs, so that the cost is that of the part.

    Args:
        shape: Of the whole fine image.
        spacing: Its spacing in mm.
        acquisition: How the whole image is acquired.
        start: First voxel of the part.
        size: Its voxels along each axis.

    Returns:
        The region. What it gives differs from that part of the whole image by the weights below
        `axis_matrices.NEGLIGIBLE` that are left out.
    """
    downs, ups = acquisition_matrices(shape, spacing, acquisition)
    source, inner, down, up = [], [], [], []
    for first, n, whole_down, whole_up in zip(start, size, downs, ups, strict=True):
        read = slice(int(first), int(first + n))
        rows = columns = None
        if whole_down is not None and whole_up is not None:
            rows = whole_up[read]
            samples = support(rows)
            columns = whole_down[samples]
            needed = support(columns)
            read = slice(min(read.start, needed.start), max(read.stop, needed.stop))
            rows, columns = _normalised(rows[:, samples]), _normalised(columns[:, read])
        source.append(read)
        inner.append(slice(int(first) - read.start, int(first + n) - read.start))
        down.append(columns)
        up.append(rows)
    return Region(
        (source[0], source[1], source[2]), (inner[0], inner[1], inner[2]), tuple(down), tuple(up)
    )


def _draw_spacing(
    model: ForwardModel, spacing: Sequence[float], rng: np.random.Generator | None
) -> list[float]:
    axis = 2 if model.axis is None else model.axis
    if model.factors:
        chosen = model.factors[0 if rng is None else rng.integers(len(model.factors))]
        return [own * factor for own, factor in zip(spacing, chosen, strict=True)]
    low = list(spacing)
    if model.kind == 'thick-slices':
        if model.spacing_mm is not None:
            low[axis] = _uniform(model.spacing_mm, rng)
        elif model.factor is not None:
            low[axis] = spacing[axis] * _uniform(model.factor, rng)
        else:
            raise UserError('[forward]: say how far the slices lie apart: spacing_mm or factor.')
        if model.in_plane_mm is not None:
            in_plane = _uniform(model.in_plane_mm, rng)
            low = [value if n == axis else in_plane for n, value in enumerate(low)]
        return low
    if model.factor is None:
        raise UserError(f'[forward]: {model.kind} needs factor or factors.')
    factor = _uniform(model.factor, rng)
    coarser = [n for n in range(3) if model.kind == 'isotropic' or n != axis]
    return [own * factor if n in coarser else own for n, own in enumerate(spacing)]


def _uniform(limits: Sequence[float], rng: np.random.Generator | None) -> float:
    low, high = limits
    return (low + high) / 2 if rng is None else float(rng.uniform(low, high))


def _count(n: int, ratio: float, kind: str) -> int:
    """Samples of an axis of n voxels."""
    if _kept(ratio):
        return n
    count = round(n / ratio) if kind == 'k-space' else int(np.floor(n / ratio + 1e-3))
    if count < 2:
        raise UserError(
            f'forward model: {n} voxels hold fewer than two samples {ratio:g} voxels apart; '
            'give a finer one.'
        )
    return count


def _kept(ratio: float) -> bool:
    """Whether an axis stays as it is; in plane, a scan may be finer than the image."""
    return abs(ratio - 1) <= 0.001


@lru_cache(maxsize=64)
def acquisition_matrices(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], acquisition: Acquisition
) -> tuple[tuple[np.ndarray | None, ...], tuple[np.ndarray | None, ...]]:
    """Make the matrices of an acquisition and of the way back, an axis each.

    Args:
        shape: Of the fine image.
        spacing: Its spacing in mm.
        acquisition: How it is acquired.

    Returns:
        Fine voxels to samples (samples, voxels), and samples to fine voxels (voxels, samples),
        float32; None for an axis that stays as it is.
    """
    pairs = [_of_axis(shape[n], spacing[n], acquisition, n) for n in range(3)]
    return tuple(down for down, _ in pairs), tuple(up for _, up in pairs)


def _of_axis(
    n: int, fine: float, acquisition: Acquisition, axis: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    ratio = acquisition.spacing[axis] / fine
    count = _count(n, ratio, acquisition.kind)
    if _kept(ratio):
        return None, None
    if acquisition.kind == 'k-space':
        ratio = n / count
        down = fourier_matrix(n, count)
    else:
        centres = (n - 1) / 2 + (np.arange(count) - (count - 1) / 2) * ratio
        offsets, weights = _blur(acquisition, axis, fine)
        down = spline_matrix(n, centres, offsets / fine, weights)
    back = (np.arange(n) - (n - 1) / 2) / ratio + (count - 1) / 2
    if acquisition.interpolation == 'zero-fill':
        up = fourier_matrix(count, n)
    else:
        # beyond the outermost samples' extent the nearest one goes on, as in `resample`
        outside = (back < -0.5) | (back > count - 0.5)
        back = np.where(outside, np.clip(back, 0, count - 1), back)
        up = interpolation_matrix(acquisition.interpolation, count, back)
    return down.astype(np.float32), up.astype(np.float32)


def _blur(acquisition: Acquisition, axis: int, fine: float) -> tuple[np.ndarray, np.ndarray]:
    """Offsets in mm and weights of what one sample along an axis is the mean of."""
    step = fine / SAMPLES_PER_VOXEL
    coarse = acquisition.spacing[axis]
    if acquisition.kind == 'isotropic':
        sigma = acquisition.sigma
        width = coarse if sigma is None else sigma * fine * FWHM_PER_SIGMA
        return profile_samples('gaussian', width, step)
    if axis != acquisition.axis:
        if coarse < fine:
            return np.zeros(1), np.ones(1)
        # as `resample` smooths an axis that gets coarser
        return profile_samples('gaussian', float(np.sqrt(coarse**2 - fine**2)), step)
    return profile_samples(acquisition.profile, acquisition.thickness, step)


def _normalised(matrix: np.ndarray) -> np.ndarray:
    return matrix / matrix.sum(1, keepdims=True)
