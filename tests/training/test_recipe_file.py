"""Recipes as files."""

from __future__ import annotations

import pytest
from training_phantoms import RECIPE_TEXT

from bids_segsr.exceptions import UserError
from bids_segsr.training.recipe_file import (
    parse_recipe,
    read_recipe,
    recipe_names,
    recipe_text,
)


def test_a_recipe_is_read_and_written():
    recipe = parse_recipe(RECIPE_TEXT, 'mine.toml')
    assert recipe.seed == 3
    assert recipe.forward.spacing_mm == (2.0, 3.5)
    assert isinstance(recipe.forward.spacing_mm[0], float)
    assert recipe.task.labels == {'cortex': (2, 3)}
    assert recipe.label_maps.sources[0].table == {'cortex': (3, 42)}
    assert recipe.network.conditional
    assert not recipe.critic.conditional
    assert recipe.adversarial
    assert parse_recipe(recipe_text(recipe), 'again') == recipe


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('seed = 3', 'sead = 3', r"top of the file: unknown key 'sead'; known are name, "),
        ('epochs = 200', 'epoch = 2', r"\[schedule\]: unknown key 'epoch'; known are epochs, "),
        ('epochs = 200', '', r'\[schedule\]: give epochs, steps or minutes'),
        ('epochs = 200', 'epochs = 0', r'\[schedule\]: epochs must be positive, not 0'),
        ('epochs = 200', 'epochs = 2.5', r'\[schedule\] epochs: 2.5 is not allowed; .*integer'),
        ('epochs = 200', 'epochs = true', r'\[schedule\] epochs: True is not allowed'),
        ('batch_size = 16', 'precision = "f8"', r"give one of 'fp32', 'bf16'"),
        ('[2, 3.5]', '[2]', r'\[forward\] spacing_mm: \[2\] .* a list of 2, each of it a number'),
        ('[2, 3.5]', '["a", 1]', r"\[forward\] spacing_mm: 'a' is not allowed; give a number"),
        ('[3, 42]', '[3, "x"]', r"\[label_maps.sources.table\] cortex: 'x' is not allowed"),
        ('[critic]\narchitecture = "segsrgan-critic"', '', r'a table \[critic\] is needed'),
        ('every_epochs = 20', '', r"\[rates\]: schedule 'step' needs either every_epochs or"),
        ('name = "mine"', '', r'top of the file: name must be given'),
        ('name = "mine"', 'name = "my own"', 'use letters, digits and hyphens'),
        (
            'cortex = [2, 3] }',
            'cortex = [2, 3] }\nchannels = ["cortex"]',
            "begin with 'intensity'",
        ),
        ('seed = 3', 'seed = ', 'no valid TOML'),
    ],
)
def test_mistakes_are_named(old, new, message):
    assert old in RECIPE_TEXT
    with pytest.raises(UserError, match=rf'^mine\.toml: .*{message}') as caught:
        parse_recipe(RECIPE_TEXT.replace(old, new, 1), 'mine.toml')
    assert '\n' not in str(caught.value)


def test_recipes_are_found_by_name_and_path(tmp_path):
    path = tmp_path / 'mine.toml'
    path.write_text(RECIPE_TEXT)
    assert read_recipe(path).name == 'mine'
    for name in recipe_names():
        assert read_recipe(name) == read_recipe(f'recipes/{name}.toml')
    with pytest.raises(UserError, match=r'no such recipe \(did you mean segsrgan-2019'):
        read_recipe('segsrgan-1999')
    with pytest.raises(UserError, match='no such recipe; give a name of "segsr recipes list"'):
        read_recipe(tmp_path / 'zzz')
