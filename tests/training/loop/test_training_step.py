"""One update of the weights."""

from __future__ import annotations

import torch
from training_phantoms import Phantoms, adversarial_recipe, make_trainer

from bids_segsr.training.data.batches import make_loader
from bids_segsr.training.loop.forward_pass import apply_network
from bids_segsr.training.loop.losses import reconstruction
from bids_segsr.training.loop_tables import Loss, Optimiser


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
