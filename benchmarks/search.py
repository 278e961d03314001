"""Do super-resolution and segmentation harm each other? The default model and its two twins.

    python benchmarks/single_task.py --data DIR --out DIR [--minutes 10]

Trains the network of the recipe `default-model` three times for the same time: for both tasks, for
the intensity alone, for the tissues alone; same data, same order, same first weights where they
are shared. The scores are those on the validation patches. A second run goes on where the first
one stopped. DIR as for `segsr train default-model`.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import resource
import subprocess
import sys
from pathlib import Path

import pandas as pd

from bids_segsr.training.recipe import Recipe
from bids_segsr.training.recipe_file import read_recipe, recipe_text

TWINS = ('both', 'intensity', 'tissues')


def twin(recipe: Recipe, task: str, minutes: float) -> Recipe:
    """Leave out one of the tasks of a recipe."""
    network, loss, channels = recipe.network, recipe.loss, recipe.task.channels
    score = 'gain+10*dice'
    if task == 'intensity':
        network = dataclasses.replace(network, options={**network.options, 'classes': 0})
        loss = dataclasses.replace(loss, segmentation='none')
        channels, score = channels[:1], 'gain'
    elif task == 'tissues':
        network = dataclasses.replace(network, options={**network.options, 'intensity': False})
        loss, score = dataclasses.replace(loss, intensity='none'), 'dice'
    return dataclasses.replace(
        recipe,
        name=f'twin-{task}',
        network=network,
        loss=loss,
        task=dataclasses.replace(recipe.task, channels=channels),
        schedule=dataclasses.replace(recipe.schedule, minutes=minutes, ema=0.99),
        validation=dataclasses.replace(recipe.validation, every_steps=100, score=score),
    )


def train(recipe: Recipe, data: Path, out: Path) -> float:
    """Train on one thread; returns the CPU minutes, those of the first time included."""
    file = out / f'{recipe.name}.toml'
    spent = out / recipe.name / 'cpu_minutes'
    if not spent.exists():
        file.write_text(recipe_text(recipe), encoding='utf-8')
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, '-m', 'bids_segsr.cli.segsr', 'train', file]
        options = ['--label-maps', data, '--out', out / recipe.name, '--workers', '0']
        environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
        subprocess.run([*command, *options, '--device', 'cpu'], check=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        spent.write_text(f'{used / 60:.2f}\n', encoding='utf-8')
    return float(spent.read_text(encoding='utf-8'))


def main() -> None:
    """Train what is not yet trained and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--minutes', type=float, default=10.0, help='of each training')
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for task in TWINS:
        recipe = twin(read_recipe('default-model'), task, arguments.minutes)
        spent = train(recipe, arguments.data, arguments.out)
        last = pd.read_csv(arguments.out / recipe.name / 'log.csv').iloc[-1]
        columns = ('step', 'gain', 'ssim', 'dice', 'dice_cortex')
        rows.append({'task': task, 'CPU min': spent} | {c: last.get(c) for c in columns})
    print(pd.DataFrame(rows).round(3).to_string(index=False))


if __name__ == '__main__':
    main()
