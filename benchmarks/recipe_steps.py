"""Every recipe at its own batch and patch: an update as it is counted, and three, measured.

python benchmarks/recipe_steps.py [RECIPE ...] [--device auto] [--minutes 5] [--gb 12]

Made-up patches, so that the network, critic, losses and optimisers are all that is measured. First
the operations and the memory of an update are counted, on tensors without values; then each
recipe, the cheapest first, takes three updates in a process of its own. One that needs more memory
than --gb is not tried, and one that takes longer than --minutes is ended. On a CPU, seconds and
minutes are those of all threads together, whatever else runs.
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
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from bids_segsr.imaging.patch_size import edges, patch_text
from bids_segsr.inference.predict import resolve_device
from bids_segsr.networks import create
from bids_segsr.training.data.batches import make_loader
from bids_segsr.training.data.data_summary import TrainingData
from bids_segsr.training.data.patches import Patch
from bids_segsr.training.loop.adversarial import critic_loss, generator_adversarial
from bids_segsr.training.loop.distributed import make_fabric
from bids_segsr.training.loop.engine import Trainer
from bids_segsr.training.loop.forward_pass import apply_network, blank_batch
from bids_segsr.training.loop.losses import reconstruction
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


class Counted(TorchDispatchMode):
    """Counts multiplications and additions of convolutions, and bytes of tensors that are alive.

    Attributes:
        operations: So far.
        most: Bytes that were alive at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.most = self._now = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        out = func(*args, **given)
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.operations += count(*args, **given, out_val=out)
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._alive:
                    self._alive.add(storage._cdata)
                    self._now += storage.nbytes()
                    self.most = max(self.most, self._now)
                    weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())
        return out

    def _forget(self, storage: int, size: int) -> None:
        self._alive.discard(storage)
        self._now -= size


def count_update(recipe: Recipe) -> tuple[float, float]:
    """Count an update of the generator, and those of the critic that precede it.

    Returns:
        Operations in units of 10^12; GB of tensors, weights and moments among them, in single
        precision.
    """
    generator = create(recipe.network.architecture, **recipe.network.options)
    critic = None
    if recipe.adversarial and recipe.critic is not None:
        critic = create(recipe.critic.architecture, **recipe.critic.options)
    with FakeTensorMode(allow_non_fake_inputs=True):
        batch = blank_batch(recipe, recipe.schedule.batch_size)
        conditional = recipe.network.conditional
        loss = recipe.loss
        if 'dice' in loss.segmentation:  # asks for values, and costs next to nothing
            loss = dataclasses.replace(loss, segmentation='cross-entropy')
        asked = batch.resolution if recipe.critic and recipe.critic.conditional else None

        def of_critic(critic: nn.Module) -> None:
            with torch.no_grad():
                fake = apply_network(generator, batch, conditional)
            epsilon = torch.zeros_like(batch.mean)
            terms = critic_loss(
                critic,
                batch.target,
                fake,
                loss.gradient_penalty,
                epsilon=epsilon,
                resolution=asked,
            )
            terms['total'].backward()

        def of_generator() -> None:
            output = apply_network(generator, batch, conditional)
            total = reconstruction(output, batch.target, loss, recipe.task.channels)['total']
            if critic is not None:
                total = total + generator_adversarial(critic.requires_grad_(False), output, asked)
            total.backward()

        operations = most = 0
        plan: list[tuple[Callable[[], None], int]] = [(of_generator, 1)]
        if critic is not None:
            plan.insert(0, (partial(of_critic, critic), recipe.critic_schedule.updates))
        for work, times in plan:
            with Counted() as counted:
                work()
            operations += times * recipe.schedule.accumulate * counted.operations
            most = max(most, counted.most)
    networks = [generator] if critic is None else [generator, critic]
    weights = sum(p.numel() for network in networks for p in network.parameters())
    return operations / 1e12, (most + 3 * 4 * weights) / 1e9


def take_updates(name: str, device: str, minutes: float) -> None:
    """Update a recipe's networks; prints seconds since the start and GB after each, as JSON."""
    cuda = device.startswith('cuda')
    # the signal that ends the process
    signal.setitimer(signal.ITIMER_REAL if cuda else signal.ITIMER_PROF, 60 * minutes)
    clock = time.perf_counter if cuda else time.process_time
    recipe = read_recipe(name)
    if recipe.task.super_resolved_by is not None:
        task = dataclasses.replace(recipe.task, input='interpolated', super_resolved_by=None)
        recipe = dataclasses.replace(recipe, task=task)
    patches = Patches(recipe)
    fabric = make_fabric(device, None, recipe.schedule.precision)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(recipe, patches, patches, Path(folder), DATA, fabric)
        trainer.networks.set_rates(1.0)
        trainer.networks.train()
        size = recipe.schedule.batch_size
        batches = [list(range(n * size, (n + 1) * size)) for n in range(100)]
        started = clock()
        for _ in range(UPDATES):
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


def measured(name: str, device: str, minutes: float) -> tuple[str, str]:
    """Take updates in a process of its own; returns seconds an update and GB."""
    command = [sys.executable, __file__, name, '--device', device, '--minutes', str(minutes)]
    done = subprocess.run([*command, '--alone'], check=False, stdout=subprocess.PIPE, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{')]
    ended = done.returncode in (-signal.SIGALRM, -signal.SIGPROF)
    if done.returncode and not ended:
        return f'ended with {done.returncode}', ''
    if not lines:
        return f'none in {minutes:g} minutes', ''
    seconds = f'{lines[-1]["seconds"] / len(lines):.3g}'
    few = f' ({len(lines)} of {UPDATES} updates in {minutes:g} minutes)' if ended else ''
    return f'{seconds}{few}', f'{lines[-1]["gb"]:.1f}'


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('recipes', nargs='*', default=recipe_names())
    parser.add_argument('--device', default='auto')
    parser.add_argument('--minutes', type=float, default=5.0, help='of a recipe, at most')
    parser.add_argument('--gb', type=float, default=12.0, help='memory of a recipe, at most')
    parser.add_argument('--alone', action='store_true', help='one recipe, in this process')
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    if arguments.alone:
        take_updates(arguments.recipes[0], device, arguments.minutes)
        return
    cuda = device.startswith('cuda')
    where = torch.cuda.get_device_name() if cuda else processor_name()
    threads = torch.get_num_threads()
    print(f'{where}, {threads} threads, torch {torch.__version__}, {platform.system()}\n')
    recipes = {name: read_recipe(name) for name in arguments.recipes}
    counted = {name: count_update(recipe) for name, recipe in recipes.items()}
    columns = ('recipe', 'batch', 'patch', 'TFLOP', 'GB, counted', 's', 'GB, measured')
    print(f'| {" | ".join(columns)} |\n|---|{"--:|" * (len(columns) - 1)}', flush=True)
    for name in sorted(counted, key=lambda name: counted[name]):
        recipe, (operations, gb) = recipes[name], counted[name]
        cells = ('', '')
        if gb <= arguments.gb:
            cells = measured(name, device, arguments.minutes)
        patch = patch_text(recipe.sampling.patch_size)
        first = (f'`{name}`', str(recipe.schedule.batch_size), patch)
        line = [*first, f'{operations:.3g}', f'{gb:.1f}', *cells]
        print(f'| {" | ".join(line)} |', flush=True)


if __name__ == '__main__':
    main()
