from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from bids_segsr.exceptions import UserError
from bids_segsr.training.loop.optimisers import make_optimiser, set_rate
from bids_segsr.training.loop_tables import Optimiser, Rates
from bids_segsr.training.recipe import Validation, changed_key
from bids_segsr.training.recipe_file import (
    parse_recipe,
    read_recipe,
    recipe_names,
    recipe_text,
)

RECIPE = """
name = "mine"
reference = "nobody (2020), section 1"
seed = 3
[network]
architecture = "segsrgan"
options = { base_filters = 8, conditional = "film" }
[critic]
architecture = "segsrgan-critic"
[schedule]
epochs = 200
batch_size = 16
[forward]
spacing_mm = [2, 3.5]
[task]
labels = { cortex = [2, 3] }
[loss]
adversarial_weight = 1e-3
[rates]
schedule = "step"
every_epochs = 20
[label_maps]
[[label_maps.sources]]
pattern = "*.nii.gz"
labelling = "adult"
table = { cortex = [3, 42] }
"""


def test_a_recipe_is_read_and_written():
    recipe = parse_recipe(RECIPE, 'mine.toml')
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
    assert old in RECIPE
    with pytest.raises(UserError, match=rf'^mine\.toml: .*{message}') as caught:
        parse_recipe(RECIPE.replace(old, new, 1), 'mine.toml')
    assert '\n' not in str(caught.value)


def test_scores_can_be_weighted():
    assert Validation(score='psnr + 10*dice_cortex').weights == {'psnr': 1.0, 'dice_cortex': 10.0}
    assert Validation(score='0.5*loss').weights == {'loss': -0.5}
    for wrong in ('psnr-dice', '', 'psnr*2', 'psnr_mask', 'accuracy'):
        with pytest.raises(ValueError, match='cannot be read'):
            Validation(score=wrong)
    with pytest.raises(UserError, match=r"validation\.score: no channel 'skull'"):
        parse_recipe(RECIPE + '[validation]\nscore = "dice_skull"', 'mine.toml')
    with pytest.raises(UserError, match=r'validation\.score: psnr needs an intensity loss'):
        parse_recipe(RECIPE.replace('[loss]', '[loss]\nintensity = "none"'), 'mine.toml')


def test_recipes_are_found_by_name_and_path(tmp_path):
    path = tmp_path / 'mine.toml'
    path.write_text(RECIPE)
    assert read_recipe(path).name == 'mine'
    for name in recipe_names():
        assert read_recipe(name) == read_recipe(f'recipes/{name}.toml')
    with pytest.raises(UserError, match=r'no such recipe \(did you mean segsrgan-2019'):
        read_recipe('segsrgan-1999')
    with pytest.raises(UserError, match='no such recipe; give a name of "segsr recipes list"'):
        read_recipe(tmp_path / 'zzz')


def test_changes_are_named():
    recipe = parse_recipe(RECIPE, 'mine.toml')
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


def test_learning_rates_follow_their_schedules():
    def factors(rates, steps, reductions=0):
        return [rates.factor(step, 10, step / 100, reductions) for step in steps]

    assert factors(Rates(warmup=4), (0, 1, 3, 50)) == [0.25, 0.5, 1, 1]
    assert factors(Rates('step', every_epochs=2), (19, 20, 40)) == pytest.approx([1, 0.1, 0.01])
    assert factors(Rates('step', every_steps=5, gamma=0.5), (4, 5, 10)) == [1, 0.5, 0.25]
    cosine = factors(Rates('cosine', floor=0.1), (0, 50, 100))
    assert cosine == pytest.approx([1, 0.55, 0.1])
    assert factors(Rates('plateau', gamma=0.5, floor=0.2), (7,), reductions=3) == [0.2]
    with pytest.raises(ValueError, match='gamma must be between 0 and 1, not 2'):
        Rates(gamma=2)


@pytest.mark.parametrize('name', ['adam', 'adamw', 'nadam', 'rmsprop', 'sgd'])
def test_head_and_biases_have_rates_of_their_own(name):
    network = nn.Sequential(nn.Conv3d(1, 2, 1), nn.Conv3d(2, 1, 1))
    plan = Optimiser(name, learning_rate=0.1, head_rate=0.5, bias_rate=0.1, weight_decay=0.01)
    optimiser = make_optimiser(plan, network)
    set_rate(optimiser, 0.2)
    rates = {id(p): group['lr'] for group in optimiser.param_groups for p in group['params']}
    found = [rates[id(p)] for p in network.parameters()]
    assert found == pytest.approx([0.2, 0.02, 0.1, 0.01])
    before = [p.detach().clone() for p in network.parameters()]
    network(torch.ones(1, 1, 2, 2, 2)).square().sum().backward()
    optimiser.step()
    assert all(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
