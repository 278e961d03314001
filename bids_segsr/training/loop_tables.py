"""Tables of a recipe about the loop: loss, critic, optimisers, learning rates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

IntensityLoss = Literal['charbonnier', 'l1', 'l2', 'none']
SegmentationLoss = Literal['charbonnier', 'dice', 'cross-entropy', 'dice+cross-entropy', 'none']


def require(key: str, fine: bool, allowed: str, value: Any) -> None:
    """Refuse a number of a recipe that is out of its range.

    Args:
        key: Its key.
        fine: Whether it is allowed.
        allowed: What is allowed, in words.
        value: The number.

    Raises:
        ValueError: If it is not fine.
    """
    if not fine:
        raise ValueError(f'{key} must be {allowed}, not {value}')


@dataclass(frozen=True)
class Loss:
    """What a generator minimises; table ``[loss]`` of a recipe.

    The mean over the voxels of the intensity times its weight, plus that over the voxels of all
    segmentation channels times its weight, plus the adversarial term times its weight. The mean
    over both channels of SegSRGAN (2020, equation 6) is a weight of one half each.

    Attributes:
        intensity: Penalty of channel 'intensity'.
        segmentation: Penalty of the other channels.
        intensity_weight: Weight of the first.
        segmentation_weight: Weight of the second.
        adversarial_weight: Weight of the critic's judgement, lambda_adv; 0 trains no critic.
        gradient_penalty: Weight of the gradient penalty in the loss of the critic, lambda_gp.

    Raises:
        ValueError: If a weight is negative, or nothing is left to minimise.
    """

    intensity: IntensityLoss = 'charbonnier'
    segmentation: SegmentationLoss = 'charbonnier'
    intensity_weight: float = 1.0
    segmentation_weight: float = 1.0
    adversarial_weight: float = 0.0
    gradient_penalty: float = 10.0

    def __post_init__(self) -> None:
        for key in ('intensity', 'segmentation', 'adversarial'):
            weight = getattr(self, f'{key}_weight')
            require(f'{key}_weight', weight >= 0, '0 or more', weight)
        require('gradient_penalty', self.gradient_penalty >= 0, '0 or more', self.gradient_penalty)
        if self.intensity == self.segmentation == 'none':
            raise ValueError("intensity and segmentation must not both be 'none'")


@dataclass(frozen=True)
class CriticSchedule:
    """When the critic is updated; table ``[critic_schedule]`` of a recipe.

    Attributes:
        updates: Updates before each one of the generator.
        head_start: Further updates before the first one of the generator.
        extra_every: Generator updates between two extra rounds of the critic; 0 for none.
        extra: Updates of such a round.

    Raises:
        ValueError: If a number is out of its range.
    """

    updates: int = 5
    head_start: int = 0
    extra_every: int = 0
    extra: int = 0

    def __post_init__(self) -> None:
        require('updates', self.updates > 0, 'positive', self.updates)
        for key in ('head_start', 'extra_every', 'extra'):
            require(key, getattr(self, key) >= 0, '0 or more', getattr(self, key))

    def critic_updates(self, step: int) -> int:
        """Count the updates of the critic that precede an update of the generator.

        Args:
            step: Updates of the generator so far.

        Returns:
            Number of updates.
        """
        if step == 0:
            return self.head_start + self.updates
        if self.extra_every and step % self.extra_every == 0:
            return self.extra + self.updates
        return self.updates


@dataclass(frozen=True)
class Optimiser:
    """What moves the weights of one network; tables ``[optimiser]`` and ``[critic_optimiser]``.

    Attributes:
        name: Of the method.
        learning_rate: At its peak.
        betas: Decay of both moments (Adam, AdamW, NAdam).
        eps: Added to the root of the second moment; not for SGD.
        weight_decay: Of every parameter.
        momentum: Of SGD and RMSprop.
        nesterov: Nesterov's accelerated gradient (ReCNN 2019, section 3.3); of SGD with momentum.
        clip: Largest norm of the gradient of all parameters together; None for no limit.
        head_rate: Learning rate of the last convolution relative to the others. That of the
            SegSRGAN generators sums over thousands of values that no normalisation follows: at the
            full rate one step of Adam can move the output by more than its standard deviation.
        bias_rate: Learning rate of the biases relative to the weights.

    Raises:
        ValueError: If a number is out of its range.
    """

    name: Literal['adam', 'adamw', 'nadam', 'rmsprop', 'sgd'] = 'adam'
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False
    clip: float | None = None
    head_rate: float = 1.0
    bias_rate: float = 1.0

    def __post_init__(self) -> None:
        require('learning_rate', self.learning_rate > 0, 'positive', self.learning_rate)
        require('betas', all(0 <= b < 1 for b in self.betas), 'from 0 to below 1', self.betas)
        require('eps', self.eps > 0, 'positive', self.eps)
        require('weight_decay', self.weight_decay >= 0, '0 or more', self.weight_decay)
        require('momentum', 0 <= self.momentum < 1, 'from 0 to below 1', self.momentum)
        if self.nesterov and not (self.name == 'sgd' and self.momentum > 0):
            raise ValueError('nesterov goes with sgd and a momentum above 0')
        require('clip', self.clip is None or self.clip > 0, 'positive', self.clip)
        require('head_rate', self.head_rate > 0, 'positive', self.head_rate)
        require('bias_rate', self.bias_rate > 0, 'positive', self.bias_rate)


@dataclass(frozen=True)
class Rates:
    """How the learning rates of generator and critic change; table ``[rates]``.

    The rate is a function of the progress alone, which a run that is taken up has again, and the
    progress may be one of minutes: `torch.optim.lr_scheduler` counts calls, keeps a state beside
    the checkpoint's, and has no schedule whose length is a time.

    Attributes:
        schedule: 'constant'; 'cosine' from the peak to `floor` at the end of the training; 'step':
            times `gamma` every so often; 'plateau': times `gamma` when the validation score has
            not risen for `patience` validations.
        warmup: Generator updates over which the rates first rise linearly.
        gamma: Factor of a reduction.
        every_epochs: Schedule 'step': epochs between reductions.
        every_steps: Schedule 'step': generator updates between reductions.
        patience: Schedule 'plateau': validations without a better score.
        floor: Least share of the peak that 'cosine' and 'plateau' leave.

    Raises:
        ValueError: If a number is out of its range, or 'step' lacks its distance.
    """

    schedule: Literal['constant', 'cosine', 'step', 'plateau'] = 'constant'
    warmup: int = 0
    gamma: float = 0.1
    every_epochs: int | None = None
    every_steps: int | None = None
    patience: int = 5
    floor: float = 0.0

    def __post_init__(self) -> None:
        require('warmup', self.warmup >= 0, '0 or more', self.warmup)
        require('gamma', 0 < self.gamma < 1, 'between 0 and 1', self.gamma)
        require('patience', self.patience > 0, 'positive', self.patience)
        require('floor', 0 <= self.floor < 1, 'from 0 to below 1', self.floor)
        for key in ('every_epochs', 'every_steps'):
            value = getattr(self, key)
            require(key, value is None or value > 0, 'positive', value)
        if self.schedule == 'step' and (self.every_epochs is None) == (self.every_steps is None):
            raise ValueError("schedule 'step' needs either every_epochs or every_steps")

    def factor(self, step: int, steps_per_epoch: int, progress: float, reductions: int) -> float:
        """Return the learning rate relative to its peak.

        Args:
            step: Generator updates so far.
            steps_per_epoch: Generator updates an epoch.
            progress: Share of the training that is over, 0 to 1.
            reductions: Times that the score has stood still (schedule 'plateau').

        Returns:
            The factor, 0 to 1.
        """
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.schedule == 'cosine':
            wave = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
            return warm * (self.floor + (1 - self.floor) * wave)
        if self.schedule == 'step':
            every = self.every_steps or (self.every_epochs or 1) * steps_per_epoch
            return warm * self.gamma ** (step // every)
        if self.schedule == 'plateau':
            return warm * max(self.floor, self.gamma**reductions)
        return warm
