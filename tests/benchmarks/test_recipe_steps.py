"""What a recipe is measured at: its networks in training, as in a run."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import recipe_steps
from torch import nn

from bids_segsr.training.loop.training_step import Updater
from bids_segsr.training.recipe import Recipe
from bids_segsr.training.recipe_file import read_recipe


def small(name: str) -> Recipe:
    recipe = read_recipe(name)
    options = {**recipe.network.options, 'n_c': 1, 'n_f': 4, 'k': 2}
    return replace(
        recipe,
        network=replace(recipe.network, options=options),
        sampling=replace(recipe.sampling, patch_size=8),
        schedule=replace(recipe.schedule, batch_size=2),
    )


def test_updates_are_taken_in_training_mode(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    modes: list[bool] = []
    update = Updater.generator

    def watched(self: Updater, *batches: Any) -> None:
        norms = [m for m in self.networks.generator.modules() if isinstance(m, nn.BatchNorm3d)]
        modes.extend(norm.training for norm in norms)
        update(self, *batches)

    monkeypatch.setattr(recipe_steps, 'read_recipe', small)
    monkeypatch.setattr(Updater, 'generator', watched)
    recipe_steps.take_updates('rrdg', 'cpu', 1)
    assert modes and all(modes)
    updates = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(updates) == recipe_steps.UPDATES
