"""Which network for the default model? Short trainings of equal length, one line each.

    python benchmarks/search.py --data DIR --out DIR [--minutes 6] [--only NAME ...]

All follow the recipe `default-model`, with smaller patches: same data in the same order, same
loss, same optimiser at the same rate. Only the last convolution of the SegSRGAN generators learns
at a twentieth of it, without which they do not learn, and those that can begin near identity do.
Three comparisons: the generators of the articles and the tissue U-Net; the tissue U-Net for
both tasks, its twins for one, and these side by side; the packaged model, trained further with an
adversarial term and without. The scores are those on the validation patches, never on subjects
that are held out. A second run goes on where the first one stopped. DIR as for
`segsr train default-model`.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from bids_segsr.training.recipe import Network, Recipe
from bids_segsr.training.recipe_file import read_recipe, recipe_text

PATCH_SIZE = 48
ADVERSARIAL_WEIGHT = 0.001
"""SegSRGAN 2020, section 3.1.3."""


@dataclass(frozen=True)
class Candidate:
    """A training of the search.

    Attributes:
        architecture: Of the generator.
        options: Its options.
        near_identity: Whether its last kernels are shrunk first.
        head_rate: See `Optimiser`.
        task: What it learns.
        adversarial: Whether with a critic.
        init: Model to start from.
    """

    architecture: str
    options: dict[str, int | float | bool]
    near_identity: bool = False
    head_rate: float = 1.0
    task: Literal['both', 'intensity', 'tissues'] = 'both'
    adversarial: bool = False
    init: str | None = None


def candidates() -> dict[str, Candidate]:
    """Return all trainings by name; options of the articles' generators are those of recipes."""
    network = read_recipe('default-model').network
    tissue = dict(network.options)
    plain = {**tissue, 'detail_filters': 0}
    both = {
        'SegSRGAN': Candidate('segsrgan', {'mask_classes': 8}, True, 0.05),
        'SegSRGAN-U-Net': Candidate(
            'segsrgan-unet', {'base_filters': 16, 'mask_classes': 8}, True, 0.05
        ),
        'tissue-U-Net-without-detail': Candidate('tissue-unet', plain, True),
        'tissue-U-Net': Candidate('tissue-unet', tissue, True),
        'tissue-U-Net-pair': Candidate('tissue-unet-pair', tissue, True),
    }
    twins = {
        'tissue-U-Net-intensity': Candidate(
            'tissue-unet', {**tissue, 'classes': 0}, True, task='intensity'
        ),
        'tissue-U-Net-tissues': Candidate(
            'tissue-unet', {**plain, 'intensity': False}, True, task='tissues'
        ),
    }
    further = {
        f'tissue-U-Net-further{"-adversarial" if critic else ""}': Candidate(
            network.architecture, tissue, adversarial=critic, init='tissue-unet'
        )
        for critic in (False, True)
    }
    recipes = {name: read_recipe(name).network for name in INTENSITY_RECIPES}
    single = {
        name: Candidate(network.architecture, network.options, task='intensity')
        for name, network in recipes.items()
    }
    return {**both, **twins, **single, **further}


INTENSITY_RECIPES = ('recnn-10l', 'srresnet', 'mdcsrn-b4u4', 'rrdg')
"""Packaged recipes of generators without a segmentation."""


def make_recipe(name: str, candidate: Candidate, minutes: float) -> Recipe:
    """Change the recipe of the default model into that of a candidate."""
    recipe = read_recipe('default-model')
    loss, channels = recipe.loss, recipe.task.channels
    score = 'gain+10*dice'
    critic = None
    if candidate.task == 'intensity':
        loss = dataclasses.replace(loss, segmentation='none')
        channels, score = channels[:1], 'gain'
    elif candidate.task == 'tissues':
        loss, score = dataclasses.replace(loss, intensity='none'), 'dice'
    if candidate.adversarial:
        loss = dataclasses.replace(
            loss, adversarial_weight=ADVERSARIAL_WEIGHT, gradient_penalty=10.0
        )
        options = {'base_filters': 16, 'in_channels': len(channels), 'patch_size': PATCH_SIZE}
        critic = Network('segsrgan-critic', options)
    rate = recipe.optimiser.learning_rate
    return dataclasses.replace(
        recipe,
        name=name,
        network=Network(candidate.architecture, candidate.options, candidate.near_identity),
        critic=critic,
        critic_schedule=dataclasses.replace(recipe.critic_schedule, updates=1, head_start=20),
        loss=loss,
        task=dataclasses.replace(recipe.task, channels=channels),
        sampling=dataclasses.replace(recipe.sampling, patch_size=PATCH_SIZE),
        optimiser=dataclasses.replace(
            recipe.optimiser,
            head_rate=candidate.head_rate,
            learning_rate=rate / 4 if candidate.init else rate,
        ),
        rates=dataclasses.replace(recipe.rates, warmup=10),
        schedule=dataclasses.replace(
            recipe.schedule, minutes=minutes, batch_size=2, ema=0.98, epochs=None, steps=None
        ),
        validation=dataclasses.replace(
            recipe.validation, every_steps=1_000_000, score=score, patches=24, pictures=1
        ),
    )


def train(
    recipe: Recipe,
    data: Path,
    out: Path,
    *,
    init: str | None = None,
    freeze: Sequence[str] = (),
) -> float:
    """Train on one thread, unless that was done.

    Args:
        recipe: What is done; the run lies in a folder of its name.
        data: For `--label-maps`.
        out: Folder of the runs.
        init: Model to start from.
        freeze: Patterns of parameters that are not trained.

    Returns:
        CPU minutes, all included.
    """
    file, run = out / f'{recipe.name}.toml', out / recipe.name
    spent = out / f'{recipe.name}.cpu_minutes'
    text = recipe_text(recipe)
    earlier = float(spent.read_text(encoding='utf-8')) if spent.exists() else 0.0
    # The recipe that the run was made with, which a later one that was refused cannot change.
    if (run / 'model').is_dir() and (run / 'recipe.toml').read_text(encoding='utf-8') == text:
        return earlier
    file.write_text(text, encoding='utf-8')
    command = [sys.executable, '-m', 'bids_segsr.cli.segsr', 'train', str(file)]
    command += ['--label-maps', str(data), '--out', str(run), '--workers', '0', '--device', 'cpu']
    command += [] if init is None else ['--init', init]
    command += ['--freeze', *freeze] if freeze else []
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        subprocess.run(command, check=True, env=environment)
    finally:
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        spent.write_text(f'{earlier + used / 60:.2f}\n', encoding='utf-8')
    # gigabytes a run, which only a run that goes on would need
    for scratch in ('cache', 'samples'):
        shutil.rmtree(run / scratch, ignore_errors=True)
    return earlier + used / 60


def main() -> None:
    """Train what is not yet trained and print the table."""
    known = candidates()
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--minutes', type=float, default=6.0, help='of each training')
    parser.add_argument('--only', nargs='+', choices=[*known], default=[*known])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in arguments.only:
        candidate = known[name]
        recipe = make_recipe(name, candidate, arguments.minutes)
        spent = train(recipe, arguments.data, arguments.out, init=candidate.init)
        log = pd.read_csv(arguments.out / name / 'log.csv')
        columns = ('step', 'gain', 'ssim', 'dice', 'dice_cortex')
        last = {column: log.iloc[-1].get(column) for column in columns}
        rows.append({'network': name, 'CPU min': spent} | last)
    print(f'{platform.processor() or platform.machine()}, one thread, {arguments.minutes:g} min')
    print(pd.DataFrame(rows).round(3).to_string(index=False))


if __name__ == '__main__':
    main()
