"""How far a training is, when it ends, and who asks it to stop."""

from __future__ import annotations

import dataclasses
import math
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor

from bids_segsr.training.recipe import Recipe


@dataclass
class Progress:
    """Counters of a training; all of them are in its checkpoints.

    Attributes:
        step: Generator updates.
        critic_step: Critic updates.
        critic_in_step: Critic updates since the last one of the generator.
        seconds: Time spent, validations included.
        best: Highest validation score.
        best_step: Step of that score.
        stale: Validations since then.
        reductions: Times that the learning rate was reduced on a plateau.
        since_reduction: Validations since the best score or the last reduction.
        sums: Loss terms summed since the last row of the table.
        counts: Values in each of these sums.
        trained: Seconds of training since the last row.
        waited: Seconds of these in which the trainer waited for samples.
        all_trained: As `trained`, since the beginning.
        all_waited: As `waited`, since the beginning.
        baseline: Scores of interpolation on the validation patches.
    """

    step: int = 0
    critic_step: int = 0
    critic_in_step: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    reductions: int = 0
    since_reduction: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    trained: float = 0.0
    waited: float = 0.0
    all_trained: float = 0.0
    all_waited: float = 0.0
    baseline: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the counters as JSON holds them."""
        return dataclasses.asdict(self)

    def add_terms(self, prefix: str, terms: Mapping[str, Tensor]) -> bool:
        """Add loss terms of one batch to the sums.

        Args:
            prefix: Put before their names.
            terms: Scalars.

        Returns:
            Whether all of them are finite.
        """
        # One transfer from a GPU for all of them.
        values = torch.stack([term.detach().double() for term in terms.values()]).tolist()
        for name, value in zip(terms, values, strict=True):
            key = f'{prefix}{name}'
            self.sums[key] = self.sums.get(key, 0.0) + value
            self.counts[key] = self.counts.get(key, 0) + 1
        return all(map(math.isfinite, values))

    def add_time(self, seconds: float, waited: float) -> None:
        """Add the time of one update."""
        self.trained += seconds
        self.waited += waited
        self.all_trained += seconds
        self.all_waited += waited

    def take_row(self) -> dict[str, float]:
        """Return the means since the last row, and begin anew."""
        row = {name: total / self.counts[name] for name, total in self.sums.items()}
        if self.trained > 0:
            row['wait_share'] = self.waited / self.trained
        self.sums, self.counts, self.trained, self.waited = {}, {}, 0.0, 0.0
        return row

    def judge(self, score: float, recipe: Recipe) -> bool:
        """Take note of a validation.

        Args:
            score: The one that decides; one that is not finite is never the best.
            recipe: Says what follows from no better score.

        Returns:
            Whether it is the best one so far; in a training with a critic, the start never is.
        """
        if recipe.adversarial and self.step == 0:
            return False
        if math.isfinite(score) and (self.best is None or score > self.best):
            self.best, self.best_step = score, self.step
            self.stale = self.since_reduction = 0
            return True
        self.stale += 1
        self.since_reduction += 1
        if recipe.rates.schedule == 'plateau' and self.since_reduction >= recipe.rates.patience:
            self.reductions += 1
            self.since_reduction = 0
        return False


@dataclass(frozen=True)
class Length:
    """When a training ends.

    Attributes:
        recipe: Has the limits.
        steps_per_epoch: Generator updates an epoch.
    """

    recipe: Recipe
    steps_per_epoch: int

    @property
    def steps(self) -> int | None:
        """Generator updates after which it ends at the latest; None for a limit of time alone."""
        schedule = self.recipe.schedule
        limits = [schedule.steps] if schedule.steps else []
        if schedule.epochs:
            limits.append(schedule.epochs * self.steps_per_epoch)
        return min(limits) if limits else None

    def share(self, progress: Progress) -> float:
        """Return the share of the training that is over, 0 to 1."""
        shares = [progress.step / self.steps] if self.steps else []
        if self.recipe.schedule.minutes:
            shares.append(progress.seconds / (60 * self.recipe.schedule.minutes))
        return min(1.0, max(shares))

    def over(self, progress: Progress) -> bool:
        """Return whether a limit is reached or the patience is at its end."""
        patience = self.recipe.validation.patience
        return self.share(progress) >= 1 or (patience is not None and progress.stale >= patience)

    def validation_due(self, progress: Progress) -> bool:
        """Return whether the network is judged after this update."""
        plan = self.recipe.validation
        every = plan.every_steps or plan.every_epochs * self.steps_per_epoch
        return progress.step % every == 0 or self.share(progress) >= 1


class StopSignals:
    """While it is entered, SIGTERM and Ctrl-C are noted instead of obeyed; a second one is obeyed.

    Attributes:
        caught: Number of the signal, or None.
    """

    def __init__(self) -> None:
        self.caught: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        """Take over the signals; only the main thread can."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.caught = number
        signal.signal(number, self._before[number])


def steps_per_epoch(patches: int, patches_per_step: int) -> int:
    """Generator updates in which every patch is seen once; the last one may see more."""
    return max(1, math.ceil(patches / patches_per_step))
