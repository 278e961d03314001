"""Weights of interpolations against those that others printed."""

from __future__ import annotations

import numpy as np

from bids_segsr.imaging.axis_matrices import cubic_convolution_matrix, nearest_matrix


def test_cubic_convolution_gives_keys_weights_and_parabolas_back() -> None:
    matrix = cubic_convolution_matrix(8, np.array([3.0, 3.5, 3.25]))
    np.testing.assert_allclose(matrix[0], np.eye(8)[3])
    # Keys 1981: -1/16, 9/16, 9/16, -1/16 half way
    np.testing.assert_allclose(matrix[1, 2:6], np.array([-1, 9, 9, -1]) / 16)
    points = np.linspace(1.0, 6.0, 23)
    parabola = np.arange(8.0) ** 2 - 3 * np.arange(8.0)
    found = cubic_convolution_matrix(8, points) @ parabola
    np.testing.assert_allclose(found, points**2 - 3 * points, atol=1e-12)
    np.testing.assert_allclose(cubic_convolution_matrix(8, np.array([-1.0, 9.0])).sum(1), 1)


def test_nearest_takes_one_voxel() -> None:
    matrix = nearest_matrix(4, np.array([-2.0, 0.4, 0.5, 0.6, 2.0, 9.0]))
    assert matrix.argmax(1).tolist() == [0, 0, 0, 1, 2, 3]
    np.testing.assert_array_equal(matrix.sum(1), 1)
