"""The networks of a training, and the average of their weights."""

from __future__ import annotations

import torch
from training_phantoms import (
    tiny_recipe,
)

from bids_segsr.training.loop.distributed import make_fabric
from bids_segsr.training.loop.networks import Networks
from bids_segsr.training.recipe import Schedule


def test_average_of_the_weights():
    recipe = tiny_recipe(schedule=Schedule(steps=9, ema=0.5))
    networks = Networks(recipe, make_fabric('cpu', None, 'fp32'), None, ())
    weight = networks.plain_generator.head.conv.weight
    expected = None
    for number, value in enumerate((1.0, 2.0, 5.0)):
        with torch.no_grad():
            weight.fill_(value)
        networks.average()
        # The decay rises to its final value: 1/11, 2/12, ...
        decay = min(0.5, (number + 1) / (number + 11))
        expected = value if expected is None else decay * expected + (1 - decay) * value
        kept = networks.kept.head.conv.weight
        torch.testing.assert_close(kept, torch.full_like(kept, expected))
