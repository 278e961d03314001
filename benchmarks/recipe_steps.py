"""Every recipe at its own batch and patch: three updates, their time and memory.

python benchmarks/recipe_steps.py [RECIPE ...] [--device auto] [--minutes 5] [--gb 12]

Made-up patches, so that the network, critic, losses and optimisers are all that is measured. Each
measurement is a process of its own. Batches of 1 and 2 come first: they tell what the own batch
will need, and the cheapest recipe begins. What would take more memory than --gb, or longer than
--minutes for an update, is not tried, and the table has these estimates; what is not through with
three updates by then is ended, and the table has those that it made. On a CPU, seconds and minutes
are those of all threads together, whatever else runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import platform
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from bids_segsr.imaging.patch_size import edges, patch_text
from bids_segsr.inference.predict import resolve_device
from bids_segsr.training.data.batches import make_loader
from bids_segsr.training.data.data_summary import TrainingData
from bids_segsr.training.data.patches import Patch
from bids_segsr.training.loop.distributed import make_fabric
from bids_segsr.training.loop.engine import Trainer
from bids_segsr.training.loop.model_card import most_memory_gb, processor_name
from bids_segsr.training.recipe import Recipe
from bids_segsr.training.recipe_file import changed_recipe, read_recipe, recipe_names

UPDATES = 3
DATA = TrainingData('made up', {'train': ['a'], 'validation': ['b']}, (1.0, 1.0), (2.0, 4.0))


class Patches:
    """Random patches with the channels, guides and size of a recipe."""

    on_device = False

    def __init__(self, recipe: Recipe) -> None:
        self.channels = recipe.task.channels
        self.n_guides = int(recipe.network.options.get('guides', 0))
        self.shape = edges(recipe.sampling.patch_size)

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


@dataclass(frozen=True)
class Cost:
    """What updates of the generator cost, those of the critic before each among them.

    Attributes:
        updates: How many were made.
        seconds: Of one, in the mean.
        gb: The most memory.
    """

    updates: int
    seconds: float
    gb: float


def take_updates(name: str, device: str, batch: int, updates: int, minutes: float) -> None:
    """Update a recipe's networks; prints seconds since the start and GB after each, as JSON."""
    cuda = device.startswith('cuda')
    # the signal that ends the process
    signal.setitimer(signal.ITIMER_REAL if cuda else signal.ITIMER_PROF, 60 * minutes)
    clock = time.perf_counter if cuda else time.process_time
    recipe = changed_recipe(read_recipe(name), {'schedule': {'batch_size': batch}}, name)
    if recipe.task.super_resolved_by is not None:
        task = dataclasses.replace(recipe.task, input='interpolated', super_resolved_by=None)
        recipe = dataclasses.replace(recipe, task=task)
    patches = Patches(recipe)
    fabric = make_fabric(device, None, recipe.schedule.precision)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(recipe, patches, patches, Path(folder), DATA, fabric)
        trainer.networks.set_rates(1.0)
        batches = [list(range(n * batch, (n + 1) * batch)) for n in range(100)]
        started = clock()
        for _ in range(updates):
            # a loader an update: what is measured is no reading ahead
            if recipe.adversarial:
                for _ in range(recipe.critic_schedule.updates):
                    trainer.updater.critic(iter(make_loader(patches, batches, 0)))
            trainer.updater.generator(iter(make_loader(patches, batches, 0)))
            sums, counts = trainer.progress.sums, trainer.progress.counts
            loss = float(sums['loss_total']) / float(counts['loss_total'])
            if not math.isfinite(loss):
                raise ValueError(f'{name}: loss {loss}')
            made = {'seconds': clock() - started, 'gb': most_memory_gb(fabric.device)}
            print(json.dumps(made), flush=True)


def measure(name: str, device: str, batch: int, updates: int, minutes: float) -> Cost | None:
    """Take updates in a process of its own; None where it made none in time."""
    command = [sys.executable, __file__, name, '--device', device, '--minutes', str(minutes)]
    command += ['--alone', str(batch), str(updates)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, -signal.SIGALRM, -signal.SIGPROF):
        print(f'{name}: ended by itself ({done.returncode})', file=sys.stderr)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{')]
    if not lines:
        return None
    return Cost(len(lines), lines[-1]['seconds'] / len(lines), lines[-1]['gb'])


def estimate(one: Cost, two: Cost, batch: int) -> Cost:
    """Tell from batches of one and of two patches what a larger one costs."""
    rest = batch - 2
    return Cost(
        0,
        two.seconds + rest * max(0.0, two.seconds - one.seconds),
        two.gb + rest * max(0.0, two.gb - one.gb),
    )


def row(recipe: Recipe, cost: Cost | None) -> str:
    """Write a line of the table."""
    cells = ['?', '?']
    if cost is not None:
        about = '' if cost.updates else '≈ '
        cells = [f'{about}{cost.seconds:.3g}', f'{about}{cost.gb:.1f}']
        if 0 < cost.updates < UPDATES:
            cells[0] += f' ({cost.updates} of {UPDATES} updates)'
    first = (recipe.name, str(recipe.schedule.batch_size), patch_text(recipe.sampling.patch_size))
    return f'| `{first[0]}` | {" | ".join([*first[1:], *cells])} |'


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('recipes', nargs='*', default=recipe_names())
    parser.add_argument('--device', default='auto')
    parser.add_argument('--minutes', type=float, default=5.0, help='of a recipe, at most')
    parser.add_argument('--gb', type=float, default=12.0, help='memory of a recipe, at most')
    parser.add_argument(
        '--alone', type=int, nargs=2, metavar=('BATCH', 'UPDATES'), help='in this process'
    )
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    if arguments.alone:
        take_updates(arguments.recipes[0], device, *arguments.alone, arguments.minutes)
        return
    cuda = device.startswith('cuda')
    where = torch.cuda.get_device_name() if cuda else processor_name()
    threads = torch.get_num_threads()
    print(f'{where}, {threads} threads, torch {torch.__version__}, {platform.system()}\n')
    recipes = {name: read_recipe(name) for name in arguments.recipes}
    expected: dict[str, Cost] = {}
    for name, recipe in recipes.items():
        one, two = (measure(name, device, batch, 1, arguments.minutes) for batch in (1, 2))
        if one is None or two is None:
            print(f'{name}: no update of 1 or 2 patches in the time given', file=sys.stderr)
            continue
        expected[name] = estimate(one, two, recipe.schedule.batch_size)
        print(f'{name}: {one}, {two}, {expected[name]}', file=sys.stderr, flush=True)
    print('| recipe | batch | patch | s an update | GB |\n|---|--:|--:|--:|--:|', flush=True)
    for name in sorted(recipes, key=lambda n: expected[n].seconds if n in expected else math.inf):
        cost = expected.get(name)
        if cost and cost.gb <= arguments.gb and cost.seconds <= 60 * arguments.minutes:
            batch = recipes[name].schedule.batch_size
            cost = measure(name, device, batch, UPDATES, arguments.minutes) or cost
        print(row(recipes[name], cost), flush=True)


if __name__ == '__main__':
    main()
