"""Every recipe at its own batch and patch: three updates, their time and memory.

python benchmarks/recipe_steps.py [RECIPE ...] [--device auto] [--minutes 5]

Made-up patches, so that the network, critic, losses and optimisers are all that is measured. Each
recipe runs in a process of its own, which is ended after the minutes that are given.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from bids_segsr.inference.predict import resolve_device
from bids_segsr.training.data.batches import make_loader
from bids_segsr.training.data.data_summary import TrainingData
from bids_segsr.training.data.patches import Patch
from bids_segsr.training.loop.distributed import make_fabric
from bids_segsr.training.loop.engine import Trainer
from bids_segsr.training.loop.model_card import most_memory_gb, processor_name
from bids_segsr.training.recipe import Recipe
from bids_segsr.training.recipe_file import read_recipe, recipe_names

UPDATES = 3
DATA = TrainingData('made up', {'train': ['a'], 'validation': ['b']}, (1.0, 1.0), (2.0, 4.0))


class Patches:
    """Random patches with the channels, guides and size of a recipe."""

    on_device = False

    def __init__(self, recipe: Recipe) -> None:
        self.channels = recipe.task.channels
        self.n_guides = int(recipe.network.options.get('guides', 0))
        self.shape = (recipe.sampling.patch_size,) * 3

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> Patch:
        draw = torch.Generator().manual_seed(index)
        image = torch.rand(1 + self.n_guides, *self.shape, generator=draw)
        classes = [name for name in self.channels[1:] if name != 'cortex']
        chosen = torch.randint(max(len(classes), 2), self.shape, generator=draw)
        maps = [(chosen == number).float() for number in range(len(classes))]
        cortex = [(chosen == 1).float()] if 'cortex' in self.channels else []
        target = torch.stack([image[0] ** 2, *cortex, *maps])
        return Patch(image=image, target=target, resolution=torch.tensor(3.0))


def measure(name: str, device: str) -> dict[str, float]:
    """Take the updates of a recipe, and return seconds an update and GB."""
    recipe = read_recipe(name)
    if recipe.task.super_resolved_by is not None:
        task = dataclasses.replace(recipe.task, input='interpolated', super_resolved_by=None)
        recipe = dataclasses.replace(recipe, task=task)
    patches = Patches(recipe)
    fabric = make_fabric(device, None, recipe.schedule.precision)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(recipe, patches, patches, Path(folder), DATA, fabric)
        trainer.networks.set_rates(1.0)
        size = recipe.schedule.batch_size
        batches = [list(range(n * size, (n + 1) * size)) for n in range(100)]
        losses = []
        started = time.perf_counter()
        for _ in range(UPDATES):
            # a loader an update: what is measured is no reading ahead
            if recipe.adversarial:
                for _ in range(recipe.critic_schedule.updates):
                    trainer.updater.critic(iter(make_loader(patches, batches, 0)))
            trainer.updater.generator(iter(make_loader(patches, batches, 0)))
            sums, counts = trainer.progress.sums, trainer.progress.counts
            losses.append(float(sums['loss_total']) / float(counts['loss_total']))
        seconds = time.perf_counter() - started
    if not all(map(math.isfinite, losses)):
        raise ValueError(f'{name}: loss {losses}')
    return {'seconds': seconds / UPDATES, 'gb': most_memory_gb(fabric.device)}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('recipes', nargs='*', default=recipe_names())
    parser.add_argument('--device', default='auto')
    parser.add_argument('--minutes', type=float, default=5.0)
    parser.add_argument('--alone', action='store_true', help='one recipe in this process, as JSON')
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    if arguments.alone:
        print(json.dumps(measure(arguments.recipes[0], device)))
        return
    cuda = device.startswith('cuda')
    where = torch.cuda.get_device_name() if cuda else processor_name()
    threads = torch.get_num_threads()
    print(f'{where}, {threads} threads, torch {torch.__version__}, {platform.system()}\n')
    print('| recipe | batch | patch | s an update | GB |\n|---|--:|--:|--:|--:|', flush=True)
    for name in arguments.recipes:
        recipe = read_recipe(name)
        command = [sys.executable, __file__, name, '--device', device, '--alone']
        try:
            done = subprocess.run(
                command,
                check=False,
                capture_output=True,
                text=True,
                timeout=60 * arguments.minutes,
            )
            cells = ('failed', '')
            if done.returncode == 0:
                found = json.loads(done.stdout)
                cells = (f'{found["seconds"]:.2f}', f'{found["gb"]:.1f}')
        except subprocess.TimeoutExpired:
            cells = ('more than the time given', '')
        size = recipe.sampling.patch_size
        line = (name, str(recipe.schedule.batch_size), f'{size}³', *cells)
        print(f'| {" | ".join(line)} |', flush=True)


if __name__ == '__main__':
    main()
