"""Surfaces of segmentations as pictures."""

from __future__ import annotations

import numpy as np
from evaluation_phantoms import (
    ball,
)

from bids_segsr.evaluation.surface_picture import draw_surfaces, surface


def test_surface_of_a_ball():
    mask = ball((40, 40, 40), (15, 20, 25), 10)
    triangles = surface(mask, (1.0, 1.0, 2.0))
    corners = triangles.reshape(-1, 3) / (1, 1, 2) - (15, 20, 25)
    np.testing.assert_allclose(np.linalg.norm(corners, axis=1), 10.2, atol=0.6)
    assert not len(surface(np.zeros((5, 5, 5), bool), (1, 1, 1)))
    figure = draw_surfaces([('ball', mask, (1, 1, 2)), ('nothing', mask & False, (1, 1, 1))])
    figure.canvas.draw()
    assert [ax.get_title() for ax in figure.axes if ax.get_title()] == ['ball', 'nothing']
