"""From a batch of patches to what a network sees and what it shall give."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bids_segsr.exceptions import UserError
from bids_segsr.imaging.patch_size import edges
from bids_segsr.networks import create
from bids_segsr.networks.standardise import restore, standardise
from bids_segsr.training.recipe import Network, Recipe
from bids_segsr.zoo.contract import check_restores
from bids_segsr.zoo.feeding import feed, first_stage_misfit, told
from bids_segsr.zoo.store import TrainedModel

logger = logging.getLogger(__name__)

SuperResolver = Callable[[Tensor, Tensor], Tensor]
"""Takes images (B, 1, X, Y, Z) and resolutions (B,) mm; gives images."""


@dataclass(frozen=True)
class Batch:
    """Patches, normalised.

    Attributes:
        image: Input of the network, (B, 1 + guides, X, Y, Z).
        target: What it shall give, (B, C, X, Y, Z).
        resolution: Distance of the slices in mm, (B,).
        index: Sample numbers, (B,).
        mean: To undo the standardisation, (B, 1, 1, 1, 1).
        sd: To undo the standardisation, (B, 1, 1, 1, 1).
    """

    image: Tensor
    target: Tensor
    resolution: Tensor
    index: Tensor
    mean: Tensor
    sd: Tensor

    def in_image_units(self, intensity: Tensor) -> Tensor:
        """Undo the standardisation of intensities, (B, 1, X, Y, Z)."""
        return restore(intensity, self.mean, self.sd)


def prepare(
    patches: Mapping[str, Tensor], recipe: Recipe, super_resolver: SuperResolver | None = None
) -> Batch:
    """Make the batch of a recipe.

    Args:
        patches: A collated batch of `Patch`, with 'index'.
        recipe: Says what the network sees and how intensities are normalised.
        super_resolver: Makes the input of a recipe whose input is 'super-resolved'.

    Returns:
        The batch. With 'patch-standard' every input channel of a patch has mean 0 and standard
        deviation 1, and the target intensity is shifted and scaled as the first one; a constant
        patch becomes 0.
    """
    image, target, resolution = patches['image'], patches['target'], patches['resolution']
    if recipe.task.input == 'high-resolution':
        image = torch.cat([target[:, :1], image[:, 1:]], dim=1)
    elif super_resolver is not None:
        image = torch.cat([super_resolver(image[:, :1], resolution), image[:, 1:]], dim=1)
    mean = image.new_zeros(len(image), 1, 1, 1, 1)
    sd = torch.ones_like(mean)
    if recipe.sampling.normalisation == 'patch-standard':
        image, means, sds = standardise(image)
        mean, sd = means[:, :1], sds[:, :1]
        target = torch.cat([(target[:, :1] - mean) / sd, target[:, 1:]], dim=1)
    return Batch(image, target, resolution, patches['index'], mean, sd)


def apply_network(network: nn.Module, batch: Batch, conditional: bool) -> Tensor:
    """Run a generator, (B, C, X, Y, Z); a conditional one is told the resolution."""
    return told(network, batch.image, batch.resolution, conditional=conditional)


def blank_batch(recipe: Recipe, size: int = 1) -> Batch:
    """Make a batch of patches as a recipe has them, all 0.

    Args:
        recipe: The recipe.
        size: Number of patches.
    """
    patch = edges(recipe.sampling.patch_size)
    guides = int(recipe.network.options.get('guides', 0))
    ones = torch.ones(size, 1, 1, 1, 1)
    return Batch(
        image=torch.zeros(size, 1 + guides, *patch),
        target=torch.zeros(size, len(recipe.task.channels), *patch),
        resolution=torch.ones(size),
        index=torch.zeros(size),
        mean=0 * ones,
        sd=ones,
    )


@torch.no_grad()
def check_networks(
    recipe: Recipe, batch: Batch, generator: nn.Module, critic: nn.Module | None
) -> None:
    """Refuse networks that cannot take the patches of a recipe.

    Args:
        recipe: The recipe.
        batch: Patches of it.
        generator: In evaluation mode.
        critic: None without one.

    Raises:
        UserError: A network takes no patches of this shape, or the generator gives another one
            than that of the target.
    """
    output = apply_network(generator, batch, recipe.network.conditional)
    if output.shape != batch.target.shape:
        raise UserError(
            f'[network] {recipe.network.architecture}: gives {_shape(output)}, the target is '
            f'{_shape(batch.target)} (channels x voxels); the number of [task] channels must be '
            'that of the network'
        )
    if critic is not None and recipe.critic is not None:
        told(critic, output, batch.resolution, conditional=recipe.critic.conditional)


def make_super_resolver(
    model: TrainedModel, recipe: Recipe, device: torch.device
) -> SuperResolver:
    """Wrap a trained model as the first stage of a pipeline.

    It sees every patch once: that of a training lies as it comes, and is mirrored as often as not.

    Args:
        model: The model; it is not trained further.
        recipe: Of the second stage.
        device: Where it runs.

    Returns:
        The function.

    Raises:
        UserError: If the model restores no image, or the recipe feeds it otherwise than it was
            trained.
    """
    check_restores(model.card)
    misfit = first_stage_misfit(
        model.card,
        {
            'normalisation': recipe.sampling.normalisation,
            'interpolation': recipe.forward.interpolation,
            'skull_stripped': recipe.task.skull_stripped,
            'slice_axis_last': recipe.slice_axis_last,
        },
    )
    if misfit:
        raise UserError(
            f'{model.path}: {misfit}; change that in the recipe, or give another model with '
            'super_resolved_by in [task]'
        )
    network = model.network.to(device).requires_grad_(False).eval()

    @torch.no_grad()
    def super_resolve(image: Tensor, resolution: Tensor) -> Tensor:
        # the patches are divided already, by the same number as a prediction would take
        output = feed(
            network, model.card, image, scales=None, resolution=resolution, mirror_axis=None
        )
        return output[:, :1]

    return super_resolve


def check_start(recipe: Recipe, init: TrainedModel) -> None:
    """Compare what a model to start from was trained for with what a recipe trains for.

    Args:
        recipe: The recipe; another normalisation, or another place of the slice axis, than the
            model's is warned of.
        init: The model.

    Raises:
        UserError: If the channels have other names or another order.
    """
    card, wanted = init.card, recipe.task.channels
    if tuple(card.channels) != wanted:
        raise UserError(
            f'{init.path}: gives the channels {", ".join(card.channels)}, [task] channels of the '
            f'recipe are {", ".join(wanted)}; start from a model with the same'
        )
    for what, old, new in (
        ('normalisation', card.contract.normalisation, recipe.sampling.normalisation),
        ('slice_axis_last', card.contract.slice_axis_last, recipe.slice_axis_last),
    ):
        if old != new:
            logger.warning(
                '%s: was trained with %s %s, the recipe has %s; it must learn that anew',
                init.path,
                what,
                old,
                new,
            )


def make_network(network: Network, init: TrainedModel | None) -> tuple[nn.Module, tuple[str, ...]]:
    """Make a network with random or with given weights.

    Args:
        network: What the recipe says.
        init: A trained model to start from; None for random weights.

    Returns:
        The network, and the names of the weights that the model did not have (the modulation of a
        conditional generator that starts from an unconditional one).

    Raises:
        UserError: If the model is another network than the recipe's.
    """
    made = create(network.architecture, **network.options)
    if network.start_near_identity:
        if not hasattr(made, 'start_near_identity'):
            raise UserError(
                f'[network] start_near_identity: {network.architecture} has no such start; '
                'leave the key out'
            )
        made.start_near_identity()  # type: ignore[operator]
    if init is None:
        return made, ()
    what = f'{init.path}: cannot start [network] {network.architecture} of the recipe'
    if init.card.architecture != network.architecture:
        raise UserError(f'{what}: it is a {init.card.architecture}')
    old, new = _plain_attributes(init.network), _plain_attributes(made)
    for key in sorted(set(old) & set(new)):
        if old[key] != new[key]:
            raise UserError(f'{what}: {key} is {old[key]}, in the recipe {new[key]}')
    given, wanted = init.network.state_dict(), made.state_dict()
    misfit = [n for n in given if n not in wanted or wanted[n].shape != given[n].shape]
    if misfit:
        raise UserError(f'{what}: {misfit[0]} has another shape; use the options of its card')
    fresh = tuple(name for name in wanted if name not in given)
    made.load_state_dict(given, strict=False)
    return made, fresh


def _shape(tensor: Tensor) -> str:
    return ' x '.join(map(str, tensor.shape[1:]))


def _plain_attributes(module: nn.Module) -> dict[str, object]:
    # what changes the output and not the shapes, such as the sign of a residual
    return {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, (bool, int, float, str)) and key != 'training'
    }
