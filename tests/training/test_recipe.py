from __future__ import annotations

import dataclasses

import pytest
from training_phantoms import RECIPE_TEXT

from bids_segsr.exceptions import UserError
from bids_segsr.training.loop_tables import Rates
from bids_segsr.training.recipe import Validation, changed_key
from bids_segsr.training.recipe_file import (
    parse_recipe,
)


def test_scores_can_be_weighted():
    assert Validation(score='psnr + 10*dice_cortex').weights == {'psnr': 1.0, 'dice_cortex': 10.0}
    assert Validation(score='0.5*loss').weights == {'loss': -0.5}
    for wrong in ('psnr-dice', '', 'psnr*2', 'psnr_mask', 'accuracy'):
        with pytest.raises(ValueError, match='cannot be read'):
            Validation(score=wrong)
    with pytest.raises(UserError, match=r"validation\.score: no channel 'skull'"):
        parse_recipe(RECIPE_TEXT + '[validation]\nscore = "dice_skull"', 'mine.toml')
    with pytest.raises(UserError, match=r'validation\.score: psnr needs an intensity loss'):
        parse_recipe(RECIPE_TEXT.replace('[loss]', '[loss]\nintensity = "none"'), 'mine.toml')


def test_changes_are_named():
    recipe = parse_recipe(RECIPE_TEXT, 'mine.toml')
    assert changed_key(recipe, recipe) is None
    network = dataclasses.replace(recipe.network, options={'base_filters': 9})
    other = dataclasses.replace(recipe, network=network)
    assert changed_key(recipe, other) == 'network.options.base_filters (was 8, is 9)'
    longer = dataclasses.replace(
        recipe, schedule=dataclasses.replace(recipe.schedule, epochs=300, steps=7)
    )
    assert changed_key(recipe, longer) is None
    wave = {'rates': Rates('cosine')}
    wavy, longer = dataclasses.replace(recipe, **wave), dataclasses.replace(longer, **wave)
    assert changed_key(wavy, longer) == 'schedule.epochs (was 200, is 300)'
