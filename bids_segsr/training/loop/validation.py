"""How a training is followed: scores, table, pictures."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import torch
from lightning_fabric import Fabric

from bids_segsr.exceptions import UserError
from bids_segsr.training.data.batches import PatchSource, evenly_chosen, make_loader
from bids_segsr.training.loop.distributed import sum_over_processes
from bids_segsr.training.loop.forward_pass import apply_network
from bids_segsr.training.loop.networks import Networks
from bids_segsr.training.loop.progress import Progress
from bids_segsr.training.loop.run_log import RunLog, draw_sample
from bids_segsr.training.loop.training_step import Updater
from bids_segsr.training.loop.validation_scores import as_scores, merit, sum_names, sum_scores
from bids_segsr.training.recipe import Recipe

logger = logging.getLogger(__name__)


class Validator:
    """Judges the weights that are kept.

    Args:
        recipe: What counts.
        patches: Validation patches.
        updater: Prepares them.
        networks: What is judged.
        fabric: Where.
        workers: Processes that make samples.
    """

    def __init__(
        self,
        recipe: Recipe,
        patches: PatchSource,
        updater: Updater,
        networks: Networks,
        fabric: Fabric,
        workers: int,
    ) -> None:
        self.recipe, self.patches, self.updater = recipe, patches, updater
        self.networks, self.fabric, self.workers = networks, fabric, workers
        chosen = evenly_chosen(len(patches), recipe.validation.patches)
        self.mine = chosen[fabric.global_rank :: fabric.world_size]

    def judge(self, progress: Progress) -> tuple[dict[str, float], float]:
        """Score the network.

        Args:
            progress: Takes the scores of interpolation at the first time.

        Returns:
            Scores by name, and the one that decides, the same in all processes.

        Raises:
            UserError: If the one that decides is not finite.
        """
        recipe = self.recipe
        self.networks.share_statistics()
        with_baseline = not progress.baseline and recipe.task.input == 'interpolated'
        size = recipe.schedule.batch_size
        order = [self.mine[i : i + size] for i in range(0, len(self.mine), size)]
        loader = make_loader(self.patches, order, self.workers)
        network = self.networks.kept.eval()
        with self.fabric.autocast():
            sums = sum_scores(network, map(self.updater.prepared, loader), recipe, with_baseline)
        mine = {name: sums.get(name, 0.0) for name in sum_names(recipe, with_baseline)}
        scores, baseline = as_scores(sum_over_processes(self.fabric, mine), recipe)
        progress.baseline = progress.baseline or baseline
        if 'psnr' in progress.baseline and 'psnr' in scores:
            scores['gain'] = scores['psnr'] - progress.baseline['psnr']
        score = merit(scores, recipe.validation.weights)
        if not math.isfinite(score):
            told = ', '.join(f'{n} {scores.get(n, math.nan):g}' for n in recipe.validation.weights)
            raise UserError(
                f'the validation score is not finite in step {progress.step} ({told}); '
                'look at the validation images, or take a lower learning rate; '
                'the last checkpoint stays'
            )
        return scores, score

    def write(
        self,
        log: RunLog,
        progress: Progress,
        epoch: float,
        trained: dict[str, float],
        scores: dict[str, float],
        score: float,
    ) -> None:
        """Write the row of a validation and draw its patches.

        Args:
            log: Where to.
            progress: Counters.
            epoch: Epochs so far.
            trained: Losses since the last row.
            scores: See `judge`.
            score: See `judge`.
        """
        validation = {
            f'validation_{name}' if name.startswith('loss') else name: value
            for name, value in scores.items()
        }
        row = {
            'step': progress.step,
            'epoch': epoch,
            'minutes': progress.seconds / 60,
            'critic_steps': progress.critic_step,
            **self.networks.rates(),
            **trained,
            **validation,
            **{f'interpolation_{name}': value for name, value in progress.baseline.items()},
            'score': score,
        }
        log.add(row)
        names = ('loss_total', 'psnr', 'gain', 'ssim', 'dice', 'score')
        told = ', '.join(f'{name} {row[name]:.4g}' for name in names if name in row)
        logger.info('step %d, epoch %.3g: %s', progress.step, epoch, told)
        self._draw(log, progress.step, self.mine)

    def _draw(self, log: RunLog, step: int, indices: Sequence[int]) -> None:
        number = min(self.recipe.validation.pictures, len(indices))
        chosen = [indices[i] for i in evenly_chosen(len(indices), number)] if number else []
        for place, index in enumerate(chosen):
            loader = make_loader(self.patches, [[index]], 0)
            batch = self.updater.prepared(next(iter(loader)))
            with torch.no_grad(), self.fabric.autocast():
                output = apply_network(self.networks.kept, batch, self.recipe.network.conditional)
            image, found, target = (
                maps.float().cpu().numpy()[0] for maps in (batch.image, output, batch.target)
            )
            log.picture(place, step, draw_sample(image[0], found, target, self.recipe))
