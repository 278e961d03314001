"""Generators of SegSRGAN (Delannoy et al., Computers in Biology and Medicine 2020).

The layers follow section 3.1.1 of the article and the published weights: reflect padding, no bias,
instance normalisation with epsilon outside the root, nearest-neighbour upsampling.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict

import torch
from torch import Tensor, nn

from bids_segsr.exceptions import ModelError

NORM_EPSILON = 1e-7
"""Added to the standard deviation, as in the published implementation."""
VARIANCE_FLOOR = 1e-12
"""Up to this variance a channel counts as constant, what is left being rounding errors."""
MIN_AXIS = 8
"""Shortest usable axis: a quarter of it must exceed the reflect pad of one voxel."""
AXIS_MULTIPLE = 4
"""The two strided convolutions divide every axis by four."""

FEW_FILTERS = 8
"""Convolutions with fewer output channels are computed tap by tap along the last axis."""


class InstanceNorm(nn.Module):
    """Instance normalisation with epsilon added outside the root.

    ``y = scale * (x - mean) / (sqrt(var) + 1e-7) + shift`` per sample and channel, with the biased
    variance over the three spatial axes. ``torch.nn.InstanceNorm3d`` adds its epsilon inside the
    root, which changes flat regions. A constant channel becomes its shift, and hands no gradient
    on: that of the root is infinite there.

    Args:
        channels: Number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise.

        Args:
            x: Features, (B, C, X, Y, Z).

        Returns:
            Normalised features, same shape.
        """
        # A variance over a whole patch does not bear half precision.
        exact = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        var, mean = torch.var_mean(exact, dim=(2, 3, 4), correction=0, keepdim=True)
        sd = torch.sqrt(torch.clamp(var, min=VARIANCE_FLOOR))
        gain = self.scale.view(1, -1, 1, 1, 1) / (sd + NORM_EPSILON)
        gain = gain.where(var > VARIANCE_FLOOR, 0)
        offset = self.shift.view(1, -1, 1, 1, 1) - mean * gain
        return torch.addcmul(offset.to(x.dtype), x, gain.to(x.dtype))


class ReflectConv(nn.Module):
    """Bias-free convolution after a reflect pad of half the kernel.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        kernel: Odd kernel width, same on all axes.
        stride: 1, or 2 to halve every (even) axis; output voxel i then lies on input voxel 2i.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.pad = kernel // 2
        self.conv = nn.Conv3d(in_channels, out_channels, kernel, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Args:
            x: Features, (B, in_channels, X, Y, Z).

        Returns:
            Features, (B, out_channels, X / stride, Y / stride, Z / stride).
        """
        x = nn.functional.pad(x, (self.pad,) * 6, mode='reflect')
        weight = self.conv.weight
        if weight.shape[0] >= FEW_FILTERS or self.conv.stride[0] > 1:
            return self.conv(x)
        # The same sum in another order: so few filters leave a vector unit idle, so the taps along
        # the last axis become filters (six times faster on a CPU) and are added up afterwards.
        filters, _, _, _, taps = weight.shape
        wide = weight.permute(4, 0, 1, 2, 3).flatten(0, 1).unsqueeze(-1)
        y = nn.functional.conv3d(x, wide).unflatten(1, (taps, filters))
        length = x.shape[-1] - taps + 1
        return torch.stack([y[:, t, ..., t : t + length] for t in range(taps)]).sum(0)


class UpsampleConv(nn.Module):
    """Repetition of every voxel twice per axis, then a reflect-padded 3x3x3 convolution, no bias.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
    """

    # Three taps on repeated voxels meet only two different voxels. Row (phase, tap): which of the
    # three fall together, for the even output voxels (phase 0) and the odd ones (phase 1).
    _MERGE = (((1, 0, 0), (0, 1, 1)), ((1, 1, 0), (0, 0, 1)))

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Upsample and convolve.

        Computed at the low resolution, one 2x2x2 kernel a phase: the same sum with a third of the
        multiplications. Reflection of the repeated voxels is replication of the original ones.

        Args:
            x: Features, (B, in_channels, X, Y, Z).

        Returns:
            Features, (B, out_channels, 2 X, 2 Y, 2 Z).
        """
        merge = torch.tensor(self._MERGE, dtype=self.conv.weight.dtype, device=x.device)
        kernels = torch.einsum(
            'oixyz,pax,qby,rcz->pqroiabc', self.conv.weight, merge, merge, merge
        )
        padded = nn.functional.pad(x, (1,) * 6, mode='replicate')
        y = nn.functional.conv3d(padded, kernels.flatten(0, 3)).unflatten(1, (2, 2, 2, -1))
        nx, ny, nz = x.shape[2:]
        phases = torch.stack(
            [
                y[:, p, q, r, :, p : p + nx, q : q + ny, r : r + nz]
                for p, q, r in itertools.product((0, 1), repeat=3)
            ],
            dim=-1,
        )
        phases = phases.unflatten(-1, (2, 2, 2)).permute(0, 2, 5, 3, 6, 4, 7, 1)
        return phases.reshape(x.shape[0], 2 * nx, 2 * ny, 2 * nz, -1).permute(0, 4, 1, 2, 3)


class ConvNormReLU(nn.Sequential):
    """A convolution, instance normalisation, ReLU.

    Args:
        conv: The convolution.
        channels: Its output channels.
    """

    def __init__(self, conv: ReflectConv | UpsampleConv, channels: int) -> None:
        super().__init__(OrderedDict(conv=conv, norm=InstanceNorm(channels), relu=nn.ReLU()))


class ResidualBlock(nn.Module):
    """Two normalised 3x3x3 convolutions, added to their input; no activation after the sum.

    Args:
        channels: Channels in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_a = ReflectConv(channels, channels, 3)
        self.norm_a = InstanceNorm(channels)
        self.conv_b = ReflectConv(channels, channels, 3)
        self.norm_b = InstanceNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Args:
            x: Features, (B, C, X, Y, Z).

        Returns:
            Features, same shape.
        """
        y = torch.relu(self.norm_a(self.conv_a(x)))
        return x + self.norm_b(self.conv_b(y))


class Generator(nn.Module):
    """What the generators share: initialisation, check of the input, output activation.

    Args:
        mask_classes: Classes of the additional softmax output, background included; 0 for none.
        residual: Predict the difference to the input instead of the intensity.
    """

    conv1: ConvNormReLU
    head: ReflectConv

    def __init__(self, *, mask_classes: int, residual: bool) -> None:
        super().__init__()
        if mask_classes == 1 or mask_classes < 0:
            raise ModelError('mask_classes must be 0, or at least 2 (background is a class)')
        self.mask_classes = mask_classes
        self.residual = residual

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the kernels anew: LeCun normal, cut at two standard deviations.

        Args:
            generator: Source of random numbers; torch's global one when None.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                # A normal cut at two sigma has 0.8796 of its standard deviation left.
                sd = math.sqrt(1 / module.weight[0].numel()) / 0.87962566
                nn.init.trunc_normal_(module.weight, 0.0, sd, -2 * sd, 2 * sd, generator=generator)

    def start_near_identity(self) -> None:
        """Shrink the last kernels, so that a residual generator returns almost its input."""
        with torch.no_grad():
            self.head.conv.weight.mul_(0.01)

    def features(self, x: Tensor) -> Tensor:
        """Everything before the last convolution.

        Args:
            x: Interpolated image, (B, 1, X, Y, Z).

        Returns:
            Full-resolution features, (B, F, X, Y, Z).
        """
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Super-resolve and segment.

        Args:
            x: Interpolated, normalised image, (B, 1, X, Y, Z), through-plane axis last; every axis
                a multiple of 4 and at least 8 voxels.

        Returns:
            (B, 2 + mask_classes, X, Y, Z): channel 0 the super-resolved intensity (unbounded),
            channel 1 the cortex probability, the rest class probabilities that sum to one.

        Raises:
            ModelError: If the shape of x does not suit.
        """
        self.check_input(x)
        return self.outputs(x, self.head(self.features(x)))

    def check_input(self, x: Tensor) -> None:
        """Refuse an image that the layers cannot take.

        Args:
            x: Interpolated image.

        Raises:
            ModelError: If it is not (B, 1, X, Y, Z) with axes that are multiples of 4, at least 8.
        """
        if x.ndim != 5 or x.shape[1] != 1:
            raise ModelError(f'expected an input of shape (B, 1, X, Y, Z), got {tuple(x.shape)}')
        if any(n % AXIS_MULTIPLE or n < MIN_AXIS for n in x.shape[2:]):
            raise ModelError(
                f'patch of {"x".join(map(str, x.shape[2:]))} voxels: every axis must be '
                f'a multiple of {AXIS_MULTIPLE} and at least {MIN_AXIS}'
            )

    def outputs(self, x: Tensor, y: Tensor) -> Tensor:
        """Turn what the last convolution gives into intensity and probabilities.

        Args:
            x: Interpolated image, (B, 1, X, Y, Z).
            y: Output of the last convolution, (B, 2 + mask_classes, X, Y, Z).

        Returns:
            As `forward`.
        """
        # Under autocast: in half precision a sigmoid is 1 long before a loss can do without it.
        y = y.to(x.dtype)
        # The published weights predict what interpolation added: the sign is part of the model.
        intensity = x - y[:, :1] if self.residual else y[:, :1]
        outputs = [intensity, torch.sigmoid(y[:, 1:2])]
        if self.mask_classes:
            outputs.append(torch.softmax(y[:, 2:], dim=1))
        return torch.cat(outputs, dim=1)


class SegSRGAN(Generator):
    """Standard generator: encoder to a quarter of the resolution, residual blocks, decoder.

    Args:
        base_filters: Filters of the first layer, k in the article.
        n_blocks: Residual blocks at a quarter of the resolution: 6 in the article and the
            published weights, 5 in the first version (Pham et al., ISBI 2019, section 2.4).
        mask_classes: Classes of the additional softmax output, background included; 0 for none.
        residual: Predict the difference to the input instead of the intensity.

    Raises:
        ModelError: If mask_classes is 1 or negative.
    """

    def __init__(
        self,
        base_filters: int = 16,
        n_blocks: int = 6,
        mask_classes: int = 0,
        residual: bool = True,
    ) -> None:
        super().__init__(mask_classes=mask_classes, residual=residual)
        k = base_filters
        self.conv1 = ConvNormReLU(ReflectConv(1, k, 7), k)
        self.conv2 = ConvNormReLU(ReflectConv(k, 2 * k, 3, stride=2), 2 * k)
        self.conv3 = ConvNormReLU(ReflectConv(2 * k, 4 * k, 3, stride=2), 4 * k)
        self.blocks = nn.Sequential(*(ResidualBlock(4 * k) for _ in range(n_blocks)))
        self.deconv1 = ConvNormReLU(UpsampleConv(4 * k, 2 * k), 2 * k)
        self.deconv2 = ConvNormReLU(UpsampleConv(2 * k, k), k)
        self.head = ReflectConv(k, 2 + mask_classes, 7)
        self.reset_parameters()

    def features(self, x: Tensor) -> Tensor:
        """Everything before the last convolution.

        Args:
            x: Interpolated image, (B, 1, X, Y, Z).

        Returns:
            Full-resolution features, (B, base_filters, X, Y, Z).
        """
        x = self.conv3(self.conv2(self.conv1(x)))
        return self.deconv2(self.deconv1(self.blocks(x)))


class SegSRGANUNet(Generator):
    """U-Net variant: one residual block a level, and skips that carry full resolution to the end.

    Args:
        base_filters: Filters of the first layer.
        mask_classes: Classes of the additional softmax output, background included; 0 for none.
        residual: Predict the difference to the input instead of the intensity.

    Raises:
        ModelError: If mask_classes is 1 or negative.
    """

    def __init__(
        self, base_filters: int = 28, mask_classes: int = 0, residual: bool = True
    ) -> None:
        super().__init__(mask_classes=mask_classes, residual=residual)
        k = base_filters
        self.conv1 = ConvNormReLU(ReflectConv(1, k, 7), k)
        self.block = ResidualBlock(k)
        self.conv2 = ConvNormReLU(ReflectConv(k, 2 * k, 3, stride=2), 2 * k)
        self.block1 = ResidualBlock(2 * k)
        self.conv3 = ConvNormReLU(ReflectConv(2 * k, 4 * k, 3, stride=2), 4 * k)
        self.block2 = ResidualBlock(4 * k)
        self.deconv1 = ConvNormReLU(UpsampleConv(4 * k, 2 * k), 2 * k)
        self.deconv2 = ConvNormReLU(UpsampleConv(4 * k, k), k)
        self.head = ReflectConv(2 * k, 2 + mask_classes, 7)
        self.reset_parameters()

    def features(self, x: Tensor) -> Tensor:
        """Everything before the last convolution.

        Args:
            x: Interpolated image, (B, 1, X, Y, Z).

        Returns:
            Full-resolution features, (B, 2 * base_filters, X, Y, Z).
        """
        full = self.block(self.conv1(x))
        half = self.block1(self.conv2(full))
        quarter = self.block2(self.conv3(half))
        x = torch.cat([self.deconv1(quarter), half], dim=1)
        return torch.cat([self.deconv2(x), full], dim=1)
