"""Table and pictures of a run."""

from __future__ import annotations

import numpy as np
from training_phantoms import tiny_recipe

from bids_segsr.training.loop.run_log import PANELS, draw_sample


def test_true_segmentation_is_outlined_in_the_target():
    recipe = tiny_recipe()
    target = np.zeros((2, 8, 8, 8), np.float32)
    target[0] = np.linspace(0, 1, 8)
    target[1, :, 2:6, 2:6] = 1
    pixels = draw_sample(target[0], np.zeros_like(target), target, recipe)
    edge = 128
    panels = [pixels[-edge:, n * (edge + 4) :][:, :edge] for n in range(6)]
    truth = panels[PANELS.index('target')]
    coloured = truth.max(axis=2) != truth.min(axis=2)
    border = np.zeros((edge, edge), bool)
    border[32:96, 32:96] = True
    border[33:95, 33:95] = False
    np.testing.assert_array_equal(coloured, border)
