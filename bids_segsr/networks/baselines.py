"""Networks that the papers compare with, in 3D and at the size of their input.

FSRCNN, SRResNet and SRDenseNet as the mDCSRN article adapts them (section 4.2, 'Baseline': 'the
up-sampling CNNs ... in those original designs were replaced with the same scale convolutional
layers'); the U-Net as the SegSRGAN article and its code segment super-resolved images.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bids_segsr.exceptions import ModelError
from bids_segsr.networks.blocks import PatchBatchNorm, check_input, check_normalisable, same_conv


class FSRCNN(nn.Module):
    """FSRCNN(d, s, m): extraction 5^3, shrinking 1^3, m mappings 3^3, expanding 1^3, last 9^3.

    The last layer is the 9^3 transposed convolution of the original at stride one, that is, a
    convolution. The printed 64,893 parameters leave room either for biases or for the per-channel
    slopes of the PReLU that define FSRCNN, not for both (65,065). Here the slopes are kept and the
    last layer alone has a bias; biases everywhere and plain ReLU would give the same number.

    Args:
        d: Feature channels.
        s: Channels after shrinking.
        m: Mapping layers.

    Raises:
        ModelError: If d, s or m is not positive.
    """

    def __init__(self, d: int = 56, s: int = 12, m: int = 4) -> None:
        super().__init__()
        if min(d, s, m) < 1:
            raise ModelError(f'd, s and m must be positive, got {d}, {s} and {m}')
        shape = [(1, d, 5), (d, s, 1), *[(s, s, 3)] * m, (s, d, 1)]
        layers: list[nn.Module] = []
        for in_channels, filters, kernel in shape:
            layers += [same_conv(in_channels, filters, kernel, bias=False), nn.PReLU(filters)]
        self.layers = nn.Sequential(*layers, same_conv(d, 1, 9))

    def forward(self, x: Tensor) -> Tensor:
        """Super-resolve.

        Args:
            x: Interpolated image, (B, 1, X, Y, Z), any size.

        Returns:
            Super-resolved intensity, (B, 1, X, Y, Z).

        Raises:
            ModelError: If the shape of x does not suit.
        """
        check_input(x)
        return self.layers(x)


class SRResBlock(nn.Sequential):
    """Two normalised 3x3x3 convolutions with a PReLU between them, added to their input.

    Args:
        channels: Channels in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(
            same_conv(channels, channels, 3, bias=False),
            nn.BatchNorm3d(channels),
            nn.PReLU(),
            same_conv(channels, channels, 3, bias=False),
            nn.BatchNorm3d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Args:
            x: Features, (B, C, X, Y, Z).

        Returns:
            Features, same shape.
        """
        return x + super().forward(x)


class SRResNet(nn.Module):
    """SRResNet: residual blocks under a long skip, then two same-scale layers.

    The original in 3D (16 blocks, 64 filters, first and last layer 9^3) would have more than 3.7
    million parameters. The printed 2,004,620 comes out with 9 blocks, 3^3 first and last layers,
    no convolution between the blocks and the end of the long skip, a 1^3 convolution with PReLU
    for each of the two sub-pixel layers, PReLU of one slope and no biases. With running statistics
    there are 2,006,924 values, the 2.01 M of the mDCSRN article.

    Args:
        n_blocks: Residual blocks.
        filters: Filters of every layer but the last.

    Raises:
        ModelError: If an option is not positive.
    """

    def __init__(self, n_blocks: int = 9, filters: int = 64) -> None:
        super().__init__()
        if min(n_blocks, filters) < 1:
            raise ModelError(f'n_blocks and filters must be positive: {n_blocks}, {filters}')
        n = filters
        self.stem = nn.Sequential(same_conv(1, n, 3, bias=False), nn.PReLU())
        self.blocks = nn.Sequential(*(SRResBlock(n) for _ in range(n_blocks)))
        self.same_scale = nn.Sequential(
            same_conv(n, n, 1, bias=False), nn.PReLU(), same_conv(n, n, 1, bias=False), nn.PReLU()
        )
        self.reconstruction = same_conv(n, 1, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Super-resolve.

        Args:
            x: Interpolated image, (B, 1, X, Y, Z), any size; in training more than one voxel.

        Returns:
            Super-resolved intensity, (B, 1, X, Y, Z).

        Raises:
            ModelError: If the shape of x does not suit.
        """
        check_input(x)
        if self.training:
            check_normalisable(x, 'batch')
        features = self.stem(x)
        return self.reconstruction(self.same_scale(features + self.blocks(features)))


class SRDenseBlock(nn.Module):
    """Dense units without links from the input of the block (Figure 4b of the mDCSRN article).

    Args:
        in_channels: Input channels.
        u: Units, a 3x3x3 convolution and an ELU each.
        k: Growth rate.
    """

    def __init__(self, in_channels: int, u: int, k: int) -> None:
        super().__init__()
        self.first = nn.Sequential(same_conv(in_channels, k, 3), nn.ELU())
        self.units = nn.ModuleList(
            nn.Sequential(same_conv(j * k, k, 3), nn.ELU()) for j in range(1, u)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Args:
            x: Features, (B, in_channels, X, Y, Z).

        Returns:
            The outputs of the units, (B, u k, X, Y, Z).
        """
        features = self.first(x)
        for unit in self.units:
            features = torch.cat([features, unit(features)], dim=1)
        return features


class SRDenseNet(nn.Module):
    """SRDenseNet with the options of mDCSRN b8u4: 8 blocks of 4 units, k = 12, ELU.

    All levels meet in a bottleneck of 8k, batch normalisation and the last convolutions (Figure
    5b). Not printed are the filters of the first layer and of the two same-scale layers that
    replace the transposed convolutions. With uk (what a block puts out) and k there are 389,869
    parameters, the printed 0.39 M; same-scale layers as wide as the bottleneck would make it 0.85
    M.

    Args:
        b: Dense blocks.
        u: Dense units a block.
        k: Growth rate.

    Raises:
        ModelError: If b, u or k is not positive.
    """

    def __init__(self, b: int = 8, u: int = 4, k: int = 12) -> None:
        super().__init__()
        if min(b, u, k) < 1:
            raise ModelError(f'b, u and k must be positive, got {b}, {u} and {k}')
        self.stem = nn.Sequential(same_conv(1, u * k, 3), nn.ELU())
        self.blocks = nn.ModuleList(SRDenseBlock(u * k, u, k) for _ in range(b))
        self.bottleneck = nn.Sequential(
            same_conv((b + 1) * u * k, 8 * k, 1), PatchBatchNorm(8 * k), nn.ELU()
        )
        self.same_scale = nn.Sequential(
            same_conv(8 * k, k, 3), nn.ELU(), same_conv(k, k, 3), nn.ELU()
        )
        self.reconstruction = same_conv(k, 1, 3)

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
        levels = [self.stem(x)]
        for block in self.blocks:
            levels.append(block(levels[-1]))
        return self.reconstruction(self.same_scale(self.bottleneck(torch.cat(levels, dim=1))))


class UNetLevel(nn.Sequential):
    """Twice: 3x3x3 convolution, ReLU, batch normalisation (epsilon 1e-3, as the original).

    Args:
        in_channels: Input channels.
        out_channels: Filters.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            *(
                layer
                for channels in (in_channels, out_channels)
                for layer in (
                    same_conv(channels, out_channels, 3),
                    nn.ReLU(),
                    nn.BatchNorm3d(out_channels, eps=1e-3, momentum=0.01),
                )
            )
        )


class UNet(nn.Module):
    """U-Net of the comparison in the SegSRGAN article: segments a super-resolved image.

    Two levels, 28 filters in the first. 1,144,921 trained parameters and 1,120 running statistics
    are the 1,146,041 of the original.

    Args:
        base_filters: Filters of the first level, doubled on each further one.
    """

    def __init__(self, base_filters: int = 28) -> None:
        super().__init__()
        if base_filters < 1:
            raise ModelError(f'base_filters must be positive, not {base_filters}')
        n = base_filters
        self.level1 = UNetLevel(1, n)
        self.down1 = nn.Conv3d(n, n, 3, stride=2)
        self.level2 = UNetLevel(n, 2 * n)
        self.down2 = nn.Conv3d(2 * n, 2 * n, 3, stride=2)
        self.bottom = UNetLevel(2 * n, 4 * n)
        self.up2 = nn.Conv3d(4 * n, 2 * n, 2)
        self.merge2 = UNetLevel(4 * n, 2 * n)
        self.up1 = nn.Conv3d(2 * n, n, 2)
        self.merge1 = UNetLevel(2 * n, n)
        self.head = nn.Conv3d(n, 1, 1)
        self.relu = nn.ReLU()
        self.upsample = nn.Upsample(scale_factor=2, mode='nearest')
        # TensorFlow's 'same' puts what is odd behind: one plane for stride 2, one for width 2.
        self.pad_behind = nn.ConstantPad3d((0, 1, 0, 1, 0, 1), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Segment.

        Args:
            x: Super-resolved image, (B, 1, X, Y, Z), every axis a multiple of 4.

        Returns:
            (B, 2, X, Y, Z): channel 0 the image as it came, channel 1 the cortex probability.

        Raises:
            ModelError: If the shape of x does not suit.
        """
        check_input(x, multiple=4)
        if self.training and x.numel() == 64:
            raise ModelError('a single patch of 4x4x4 voxels is too small for training')
        full = self.level1(x)
        half = self.level2(self.down1(self.pad_behind(full)))
        y = self.bottom(self.down2(self.pad_behind(half)))
        y = self.relu(self.up2(self.pad_behind(self.upsample(y))))
        y = self.merge2(torch.cat([half, y], dim=1))
        y = self.relu(self.up1(self.pad_behind(self.upsample(y))))
        y = self.merge1(torch.cat([full, y], dim=1))
        return torch.cat([x, torch.sigmoid(self.head(y))], dim=1)
