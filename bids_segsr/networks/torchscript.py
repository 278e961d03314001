"""Networks as TorchScript, for programs that have torch but not this package."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from bids_segsr.exceptions import ModelError


def export_torchscript(
    network: nn.Module,
    path: str | Path,
    shape: Sequence[int],
    *,
    resolution: float | None = None,
) -> Path:
    """Write a network as TorchScript, in evaluation mode.

    The forward pass is recorded for one shape. A generator then takes any batch and any size that
    the network takes, but the file no longer says clearly which it refuses. Critics stay with
    their patch size.

    Args:
        network: The network; its mode is left as it was.
        path: File to write, commonly ``.pt``; read it with `torch.jit.load`.
        shape: Shape of the input, (B, C, X, Y, Z).
        resolution: For a conditional network, any resolution in mm: the file then takes the image
            and the resolution, (B,).

    Returns:
        The path.

    Raises:
        ModelError: If the network cannot take such an input.
    """
    parameter = next(network.parameters())
    x = torch.rand(tuple(shape), dtype=parameter.dtype, device=parameter.device)
    inputs = [x] if resolution is None else [x, x.new_full((len(x),), resolution)]
    training = network.training
    network.eval()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # Checks of the shape are decided while recording, as said above.
            warnings.simplefilter('ignore', torch.jit.TracerWarning)
            warnings.filterwarnings('ignore', category=DeprecationWarning)
            traced = torch.jit.trace(network, tuple(inputs))
    finally:
        network.train(training)
    path = Path(path)
    try:
        traced.save(str(path))
    except RuntimeError as error:
        raise ModelError(f'{path}: cannot be written; choose another place') from error
    return path
