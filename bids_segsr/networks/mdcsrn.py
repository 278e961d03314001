"""mDCSRN: multi-level densely connected super-resolution network.

Chen et al., 'MRI super-resolution with GAN and 3D multi-level DenseNet' (section 3.3).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bids_segsr.exceptions import ModelError
from bids_segsr.networks.blocks import PatchBatchNorm, check_input, check_normalisable, same_conv


class DenseUnit(nn.Sequential):
    """Batch normalisation, ELU and a 3x3x3 convolution; if the input is wide, a bottleneck before.

    Args:
        in_channels: Input channels.
        k: Growth rate, output channels.
    """

    def __init__(self, in_channels: int, k: int) -> None:
        layers: list[nn.Module] = []
        # 'When needed': a bottleneck that does not reduce the channels only costs.
        if in_channels > 4 * k:
            layers += [PatchBatchNorm(in_channels), nn.ELU(), same_conv(in_channels, 4 * k, 1)]
            in_channels = 4 * k
        layers += [PatchBatchNorm(in_channels), nn.ELU(), same_conv(in_channels, k, 3)]
        super().__init__(*layers)


class DenseBlock(nn.Module):
    """Compressor and dense units; every unit sees the compressed input and all units before it.

    Args:
        in_channels: Input channels.
        u: Dense units.
        k: Growth rate.
    """

    def __init__(self, in_channels: int, u: int, k: int) -> None:
        super().__init__()
        self.compressor = same_conv(in_channels, 2 * k, 1)
        self.units = nn.ModuleList(DenseUnit((2 + j) * k, k) for j in range(u))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Args:
            x: Features, (B, in_channels, X, Y, Z).

        Returns:
            The compressed input and the output of every unit, (B, (2 + u) k, X, Y, Z).
        """
        x = self.compressor(x)
        for unit in self.units:
            x = torch.cat([x, unit(x)], dim=1)
        return x


class MDCSRN(nn.Module):
    """Generator bN uM kK: blocks that see the outputs of all blocks before them.

    The article prints the widths and the positions of the layers, not all details. With biases in
    every convolution, a compressor before every block (the first, too), a bottleneck where the
    input of a unit is wider than 4k, blocks that put out their compressed input with their units,
    and two parameters a normalised channel, every count of Tables 1 and 2 comes out: b4u4 0.2296 M
    (printed 0.22 in Table 1 and 0.23 in Table 2), b6u4 0.354, b8u4 0.486, b4u4k8 0.103, b4u4k16
    0.407, b8u4k8 0.217, b4u4-r 0.262, b1u12-r 0.248, b1u16-r 0.352. (The RRDG article gives
    625,969 for a b8u4, which none of these tables has.)

    Args:
        b: Dense blocks.
        u: Dense units a block.
        k: Growth rate.
        reconstruction: The -r form: an 8k bottleneck, batch normalisation and a 3x3x3 convolution
            instead of the direct combination by one 1x1x1 convolution (Figure 5).

    Raises:
        ModelError: If b, u or k is not positive.
    """

    def __init__(self, b: int = 4, u: int = 4, k: int = 12, reconstruction: bool = False) -> None:
        super().__init__()
        if min(b, u, k) < 1:
            raise ModelError(f'b, u and k must be positive, got {b}, {u} and {k}')
        self.stem = same_conv(1, 2 * k, 3)
        self.blocks = nn.ModuleList(DenseBlock((2 + i * (2 + u)) * k, u, k) for i in range(b))
        width = (2 + b * (2 + u)) * k
        self.combination: nn.Module = same_conv(width, 1, 1)
        if reconstruction:
            self.combination = nn.Sequential(
                same_conv(width, 8 * k, 1), PatchBatchNorm(8 * k), same_conv(8 * k, 1, 3)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Super-resolve.

        Args:
            x: Interpolated image, (B, 1, X, Y, Z), any size of more than one voxel.

        Returns:
            Super-resolved intensity, (B, 1, X, Y, Z).

        Raises:
            ModelError: If the shape of x does not suit.
        """
        check_input(x)
        check_normalisable(x[0], 'patch')
        features = self.stem(x)
        for block in self.blocks:
            features = torch.cat([features, block(features)], dim=1)
        return self.combination(features)
