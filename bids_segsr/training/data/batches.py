"""In which order samples are taken: a pure function of the step, whatever the number of workers.

Sample numbers are global. Batch number b of a network is shared out over the processes, so that
two processes with batches of n see what one with batches of 2 n sees.
"""

from __future__ import annotations

import itertools
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from bids_segsr.environment import set_threads
from bids_segsr.training.data.patches import Patch

CRITIC_OFFSET = 2**40
"""About where the sample numbers of the critic begin, which sees patches of its own."""


PRELOADED = ('bids_segsr.training.data.label_patches', 'SimpleITK', 'torchio')
"""What workers need that takes long to import: imported once for all of them."""


class PatchSource(Protocol):
    """What the engine asks of a data set: patches that depend on their number alone."""

    channels: tuple[str, ...]
    on_device: bool
    """Whether the training process itself makes the patches, where the network is."""

    def __len__(self) -> int:
        """Return the number of patches of an epoch."""
        ...

    def __getitem__(self, index: int) -> Patch:
        """Return patch `index` modulo the length, of epoch `index` over the length."""
        ...


@dataclass(frozen=True)
class Shares:
    """How batches are shared out over processes.

    Attributes:
        batch_size: Patches a process and batch.
        rank: Number of this process.
        world: Processes.
    """

    batch_size: int
    rank: int = 0
    world: int = 1

    def indices(self, batch: int, offset: int = 0) -> list[int]:
        """Return the sample numbers of this process in a batch."""
        first = offset + (batch * self.world + self.rank) * self.batch_size
        return list(range(first, first + self.batch_size))


class TrainingOrder(Sampler[list[int]]):
    """Endless: for every step the batches of the critic, then those of the generator.

    Args:
        length: Patches of an epoch.
        shares: How batches are shared out.
        accumulate: Batches an update.
        critic_updates: Updates of the critic that precede generator update `step`.
        step: Generator updates so far.
        critic_step: Critic updates so far.
        critic_in_step: Those of them since the last generator update.
    """

    def __init__(
        self,
        length: int,
        shares: Shares,
        accumulate: int,
        critic_updates: Callable[[int], int],
        step: int,
        critic_step: int,
        critic_in_step: int = 0,
    ) -> None:
        self.offset = CRITIC_OFFSET // length * length
        self.shares = shares
        self.accumulate = accumulate
        self.critic_updates = critic_updates
        self.step = step
        self.critic_step = critic_step
        self.critic_in_step = critic_in_step

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the sample numbers of one batch after the other."""
        done, begun = self.critic_step, self.critic_in_step
        for step in itertools.count(self.step):
            updates = self.critic_updates(step) - begun
            begun = 0
            for batch in range(done * self.accumulate, (done + updates) * self.accumulate):
                yield self.shares.indices(batch, self.offset)
            done += updates
            for batch in range(step * self.accumulate, (step + 1) * self.accumulate):
                yield self.shares.indices(batch)


class Numbered(Dataset[dict[str, Tensor]]):
    """A data set whose samples know their number.

    Args:
        source: The patches.
    """

    def __init__(self, source: PatchSource) -> None:
        self.source = source

    def __len__(self) -> int:
        """Return the number of patches of an epoch."""
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return the patch and its number as 'index', () int64."""
        return {**self.source[index], 'index': torch.tensor(index)}  # type: ignore[dict-item]


def make_loader(
    source: PatchSource, order: Sampler[list[int]] | list[list[int]], workers: int
) -> DataLoader[dict[str, Tensor]]:
    """Make the loader of batches.

    Args:
        source: The patches.
        order: Sample numbers of each batch.
        workers: Processes that make samples; 0 makes them in between.

    Returns:
        The loader.
    """
    context = None
    if workers:
        # A plain fork copies the locks that other threads (of the logs, of the traffic between
        # processes) hold at that moment: now and then a worker waits for one for ever.
        context = multiprocessing.get_context('forkserver')
        context.set_forkserver_preload(list(PRELOADED))
    return DataLoader(
        Numbered(source),
        batch_sampler=order,
        num_workers=workers,
        multiprocessing_context=context,
        worker_init_fn=_start_worker,
        prefetch_factor=4 if workers else None,
        pin_memory=bool(workers) and torch.cuda.is_available(),
    )


def evenly_chosen(length: int, number: int | None) -> list[int]:
    """Choose sample numbers evenly over a data set.

    Args:
        length: Of the data set.
        number: How many; None for all.

    Returns:
        The numbers, ascending.
    """
    if number is None or number >= length:
        return list(range(length))
    return [int(i) for i in (np.arange(number) + 0.5) * length / number]


def penalty_shares(index: Tensor, seed: int) -> Tensor:
    """Draw where between real and fake the gradient penalty is taken, one number a sample.

    Args:
        index: Sample numbers, (B,).
        seed: Of the training.

    Returns:
        Numbers in 0 to 1, (B, 1, 1, 1, 1); they depend on seed and sample number alone.
    """
    drawn = [np.random.default_rng([seed, int(i)]).random(dtype=np.float32) for i in index]
    return torch.tensor(np.array(drawn), device=index.device).view(-1, 1, 1, 1, 1)


def _start_worker(_: int) -> None:
    # Ctrl-C and a scheduler's SIGTERM go to all processes: the trainer still needs its samples
    # until the step is over, and ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    set_threads(1)
