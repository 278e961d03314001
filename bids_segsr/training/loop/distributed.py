"""What the processes of one training tell each other; with one process, nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision, Precision
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from torch import Tensor

from bids_segsr.exceptions import UserError
from bids_segsr.inference.predict import resolve_device


class MixedPrecisionOfConvolutions(MixedPrecision):
    """Mixed precision of a network that is shown its patches as they are.

    Fabric rounds what a network is given to bfloat16, too, of which a residual network gives as
    much back: an image of 8 bits, and probabilities that are exactly 1, where the cross-entropy
    has gradients a thousand times too large.
    """

    def convert_input(self, data: Any) -> Any:
        """Return what the network is given as it is."""
        return data


def make_fabric(device: str, devices: int | None, precision: Literal['fp32', 'bf16']) -> Fabric:
    """Set up device and processes.

    Args:
        device: 'auto', 'cpu', 'cuda' or 'cuda:N'.
        devices: GPUs, or processes on a CPU; None for one. Not for a run that torchrun started,
            which knows.
        precision: 'fp32' or 'bf16' (mixed).

    Returns:
        Fabric, not launched yet.

    Raises:
        UserError: If there is no such device, or the numbers of processes contradict.
    """
    kind = torch.device(resolve_device(device))
    plugin: TorchElasticEnvironment | LightningEnvironment = LightningEnvironment()
    nodes = 1
    if TorchElasticEnvironment.detect():
        plugin = TorchElasticEnvironment()
        local = int(os.environ['LOCAL_WORLD_SIZE'])
        if devices not in (None, local):
            raise UserError(f'--devices {devices}: torchrun started {local} here; leave it out')
        devices = local
        nodes = plugin.world_size() // local
    number = devices or 1
    if kind.type == 'cuda' and number > torch.cuda.device_count():
        raise UserError(f'--devices {number}: torch finds {torch.cuda.device_count()} GPUs')
    chosen = [kind.index] if kind.type == 'cuda' and kind.index is not None else number
    if isinstance(chosen, list) and number > 1:
        raise UserError(f'--device {device}: names one GPU; with --devices use --device cuda')
    return Fabric(
        accelerator=kind.type,
        devices=chosen,
        num_nodes=nodes,
        strategy='ddp' if number * nodes > 1 else 'auto',
        plugins=[
            plugin,
            MixedPrecisionOfConvolutions('bf16-mixed', kind.type)
            if precision == 'bf16'
            else Precision(),
        ],
    )


def max_over_processes(fabric: Fabric, value: float) -> float:
    """Return the largest of the values of all processes."""
    return (
        value if fabric.world_size == 1 else _reduced(fabric, _tensor(fabric, [value]), 'max')[0]
    )


def sum_over_processes(fabric: Fabric, values: Mapping[str, float]) -> dict[str, float]:
    """Add up numbers over all processes.

    Args:
        fabric: The processes.
        values: By names that are the same, in the same order, in every process.

    Returns:
        The sums by name.
    """
    if fabric.world_size == 1:
        return dict(values)
    total = _reduced(fabric, _tensor(fabric, [*values.values()]), 'sum')
    return dict(zip(values, total, strict=True))


def average_in_place(fabric: Fabric, tensor: Tensor) -> None:
    """Replace a tensor by its mean over all processes."""
    mean = fabric.all_reduce(tensor, reduce_op='mean')
    assert isinstance(mean, Tensor)  # noqa: S101 - narrows Fabric's union
    tensor.copy_(mean)


def _tensor(fabric: Fabric, values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=fabric.device)


def _reduced(fabric: Fabric, values: Tensor, how: str) -> list[float]:
    result = fabric.all_reduce(values, reduce_op=how)
    assert isinstance(result, Tensor)  # noqa: S101 - narrows Fabric's union
    numbers: list[float] = result.tolist()
    return numbers
