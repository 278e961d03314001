"""Does a model load, fit its card and give numbers?"""

from __future__ import annotations

from pathlib import Path

from bids_segsr.exceptions import ModelError
from bids_segsr.zoo.find import load_model
from bids_segsr.zoo.store import TrainedModel


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

    from bids_segsr.zoo.feeding import example_inputs, feed

    model = load_model(name_or_path)
    patch, *resolution = example_inputs(model.card)
    with torch.inference_mode():
        output = feed(
            model.network,
            model.card,
            patch,
            scales=None,
            resolution=resolution[0] if resolution else 0.0,
            mirror_axis=0 if model.card.contract.mirrored else None,
        )
    expected = (1, len(model.card.channels), *patch.shape[2:])
    if tuple(output.shape) != expected:
        raise ModelError(
            f'{model.path}: its output has the shape {tuple(output.shape)}, its card says '
            f'{expected} (channels {", ".join(model.card.channels)})'
        )
    if not output.isfinite().all():
        raise ModelError(f'{model.path}: gives numbers that are not finite; get the weights anew')
    return model
