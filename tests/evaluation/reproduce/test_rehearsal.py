"""Trainings of two steps of the least networks."""

from __future__ import annotations

from bids_segsr.evaluation.reproduce.article import (
    article_names,
    read_article,
    recipe_of,
)
from bids_segsr.evaluation.reproduce.rehearsal import SMALL, rehearsed
from bids_segsr.networks import create
from bids_segsr.training.recipe import flattened


def test_all_architectures_of_the_articles_have_a_least_network():
    for name in article_names():
        article, _ = read_article(name)
        for training in article.trainings:
            assert recipe_of(article, training).network.architecture in SMALL


def test_a_rehearsed_training_is_short_and_small_and_its_losses_stay() -> None:
    recipe = recipe_of(read_article('segsrgan-2020')[0], 'segsrgan-2020')
    small = rehearsed(recipe)
    assert (small.schedule.steps, small.schedule.batch_size) == (2, 2)
    assert small.sampling.patch_size == 16
    assert small.critic is not None
    assert small.critic.options['patch_size'] == 16
    sizes = [
        sum(p.numel() for p in create(n.architecture, **n.options).parameters())
        for n in (small.network, recipe.network)
    ]
    assert 100 * sizes[0] < sizes[1]
    before, after = flattened(recipe), flattened(small)
    kept = {key for key in before if key.startswith(('loss.', 'forward.'))}
    assert kept
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
