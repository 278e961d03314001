"""Whether recipe and data of a training fit, and what takes the place of the recipe's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_phantoms import RECIPE_TEXT, write_folded_ball

from bids_segsr.exceptions import UserError
from bids_segsr.training.loop.training_plan import plan_training

OWN = RECIPE_TEXT.replace('table = { cortex = [3, 42] }', '').replace(
    'labels = { cortex = [2, 3] }', ''
)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / 'mine.toml'
    path.write_text(OWN, encoding='utf-8')
    return path


def test_label_maps_become_patches_of_a_shorter_training(recipe: Path, tmp_path: Path) -> None:
    for name in 'ab':
        write_folded_ball(tmp_path / 'maps' / f'{name}.nii.gz')
    plan = plan_training(recipe, label_maps=tmp_path / 'maps', steps=7, epochs=None, seed=5)
    assert (plan.recipe.schedule.steps, plan.recipe.schedule.epochs) == (7, 200)
    assert plan.recipe.seed == 5
    assert plan.data.counts == {'train': 1, 'validation': 1}
    training, validation = plan.sets(plan.recipe, tmp_path / 'cache', torch.device('cpu'))
    assert training.channels == validation.channels == ('intensity', 'cortex')


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ({}, '--data, --label-maps: give one of them'),
        ({'data': 'a.csv', 'label_maps': 'maps'}, 'give one of them'),
        ({'data': 'a.csv', 'derivatives': 'd'}, 'd: --derivatives goes with a BIDS dataset'),
        ({'data': 'a.csv', 'seed': -1}, '--seed -1: give 0 or more'),
        ({'data': 'a.csv', 'steps': 0}, '--steps must be positive'),
        ({'data': 'a.csv', 'labels': {'skull': (1,)}}, '--label skull: the recipe learns cortex'),
        ({'label_maps': 'maps', 'labels': {'cortex': (1,)}}, '--label: goes with --data'),
        ({'data': 'a.csv'}, r'a\.csv: no such file or folder'),
    ],
)
def test_what_does_not_fit_is_named(recipe: Path, given: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan_training(recipe, **given)  # type: ignore[arg-type]
