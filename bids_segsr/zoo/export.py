"""Trained networks for programs that know nothing of this package."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from bids_segsr.exceptions import ModelError
from bids_segsr.files import complete, write_text
from bids_segsr.zoo.feeding import example_inputs
from bids_segsr.zoo.store import CARD_FILE, WEIGHTS_FILE, TrainedModel, save_model

if TYPE_CHECKING:
    from torch import Tensor

ONNX_OPSET = 18


def export_model(model: TrainedModel, file_format: str, output: Path) -> list[Path]:
    """Write a model in another format, its card beside it.

    The input of a TorchScript or ONNX file, called `image`, is one patch (1, 1 + guides, X, Y, Z)
    of any size that the network takes, normalised as the card says; conditional networks have a
    second one, `resolution` (1,) in mm. The output, `maps`, is (1, C, X, Y, Z) with the channels
    of the card.

    Args:
        model: The model.
        file_format: 'torchscript', 'onnx' or 'safetensors'.
        output: File to write; for safetensors, a folder.

    Returns:
        What was written: weights, then card.

    Raises:
        ModelError: If the network cannot be written in that format, or onnx is not installed.
        UserError: If the file cannot be written.
    """
    import torch

    from bids_segsr.networks.torchscript import export_torchscript

    inputs = example_inputs(model.card)
    try:
        if file_format == 'safetensors':
            folder = save_model(output, model.network, model.card)
            return [folder / WEIGHTS_FILE, folder / CARD_FILE]
        card = output.with_name(f'{output.name}.json')
        # Tracing warns of each size that is compared; the sizes stay free nevertheless.
        with complete(output) as part, warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter('ignore')
            if file_format == 'onnx':
                _write_onnx(model, inputs, part)
            else:
                resolution = inputs[1].item() if len(inputs) > 1 else None
                export_torchscript(model.network, part, inputs[0].shape, resolution=resolution)
        write_text(card, model.card.to_json())
    except (RuntimeError, ValueError, TypeError) as error:
        reason = str(error).strip().partition('\n')[0]
        raise ModelError(
            f'{model.card.name}: cannot be written as {file_format} ({reason})'
        ) from error
    return [output, card]


def _write_onnx(model: TrainedModel, inputs: tuple[Tensor, ...], output: Path) -> None:
    import importlib.util

    import torch

    if importlib.util.find_spec('onnx') is None:
        raise ModelError('ONNX files need the package onnx: pip install bids-segsr[onnx]')
    axes = {2: 'x', 3: 'y', 4: 'z'}
    torch.onnx.export(
        model.network,
        inputs,
        output,
        input_names=['image', 'resolution'][: len(inputs)],
        output_names=['maps'],
        dynamic_axes={'image': axes, 'maps': axes},
        opset_version=ONNX_OPSET,
        # The newer exporter needs one more package, onnxscript.
        dynamo=False,
    )
