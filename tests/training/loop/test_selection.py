"""Which weights become the model, and how the patches of a validation are counted."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest
import torch
from training_phantoms import Phantoms, adversarial_recipe, make_trainer, tiny_recipe

from bids_segsr.training.data.batches import make_loader
from bids_segsr.training.loop.checkpoint import load_checkpoint, of_prefix
from bids_segsr.training.loop.forward_pass import apply_network
from bids_segsr.training.loop.losses import reconstruction
from bids_segsr.training.loop.validation_scores import as_scores, sum_scores
from bids_segsr.training.loop_tables import Loss, Optimiser
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


def test_the_generator_follows_the_critic_with_the_weight_of_the_recipe(tmp_path):
    """One step of gradient descent, beside what autograd gives for both terms on their own."""
    rate, weight = 0.1, 50.0
    recipe = adversarial_recipe(
        loss=Loss(adversarial_weight=weight), optimiser=Optimiser('sgd', learning_rate=rate)
    )
    trainer = make_trainer(tmp_path, recipe)
    networks, updater = trainer.networks, trainer.updater
    generator = networks.plain_generator.train()
    with torch.no_grad():  # else the head that begins near the identity hides the layers before it
        for parameter in generator.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    raw = next(iter(make_loader(Phantoms(), [[0, 1]], 0)))
    batch = updater.prepared(raw)
    output = apply_network(generator, batch, conditional=False)
    plain = reconstruction(output, batch.target, recipe.loss, recipe.task.channels)['total']
    with networks.critic_fixed() as critic:
        judged = -critic(output).mean()
    parameters = list(generator.parameters())
    of_plain = torch.autograd.grad(plain, parameters, retain_graph=True)
    of_critic = torch.autograd.grad(judged, parameters)
    before = [p.detach().clone() for p in parameters]
    assert sum(float(g.abs().sum()) for g in of_critic) > 0
    networks.set_rates(1.0)
    updater.generator(iter([raw]))
    for old, new, a, b in zip(before, parameters, of_plain, of_critic, strict=True):
        moved = (old - new.detach()) / rate
        torch.testing.assert_close(moved, a + weight * b, rtol=1e-3, atol=1e-4)


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
