"""Which weights become the model."""

from __future__ import annotations

import logging

import pytest
import torch
from training_phantoms import adversarial_recipe, make_trainer, tiny_recipe

from bids_segsr.training.loop.checkpoint import load_checkpoint, of_prefix
from bids_segsr.training.loop_tables import Optimiser
from bids_segsr.training.recipe import Schedule, Validation
from bids_segsr.zoo.find import load_model

HURTING = Optimiser('sgd', learning_rate=3.0)
"""Every step makes the images worse than those of the start."""


def plan(**changes):
    return Validation(every_steps=1, patches=2, pictures=0, score='psnr', **changes)


def differs(model, other):
    pairs = zip(model.network.parameters(), other.values(), strict=True)
    return any(not torch.equal(a, b) for a, b in pairs)


def test_the_last_weights_are_a_model_whatever_is_kept(tmp_path):
    recipe = tiny_recipe(
        schedule=Schedule(steps=2, batch_size=2), optimiser=HURTING, validation=plan()
    )
    trainer = make_trainer(tmp_path, recipe)
    begun = {n: t.clone() for n, t in trainer.networks.plain_generator.state_dict().items()}
    outcome = trainer.fit()
    assert outcome.kept_step == 0
    last = load_model(tmp_path / 'checkpoints/last')
    checkpoint = load_checkpoint(tmp_path / 'checkpoints/last')
    weights = of_prefix('generator', checkpoint.tensors)
    for name, tensor in last.network.state_dict().items():
        assert torch.equal(tensor, weights[name]), name
    assert last.card.training['kept_step'] == 2
    assert differs(last, begun)
    assert not differs(load_model(tmp_path / 'model'), begun)


def test_a_run_whose_best_is_its_start_says_so(tmp_path, caplog):
    recipe = tiny_recipe(
        schedule=Schedule(steps=1, batch_size=2), optimiser=HURTING, validation=plan()
    )
    with caplog.at_level(logging.WARNING):
        make_trainer(tmp_path, recipe).fit()
    told = 'the weights that the training began with'
    assert told in caplog.text
    assert told in ' '.join(load_model(tmp_path / 'model').card.limitations)


@pytest.mark.parametrize('keep', ['best', 'last'])
def test_a_critic_s_training_never_hands_back_its_start(tmp_path, keep):
    recipe = adversarial_recipe(
        schedule=Schedule(steps=2, batch_size=2), optimiser=HURTING, validation=plan(keep=keep)
    )
    trainer = make_trainer(tmp_path, recipe)
    begun = {n: t.clone() for n, t in trainer.networks.plain_generator.state_dict().items()}
    outcome = trainer.fit()
    assert outcome.kept_step in ((1, 2) if keep == 'best' else (2,))
    assert differs(load_model(tmp_path / 'model'), begun)
