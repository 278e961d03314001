"""How the patches of a validation are counted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from training_phantoms import tiny_recipe

from bids_segsr.training.loop.validation_scores import as_scores, sum_scores


def test_dice_is_pooled_or_that_of_each_patch():
    recipe = tiny_recipe()
    batches = []
    trues, founds = ([4, 0, 2], [2, 0, 8])  # voxels of one row that are cortex
    for true, found in zip(trues, founds, strict=True):
        target = np.random.default_rng(0).random((1, 2, 8, 8, 8)).astype(np.float32)
        target[:, 1] = 0
        target[0, 1, 0, 0, :true] = 1
        maps = target.copy()
        maps[:, 1] = 0
        maps[0, 1, 0, 0, :found] = 1
        batches.append((torch.from_numpy(target), torch.from_numpy(maps)))
    sums: dict[str, float] = {}
    for target, maps in batches:
        batch = dataclasses.make_dataclass(
            'Made', ['image', 'target', 'resolution', 'in_image_units']
        )(maps[:, :1], target, torch.ones(1), lambda x: x)

        class Given(torch.nn.Module):
            def __init__(self, maps):
                super().__init__()
                self.maps = maps

            def forward(self, x):
                return self.maps

        for name, value in sum_scores(Given(maps), [batch], recipe, False).items():
            sums[name] = sums.get(name, 0) + value
    pooled, _ = as_scores(sums, recipe)
    each = dataclasses.replace(recipe.validation, dice='patches')
    averaged, _ = as_scores(sums, dataclasses.replace(recipe, validation=each))
    both, either = [2, 0, 2], [6, 0, 10]
    assert pooled['dice'] == pytest.approx(2 * sum(both) / sum(either))
    assert averaged['dice'] == pytest.approx(np.mean([2 * 2 / 6, 1, 2 * 2 / 10]))
