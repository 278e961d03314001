"""Trainings of minutes in the place of weeks: everything is gone through, nothing is learnt."""

from __future__ import annotations

import dataclasses
from typing import Any

from bids_segsr.training.recipe import Network, Recipe
from bids_segsr.training.recipe_file import changed_recipe

PATCH = 16
STEPS = 2

SMALL: dict[str, dict[str, Any]] = {
    'segsrgan': {'base_filters': 2, 'n_blocks': 1},
    'segsrgan-critic': {'base_filters': 2, 'patch_size': PATCH},
    'recnn': {'depth': 2, 'filters': 2},
    'srcnn3d': {'filters': [2, 2]},
    'mdcsrn': {'b': 2, 'u': 2, 'k': 2},
    'mdcsrn-critic': {'base_filters': 2, 'patch_size': PATCH},
    'rrdg': {'n_c': 1, 'n_f': 4, 'k': 2},
    'rrdg-critic': {'base_filters': 2},
    'fsrcnn': {'d': 4, 's': 2, 'm': 1},
    'srresnet': {'n_blocks': 1, 'filters': 4},
    'srdensenet': {'b': 1, 'u': 2, 'k': 2},
    'unet': {'base_filters': 2},
}
"""Options that make the least network of an architecture."""


def rehearsed(recipe: Recipe) -> Recipe:
    """Return a recipe with the least network, patches and length.

    Args:
        recipe: The recipe.

    Returns:
        The recipe of a training of seconds; its losses, forward model and selection are the same.
    """
    changes: dict[str, Any] = {
        'network': _small(recipe.network),
        'sampling': {'patch_size': PATCH, 'mode': 'random', 'patches_per_epoch': 4},
        'schedule': {'steps': STEPS, 'batch_size': 2},
        'validation': {'patches': 2, 'pictures': 0},
        'critic_schedule': {'updates': 1, 'head_start': 0, 'extra_every': 0},
    }
    if recipe.critic is not None:
        changes['critic'] = _small(recipe.critic)
    return changed_recipe(recipe, changes, recipe.name)


def _small(network: Network) -> dict[str, Any]:
    options = {**network.options, **SMALL.get(network.architecture, {})}
    return {**dataclasses.asdict(network), 'options': options}
