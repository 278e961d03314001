"""Optimisers and how their learning rates change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from bids_segsr.exceptions import UserError
from bids_segsr.training.loop_tables import Optimiser


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
        'sgd': lambda: torch.optim.SGD(
            groups, momentum=optimiser.momentum, nesterov=optimiser.nesterov, **common
        ),
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
