"""Train one of the packaged models from label maps, or a half of one, and join halves.

    python benchmarks/train_weights.py JOB --data DIR --out OUT/JOB [--init MODEL] [--minutes N]
        [--device cuda --batch 8]
    python benchmarks/train_weights.py calibrate OUT/tissues/model --data DIR --out OUT/calibrated
    python benchmarks/train_weights.py join OUT/calibrated OUT/intensity/model --out OUT/model

Jobs: the halves of `tissue-unet`, `tissues` and `intensity`; `tissues-newborn` and
`tissues-newborn-T1w`, the half for the tissues that sees newborns in one contrast alone;
`segsrgan` and `segsrgan-twin`, the recipe `segsrgan-newborn` with and without its adversarial
term, `segsrgan-finish`, the last minutes of the twin (weights averaged, the rate falling to
nothing); `brain-mask`. Each is a process of its own: on a GPU they run beside each other, on a
CPU one after the other on a core each (`OMP_NUM_THREADS=1`). Halves that are trained apart learn
as much as both at once and need not wait for each other. DIR holds `labels`, `images` and `heads`
as the recipes say. A run that was stopped is taken up. `calibrate` divides the logits by the
temperature (Guo et al. 2017) that suits the validation patches best, and prints scores of them.
`benchmarks/default_model.py --model OUT/model --write-card` scores a pair.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import optimize
from torch import Tensor, nn
from torch.nn import functional

from bids_segsr.imaging.measures.metrics import calibration_error, dice
from bids_segsr.networks import create
from bids_segsr.networks.tissue_unet import ClassHead
from bids_segsr.simulation.tables import CLASSES
from bids_segsr.training.data.collection import data_of_label_maps
from bids_segsr.training.data.label_patches import make_label_map_dataset
from bids_segsr.training.data_tables import UNLABELLED
from bids_segsr.training.loop.training_run import Run, label_map_sets, run_training
from bids_segsr.training.recipe import Recipe
from bids_segsr.training.recipe_file import read_recipe
from bids_segsr.zoo.find import load_model
from bids_segsr.zoo.store import TrainedModel, save_model

PAIR, NEWBORN = 'default-model', 'segsrgan-newborn'
TISSUES = ('tissues', 'tissues-newborn', 'tissues-newborn-T1w')
HALVES = (*TISSUES, 'intensity')
JOBS = (*HALVES, 'segsrgan', 'segsrgan-twin', 'segsrgan-finish', 'brain-mask')
IN_BF16 = (*HALVES, 'segsrgan-finish')
STRIDE = 7
"""Every so many voxels calibrate."""
RATES = {
    'tissues': 7e-4,
    'tissues-newborn': 1.5e-4,
    'tissues-newborn-T1w': 1.5e-4,
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
        )
        if job == 'tissues-newborn-T1w':
            appearance = dataclasses.replace(
                appearance, contrasts=('newborn-T1w',), jitter=0.012, myelination=(0.0, 0.25)
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
        validation=dataclasses.replace(
            recipe.validation, score='dice' if job in TISSUES else 'gain'
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


def join(halves: dict[str, TrainedModel], out: Path) -> Path:
    """Join trained halves; returns the folder of the pair.

    Args:
        halves: Models named 'tissues' and 'intensity': halves, or pairs that have them.
        out: Folder of the pair. Its card is that of the tissues with both runs told.
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


def _weights(model: TrainedModel, half: str) -> dict[str, Tensor]:
    """Return the weights of a half by their names in a pair."""
    weights = model.network.state_dict()
    if model.card.architecture == 'tissue-unet-pair':
        return {name: each for name, each in weights.items() if name.startswith(f'{half}.')}
    return {f'{half}.{name}': each for name, each in weights.items()}


def calibrate(model: TrainedModel, job: str, data: Path, out: Path) -> pd.DataFrame:
    """Scale the logits of a half for the tissues and shift each class as suits validation best.

    The shifts are those of the least cross-entropy: a Dice loss makes thin classes too large. The
    temperature (Guo et al. 2017, section 4.2) is that of the least calibration error.

    Args:
        model: The half.
        job: Whose validation patches: a name of TISSUES.
        data: Folder of the label maps.
        out: Folder of the model whose last convolution has been changed.

    Returns:
        Scores before and after: temperature, cross-entropy in nats, expected calibration error
        (mean over the tissues, and of the cortex), Dice and volume over the true one of every
        class.
    """
    recipe = recipe_of(job, 1, 1, 'cpu')
    patches = make_label_map_dataset(recipe, data, 'validation', recipe.seed + 1, out / 'cache')
    found, true = [], []
    model.network.eval()
    for number in range(len(patches)):
        patch = patches[number]
        with torch.inference_mode():
            classes = model.network(patch['image'][None])[0, -len(CLASSES) :]
        inside = (patch['image'][0] != 0).flatten()
        found.append(classes.flatten(1)[:, inside].T.clamp_min(1e-8).log())
        true.append(patch['target'][-len(CLASSES) :].flatten(1)[:, inside].argmax(0))
    logits, labels = torch.cat(found), torch.cat(true)
    shifted = logits + _shifts(logits[::STRIDE], labels[::STRIDE])
    found_scale = optimize.minimize_scalar(
        lambda scale: _calibration_errors(scale * shifted, labels)[1:].mean(),
        bounds=(0.5, 2.0),
        options={'xatol': 0.02},
    )
    scale, shift = float(found_scale.x), (shifted - logits)[0]
    head = model.network.heads['classes']  # type: ignore[index]
    last = head.classes if isinstance(head, ClassHead) else head
    assert isinstance(last, nn.Conv3d)  # noqa: S101 - narrows
    repeats = last.out_channels // len(CLASSES)
    with torch.no_grad():
        last.weight.mul_(scale)
        last.bias = nn.Parameter(
            scale * (last.bias + shift.repeat_interleave(repeats))  # type: ignore[operator]
        )
    save_model(out, model.network, model.card)
    return pd.DataFrame([_told(logits, labels), _told(scale * shifted, labels)])


def _shifts(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the shift of every class of the least cross-entropy, at its best scale."""
    scale = torch.ones((), requires_grad=True)
    shifts = torch.zeros(logits.shape[1], requires_grad=True)
    optimiser = torch.optim.LBFGS([scale, shifts], max_iter=60, line_search_fn='strong_wolfe')

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = functional.cross_entropy(scale * (logits + shifts), labels)
        loss.backward()
        return loss

    optimiser.step(closure)
    return shifts.detach()


def _calibration_errors(logits: Tensor, labels: Tensor) -> np.ndarray:
    probability = logits.softmax(1)
    return np.array(
        [
            calibration_error(probability[:, k].numpy(), (labels == k).numpy())
            for k in range(len(CLASSES))
        ]
    )


def _told(logits: Tensor, labels: Tensor) -> dict[str, float]:
    found, errors = logits.argmax(1), _calibration_errors(logits, labels)
    told = {
        'cross_entropy': float(functional.cross_entropy(logits, labels)),
        'calibration_error': float(np.mean(errors[1:])),
        'calibration_error_cortex': errors[1],
    }
    for k, name in enumerate(CLASSES):
        told[f'dice {name}'] = dice((found == k).numpy(), (labels == k).numpy())
        told[f'volume {name}'] = float((found == k).sum() / (labels == k).sum())
    return told


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, or join."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    jobs = parser.add_subparsers(dest='job', required=True, metavar='JOB')
    for job in JOBS:
        of_job = jobs.add_parser(job)
        of_job.add_argument('--data', type=Path, required=True)
        of_job.add_argument('--out', type=Path, required=True)
        of_job.add_argument(
            '--init', metavar='MODEL', help='name or path; for a half, it or a pair'
        )
        of_job.add_argument('--minutes', type=float, default=60.0, metavar='N')
        of_job.add_argument('--batch', type=int, default=2, metavar='N')
        of_job.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    calibrated = jobs.add_parser('calibrate')
    calibrated.add_argument('model')
    calibrated.add_argument('--of', choices=TISSUES, default=TISSUES[0])
    calibrated.add_argument('--data', type=Path, required=True)
    calibrated.add_argument('--out', type=Path, required=True)
    joined = jobs.add_parser('join')
    joined.add_argument(
        'halves', nargs=2, metavar='MODEL', help='tissues, then intensity; a pair gives its half'
    )
    joined.add_argument('--out', type=Path, required=True)
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(message)s', force=True)
    if args.job == 'join':
        tissues, intensity = map(load_model, args.halves)
        print(join({'tissues': tissues, 'intensity': intensity}, args.out))
        return
    if args.job == 'calibrate':
        table = calibrate(load_model(args.model), args.of, args.data, args.out)
        print(table.round(4).T.to_string(header=False))
        return
    recipe = recipe_of(args.job, args.minutes, args.batch, args.device)
    init = args.init
    if init is not None and args.job in HALVES:
        half = 'tissues' if args.job in TISSUES else 'intensity'
        started = args.out.with_name(f'{args.out.name}-init')
        init = str(half_of(load_model(init), half, recipe, started))
    run_training(
        recipe,
        data_of_label_maps(recipe, args.data),
        label_map_sets(args.data),
        args.out,
        Run(args.device, workers=0 if args.device == 'cpu' else None, init=init),
    )


if __name__ == '__main__':
    main()
