"""The loop that fits a generator to simulated samples."""

from __future__ import annotations

import copy
import csv
import dataclasses
import logging
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from bids_segsr.imaging.metrics import dice, psnr
from bids_segsr.networks import create
from bids_segsr.networks.segsrgan import Generator
from bids_segsr.networks.standardise import restore, standardise
from bids_segsr.training.synthesis import Anatomy, Recipe, Sample, make_sample

logger = logging.getLogger(__name__)

CHARBONNIER_NU = 1e-3
"""SegSRGAN (2020), equation 6."""


@dataclass(frozen=True)
class Plan:
    """How a generator is fitted.

    Attributes:
        architecture: Name known to `bids_segsr.networks.create`.
        options: Its options.
        minutes: Length of the training; the learning rate follows the clock.
        patch: Edge of the cubic patches in voxels, a multiple of 4.
        batch: Patches a step, one thread each.
        learning_rate: Peak of Adam's learning rate.
        head_rate: Learning rate of the last convolution relative to the others. It sums over ten
            thousand values that no normalisation follows: at the full rate one step of Adam moves
            the output by more than its standard deviation.
        warmup: Steps until the peak.
        ema: Decay of the averaged weights, which are the ones that are kept.
        segmentation_weight: Weight of the cortex loss relative to that of the intensity.
        bfloat16: Autocast the forward pass.
        device: Where torch computes: cpu or cuda.
        seed: Of weights and samples.
        save_minutes: Time between checkpoints and validations.
    """

    architecture: str
    options: dict[str, Any]
    minutes: float
    patch: int = 48
    batch: int = 2
    learning_rate: float = 1e-3
    head_rate: float = 0.05
    warmup: int = 100
    ema: float = 0.998
    segmentation_weight: float = 0.4
    bfloat16: bool = True
    device: str = 'cpu'
    seed: int = 0
    save_minutes: float = 5.0


class PatchStream(IterableDataset[tuple[np.ndarray, np.ndarray]]):
    """Endless stream of random patches.

    A volume costs more than a training step, so a pool of volumes is kept: for every volume made
    anew, several patches, flipped and turned in plane, are cut from volumes of the pool.

    Args:
        anatomies: Subjects to draw from.
        weights: Share of the samples of each subject.
        recipe: What is drawn at random.
        patch: Edge of the patches in voxels.
        seed: Of the stream.
        pool: Volumes kept.
        reuse: Patches for every new volume.
    """

    def __init__(
        self,
        anatomies: Sequence[Anatomy],
        weights: Sequence[float],
        recipe: Recipe,
        patch: int,
        seed: int,
        *,
        pool: int = 128,
        reuse: int = 8,
    ) -> None:
        super().__init__()
        self.anatomies = anatomies
        self.weights = np.asarray(weights, float) / np.sum(weights)
        self.recipe = recipe
        self.patch = patch
        self.seed = seed
        self.pool = pool
        self.reuse = reuse

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (1, P, P, P) interpolated images and (2, P, P, P) truths (intensity, cortex)."""
        worker = get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        shape = (2 * self.patch, 2 * self.patch, self.patch)
        volumes: list[Sample] = []
        while True:
            anatomy = self.anatomies[rng.choice(len(self.anatomies), p=self.weights)]
            volumes.append(make_sample(anatomy, shape, self.recipe, rng))
            if len(volumes) > self.pool:
                volumes.pop(int(rng.integers(self.pool)))
            for _ in range(self.reuse):
                yield self._cut(volumes[rng.integers(len(volumes))], rng)

    def _cut(self, sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        stack = np.stack([sample.image, sample.truth, sample.cortex])
        i, j = rng.integers(self.patch + 1, size=2)
        stack = stack[:, i : i + self.patch, j : j + self.patch]
        flips = tuple(slice(None, None, rng.choice((-1, 1))) for _ in range(3))
        stack = stack[(slice(None), *flips)]
        if rng.random() < 0.5:
            stack = stack.swapaxes(1, 2)
        stack = np.ascontiguousarray(stack)
        return stack[:1], stack[1:]


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def charbonnier(error: Tensor) -> Tensor:
    """Mean Charbonnier penalty of an error, SegSRGAN (2020), equation 6; a scalar."""
    return torch.sqrt(error.square() + CHARBONNIER_NU**2).mean()


def restoration_loss(output: Tensor, truth: Tensor, segmentation_weight: float) -> Tensor:
    """Charbonnier penalty of the intensity; soft Dice loss and cross-entropy of the cortex.

    The article takes the Charbonnier penalty for both (SegSRGAN 2020, equation 5). Without its
    adversarial term that of the cortex is stuck for long where no voxel is cortex: in trials of
    equal length the Dice overlap stayed at 0.

    Args:
        output: Of the generator, (B, 2, X, Y, Z), standardised intensity and cortex probability.
        truth: Same shape: intensity standardised as the input of the generator was, and cortex.
        segmentation_weight: Weight of the cortex.

    Returns:
        The loss, a scalar.
    """
    probability, cortex = output[:, 1:], truth[:, 1:]
    segmentation = DiceLoss(squared_pred=True)(probability, cortex)
    segmentation = segmentation + nn.functional.binary_cross_entropy(probability, cortex)
    return charbonnier(output[:, 0] - truth[:, 0]) + segmentation_weight * segmentation


def apply_network(network: nn.Module, image: np.ndarray) -> np.ndarray:
    """Run a generator over a whole, small volume.

    Args:
        network: Generator.
        image: Interpolated image (X, Y, Z), axes multiples of 4.

    Returns:
        (2, X, Y, Z): intensity in the unit of the image, cortex probability.
    """
    with torch.inference_mode():
        device = next(network.parameters()).device
        patch = torch.from_numpy(np.ascontiguousarray(image))[None, None].to(device)
        scaled, mean, sd = standardise(patch)
        output = network(scaled)
        output[:, :1] = restore(output[:, :1], mean, sd)
    return output[0].cpu().numpy()


def validate(network: nn.Module, samples: Sequence[Sample]) -> dict[str, float]:
    """Score a generator on fixed samples.

    Args:
        network: Generator.
        samples: Volumes whose axes are multiples of 4.

    Returns:
        `gain`: PSNR inside the brain over that of the interpolated image, dB, mean over samples;
        `worst_gain`; `dice` of the cortex at a threshold of one half, mean.
    """
    gains, overlaps = [], []
    for sample in samples:
        intensity, cortex = apply_network(network, sample.image)
        gains.append(
            psnr(sample.truth, intensity, sample.brain)
            - psnr(sample.truth, sample.image, sample.brain)
        )
        overlaps.append(dice(sample.cortex > 0.5, cortex > 0.5))
    return {
        'gain': float(np.mean(gains)),
        'worst_gain': float(np.min(gains)),
        'dice': float(np.mean(overlaps)),
    }


class Fit:
    """State of a training that can be stopped and resumed.

    Args:
        plan: How to train.
        folder: Where `last.pt`, `best.pt` and `log.csv` go; a `last.pt` there is resumed.
        start_from: Checkpoint of an earlier run whose averaged weights are the start; None for
            random ones.
    """

    def __init__(self, plan: Plan, folder: Path, start_from: Path | None = None) -> None:
        self.plan = plan
        self.folder = folder
        torch.manual_seed(plan.seed)
        network = create(plan.architecture, **plan.options)
        assert isinstance(network, Generator)  # noqa: S101
        # The untrained generator then is as good as interpolation, the baseline to beat.
        network.start_near_identity()
        self.earlier: list[dict[str, float]] = []
        if start_from is not None:
            state = torch.load(start_from, 'cpu', weights_only=True)
            network.load_state_dict(state['average'])
            self.earlier = state['phases']
        network.to(plan.device)
        # A quarter faster than the default layout on a CPU.
        self.network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        head = set(network.head.parameters())
        body = [p for p in network.parameters() if p not in head]
        self.optimiser = torch.optim.Adam(
            [{'params': body, 'scale': 1.0}, {'params': [*head], 'scale': plan.head_rate}]
        )
        # A thread for every patch: threads inside the layers wait for each other after each one,
        # which halves the speed of a machine that does something else as well.
        self.threads = ThreadPoolExecutor(
            plan.batch, initializer=torch.set_num_threads, initargs=(1,)
        )
        self.step = 0
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.best = -math.inf
        if self.checkpoint.exists():
            self._resume()

    @property
    def checkpoint(self) -> Path:
        """File of the last state."""
        return self.folder / 'last.pt'

    def run(
        self,
        anatomies: Sequence[Anatomy],
        weights: Sequence[float],
        recipe: Recipe,
        validation: Sequence[Sample],
        workers: int = 1,
    ) -> dict[str, float]:
        """Train until the plan's time is used up.

        Args:
            anatomies: Training subjects.
            weights: Share of each subject.
            recipe: What is drawn at random.
            validation: Fixed samples of subjects that are not trained on.
            workers: Processes that make samples; 0 makes them in between.

        Returns:
            Scores of the averaged weights at the end, see `validate`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        # A resumed run shall not see the samples of its first part again.
        seed = self.plan.seed + self.step
        stream = PatchStream(anatomies, weights, recipe, self.plan.patch, seed)
        loader = DataLoader(
            stream,
            batch_size=self.plan.batch,
            num_workers=workers,
            worker_init_fn=_start_worker,
            prefetch_factor=32 if workers else None,
        )
        scores = validate(self.average, validation)
        if self.step == 0:
            self._log(math.nan, scores)
        losses: list[float] = []
        last_save = time.monotonic()
        started = last_save - self.seconds
        cpu_started = time.process_time() - self.cpu_seconds
        for image, truth in loader:
            losses.append(self._train_on(image, truth))
            self.seconds = time.monotonic() - started
            self.cpu_seconds = time.process_time() - cpu_started
            done = self.seconds >= 60 * self.plan.minutes
            if done or time.monotonic() - last_save > 60 * self.plan.save_minutes:
                scores = validate(self.average, validation)
                self._log(float(np.mean(losses)), scores)
                self._save(scores)
                losses = []
                last_save = time.monotonic()
            if done:
                break
        return scores

    def _train_on(self, image: Tensor, truth: Tensor) -> float:
        progress = min(1.0, self.seconds / (60 * self.plan.minutes))
        rate = self.plan.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
        rate *= min(1.0, (self.step + 1) / self.plan.warmup)
        for group in self.optimiser.param_groups:
            group['lr'] = rate * group['scale']

        pairs = zip(image.split(1), truth.split(1), strict=True)
        losses, gradients = zip(
            *self.threads.map(lambda pair: self._gradient(*pair), pairs), strict=True
        )
        for parameter, *parts in zip(self.network.parameters(), *gradients, strict=True):
            parameter.grad = torch.stack(parts).mean(0)
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        # Early on the average would be full of the first random weights.
        decay = min(self.plan.ema, self.step / (self.step + 10))
        with torch.no_grad():
            for kept, new in zip(
                self.average.parameters(), self.network.parameters(), strict=True
            ):
                kept.lerp_(new, 1 - decay)
        return float(np.mean(losses))

    def _gradient(self, image: Tensor, truth: Tensor) -> tuple[float, tuple[Tensor, ...]]:
        image, truth = image.to(self.plan.device), truth.to(self.plan.device)
        scaled, mean, sd = standardise(image)
        target = torch.cat([(truth[:, :1] - mean) / sd, truth[:, 1:]], dim=1)
        kind = torch.device(self.plan.device).type
        with torch.autocast(kind, torch.bfloat16, enabled=self.plan.bfloat16):
            output = self.network(scaled)
        loss = restoration_loss(output.float(), target, self.plan.segmentation_weight)
        gradient = torch.autograd.grad(loss, list(self.network.parameters()))
        return loss.item(), gradient

    def _log(self, loss: float, scores: dict[str, float]) -> None:
        path = self.folder / 'log.csv'
        row = {
            'minutes': self.seconds / 60,
            'cpu_minutes': self.cpu_seconds / 60,
            'step': self.step,
            'loss': loss,
            **scores,
        }
        new = not path.exists()
        with path.open('a', newline='') as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow({key: f'{value:.6g}' for key, value in row.items()})
        logger.info(', '.join(f'{key} {value:.4g}' for key, value in row.items()))

    def _phase(self) -> dict[str, float]:
        return {
            'patch': self.plan.patch,
            'batch': self.plan.batch,
            'learning_rate': self.plan.learning_rate,
            'steps': self.step,
            'minutes': round(self.seconds / 60, 1),
            'cpu_minutes': round(self.cpu_seconds / 60, 1),
        }

    def _save(self, scores: dict[str, float]) -> None:
        state = {
            'plan': dataclasses.asdict(self.plan),
            'phases': [*self.earlier, self._phase()],
            'network': self.network.state_dict(),
            'average': self.average.state_dict(),
            'optimiser': self.optimiser.state_dict(),
            'step': self.step,
            'seconds': self.seconds,
            'cpu_seconds': self.cpu_seconds,
            'scores': scores,
        }
        # A decibel counts as much as a tenth of Dice.
        merit = scores['gain'] + 10 * scores['dice']
        if merit > self.best:
            self.best = merit
            _write(state, self.folder / 'best.pt')
        _write({**state, 'best': self.best}, self.checkpoint)

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, self.plan.device, weights_only=True)
        self.network.load_state_dict(state['network'])
        self.average.load_state_dict(state['average'])
        self.optimiser.load_state_dict(state['optimiser'])
        self.earlier = state['phases'][:-1]
        self.step = state['step']
        self.seconds = state['seconds']
        self.cpu_seconds = state['cpu_seconds']
        self.best = state['best']
        logger.info('resumed at step %d, minute %.1f', self.step, self.seconds / 60)


def _write(state: dict[str, Any], path: Path) -> None:
    partial = path.with_suffix('.partial')
    torch.save(state, partial)
    partial.replace(path)
