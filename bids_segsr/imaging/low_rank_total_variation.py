"""LRTV (Shi et al. 2015, doi:10.1109/TMI.2015.2437894): super-resolution that learns nothing.

The fine image X of a scan T minimises

    1/2 |D X - T|^2 + lambda_rank sum_i alpha_i |X_(i)|_* + lambda_TV TV(X),

where D is the forward model, X_(i) the image unfolded along axis i, |.|_* the sum of the singular
values and alpha_i = 1/3. The method of multipliers splits it: X by gradient descent, a copy M_i of
X for each axis by soft thresholding of its singular values, the multipliers Y_i by what is left.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bids_segsr.imaging.acquisition import Acquisition, acquisition_matrices
from bids_segsr.imaging.axis_matrices import apply_matrices
from bids_segsr.imaging.conform import spacing_of

RANK_WEIGHT = 0.01
TV_WEIGHT = 0.01
COUPLING = 0.1
STEP = 0.1
ITERATIONS = 20
TOLERANCE = 1e-5
"""lambda_rank, lambda_TV, rho, dt, and when to stop: the values of the authors' program."""

DESCENTS = 10
"""Steps of gradient descent in an iteration: our choice."""

FLAT = 0.01
"""Gradient, as a share of the largest intensity, near which the total variation is rounded off:
with less, steps of this length swing about flat regions. Our choice."""


def restore(
    low: np.ndarray,
    shape: Sequence[int],
    affine: np.ndarray,
    acquisition: Acquisition,
    iterations: int = ITERATIONS,
) -> np.ndarray:
    """Restore a fine image from a scan.

    Intensities are brought to 0 to 1 for it, as in the comparison of ReCNN (2019). In the place of
    the transposed sampling stands the interpolation, as in the program of the authors.

    Args:
        low: The scan, (i, j, k).
        shape: Of the fine image.
        affine: Its voxel to RAS+ mm (4 x 4).
        acquisition: How the scan was acquired from it, and how it is interpolated first.
        iterations: At most.

    Returns:
        float32 array of that shape, in the intensities of the scan.
    """
    i, j, k = shape
    down, up = acquisition_matrices((i, j, k), spacing_of(affine), acquisition)
    top = float(np.abs(low).max()) or 1.0
    scan = np.asarray(low, dtype=np.float32) / np.float32(top)
    image = np.ascontiguousarray(apply_matrices(up, scan))
    copies = [image.copy() for _ in range(3)]
    multipliers = [np.zeros_like(image) for _ in range(3)]
    for _ in range(iterations):
        before = image.copy()
        for _ in range(DESCENTS):
            gradient = apply_matrices(up, apply_matrices(down, image) - scan)
            gradient += np.float32(TV_WEIGHT) * total_variation_gradient(image)
            for copy, multiplier in zip(copies, multipliers, strict=True):
                gradient += np.float32(COUPLING) * (image - copy + multiplier)
            image = image - np.float32(STEP) * gradient
        for axis, multiplier in enumerate(multipliers):
            copies[axis] = low_rank(image + multiplier, axis, RANK_WEIGHT / 3 / COUPLING)
            multiplier += image - copies[axis]
        if np.linalg.norm(image - before) <= TOLERANCE * np.linalg.norm(scan):
            break
    return image * np.float32(top)


def low_rank(image: np.ndarray, axis: int, threshold: float) -> np.ndarray:
    """Shrink the singular values of an image unfolded along an axis.

    Args:
        image: (i, j, k).
        axis: Rows of the matrix; the others make up its columns.
        threshold: By how much each is lowered, down to 0.

    Returns:
        Array of the same shape.
    """
    rows = np.moveaxis(image, axis, 0).reshape(image.shape[axis], -1)
    # A matrix of few rows has the left singular vectors of its small product with itself.
    values, vectors = np.linalg.eigh((rows @ rows.T).astype(float))
    values = np.sqrt(np.maximum(values, 0))
    kept = np.divide(
        np.maximum(values - threshold, 0), values, out=np.zeros_like(values), where=values > 0
    )
    shrunk = ((vectors * kept) @ vectors.T).astype(image.dtype) @ rows
    others = [n for n in range(3) if n != axis]
    folded = shrunk.reshape(image.shape[axis], *(image.shape[n] for n in others))
    return np.ascontiguousarray(np.moveaxis(folded, 0, axis))


def total_variation_gradient(image: np.ndarray) -> np.ndarray:
    """Derivative of the total variation, the sum of the lengths of the gradient, rounded off.

    Args:
        image: (i, j, k), forward differences, none across the border.

    Returns:
        Array of the same shape.
    """
    differences = [np.diff(image, axis=n, append=_last(image, n)) for n in range(3)]
    flat = np.float32(FLAT) * (float(np.abs(image).max()) or 1.0)
    length = np.sqrt(sum(d**2 for d in differences) + flat**2)
    found = np.zeros_like(image)
    for n, difference in zip(range(3), differences, strict=True):
        flow = difference / length
        found -= flow
        inner: list[slice] = [slice(None)] * 3
        outer = inner.copy()
        inner[n], outer[n] = slice(1, None), slice(None, -1)
        found[tuple(inner)] += flow[tuple(outer)]
    return found


def _last(image: np.ndarray, axis: int) -> np.ndarray:
    return np.take(image, [-1], axis=axis)
