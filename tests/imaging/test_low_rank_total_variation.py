"""LRTV, term by term and on a phantom."""

from __future__ import annotations

import numpy as np
import pytest

from bids_segsr.imaging.acquisition import acquire, draw_acquisition, interpolate
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.imaging.low_rank_total_variation import (
    FLAT,
    low_rank,
    restore,
    total_variation_gradient,
)
from bids_segsr.imaging.measures.metrics import psnr


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_singular_values_are_lowered(axis):
    image = np.random.default_rng(0).normal(size=(5, 6, 7))
    rows = np.moveaxis(image, axis, 0).reshape(image.shape[axis], -1)
    u, s, v = np.linalg.svd(rows, full_matrices=False)
    threshold = (s[-1] + s[-2]) / 2
    wanted = (u * np.maximum(s - threshold, 0)) @ v
    found = low_rank(image, axis, threshold)
    assert found.shape == image.shape
    np.testing.assert_allclose(
        np.moveaxis(found, axis, 0).reshape(rows.shape), wanted, rtol=1e-6, atol=1e-9
    )
    np.testing.assert_allclose(low_rank(image, axis, 0.0), image, atol=1e-9)


def test_gradient_is_the_derivative_of_the_total_variation():
    rng = np.random.default_rng(1)
    image, along = rng.normal(size=(4, 5, 6)), rng.normal(size=(4, 5, 6))

    flat = FLAT * np.abs(image).max()

    def total_variation(x):
        parts = [np.diff(x, axis=n, append=np.take(x, [-1], n)) for n in range(3)]
        return np.sqrt(sum(part**2 for part in parts) + flat**2).sum()

    numerical = (
        total_variation(image + 1e-5 * along) - total_variation(image - 1e-5 * along)
    ) / 2e-5
    assert (total_variation_gradient(image) * along).sum() == pytest.approx(numerical, rel=1e-5)


def boxes():
    image = np.zeros((24, 24, 24), np.float32)
    image[4:20, 4:20, 4:20] = 300
    image[8:16, 6:18, 9:15] = 700
    return image


@pytest.mark.parametrize(
    'forward',
    [ForwardModel(kind='isotropic', factor=(2.0, 2.0)), ForwardModel(spacing_mm=(3.0, 3.0))],
)
def test_boxes_are_closer_than_by_splines(forward):
    truth, affine = boxes(), np.eye(4)
    acquisition = draw_acquisition(forward, (1, 1, 1), None)
    low, _ = acquire(truth, affine, acquisition)
    spline = interpolate(low, truth.shape, affine, acquisition)
    found = restore(low, truth.shape, affine, acquisition)
    assert found.dtype == np.float32
    assert psnr(truth, found) > psnr(truth, spline) + 1.5
    misfit = [np.abs(acquire(x, affine, acquisition)[0] - low).mean() for x in (found, spline)]
    assert misfit[0] < 0.5 * misfit[1]
    np.testing.assert_allclose(
        restore(10 * low, truth.shape, affine, acquisition), 10 * found, rtol=1e-3, atol=1
    )


def test_nothing_is_restored_from_nothing():
    acquisition = draw_acquisition(ForwardModel(spacing_mm=(3.0, 3.0)), (1, 1, 1), None)
    assert not restore(np.zeros((9, 9, 3)), (9, 9, 9), np.eye(4), acquisition).any()
