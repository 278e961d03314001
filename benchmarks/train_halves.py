"""Train the two halves of the default model apart, one after the other, and join them.

    python benchmarks/train_halves.py --data DIR --out OUT [--init PAIR] [--minutes 46 20]

Halves that are trained apart learn as much as both at once and need not wait for each other: the
packaged weights are made so, on one core (`OMP_NUM_THREADS=1`), in mixed precision, which halves
the time of a step on a CPU that knows bfloat16. DIR holds `labels` and `images` as the recipe
`default-model` says. A run that was stopped is taken up. OUT/model is the joined model;
`benchmarks/default_model.py --model OUT/model --write-card` scores it.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from bids_segsr.networks import create
from bids_segsr.training.data.collection import data_of_label_maps
from bids_segsr.training.data_tables import UNLABELLED
from bids_segsr.training.loop.training_run import Run, label_map_sets, run_training
from bids_segsr.training.recipe import Recipe
from bids_segsr.training.recipe_file import read_recipe
from bids_segsr.zoo.find import load_model
from bids_segsr.zoo.store import TrainedModel, save_model

RECIPE = 'default-model'
HALVES = ('tissues', 'intensity')
RATES = {'tissues': 7e-4, 'intensity': 6e-4}
BATCH = 2


def recipe_of(half: str, minutes: float) -> Recipe:
    """Return what one half is trained by.

    Args:
        half: A name of HALVES.
        minutes: How long.
    """
    recipe = read_recipe(RECIPE)
    assert recipe.label_maps is not None  # noqa: S101 - narrows
    options = dict(recipe.network.options)
    task, loss, sources = recipe.task, recipe.loss, recipe.label_maps.sources
    if half == 'tissues':
        options = {**options, 'intensity': False, 'detail_filters': 0}
        loss = dataclasses.replace(loss, intensity='none')
        # scans without labels teach the tissues nothing
        sources = tuple(source for source in sources if source.labelling != UNLABELLED)
    else:
        options = {**options, 'classes': 0, 'class_filters': 0}
        task = dataclasses.replace(task, channels=('intensity',), labels={})
        loss = dataclasses.replace(loss, segmentation='none')
    return dataclasses.replace(
        recipe,
        network=dataclasses.replace(recipe.network, architecture='tissue-unet', options=options),
        task=task,
        loss=loss,
        label_maps=dataclasses.replace(recipe.label_maps, sources=sources),
        optimiser=dataclasses.replace(recipe.optimiser, learning_rate=RATES[half]),
        schedule=dataclasses.replace(
            recipe.schedule, minutes=minutes, batch_size=BATCH, precision='bf16'
        ),
        validation=dataclasses.replace(
            recipe.validation, score='dice' if half == 'tissues' else 'gain'
        ),
    )


def half_of(pair: TrainedModel, half: str, recipe: Recipe, out: Path) -> Path:
    """Write one half of a pair as a model to start from; returns its folder.

    Args:
        pair: The pair.
        half: A name of HALVES.
        recipe: What the half is trained by; what the pair lacks keeps its first weights.
        out: Folder for it.
    """
    network = create(recipe.network.architecture, **recipe.network.options)
    wanted, prefix = network.state_dict(), f'{half}.'
    given = {
        name.removeprefix(prefix): weights
        for name, weights in pair.network.state_dict().items()
        if name.startswith(prefix)
    }
    fits = {n: w for n, w in given.items() if n in wanted and w.shape == wanted[n].shape}
    network.load_state_dict(fits, strict=False)
    card = dataclasses.replace(
        pair.card,
        architecture=recipe.network.architecture,
        options=recipe.network.options,
        channels=recipe.task.channels,
        labels=pair.card.labels if half == 'tissues' else {},
    )
    return save_model(out, network, card)


def join(halves: dict[str, TrainedModel], out: Path) -> Path:
    """Join trained halves; returns the folder of the pair.

    Args:
        halves: A model for each name of HALVES.
        out: Folder of the pair. Its card is that of the tissues with both runs told.
    """
    recipe = read_recipe(RECIPE)
    network = create(recipe.network.architecture, **recipe.network.options)
    network.load_state_dict(
        {
            f'{half}.{name}': weights
            for half, model in halves.items()
            for name, weights in model.network.state_dict().items()
        }
    )
    told = {half: model.card.training for half, model in halves.items()}
    card = dataclasses.replace(
        halves['tissues'].card,
        name=recipe.name,
        architecture=recipe.network.architecture,
        options=recipe.network.options,
        training={
            **told['tissues'],
            'notes': [
                f'{half}: {part["steps"]} steps, {part["minutes"]:.0f} minutes'
                for half, part in told.items()
            ],
        },
    )
    return save_model(out, network, card, half_precision=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and join."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--init', metavar='PAIR', help='name or path of a pair to start from')
    parser.add_argument('--minutes', type=float, nargs=2, default=(46.0, 20.0), metavar='N')
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(message)s', force=True)
    models = {}
    for half, minutes in zip(HALVES, args.minutes, strict=True):
        recipe = recipe_of(half, minutes)
        init = None
        if args.init is not None:
            init = str(half_of(load_model(args.init), half, recipe, args.out / f'init-{half}'))
        run_training(
            recipe,
            data_of_label_maps(recipe, args.data),
            label_map_sets(args.data),
            args.out / half,
            Run('cpu', workers=0, init=init),
        )
        models[half] = load_model(str(args.out / half / 'model'))
    print(join(models, args.out / 'model'))


if __name__ == '__main__':
    main()
