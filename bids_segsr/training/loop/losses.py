"""Losses of the generators: how far an output is from the truth, voxel by voxel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from bids_segsr.training.loop_tables import Loss, SegmentationLoss

CHARBONNIER_NU = 1e-3
"""SegSRGAN 2020, section 3.1.1, below equation 6."""


def charbonnier(error: Tensor, nu: float = CHARBONNIER_NU) -> Tensor:
    """Mean Charbonnier penalty, SegSRGAN (2020), equation 6.

    Args:
        error: Differences, any shape.
        nu: Rounds off the absolute value near zero, in the unit of the error.

    Returns:
        Mean of sqrt(error^2 + nu^2), a scalar.
    """
    return torch.sqrt(error.square() + nu**2).mean()


def l1(error: Tensor) -> Tensor:
    """Mean absolute error, mDCSRN, equation 4.

    Args:
        error: Differences, any shape.

    Returns:
        A scalar.
    """
    return error.abs().mean()


def l2(error: Tensor) -> Tensor:
    """Mean squared error, ReCNN (2019), equation 5 and section 3.2.

    Args:
        error: Differences, any shape.

    Returns:
        A scalar.
    """
    return error.square().mean()


def soft_dice(probability: Tensor, target: Tensor) -> Tensor:
    """Soft Dice loss as the published code of SegSRGAN has it.

    1 - (2 sum(t p) + 1) / (sum t + sum p + 1) of each channel, summed over the voxels of the whole
    batch: a patch without the structure then does not cost as much as a missed one.

    Args:
        probability: Probabilities, (B, C, X, Y, Z).
        target: Truth in 0 to 1, same shape.

    Returns:
        Mean over the channels, a scalar in 0 to 1.
    """
    from monai.losses import DiceLoss  # takes seconds to import, and most recipes do without it

    # Shares of a voxel (partial volume) are as good as labels: MONAI counts them as printed above.
    return DiceLoss(smooth_nr=1, smooth_dr=1, batch=True)(probability, target)


def cross_entropy(probability: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of one channel; cross-entropy over classes of several.

    Args:
        probability: (B, C, X, Y, Z); of one channel (C = 1) the probability of a structure, of
            several, probabilities that sum to one.
        target: Truth in 0 to 1, same shape.

    Returns:
        Mean over the voxels, a scalar, in nats.
    """
    if probability.shape[1] == 1:
        return functional.binary_cross_entropy(probability, target)
    tiny = torch.finfo(probability.dtype).tiny
    return -(target * probability.clamp_min(tiny).log()).sum(dim=1).mean()


_PENALTIES: dict[str, Callable[[Tensor], Tensor]] = {
    'charbonnier': charbonnier,
    'l1': l1,
    'l2': l2,
}


def reconstruction(
    output: Tensor, target: Tensor, loss: Loss, channels: Sequence[str]
) -> dict[str, Tensor]:
    """Loss of an output without its adversarial part.

    Args:
        output: Of a generator, (B, C, X, Y, Z): 'intensity', then probabilities.
        target: Truth, same shape; intensity in the unit of the output, the rest in 0 to 1.
        loss: Which penalties, and their weights.
        channels: Names of the C channels: 'intensity', then 'cortex' (a probability of its own),
            then classes whose probabilities sum to one; where all of them are 0 in the target,
            nothing is known and nothing is asked.

    Returns:
        Scalars: 'intensity' and 'segmentation' where the loss has them, without their weights;
        'dice' and 'cross_entropy' where the segmentation is their sum; 'total', weighted.

    Raises:
        ValueError: If the loss has no term for the channels at hand.
    """
    terms: dict[str, Tensor] = {}
    # Neither a logarithm nor a sum over a patch bears half precision.
    with torch.autocast(output.device.type, enabled=False):
        if output.dtype in (torch.float16, torch.bfloat16):
            output = output.float()
        target = target.to(output.dtype)
        if loss.intensity != 'none':
            terms['intensity'] = _PENALTIES[loss.intensity](output[:, 0] - target[:, 0])
        if loss.segmentation != 'none' and len(channels) > 1:
            terms |= _segmentation(output[:, 1:], target[:, 1:], loss.segmentation, channels[1:])
    if not terms:
        raise ValueError(f'no loss for the channels {", ".join(channels)}')
    weights = {'intensity': loss.intensity_weight, 'segmentation': loss.segmentation_weight}
    terms['total'] = torch.stack([weights[k] * v for k, v in terms.items() if k in weights]).sum()
    return terms


def _segmentation(
    probability: Tensor, target: Tensor, kind: SegmentationLoss, channels: Sequence[str]
) -> dict[str, Tensor]:
    probability = _where_known(probability, target, channels)
    if kind == 'charbonnier':
        return {'segmentation': charbonnier(probability - target)}
    if kind == 'dice':
        return {'segmentation': soft_dice(probability, target)}
    entropy = _entropy(probability, target, channels)
    if kind == 'cross-entropy':
        return {'segmentation': entropy}
    dice = soft_dice(probability, target)
    return {'segmentation': dice + entropy, 'dice': dice, 'cross_entropy': entropy}


def _where_known(probability: Tensor, target: Tensor, channels: Sequence[str]) -> Tensor:
    """Set probabilities to the target, 0, where no class is known."""
    split = int(channels[0] == 'cortex')
    if probability.shape[1] - split < 2:
        return probability
    return probability * target[:, split:].any(dim=1, keepdim=True)


def _entropy(probability: Tensor, target: Tensor, channels: Sequence[str]) -> Tensor:
    """Cross-entropy of the cortex plus that of the classes behind it."""
    split = int(channels[0] == 'cortex')
    parts = [
        cross_entropy(probability[:, part], target[:, part])
        for part in (slice(0, split), slice(split, None))
        if probability[:, part].shape[1]
    ]
    return torch.stack(parts).sum()
