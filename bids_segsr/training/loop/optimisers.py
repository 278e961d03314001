"""Optimisers and how their learning rates change."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import nn

from bids_segsr.exceptions import UserError


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
    clip: float | None = None
    head_rate: float = 1.0
    bias_rate: float = 1.0

    def __post_init__(self) -> None:
        require('learning_rate', self.learning_rate > 0, 'positive', self.learning_rate)
        require('betas', all(0 <= b < 1 for b in self.betas), 'from 0 to below 1', self.betas)
        require('eps', self.eps > 0, 'positive', self.eps)
        require('weight_decay', self.weight_decay >= 0, '0 or more', self.weight_decay)
        require('momentum', 0 <= self.momentum < 1, 'from 0 to below 1', self.momentum)
        require('clip', self.clip is None or self.clip > 0, 'positive', self.clip)
        require('head_rate', self.head_rate > 0, 'positive', self.head_rate)
        require('bias_rate', self.bias_rate > 0, 'positive', self.bias_rate)


@dataclass(frozen=True)
class Rates:
    """How the learning rates of generator and critic change; table ``[rates]``.

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


def make_optimiser(optimiser: Optimiser, network: nn.Module) -> torch.optim.Optimizer:
    """Make the optimiser of the parameters of a network that are not frozen.

    Args:
        optimiser: Which one.
        network: The network.

    Returns:
        The optimiser; each parameter group has its share of the learning rate as 'scale'.
    """
    head = _last_convolution(network)
    own = {id(p) for p in head.parameters()} if head is not None else set()
    by_scale: dict[float, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            scale = optimiser.head_rate if id(parameter) in own else 1.0
            scale *= optimiser.bias_rate if name.endswith('bias') else 1.0
            by_scale.setdefault(scale, []).append(parameter)
    groups: list[dict[str, Any]] = [
        {'params': parameters, 'scale': scale} for scale, parameters in by_scale.items()
    ]
    common: dict[str, Any] = {
        'lr': optimiser.learning_rate,
        'weight_decay': optimiser.weight_decay,
    }
    adaptive: dict[str, Any] = {**common, 'betas': optimiser.betas, 'eps': optimiser.eps}
    makers: dict[str, Callable[[], torch.optim.Optimizer]] = {
        'adam': lambda: torch.optim.Adam(groups, **adaptive),
        'adamw': lambda: torch.optim.AdamW(groups, **adaptive),
        'nadam': lambda: torch.optim.NAdam(groups, **adaptive),
        'rmsprop': lambda: torch.optim.RMSprop(
            groups, eps=optimiser.eps, momentum=optimiser.momentum, **common
        ),
        'sgd': lambda: torch.optim.SGD(groups, momentum=optimiser.momentum, **common),
    }
    return makers[optimiser.name]()


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter group, each times its 'scale'."""
    for group in optimiser.param_groups:
        group['lr'] = rate * group['scale']


def freeze(network: nn.Module, patterns: Sequence[str]) -> tuple[str, ...]:
    """Keep parameters from being trained.

    Args:
        network: The network.
        patterns: Glob patterns of parameter names, e.g. ``conv1.*``.

    Returns:
        Names of the frozen parameters.

    Raises:
        UserError: If a pattern fits no parameter, or nothing is left to train.
    """
    names = [name for name, _ in network.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            tops = ', '.join(dict.fromkeys(f'{name.split(".")[0]}.*' for name in names))
            raise UserError(f'--freeze {pattern}: fits no parameter; there are {tops}')
    frozen = tuple(n for n in names if any(fnmatchcase(n, pattern) for pattern in patterns))
    if len(frozen) == len(names):
        raise UserError(f'--freeze {" ".join(patterns)}: leaves nothing to train')
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return frozen


def _last_convolution(network: nn.Module) -> nn.Module | None:
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv3d)]
    return convolutions[-1] if convolutions else None
