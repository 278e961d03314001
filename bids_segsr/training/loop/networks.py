"""The networks of a training with their optimisers and averaged weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from bids_segsr.networks import create
from bids_segsr.training.loop.checkpoint import (
    Checkpoint,
    of_prefix,
    pack_optimiser,
    restore_optimiser,
    with_prefix,
)
from bids_segsr.training.loop.distributed import average_in_place
from bids_segsr.training.loop.forward_pass import check_start, make_network
from bids_segsr.training.loop.optimisers import freeze, make_optimiser, set_rate
from bids_segsr.training.recipe import Recipe
from bids_segsr.zoo.store import TrainedModel

_AVERAGE_WARMUP = 10
"""Early on the average would be full of the first random weights."""


class Networks:
    """Generator, critic if any, their optimisers, and the averaged weights.

    Args:
        recipe: Says which.
        fabric: Places them and wraps them for several processes.
        init: Model that the generator starts from; None for random weights.
        frozen: Glob patterns of the generator's parameters that are not trained.

    Attributes:
        generator: As it is trained.
        plain_generator: The same weights without the wrapping of several processes.
        critic: The critic; None without one.
        plain_critic: The same likewise.
        fresh: Weights that `init` did not have.
    """

    def __init__(
        self, recipe: Recipe, fabric: Fabric, init: TrainedModel | None, frozen: Sequence[str]
    ) -> None:
        self.recipe, self.fabric = recipe, fabric
        if init is not None:
            check_start(recipe, init)
        generator, self.fresh = make_network(recipe.network, init)
        self.frozen = freeze(generator, frozen)
        self.plain_generator = _placed(generator, fabric)
        self.averaged = (
            AveragedModel(self.plain_generator, multi_avg_fn=self._mix)
            if recipe.schedule.ema
            else None
        )
        self.generator, self.generator_optimiser = _set_up(
            fabric, self.plain_generator, make_optimiser(recipe.optimiser, generator)
        )
        self.critic: nn.Module | None = None
        self.critic_optimiser: torch.optim.Optimizer | None = None
        self.plain_critic: nn.Module | None = None
        if recipe.adversarial and recipe.critic is not None:
            critic = create(recipe.critic.architecture, **recipe.critic.options)
            self.plain_critic = _placed(critic, fabric)
            self.critic, self.critic_optimiser = _set_up(
                fabric, self.plain_critic, make_optimiser(recipe.critic_optimiser, critic)
            )

    @property
    def kept(self) -> nn.Module:
        """The weights that are validated and kept: the averaged ones where there are any."""
        return self.plain_generator if self.averaged is None else self.averaged.module

    @property
    def synchronised_critic(self) -> nn.Module:
        """The critic as torch wraps it for several processes, without Fabric's own wrapper.

        That one refuses the gradient with respect to an input, which the penalty is made of.
        """
        assert isinstance(self.critic, _FabricModule)  # noqa: S101 - narrows
        return self.critic._forward_module

    def train(self) -> None:
        """Switch to training mode; normalisations that are frozen keep their statistics."""
        self.generator.train()
        if self.critic is not None:
            self.critic.train()
        for module in self.plain_generator.modules():
            parameters = list(module.parameters(recurse=False))
            if (
                isinstance(module, nn.BatchNorm3d)
                and module.track_running_stats
                and parameters
                and not any(p.requires_grad for p in parameters)
            ):
                module.eval()

    def set_rates(self, factor: float) -> None:
        """Set the learning rates to a share of their peaks."""
        set_rate(self.generator_optimiser, factor * self.recipe.optimiser.learning_rate)
        if self.critic_optimiser is not None:
            set_rate(self.critic_optimiser, factor * self.recipe.critic_optimiser.learning_rate)

    def rates(self) -> dict[str, float]:
        """Learning rates of the last update, by name."""
        found = {'learning_rate': _rate(self.generator_optimiser)}
        if self.critic_optimiser is not None:
            found['critic_learning_rate'] = _rate(self.critic_optimiser)
        return found

    def average(self) -> None:
        """Take the weights into their average."""
        if self.averaged is not None:
            self.averaged.update_parameters(self.plain_generator)

    def clip(self, network: nn.Module, limit: float | None) -> Tensor:
        """Limit the norm of the gradient of a network; returns what it was."""
        parameters = [p for p in network.parameters() if p.grad is not None]
        bound = float('inf') if limit is None else limit
        return nn.utils.clip_grad_norm_(parameters, bound)

    def unsynchronised(self, network: nn.Module, enabled: bool) -> AbstractContextManager[Any]:
        """Do not add up the gradients over the processes yet: more batches belong to this update.

        Args:
            network: The one that is trained.
            enabled: False for the last batch of an update.
        """
        if self.fabric.world_size == 1:
            return contextlib.nullcontext()
        context: AbstractContextManager[Any] = self.fabric.no_backward_sync(network, enabled)  # type: ignore[arg-type]
        return context

    @contextlib.contextmanager
    def critic_fixed(self) -> Iterator[nn.Module]:
        """Give the critic as a function of its input, its weights without gradients."""
        assert self.plain_critic is not None  # noqa: S101 - narrows
        self.plain_critic.requires_grad_(False)
        try:
            with self.fabric.autocast():
                yield self.plain_critic
        finally:
            self.plain_critic.requires_grad_(True)

    def share_statistics(self) -> None:
        """Average the running statistics of normalisations over the processes.

        They are those of the patches of each process; all processes shall judge the same network.
        """
        if self.fabric.world_size > 1:
            for buffer in self.kept.buffers():
                if buffer.is_floating_point():
                    average_in_place(self.fabric, buffer)

    def pack(self, state: dict[str, Any]) -> Checkpoint:
        """Return all that a training needs to go on.

        Args:
            state: What else is kept, as JSON holds it.
        """
        tensors = with_prefix('generator', self.plain_generator.state_dict())
        moments = pack_optimiser(self.generator_optimiser, 'generator_optimiser')
        tensors |= moments.tensors
        state = {**state, 'generator_optimiser': moments.state}
        if self.averaged is not None:
            tensors |= with_prefix('averaged', self.averaged.state_dict())
        if self.plain_critic is not None and self.critic_optimiser is not None:
            moments = pack_optimiser(self.critic_optimiser, 'critic_optimiser')
            tensors |= with_prefix('critic', self.plain_critic.state_dict()) | moments.tensors
            state['critic_optimiser'] = moments.state
        return Checkpoint(state, tensors)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Undo `pack`."""
        tensors, state = checkpoint.tensors, checkpoint.state
        self.plain_generator.load_state_dict(of_prefix('generator', tensors))
        restore_optimiser(
            self.generator_optimiser, 'generator_optimiser', state['generator_optimiser'], tensors
        )
        if self.averaged is not None:
            self.averaged.load_state_dict(of_prefix('averaged', tensors))
        if self.plain_critic is not None and self.critic_optimiser is not None:
            self.plain_critic.load_state_dict(of_prefix('critic', tensors))
            restore_optimiser(
                self.critic_optimiser, 'critic_optimiser', state['critic_optimiser'], tensors
            )

    def pack_kept(self, state: dict[str, Any]) -> Checkpoint:
        """Return the weights that are kept, alone."""
        return Checkpoint(state, with_prefix('network', self.kept.state_dict()))

    def load_kept(self, weights: dict[str, Tensor]) -> None:
        """Put weights in place of those that are kept."""
        self.kept.load_state_dict(weights)

    def _mix(self, average: Any, new: Any, averaged: Tensor | int) -> None:
        seen = int(averaged) + 1
        decay = min(self.recipe.schedule.ema or 0.0, seen / (seen + _AVERAGE_WARMUP))
        torch._foreach_lerp_(average, new, 1 - decay)


def _placed(network: nn.Module, fabric: Fabric) -> nn.Module:
    # A quarter faster than the default layout on a CPU; the buffers in which several processes add
    # up gradients have the default layout, and torch complains of another one.
    if fabric.world_size == 1:
        network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network.to(fabric.device)


def _set_up(
    fabric: Fabric, network: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[nn.Module, torch.optim.Optimizer]:
    wrapped, wrapped_optimiser = fabric.setup(network, optimiser)
    return wrapped, wrapped_optimiser


def _rate(optimiser: torch.optim.Optimizer) -> float:
    return float(max(group['lr'] / group['scale'] for group in optimiser.param_groups))
