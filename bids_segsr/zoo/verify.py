"""Does a model load, fit its card and give numbers?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bids_segsr.exceptions import ModelError
from bids_segsr.zoo.card import ModelCard
from bids_segsr.zoo.find import load_model
from bids_segsr.zoo.store import TrainedModel

if TYPE_CHECKING:
    from torch import Tensor

PATCH_EDGE = 32


def verify_model(name_or_path: str | Path) -> TrainedModel:
    """Load a model, its hash and shapes compared with its card, and run it on a small patch.

    Args:
        name_or_path: As `bids_segsr.zoo.find.load_model` takes it.

    Returns:
        The model.

    Raises:
        ModelError: If it cannot be loaded, or gives other channels than its card says, or numbers
            that are not finite; names the file.
    """
    import torch

    model = load_model(name_or_path)
    inputs = example_inputs(model.card)
    with torch.inference_mode():
        output = model.network(*inputs)
    expected = (1, len(model.card.channels), *inputs[0].shape[2:])
    if tuple(output.shape) != expected:
        raise ModelError(
            f'{model.path}: its output has the shape {tuple(output.shape)}, its card says '
            f'{expected} (channels {", ".join(model.card.channels)})'
        )
    if not output.isfinite().all():
        raise ModelError(f'{model.path}: gives numbers that are not finite; get the weights anew')
    return model


def example_inputs(card: ModelCard) -> tuple[Tensor, ...]:
    """Make up what a network takes: always the same random numbers.

    Args:
        card: Card of the model.

    Returns:
        A patch (1, 1 + guides, 32, 32, 32), 0 to 1; for a conditional network also the
        through-plane resolution (1,) in mm, the thinnest slices that the card allows.
    """
    import torch

    shape = (1, 1 + card.contract.guides, *[PATCH_EDGE] * 3)
    patch = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    if not card.options.get('conditional'):
        return (patch,)
    return patch, torch.tensor([card.contract.slice_thickness_mm[0]])
