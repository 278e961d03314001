"""Sampling along one axis as a matrix: rows are samples, columns voxels of the axis.

A separable operator on an image is one small matrix an axis. Its rows and columns can be cut to
what a part of the image needs, and products with them are fast.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import BSpline
from scipy.ndimage import spline_filter1d

from bids_segsr.exceptions import UserError
from bids_segsr.extensions import load_extension

NEGLIGIBLE = 1e-4
"""Share of the largest weight below which a voxel does not count for a sample."""


def spline_matrix(
    n: int, positions: np.ndarray, offsets: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Weighted means of a cubic B-spline, mirrored about the outermost voxel centres.

    Args:
        n: Voxels of the axis.
        positions: Where the samples lie, in voxels (0 is the centre of the first).
        offsets: Where, around each, the spline is read, in voxels.
        weights: Their weights; (0.0,) and (1.0,) interpolate.

    Returns:
        (positions, n); for interpolation the weights of `resample` with order 3.
    """
    coefficients = spline_filter1d(np.eye(n), order=3, axis=0, mode='mirror')
    basis = BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)
    points = np.asarray(positions, dtype=float)[:, None] + np.asarray(offsets)
    rows = np.arange(len(points))[:, None]
    matrix = np.zeros(len(points) * n)
    for k in range(-1, 3):
        nodes = np.floor(points).astype(int) + k
        values = weights * np.nan_to_num(basis(points - nodes))
        cells = (rows * n + _mirrored(nodes, n)).ravel()
        matrix += np.bincount(cells, values.ravel(), matrix.size)
    return matrix.reshape(len(points), n) @ coefficients


def linear_matrix(n: int, positions: np.ndarray) -> np.ndarray:
    """Linear interpolation; the outermost voxels go on outside.

    Args:
        n: Voxels of the axis.
        positions: Where to sample, in voxels, one axis.

    Returns:
        (positions, n).
    """
    distance = np.abs(np.clip(positions, 0, n - 1)[:, None] - np.arange(n))
    return np.maximum(1 - distance, 0)


def interpolation_matrix(kind: str, n: int, positions: np.ndarray) -> np.ndarray:
    """Interpolate by a kernel of this or another package.

    Args:
        kind: 'cubic' (B-spline), 'linear', 'nearest', 'bicubic' (cubic convolution), or what
            another package brings (`bids_segsr.extensions`).
        n: Voxels of the axis.
        positions: Where to sample, in voxels, one axis.

    Returns:
        (positions, n).

    Raises:
        UserError: No package brings the interpolation, or it gives another shape.
    """
    own = {
        'linear': linear_matrix,
        'nearest': nearest_matrix,
        'bicubic': cubic_convolution_matrix,
    }
    if kind == 'cubic':
        return spline_matrix(n, positions, np.zeros(1), np.ones(1))
    make = own[kind] if kind in own else load_extension('interpolations', kind)
    if make is None:
        raise UserError(f'interpolation {kind}: not there; install the package that brings it.')
    matrix = np.asarray(make(n, positions), dtype=float)
    if matrix.shape != (len(positions), n):
        raise UserError(
            f'interpolation {kind}: gives a matrix of shape {matrix.shape}, not '
            f'{(len(positions), n)}; mend the package that brings it.'
        )
    return matrix


def nearest_matrix(n: int, positions: np.ndarray) -> np.ndarray:
    """Nearest neighbour; of two at one distance, the first.

    Args:
        n: Voxels of the axis.
        positions: Where to sample, in voxels, one axis.

    Returns:
        (positions, n).
    """
    nearest = np.ceil(np.clip(positions, 0, n - 1) - 0.5).astype(int)
    return np.eye(n)[np.clip(nearest, 0, n - 1)]


def cubic_convolution_matrix(n: int, positions: np.ndarray) -> np.ndarray:
    """Cubic convolution (Keys 1981, a = -1/2), bicubic where two axes have it.

    Args:
        n: Voxels of the axis; the outermost ones go on outside.
        positions: Where to sample, in voxels, one axis.

    Returns:
        (positions, n).
    """
    matrix = np.zeros((len(positions), n))
    first = np.floor(positions).astype(int)
    for offset in range(-1, 3):
        x = np.abs(positions - (first + offset))
        near = 1.5 * x**3 - 2.5 * x**2 + 1
        far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        nodes = np.clip(first + offset, 0, n - 1)
        np.add.at(matrix, (np.arange(len(positions)), nodes), np.where(x <= 1, near, far))
    return matrix


def fourier_matrix(n: int, m: int) -> np.ndarray:
    """Truncation (m < n) or zero filling (m > n) of k-space, the field of view preserved.

    Args:
        n: Voxels of the axis.
        m: Samples.

    Returns:
        (m, n); sample j lies at voxel (j + 1/2) n / m - 1/2, on which a phase ramp puts it.
    """
    kept = min(n, m) // 2 + 1
    spectrum = np.fft.rfft(np.eye(n), axis=0)[:kept]
    if m > n and n % 2 == 0:
        spectrum[-1] /= 2  # the Nyquist frequency becomes a pair
    shift = (n / m - 1) / 2
    spectrum *= np.exp(2j * np.pi * np.arange(kept) * shift / n)[:, None]
    return np.fft.irfft(spectrum, m, axis=0) * (m / n)


def along(matrix: np.ndarray | None, data: np.ndarray, axis: int) -> np.ndarray:
    """Apply a matrix along an axis of an image; None leaves the image as it is.

    Args:
        matrix: (samples, voxels).
        data: Array whose axis `axis` has that many voxels.
        axis: Which one.

    Returns:
        Array with the samples along that axis.
    """
    if matrix is None:
        return data
    if axis == data.ndim - 1:
        return data @ matrix.T
    if axis == 0:
        return (matrix @ data.reshape(len(data), -1)).reshape(-1, *data.shape[1:])
    return np.moveaxis(matrix @ np.moveaxis(data, axis, -2), -2, axis)


def apply_matrices(matrices: Sequence[np.ndarray | None], data: np.ndarray) -> np.ndarray:
    """Apply a matrix along every axis of an image, those that make it smaller first.

    Args:
        matrices: One an axis, (samples, voxels); None leaves an axis as it is.
        data: Array of as many axes.

    Returns:
        Array with the samples along each axis.
    """
    growth = {n: m.shape[0] / m.shape[1] for n, m in enumerate(matrices) if m is not None}
    for axis in sorted(growth, key=growth.__getitem__):
        data = along(matrices[axis], data, axis)
    return data


def support(matrix: np.ndarray) -> slice:
    """Return the columns from the first to the last that carry any weight."""
    weight = np.abs(matrix).max(0)
    columns = np.flatnonzero(weight > NEGLIGIBLE * weight.max())
    return slice(int(columns[0]), int(columns[-1]) + 1)


def _mirrored(index: np.ndarray, n: int) -> np.ndarray:
    if n == 1:
        return np.zeros_like(index)
    index = np.abs(index) % (2 * n - 2)
    return np.where(index < n, index, 2 * n - 2 - index)
