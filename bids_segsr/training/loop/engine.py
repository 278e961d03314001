"""The loop that trains a generator, with or without a critic, on Lightning Fabric.

All that a training does depends on its recipe, its data and the number of updates so far: samples
and random numbers are drawn from numbered seeds. So a run that was killed goes on from its last
checkpoint to the same weights, bit by bit on a CPU, as one that was not.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor
from tqdm import tqdm

from bids_segsr.environment import seed_all
from bids_segsr.exceptions import UserError
from bids_segsr.files import write_text
from bids_segsr.training.data.batches import (
    PatchSource,
    Shares,
    TrainingOrder,
    make_loader,
)
from bids_segsr.training.data.data_summary import TrainingData
from bids_segsr.training.loop.checkpoint import (
    load_checkpoint,
    of_prefix,
    save_checkpoint,
    weights_digest,
)
from bids_segsr.training.loop.distributed import max_over_processes, sum_over_processes
from bids_segsr.training.loop.forward_pass import check_networks, make_super_resolver
from bids_segsr.training.loop.model_card import UNTRAINED, Outcome, write_model, write_summary
from bids_segsr.training.loop.networks import Networks
from bids_segsr.training.loop.progress import Length, Progress, StopSignals, steps_per_epoch
from bids_segsr.training.loop.run_folder import RECIPE_FILE, check_same_run
from bids_segsr.training.loop.run_log import RunLog
from bids_segsr.training.loop.training_step import Updater
from bids_segsr.training.loop.validation import Validator
from bids_segsr.training.recipe import Recipe
from bids_segsr.training.recipe_file import recipe_text
from bids_segsr.zoo.find import load_model
from bids_segsr.zoo.store import CARD_FILE, TrainedModel

logger = logging.getLogger(__name__)

LAST, BEST = 'checkpoints/last', 'checkpoints/best'
MODEL_FOLDER = 'model'


class Trainer:
    """A training, begun or taken up where its folder says.

    Args:
        recipe: What is done.
        dataset: Training patches.
        validation: Validation patches.
        out: Folder of the run; a checkpoint there is taken up.
        data: Where the patches come from, for the card of the model.
        fabric: Device, precision and processes; launched.
        init: Model to start from; None for random weights.
        freeze: Glob patterns of parameter names that are not trained.
        workers: Processes that make samples, for each training process.

    Raises:
        UserError: If recipe, data, model and folder do not fit each other.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: PatchSource,
        validation: PatchSource,
        out: Path,
        data: TrainingData,
        fabric: Fabric,
        *,
        init: TrainedModel | None = None,
        freeze: Sequence[str] = (),
        workers: int = 0,
    ) -> None:
        self.recipe, self.dataset, self.validation = recipe, dataset, validation
        self.out, self.data, self.fabric, self.workers = out, data, fabric, workers
        self.freeze = tuple(freeze)
        schedule = recipe.schedule
        self.shares = Shares(schedule.batch_size, fabric.global_rank, fabric.world_size)
        per_step = schedule.batch_size * fabric.world_size * schedule.accumulate
        self.length = Length(recipe, steps_per_epoch(len(dataset), per_step))
        self.progress = Progress()

        torch.manual_seed(recipe.seed)
        self.networks = Networks(recipe, fabric, init, self.freeze)
        self.models: dict[str, str | None] = {
            'init': None if init is None else weights_digest(init.network),
            'first stage': None,
        }
        super_resolver = None
        if recipe.task.super_resolved_by is not None:
            first = load_model(recipe.task.super_resolved_by)
            self.models['first stage'] = weights_digest(first.network)
            super_resolver = make_super_resolver(first, recipe, fabric.device)
        self.updater = Updater(recipe, self.networks, fabric, super_resolver, self.progress, out)
        self.validator = Validator(
            recipe, validation, self.updater, self.networks, fabric, workers
        )
        self._check_data()
        self.taken_up = self._resume()
        self.log: RunLog | None = None
        if fabric.is_global_zero:
            out.mkdir(parents=True, exist_ok=True)
            write_text(out / RECIPE_FILE, recipe_text(recipe))
            self.log = RunLog(out, self.progress.step if self.taken_up else None)

    def fit(self) -> Outcome:
        """Train until a limit of the recipe is reached, or until asked to stop.

        Returns:
            What came out; the model lies in the folder `model` of the run unless it was stopped.

        Raises:
            UserError: If a loss is not finite; the last checkpoint stays.
        """
        with StopSignals() as signals, _deterministic(self.fabric.device):
            self._mark = time.monotonic()
            if not self.taken_up:
                self._set_rates()
                self._validate()
            if not self.length.over(self.progress):
                self._train(signals)
            stopped = signals.caught is not None and not self.length.over(self.progress)
        stopped_by = signals.caught if stopped else None
        outcome = Outcome(self.progress, stopped_by)
        if self.log is not None:
            outcome = self._finish(stopped_by)
        self.fabric.barrier()
        return outcome

    def _train(self, signals: StopSignals) -> None:
        progress = self.progress
        order = TrainingOrder(
            len(self.dataset),
            self.shares,
            self.recipe.schedule.accumulate,
            self._critic_updates,
            progress.step,
            progress.critic_step,
            progress.critic_in_step,
        )
        patches = iter(make_loader(self.dataset, order, self.workers))
        saved = time.monotonic()
        between_checkpoints = 60 * self.recipe.schedule.checkpoint_minutes
        with tqdm(
            total=self.length.steps,
            initial=progress.step,
            unit='step',
            disable=None if self.fabric.is_global_zero else True,
        ) as bar:
            while not self.length.over(progress):
                of_generator = self._update(patches)
                bar.update(of_generator)
                bar.set_postfix(self._running(), refresh=False)
                stop = max_over_processes(self.fabric, float(signals.caught is not None)) > 0
                if of_generator and self.length.validation_due(progress):
                    self._validate()
                elif stop or time.monotonic() - saved > between_checkpoints:
                    self._save()
                else:
                    continue
                saved = time.monotonic()
                if stop:
                    signals.caught = signals.caught or signal.SIGTERM
                    break

    def _check_data(self) -> None:
        """Refuse data that the networks cannot take, before the first step."""
        wanted, given = self.recipe.task.channels, tuple(self.dataset.channels)
        if given != wanted:
            raise UserError(
                f'[task] channels: the data have {", ".join(given)}, the recipe '
                f'{", ".join(wanted)}; give labels for them, or other channels'
            )
        if not len(self.validation):
            raise UserError(f'{self.data.source}: no validation patches; add subjects for that')
        batch = self.updater.prepared(next(iter(make_loader(self.dataset, [[0]], 0))))
        networks = self.networks
        with self.fabric.autocast():
            check_networks(
                self.recipe, batch, networks.plain_generator.eval(), networks.plain_critic
            )

    def _critic_updates(self, step: int) -> int:
        return self.recipe.critic_schedule.critic_updates(step) if self.recipe.adversarial else 0

    def _update(self, patches: Iterator[dict[str, Tensor]]) -> bool:
        """Make the next update; returns whether it was one of the generator."""
        progress = self.progress
        started, self.updater.waited = time.monotonic(), 0.0
        seed_all(self.recipe.seed, progress.step, progress.critic_step, self.fabric.global_rank)
        self._set_rates()
        self.networks.train()
        of_generator = progress.critic_in_step >= self._critic_updates(progress.step)
        if of_generator:
            self.updater.generator(patches)
            progress.step += 1
            progress.critic_in_step = 0
            self.networks.average()
        else:
            self.updater.critic(patches)
            progress.critic_step += 1
            progress.critic_in_step += 1
        progress.add_time(time.monotonic() - started, self.updater.waited)
        self._tick()
        return of_generator

    def _set_rates(self) -> None:
        factor = self.recipe.rates.factor(
            self.progress.step,
            self.length.steps_per_epoch,
            self.length.share(self.progress),
            self.progress.reductions,
        )
        self.networks.set_rates(factor)

    def _tick(self) -> None:
        now = time.monotonic()
        self.progress.seconds += now - self._mark
        self._mark = now
        if self.recipe.schedule.minutes is not None:
            # The learning rate may follow the clock, which all processes must read alike.
            self.progress.seconds = max_over_processes(self.fabric, self.progress.seconds)

    def _running(self) -> dict[str, str]:
        progress = self.progress
        shown = {'waiting': f'{progress.waited / max(progress.trained, 1e-9):.0%}'}
        for name, key in (('loss', 'loss_total'), ('critic', 'critic_loss_total')):
            if key in progress.sums:
                shown[name] = f'{progress.sums[key] / progress.counts[key]:.4g}'
        return shown

    def _validate(self) -> None:
        """Judge the kept weights, write a row, pictures and checkpoints."""
        row = sum_over_processes(self.fabric, self.progress.take_row())
        row = {name: value / self.fabric.world_size for name, value in row.items()}
        scores, score = self.validator.judge(self.progress)
        best = self.progress.judge(score, self.recipe)
        self._tick()
        if self.log is not None:
            epoch = self.progress.step / self.length.steps_per_epoch
            self.validator.write(self.log, self.progress, epoch, row, scores, score)
            if best:
                self._save(best=True)
        self._save()

    def _save(self, *, best: bool = False) -> None:
        if not self.fabric.is_global_zero:
            return
        state = {
            'step': self.progress.step,
            'progress': self.progress.as_json(),
            'patches': len(self.dataset),
            'processes': self.fabric.world_size,
            'freeze': list(self.freeze),
            'models': self.models,
            'files': self.data.files,
            'recipe': recipe_text(self.recipe),
        }
        packed = self.networks.pack_kept(state) if best else self.networks.pack(state)
        save_checkpoint(self.out / (BEST if best else LAST), packed)

    def _resume(self) -> bool:
        """Take up the run of the folder; returns whether there is one."""
        checkpoint = load_checkpoint(self.out / LAST)
        if checkpoint is None:
            return False
        state = checkpoint.state
        check_same_run(self.out, state, self.recipe, self.data, self.freeze)
        for what, before, now in (
            ('patches an epoch', state['patches'], len(self.dataset)),
            ('numbers of processes', state['processes'], self.fabric.world_size),
        ):
            if before != now:
                raise UserError(
                    f'{self.out}: holds a run with other {what} ({before}, now {now}); '
                    'go on with the same data and flags, or give another folder'
                )
        self._compare_models(state['models'])
        self.progress = self.updater.progress = Progress(**state['progress'])
        self.networks.restore(checkpoint)
        logger.info('taken up at step %d', self.progress.step)
        return True

    def _compare_models(self, before: dict[str, str | None]) -> None:
        if self.models['init'] is None:
            # The checkpoint holds what has become of it.
            self.models['init'] = before['init']
        for what, name in (('init', '--init'), ('first stage', '[task] super_resolved_by')):
            if self.models[what] != before[what]:
                raise UserError(
                    f'{self.out}: holds a run with another model as {name}; '
                    'go on with the same, or give another folder'
                )

    def _finish(self, stopped_by: int | None) -> Outcome:
        """Write the model, unless the training was stopped, and the summary."""
        assert self.log is not None  # noqa: S101 - narrows
        now = Outcome(self.progress, stopped_by).with_scores(self.log.rows, self.progress.step)
        last = self.out / LAST
        if not (last / CARD_FILE).is_file():
            # the next checkpoint of a run that goes on takes it away again
            write_model(last, self.networks.kept, self.recipe, self.data, now)
        best = load_checkpoint(self.out / BEST)
        if self.recipe.validation.keep == 'last' or best is None:
            outcome = now
        else:
            outcome = now.with_scores(self.log.rows, self.progress.best_step)
        if stopped_by is None:
            if outcome is not now and best is not None:
                self.networks.load_kept(of_prefix('network', best.tensors))
            if self.progress.step and not outcome.kept_step:
                logger.warning('%s: %s', self.out, UNTRAINED)
            model = self.out / MODEL_FOLDER
            write_model(model, self.networks.kept, self.recipe, self.data, outcome)
            logger.info('model written to %s', model)
        details = {
            'parameters': sum(p.numel() for p in self.networks.plain_generator.parameters()),
            'frozen': len(self.networks.frozen),
            'patches_per_epoch': len(self.dataset),
            'epochs': self.progress.step / self.length.steps_per_epoch,
        }
        write_summary(self.out, self.recipe, self.data, outcome, self.fabric, details)
        self.log.close()
        return outcome


@contextlib.contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """Have a GPU add in the same order every time, as a CPU does."""
    if device.type != 'cuda':
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    # Some layers have no such algorithm on a GPU: they say so and go on.
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = benchmark
