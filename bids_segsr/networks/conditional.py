"""Generators of SegSRGAN that are told the through-plane resolution of the acquired image.

Two ways of telling them: the published one, which has no effect, and feature-wise linear
modulation (FiLM; Perez et al., AAAI 2018), which has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from bids_segsr.exceptions import ModelError
from bids_segsr.networks.segsrgan import (
    ConvNormReLU,
    Generator,
    ReflectConv,
    ResidualBlock,
    SegSRGAN,
    SegSRGANUNet,
)

Modulation = tuple[Tensor, Tensor]
"""Factor and offset of the channels of one layer, (B, C, 1, 1, 1) each."""

HIDDEN_UNITS = 32
"""Units between the resolution and the factors and offsets."""


def segsrgan(conditional: str | None = None, **options: Any) -> SegSRGAN:
    """Make the standard generator, conditional or not.

    Args:
        conditional: None; 'original' for `OriginalSegSRGAN`; 'film' for `FiLMSegSRGAN`.
        **options: Arguments of `SegSRGAN`.

    Returns:
        The generator. A conditional one takes the resolution as second argument.

    Raises:
        ModelError: If the kind is unknown.
    """
    kinds = {None: SegSRGAN, 'original': OriginalSegSRGAN, 'film': FiLMSegSRGAN}
    if conditional not in kinds:
        raise ModelError(f"conditional must be 'original' or 'film', not {conditional!r}")
    return kinds[conditional](**options)


def segsrgan_unet(conditional: str | None = None, **options: Any) -> SegSRGANUNet:
    """Make the U-Net variant, conditional or not.

    Args:
        conditional: None; 'original' for `OriginalSegSRGANUNet`; 'film' for `FiLMSegSRGANUNet`.
        **options: Arguments of `SegSRGANUNet`.

    Returns:
        The generator. A conditional one takes the resolution as second argument.

    Raises:
        ModelError: If the kind is unknown.
    """
    kinds = {None: SegSRGANUNet, 'original': OriginalSegSRGANUNet, 'film': FiLMSegSRGANUNet}
    if conditional not in kinds:
        raise ModelError(f"conditional must be 'original' or 'film', not {conditional!r}")
    return kinds[conditional](**options)


def check_resolution(x: Tensor, resolution: Tensor | None) -> Tensor:
    """Refuse resolutions that do not belong to a batch.

    Args:
        x: Batch of images, (B, 1, X, Y, Z).
        resolution: Through-plane resolution of the acquired images in mm, (B,).

    Returns:
        The resolution, in the type of x.

    Raises:
        ModelError: If there is not exactly one resolution an image.
    """
    if resolution is None or resolution.shape != x.shape[:1]:
        got = 'none' if resolution is None else f'shape {tuple(resolution.shape)}'
        raise ModelError(
            f'a conditional network needs one resolution (mm) an image, shape ({x.shape[0]},); '
            f'got {got}'
        )
    return resolution.to(x.dtype)


class ResolutionChannel(Generator):
    """Condition of the published code: the resolution as a constant second input channel.

    **It has no effect.** A reflect pad keeps a constant channel constant, the first convolution
    makes one constant a filter of it, and the instance normalisation that follows subtracts it;
    only rounding errors depend on the resolution. Kept so that published weights load.
    """

    def forward(self, x: Tensor, resolution: Tensor | None = None) -> Tensor:
        """Super-resolve and segment.

        Args:
            x: Interpolated, normalised image, as `Generator.forward`.
            resolution: Through-plane resolution of the acquired images in mm, (B,).

        Returns:
            As `Generator.forward`.

        Raises:
            ModelError: If the shape of x or of the resolution does not suit.
        """
        self.check_input(x)
        resolution = check_resolution(x, resolution)
        constant = resolution.view(-1, 1, 1, 1, 1).expand_as(x)
        return self.outputs(x, self.head(self.features(torch.cat([x, constant], dim=1))))


class OriginalSegSRGAN(ResolutionChannel, SegSRGAN):
    """Standard generator with the published condition, which has no effect.

    Args:
        base_filters: Filters of the first layer.
        **options: Further arguments of `SegSRGAN`.
    """

    def __init__(self, base_filters: int = 16, **options: Any) -> None:
        super().__init__(base_filters, **options)
        self.conv1 = ConvNormReLU(ReflectConv(2, base_filters, 7), base_filters)
        self.reset_parameters()


class OriginalSegSRGANUNet(ResolutionChannel, SegSRGANUNet):
    """U-Net variant with the published condition, which has no effect.

    Only the form that does not predict a residual ever worked, so this is the default here.

    Args:
        base_filters: Filters of the first layer.
        residual: Predict the difference to the input instead of the intensity.
        **options: Further arguments of `SegSRGANUNet`.
    """

    def __init__(self, base_filters: int = 28, residual: bool = False, **options: Any) -> None:
        super().__init__(base_filters, residual=residual, **options)
        self.conv1 = ConvNormReLU(ReflectConv(2, base_filters, 7), base_filters)
        self.reset_parameters()


class FiLM(nn.Module):
    """Factors and offsets of normalised features, made from the resolution.

    Two linear layers with a ReLU between them see log2 of the resolution in mm. The last layer
    starts at zero: all factors are one and all offsets zero.

    Args:
        widths: Channels of the layers to modulate, in the order of the forward pass.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.hidden = nn.Linear(1, HIDDEN_UNITS)
        self.code = nn.Linear(HIDDEN_UNITS, 2 * sum(self.widths))
        nn.init.zeros_(self.code.weight)
        nn.init.zeros_(self.code.bias)

    def forward(self, resolution: Tensor) -> list[Modulation]:
        """Make the modulations.

        Args:
            resolution: Through-plane resolution in mm, (B,), positive.

        Returns:
            One modulation a layer.
        """
        hidden = torch.relu(self.hidden(torch.log2(resolution).unsqueeze(1)))
        gain, offset = self.code(hidden)[..., None, None, None].chunk(2, dim=1)
        pairs = zip(gain.split(self.widths, 1), offset.split(self.widths, 1), strict=True)
        return [(1 + factor, shift) for factor, shift in pairs]


def _modulate(x: Tensor, modulation: Modulation) -> Tensor:
    gain, offset = modulation
    return torch.addcmul(offset, x, gain)


def _layer(layer: ConvNormReLU, x: Tensor, codes: Iterator[Modulation]) -> Tensor:
    conv, norm, relu = layer
    return relu(_modulate(norm(conv(x)), next(codes)))


def _block(block: ResidualBlock, x: Tensor, codes: Iterator[Modulation]) -> Tensor:
    y = torch.relu(_modulate(block.norm_a(block.conv_a(x)), next(codes)))
    return x + _modulate(block.norm_b(block.conv_b(y)), next(codes))


class FiLMGenerator(Generator):
    """Condition by feature-wise scale and shift after every normalisation."""

    film: FiLM

    def modulated_features(self, x: Tensor, codes: Iterator[Modulation]) -> Tensor:
        """Everything before the last convolution.

        Args:
            x: Interpolated image, (B, 1, X, Y, Z).
            codes: Modulations of the normalised layers, in the order of the forward pass.

        Returns:
            Full-resolution features, as `features`.
        """
        raise NotImplementedError

    def forward(self, x: Tensor, resolution: Tensor | None = None) -> Tensor:
        """Super-resolve and segment.

        Args:
            x: Interpolated, normalised image, as `Generator.forward`.
            resolution: Through-plane resolution of the acquired images in mm, (B,), positive.

        Returns:
            As `Generator.forward`.

        Raises:
            ModelError: If the shape of x or of the resolution does not suit.
        """
        self.check_input(x)
        codes = iter(self.film(check_resolution(x, resolution)))
        return self.outputs(x, self.head(self.modulated_features(x, codes)))


class FiLMSegSRGAN(FiLMGenerator, SegSRGAN):
    """Standard generator that depends on the resolution; starts as `SegSRGAN`, name by name.

    Args:
        base_filters: Filters of the first layer.
        n_blocks: Residual blocks at a quarter of the resolution.
        **options: Further arguments of `SegSRGAN`.
    """

    def __init__(self, base_filters: int = 16, n_blocks: int = 6, **options: Any) -> None:
        super().__init__(base_filters, n_blocks, **options)
        k = base_filters
        self.film = FiLM((k, 2 * k, 4 * k, *[4 * k] * (2 * n_blocks), 2 * k, k))

    def modulated_features(self, x: Tensor, codes: Iterator[Modulation]) -> Tensor:
        """Everything before the last convolution.

        Args:
            x: Interpolated image, (B, 1, X, Y, Z).
            codes: Modulations of the normalised layers, in the order of the forward pass.

        Returns:
            Full-resolution features, (B, base_filters, X, Y, Z).
        """
        for layer in (self.conv1, self.conv2, self.conv3):
            x = _layer(layer, x, codes)
        for block in cast('Iterable[ResidualBlock]', self.blocks):
            x = _block(block, x, codes)
        return _layer(self.deconv2, _layer(self.deconv1, x, codes), codes)


class FiLMSegSRGANUNet(FiLMGenerator, SegSRGANUNet):
    """U-Net variant that depends on the resolution; starts as `SegSRGANUNet`, name by name.

    Args:
        base_filters: Filters of the first layer.
        **options: Further arguments of `SegSRGANUNet`.
    """

    def __init__(self, base_filters: int = 28, **options: Any) -> None:
        super().__init__(base_filters, **options)
        k = base_filters
        self.film = FiLM((k, k, k, 2 * k, 2 * k, 2 * k, 4 * k, 4 * k, 4 * k, 2 * k, k))

    def modulated_features(self, x: Tensor, codes: Iterator[Modulation]) -> Tensor:
        """Everything before the last convolution.

        Args:
            x: Interpolated image, (B, 1, X, Y, Z).
            codes: Modulations of the normalised layers, in the order of the forward pass.

        Returns:
            Full-resolution features, (B, 2 * base_filters, X, Y, Z).
        """
        full = _block(self.block, _layer(self.conv1, x, codes), codes)
        half = _block(self.block1, _layer(self.conv2, full, codes), codes)
        quarter = _block(self.block2, _layer(self.conv3, half, codes), codes)
        x = torch.cat([_layer(self.deconv1, quarter, codes), half], dim=1)
        return torch.cat([_layer(self.deconv2, x, codes), full], dim=1)
