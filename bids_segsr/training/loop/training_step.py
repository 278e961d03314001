"""One update of the critic or of the generator."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from bids_segsr.exceptions import UserError
from bids_segsr.training.data.batches import penalty_shares
from bids_segsr.training.loop.adversarial import critic_loss, generator_adversarial
from bids_segsr.training.loop.distributed import max_over_processes
from bids_segsr.training.loop.forward_pass import Batch, SuperResolver, apply_network, prepare
from bids_segsr.training.loop.losses import reconstruction
from bids_segsr.training.loop.networks import Networks
from bids_segsr.training.loop.progress import Progress
from bids_segsr.training.recipe import Recipe

RawBatches = Iterator[dict[str, Tensor]]


@dataclass
class Updater:
    """Moves the weights.

    Attributes:
        recipe: What is minimised.
        networks: What is moved.
        fabric: Where.
        super_resolver: First stage of a pipeline; None without one.
        progress: Takes the loss terms.
        out: Folder of the run, for messages.
        waited: Seconds spent waiting for samples since it was last set to 0.
    """

    recipe: Recipe
    networks: Networks
    fabric: Fabric
    super_resolver: SuperResolver | None
    progress: Progress
    out: Path
    waited: float = field(default=0.0)

    def prepared(self, patches: dict[str, Tensor]) -> Batch:
        """Put patches on the device and normalise them."""
        moved: dict[str, Tensor] = self.fabric.to_device(patches)
        return prepare(moved, self.recipe, self.super_resolver)

    def told_critic(self, batch: Batch) -> Tensor | None:
        """Return the resolutions if the critic is conditional."""
        critic = self.recipe.critic
        return batch.resolution if critic is not None and critic.conditional else None

    def generator(self, patches: RawBatches) -> None:
        """Update the generator once.

        Args:
            patches: Next batches; as many are taken as the recipe accumulates.

        Raises:
            UserError: If the loss or the gradient is not finite.
        """
        networks, loss = self.networks, self.recipe.loss
        parts = self.recipe.schedule.accumulate
        seen: list[int] = []
        finite = True
        networks.generator_optimiser.zero_grad()
        for part in range(parts):
            batch = self._next(patches)
            with networks.unsynchronised(networks.generator, part < parts - 1):
                output = apply_network(networks.generator, batch, self.recipe.network.conditional)
                terms = reconstruction(output, batch.target, loss, self.recipe.task.channels)
                if self.recipe.adversarial:
                    with networks.critic_fixed() as critic:
                        judged = generator_adversarial(critic, output, self.told_critic(batch))
                    terms['adversarial'] = judged
                    terms['total'] = terms['total'] + loss.adversarial_weight * judged
                self.fabric.backward(terms['total'] / parts)
            finite &= self.progress.add_terms('loss_', terms)
            seen += batch.index.tolist()
        norm = networks.clip(networks.generator, self.recipe.optimiser.clip)
        finite &= self.progress.add_terms('', {'gradient_norm': norm})
        self._check_finite(finite, 'loss', seen)
        networks.generator_optimiser.step()

    def critic(self, patches: RawBatches) -> None:
        """Update the critic once, on patches of its own.

        Args:
            patches: Next batches; as many are taken as the recipe accumulates.

        Raises:
            UserError: If the loss or the gradient is not finite.
        """
        networks = self.networks
        assert networks.critic is not None  # noqa: S101 - narrows
        assert networks.critic_optimiser is not None  # noqa: S101 - narrows
        parts = self.recipe.schedule.accumulate
        seen: list[int] = []
        finite = True
        networks.critic_optimiser.zero_grad()
        for part in range(parts):
            batch = self._next(patches)
            with torch.no_grad(), self.fabric.autocast():
                fake = apply_network(
                    networks.plain_generator, batch, self.recipe.network.conditional
                )
            with networks.unsynchronised(networks.critic, part < parts - 1):
                with self.fabric.autocast():
                    terms = critic_loss(
                        networks.synchronised_critic,
                        batch.target,
                        fake.float(),
                        self.recipe.loss.gradient_penalty,
                        epsilon=penalty_shares(batch.index, self.recipe.seed),
                        resolution=self.told_critic(batch),
                    )
                self.fabric.backward(terms['total'] / parts)
            finite &= self.progress.add_terms('critic_loss_', terms)
            seen += batch.index.tolist()
        norm = networks.clip(networks.critic, self.recipe.critic_optimiser.clip)
        finite &= self.progress.add_terms('critic_', {'gradient_norm': norm})
        self._check_finite(finite, 'loss of the critic', seen)
        networks.critic_optimiser.step()

    def _next(self, patches: RawBatches) -> Batch:
        started = time.monotonic()
        batch = next(patches)
        self.waited += time.monotonic() - started
        return self.prepared(batch)

    def _check_finite(self, finite: bool, what: str, seen: list[int]) -> None:
        # In step with the other processes, which would wait for this one for ever.
        if max_over_processes(self.fabric, float(not finite)) == 0:
            return
        where = '' if finite else f' (samples {", ".join(map(str, seen))})'
        raise UserError(
            f'{self.out}: the {what} is not finite in step {self.progress.step}{where}; the '
            'checkpoint in checkpoints/last is from before: try a lower learning rate or a clip'
        )
