"""Train the weights that are packaged.

    python benchmarks/train_weights.py MODEL --data DIR --out OUT [--init MODEL] [--minutes N]
    python benchmarks/train_weights.py TRAINING --data DIR --out OUT/TRAINING ...

A MODEL is made by all that it takes: its trainings one after the other, each in a folder of its
own under OUT and of as many minutes; for tissues that went on from those of the same model, the
mean of the weights before and after; calibration; what a pair does not train, from --init; in
the end OUT/model, with the card of the packaged version and what the run tells of itself (its
text wants a look). --init is what the trainings go on from, such as the packaged version before;
without it they start from nothing.

TRAININGS run by themselves, too, beside each other on a GPU; the model's command then takes what
lies in OUT. They are the halves of `tissue-unet`, `tissues` and `intensity`; `tissues-newborn` and
`tissues-newborn-T1w`, the half for the tissues that sees newborns in one contrast alone;
`segsrgan`, the recipe `segsrgan-newborn`, and `segsrgan-twin`, the same without its adversarial
term; `segsrgan-finish`, the last minutes of the twin (weights averaged, the rate falling to
nothing); `brain-mask`. Halves that are trained apart learn as much as both at once. DIR holds
`labels`, `images` and `heads` as the recipes say. A run that was stopped is taken up; on a CPU
each takes a core (`OMP_NUM_THREADS=1`). `benchmarks/default_model.py --model OUT/model
--write-card` scores a pair.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from calibration import calibrate
from torch import Tensor

from bids_segsr.environment import use_large_pages
from bids_segsr.exceptions import UserError
from bids_segsr.networks import create
from bids_segsr.networks.tissue_unet import ClassHead
from bids_segsr.training.data.collection import data_of_label_maps
from bids_segsr.training.data.label_patches import make_label_map_dataset
from bids_segsr.training.data_tables import UNLABELLED
from bids_segsr.training.loop.engine import MODEL_FOLDER
from bids_segsr.training.loop.model_card import SEEN
from bids_segsr.training.loop.run_folder import CACHE_FOLDER
from bids_segsr.training.loop.training_run import Run, label_map_sets, run_training
from bids_segsr.training.recipe import Recipe
from bids_segsr.training.recipe_file import read_recipe
from bids_segsr.zoo.card import ModelCard
from bids_segsr.zoo.find import find_card, load_model
from bids_segsr.zoo.store import TrainedModel, save_model

PAIR, NEWBORN = 'default-model', 'segsrgan-newborn'
MODELS = {
    'tissue-unet': ('tissues', 'intensity'),
    'tissue-unet-newborn': ('tissues-newborn',),
    'tissue-unet-newborn-t1w': ('tissues-newborn-T1w',),
    'segsrgan-newborn': ('segsrgan-twin', 'segsrgan-finish'),
    'brain-mask': ('brain-mask',),
}
"""The trainings of a packaged model. Newborns take the intensity of --init."""
TISSUES = ('tissues', 'tissues-newborn', 'tissues-newborn-T1w')
HALVES = (*TISSUES, 'intensity')
JOBS = (*HALVES, 'segsrgan', 'segsrgan-twin', 'segsrgan-finish', 'brain-mask')
IN_BF16 = (*HALVES, 'segsrgan-finish')
RATES = {
    'tissues': 7e-4,
    'tissues-newborn': 2e-4,
    'tissues-newborn-T1w': 5e-4,
    'intensity': 6e-4,
}


def recipe_of(job: str, minutes: float, batch: int, device: str) -> Recipe:
    """Return what a job is trained by.

    Args:
        job: A name of JOBS.
        minutes: How long.
        batch: Patches a step.
        device: 'cpu' or 'cuda': a CPU that knows bfloat16 makes twice as many steps in it.
    """
    if job in HALVES:
        recipe = _half(job)
    else:
        recipe = read_recipe('brain-mask' if job == 'brain-mask' else NEWBORN)
    if job in ('segsrgan-twin', 'segsrgan-finish'):
        loss = dataclasses.replace(recipe.loss, adversarial_weight=0.0)
        recipe = dataclasses.replace(recipe, loss=loss, critic=None)
    schedule = dataclasses.replace(
        recipe.schedule,
        minutes=minutes,
        batch_size=batch,
        precision='bf16' if job in IN_BF16 and device == 'cpu' else 'fp32',
    )
    recipe = dataclasses.replace(recipe, schedule=schedule)
    if job != 'segsrgan-finish':
        return recipe
    return dataclasses.replace(
        recipe,
        schedule=dataclasses.replace(schedule, ema=0.99),
        rates=dataclasses.replace(recipe.rates, schedule='cosine'),
        validation=dataclasses.replace(recipe.validation, every_steps=150),
    )


def _half(job: str) -> Recipe:
    recipe = read_recipe(PAIR)
    assert recipe.label_maps is not None  # noqa: S101 - narrows
    options = dict(recipe.network.options)
    task, loss, label_maps = recipe.task, recipe.loss, recipe.label_maps
    if job in TISSUES:
        options = {**options, 'intensity': False, 'detail_filters': 0}
        loss = dataclasses.replace(loss, intensity='none')
        # scans without labels teach the tissues nothing
        known = tuple(part for part in label_maps.sources if part.labelling != UNLABELLED)
        label_maps = dataclasses.replace(label_maps, sources=known)
    else:
        options = {**options, 'classes': 0, 'class_filters': 0}
        task = dataclasses.replace(task, channels=('intensity',), labels={})
        loss = dataclasses.replace(loss, segmentation='none')
    if job.startswith('tissues-newborn'):
        newborn = read_recipe(NEWBORN).label_maps
        assert newborn is not None  # noqa: S101 - narrows
        # the ratio of grey and white matter varies by 6 %, from one newborn to another, in T2w;
        # in T1w, where it is 0.9, a cortex that is drawn darker than white matter teaches nothing
        appearance = dataclasses.replace(
            label_maps.appearance,
            contrasts=newborn.appearance.contrasts,
            random_share=0.0,
            jitter=0.02,
            # weights of 1 leave the cortex a sixth thicker than that of newborns
            white_weight=(1.0, 4.0),
            # their white matter differs by 8 to 11 % from place to place
            variation=(0.05, 0.25),
        )
        if job == 'tissues-newborn-T1w':
            appearance = dataclasses.replace(
                appearance,
                contrasts=('newborn-T1w',),
                jitter=0.012,
                myelination=(0.0, 0.25),
                variation=label_maps.appearance.variation,
            )
            painted = tuple(part for part in label_maps.sources if not part.image)
            label_maps = dataclasses.replace(label_maps, sources=painted)
        label_maps = dataclasses.replace(
            label_maps,
            appearance=appearance,
            acquisition=newborn.acquisition,
            deformation=newborn.deformation,
        )
    return dataclasses.replace(
        recipe,
        network=dataclasses.replace(recipe.network, architecture='tissue-unet', options=options),
        task=task,
        loss=loss,
        label_maps=label_maps,
        optimiser=dataclasses.replace(recipe.optimiser, learning_rate=RATES[job]),
        # calibrated tissues score above their own next steps, which are so at the end alone
        validation=dataclasses.replace(
            recipe.validation,
            score='dice' if job in TISSUES else 'gain',
            every_steps=200,
            keep='last' if job in TISSUES else 'best',
        ),
    )


def half_of(pair: TrainedModel, half: str, recipe: Recipe, out: Path) -> Path:
    """Write one half of a pair as a model to start from; returns its folder.

    Args:
        pair: The pair, or the half itself.
        half: 'tissues' or 'intensity'.
        recipe: What the half is trained by; what the pair lacks keeps its first weights.
        out: Folder for it.
    """
    options = recipe.network.options
    network = create(recipe.network.architecture, **options)
    wanted, prefix = network.state_dict(), f'{half}.'
    given = {n.removeprefix(prefix): w for n, w in _weights(pair, half).items()}
    fits = {n: w for n, w in given.items() if n in wanted and w.shape == wanted[n].shape}
    network.load_state_dict(fits, strict=False)
    head = network.heads['classes'] if half == 'tissues' else None  # type: ignore[index]
    if isinstance(head, ClassHead) and 'heads.classes.weight' in given:
        head.start_from_blocks(given['heads.classes.weight'], given['heads.classes.bias'])
    card = dataclasses.replace(
        pair.card,
        architecture=recipe.network.architecture,
        options=recipe.network.options,
        channels=recipe.task.channels,
        labels=pair.card.labels if half == 'tissues' else {},
    )
    return save_model(out, network, card)


def join(name: str, halves: dict[str, TrainedModel], out: Path) -> Path:
    """Join trained halves; returns the folder of the pair.

    Args:
        name: Key of MODELS.
        halves: Models named 'tissues' and 'intensity': halves, or pairs that have them.
        out: Folder of the pair. Its card is `packaged_card` with both runs told.
    """
    recipe = read_recipe(PAIR)
    network = create(recipe.network.architecture, **recipe.network.options)
    network.load_state_dict(
        {
            name: weights
            for half, model in halves.items()
            for name, weights in _weights(model, half).items()
        }
    )
    told = {half: model.card.training for half, model in halves.items()}
    training = {
        **told['tissues'],
        SEEN: sorted({digest for part in told.values() for digest in part[SEEN]}),
        'notes': [
            f'{half}: that of {model.card.name} {model.card.version}'
            if model.card.architecture == recipe.network.architecture
            else f'{half}: {told[half]["steps"]} steps, {told[half]["minutes"]:.0f} minutes'
            for half, model in halves.items()
        ],
    }
    return save_model(out, network, packaged_card(name, training), half_precision=True)


def packaged_card(name: str, training: dict[str, Any]) -> ModelCard:
    """Return the card of the next version of a packaged model, which has no scores yet.

    Args:
        name: Key of MODELS.
        training: What a run told of itself, in place of what the packaged version does; where
            the data are from and what was held out stays.
    """
    before = find_card(name)
    return dataclasses.replace(
        before,
        version=str(int(before.version) + 1),
        training={**before.training, **training},
        scores={},
    )


def _weights(model: TrainedModel, half: str) -> dict[str, Tensor]:
    """Return the weights of a half by their names in a pair."""
    weights = model.network.state_dict()
    if model.card.architecture == 'tissue-unet-pair':
        return {name: each for name, each in weights.items() if name.startswith(f'{half}.')}
    return {f'{half}.{name}': each for name, each in weights.items()}


def train(job: str, data: Path, out: Path, init: str | None, how: argparse.Namespace) -> Path:
    """Run a training to its end; returns the folder of its model.

    Args:
        job: A name of JOBS.
        data: Folder of label maps and images.
        out: Folder of the run.
        init: Model to start from; of a pair, its half.
        how: `minutes`, `batch` and `device` of the command line.
    """
    recipe = recipe_of(job, how.minutes, how.batch, how.device)
    if init is not None and job in HALVES:
        started = out.with_name(f'{out.name}-init')
        init = str(half_of(load_model(init), half_name(job), recipe, started))
    run_training(
        recipe,
        data_of_label_maps(recipe, data),
        label_map_sets(data),
        out,
        Run(how.device, workers=0 if how.device == 'cpu' else None, init=init),
    )
    return out / MODEL_FOLDER


def build(name: str, data: Path, out: Path, init: str | None, how: argparse.Namespace) -> Path:
    """Make a packaged model anew; returns its folder.

    Args:
        name: Key of MODELS.
        data: Folder of label maps and images.
        out: Folder for its trainings and for the model.
        init: Model to go on from.
        how: As for `train`.

    Raises:
        UserError: There is no intensity for a pair.
    """
    jobs = MODELS[name]
    pair = jobs[0] in HALVES
    if pair and 'intensity' not in jobs and init is None:
        raise UserError(f'{name} takes the intensity of another model: name it with --init')
    halves = {'intensity': init}
    start, trained = init, out
    for job in jobs:
        if job == 'segsrgan-finish':
            start = str(trained)
        trained = train(job, data, out / job, start, how)
        # from another model, the start knows less of these images than the end
        if job in TISSUES and start is not None and find_card(start).name == name:
            trained = midway(start, trained, out / 'midway')
        if job in TISSUES or job == 'segsrgan-finish':
            trained = calibrated(trained, job, data, out)
        if pair:
            halves[half_name(job)] = str(trained)
    if pair:
        found = {half: load_model(str(model)) for half, model in halves.items()}
        return join(name, found, out / MODEL_FOLDER)
    only = load_model(str(trained))
    card = packaged_card(name, only.card.training)
    return save_model(out / MODEL_FOLDER, only.network, card, half_precision=True)


def midway(start: str, end: Path, out: Path) -> Path:
    """Save the mean of the weights before and after a training of the tissues; returns the folder.

    It knows what the training taught and forgets less of what was known before (Wortsman et al.
    2022, arXiv 2109.01903).
    """
    trained = load_model(str(end))
    before = _weights(load_model(start), 'tissues')
    with torch.no_grad():
        for name, weights in trained.network.named_parameters():
            weights.add_(before[f'tissues.{name}']).div_(2)
    return save_model(out, trained.network, trained.card)


def calibrated(trained: Path, job: str, data: Path, out: Path) -> Path:
    """Calibrate a segmentation on its validation patches; returns its new folder."""
    model, recipe = load_model(str(trained)), recipe_of(job, 1, 1, 'cpu')
    cache = out / job / CACHE_FOLDER
    patches = make_label_map_dataset(recipe, data, 'validation', recipe.seed + 1, cache)
    print(calibrate(model, patches).round(4).T.to_string(header=False))
    return save_model(out / 'calibrated', model.network, model.card)


def half_name(job: str) -> str:
    """Tell which half of a pair a training is of."""
    return 'tissues' if job in TISSUES else 'intensity'


def main(arguments: Sequence[str] | None = None) -> None:
    """Train a model, or one of its halves."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('name', choices=(*MODELS, *sorted({*JOBS} - {*MODELS})), metavar='NAME')
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--init', metavar='MODEL', help='name or path; for a half, it or a pair')
    parser.add_argument(
        '--minutes', type=float, default=60.0, metavar='N', help='of each training'
    )
    parser.add_argument('--batch', type=int, default=2, metavar='N')
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(message)s', force=True)
    use_large_pages()
    make = build if args.name in MODELS else train
    try:
        print(make(args.name, args.data, args.out, args.init, args))
    except UserError as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
