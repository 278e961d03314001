"""Probabilities that mean what they say, on the validation patches of a training."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from scipy import optimize
from torch import Tensor, nn
from torch.nn import functional

from bids_segsr.imaging.measures.metrics import calibration_error, dice
from bids_segsr.networks.segsrgan import Generator
from bids_segsr.networks.tissue_unet import BLOCK, ClassHead
from bids_segsr.simulation.tables import CLASSES
from bids_segsr.training.data.batches import PatchSource
from bids_segsr.zoo.feeding import moved
from bids_segsr.zoo.store import TrainedModel

STRIDE = 7
"""Every so many voxels are shifted by."""


def calibrate(model: TrainedModel, patches: PatchSource) -> pd.DataFrame:
    """Scale the logits of a segmentation and shift each class as suits patches best.

    The shifts are those of the least cross-entropy: a Dice loss makes thin classes too large.
    SegSRGAN's generator, which has a cortex and no biases, is scaled alone: its mask stays. The
    temperature (Guo et al. 2017, section 4.2) is that of the least calibration error. What is
    calibrated is what a prediction is: where the card asks for the mirror image, the mean of both
    looks, which is less sure than either.

    Args:
        model: A half for the tissues, or SegSRGAN's; its last convolution is changed.
        patches: Validation patches.

    Returns:
        Scores before and after: cross-entropy in nats, expected calibration error (mean over the
        tissues, and of the cortex), Dice and volume over the true one of every class.
    """
    looks, labels = _looks(model, patches)
    none = torch.zeros(looks[0].shape[1])
    if isinstance(model.network, Generator):
        shift = none
    else:
        shift = _shift([look[::STRIDE] for look in looks], labels[::STRIDE])
    scale = float(
        optimize.minimize_scalar(
            lambda factor: _errors(_blend(looks, shift, factor), labels)[1:].mean(),
            bounds=(0.25, 2.0),
            options={'xatol': 0.02},
        ).x
    )
    change_logits(model.network, scale, shift)
    return pd.DataFrame(
        [_told(_blend(looks, none, 1.0), labels), _told(_blend(looks, shift, scale), labels)]
    )


def change_logits(network: nn.Module, scale: float, shift: Tensor) -> None:
    """Make a network put out `scale` times the sum of its logits and `shift`, (classes,)."""
    if isinstance(network, Generator):
        with torch.no_grad():
            network.head.conv.weight[1].mul_(scale)
        return
    head = network.heads['classes']  # type: ignore[index]
    last = head.classes if isinstance(head, ClassHead) else head
    assert isinstance(last, nn.Conv3d)  # noqa: S101 - narrows
    assert last.bias is not None  # noqa: S101 - narrows
    repeats = last.out_channels // len(shift)
    with torch.no_grad():
        last.weight.mul_(scale)
        last.bias.add_(shift.repeat_interleave(repeats)).mul_(scale)


@torch.no_grad()
def _looks(model: TrainedModel, patches: PatchSource) -> tuple[list[Tensor], Tensor]:
    """Return the logits of every look, (voxels, classes) each, and the true classes."""
    network = model.network.eval()
    found: list[list[Tensor]] = [[], []] if model.card.contract.mirrored else [[]]
    true = []
    middle = (..., *[slice(BLOCK // 2, -BLOCK // 2)] * 3)
    half_block = getattr(network, 'block', 1) // 2
    for number in range(len(patches)):
        patch = patches[number]
        image = patch['image'][None]
        inside = (image[0, 0][middle] != 0).flatten()
        true.append(_classes(patch['target'])[middle].flatten(1)[:, inside].argmax(0))
        for look, logits in enumerate(found):
            by = look * half_block
            # the mirror image as `feeding.feed` shows it
            output = network(moved(image.flip(2), by) if look else image)
            output = output.roll([-by] * 3, (2, 3, 4)).flip(2) if look else output
            classes = _classes(output[0])[middle].flatten(1)[:, inside]
            logits.append(classes.T.clamp_min(1e-8).log())
    return [torch.cat(logits) for logits in found], torch.cat(true)


def _classes(maps: Tensor) -> Tensor:
    """Return what is told apart among maps, (C, X, Y, Z): all classes, or cortex and not."""
    if len(maps) == 2:
        return torch.stack([1 - maps[1], maps[1]])
    return maps[-len(CLASSES) :]


def _blend(looks: list[Tensor], shift: Tensor, scale: Tensor | float) -> Tensor:
    """Return the mean probabilities of looks whose logits are shifted and scaled."""
    return torch.stack([(scale * (look + shift)).softmax(1) for look in looks]).mean(0)


def _shift(looks: list[Tensor], labels: Tensor) -> Tensor:
    """Return the shift of every class of the least cross-entropy, at its best scale."""
    scale = torch.ones((), requires_grad=True)
    shift = torch.zeros(looks[0].shape[1], requires_grad=True)
    optimiser = torch.optim.LBFGS([scale, shift], max_iter=60, line_search_fn='strong_wolfe')

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = functional.nll_loss(_blend(looks, shift, scale).log(), labels)
        loss.backward()
        return loss

    optimiser.step(closure)
    return shift.detach()


def _errors(probability: Tensor, labels: Tensor) -> np.ndarray:
    return np.array(
        [
            calibration_error(each.numpy(), (labels == k).numpy())
            for k, each in enumerate(probability.T)
        ]
    )


def _told(probability: Tensor, labels: Tensor) -> dict[str, float]:
    found, errors = probability.argmax(1), _errors(probability, labels)
    told = {
        'cross_entropy': float(functional.nll_loss(probability.log(), labels)),
        'calibration_error': float(np.mean(errors[1:])),
        'calibration_error_cortex': errors[1],
    }
    names = CLASSES if probability.shape[1] == len(CLASSES) else ('background', 'cortex')
    for k, name in enumerate(names):
        told[f'dice {name}'] = dice((found == k).numpy(), (labels == k).numpy())
        told[f'volume {name}'] = float((found == k).sum() / (labels == k).sum())
    return told
