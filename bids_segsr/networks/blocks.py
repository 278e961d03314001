"""What the networks of several papers share."""

from __future__ import annotations

from torch import Tensor, nn

from bids_segsr.exceptions import ModelError


def check_input(x: Tensor, channels: int = 1, multiple: int = 1) -> None:
    """Refuse a batch that a network cannot take.

    Args:
        x: The batch.
        channels: Input channels of the network.
        multiple: What every axis must be a multiple of.

    Raises:
        ModelError: If x is not (B, channels, X, Y, Z) with such axes, none of them empty.
    """
    if x.ndim != 5 or x.shape[1] != channels:
        raise ModelError(
            f'expected an input of shape (B, {channels}, X, Y, Z), got {tuple(x.shape)}'
        )
    if any(n < 1 or n % multiple for n in x.shape[2:]):
        raise ModelError(
            f'patch of {"x".join(map(str, x.shape[2:]))} voxels: every axis must be '
            f'a multiple of {multiple} and not empty'
        )


def check_normalisable(x: Tensor, what: str) -> None:
    """Refuse what batch normalisation has no statistics of.

    Args:
        x: What it would normalise over.
        what: Its name in the message: batch or patch.

    Raises:
        ModelError: If x is a single voxel.
    """
    if x.numel() == 1:
        raise ModelError(f'{what} of one voxel: batch normalisation needs more')


def same_conv(in_channels: int, out_channels: int, kernel: int, bias: bool = True) -> nn.Conv3d:
    """Zero-padded convolution that keeps the size.

    Args:
        in_channels: Input channels.
        out_channels: Filters.
        kernel: Odd kernel width, same on all axes.
        bias: Whether each filter has an offset.

    Returns:
        The layer.
    """
    return nn.Conv3d(in_channels, out_channels, kernel, padding=kernel // 2, bias=bias)


class PatchBatchNorm(nn.BatchNorm3d):
    """Batch normalisation that uses the statistics of its input in evaluation, too.

    The mDCSRN article predicts with batches of one and batch normalisation in training mode
    (section 4.1, 'SR Generation'). So each sample is normalised by itself in evaluation mode: the
    result does not depend on which patches happen to be in a batch, and there are no running
    statistics.

    Args:
        channels: Number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise.

        Args:
            x: Features, (B, C, X, Y, Z), more than one voxel.

        Returns:
            Normalised features, same shape.
        """
        if self.training:
            return super().forward(x)
        return nn.functional.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)
