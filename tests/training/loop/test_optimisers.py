"""Optimisers against what their equations give."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bids_segsr.training.loop.optimisers import make_optimiser, set_rate
from bids_segsr.training.loop_tables import Optimiser


def test_nesterov_looks_ahead() -> None:
    """Half of w^2 from w = 1, rate 0.1, momentum 0.9.

    v1 = 1, w1 = 1 - 0.1 (1 + 0.9 v1) = 0.81; v2 = 0.9 + 0.81 = 1.71,
    w2 = 0.81 - 0.1 (0.81 + 0.9 x 1.71) = 0.5751. Momentum alone: 0.9, then 0.72.
    """
    found = []
    for nesterov in (True, False):
        network = nn.Linear(1, 1, bias=False)
        nn.init.ones_(network.weight)
        chosen = Optimiser('sgd', learning_rate=0.1, momentum=0.9, nesterov=nesterov)
        optimiser = make_optimiser(chosen, network)
        for _ in range(2):
            optimiser.zero_grad()
            (network.weight**2 / 2).sum().backward()
            optimiser.step()
            found.append(network.weight.item())
    assert found == pytest.approx([0.81, 0.5751, 0.9, 0.72])


@pytest.mark.parametrize(('name', 'momentum'), [('adam', 0.9), ('sgd', 0.0)])
def test_nesterov_without_momentum_is_refused(name: str, momentum: float) -> None:
    with pytest.raises(ValueError, match='nesterov goes with sgd and a momentum above 0'):
        Optimiser(name, momentum=momentum, nesterov=True)  # type: ignore[arg-type]


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
