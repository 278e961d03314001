"""Critics (discriminators) of the papers, for Wasserstein training with a gradient penalty.

None of them normalises over a batch: the penalty is on the gradient of each sample.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bids_segsr.exceptions import ModelError
from bids_segsr.networks.blocks import check_input
from bids_segsr.networks.conditional import check_resolution

STRIDED_LAYERS = 5
"""Strided convolutions of the SegSRGAN critic, for patches of 32 voxels or more."""
LEAK_SRGAN = 0.2
"""Negative slope of the leaky ReLU in SRGAN's discriminator, which two papers adapt."""


def _check_patch(x: Tensor, channels: int, patch_size: int) -> None:
    check_input(x, channels)
    if any(n != patch_size for n in x.shape[2:]):
        raise ModelError(
            f'patch of {"x".join(map(str, x.shape[2:]))} voxels: this critic was made for '
            f'{patch_size} on every axis (option patch_size)'
        )


class SegSRGANCritic(nn.Module):
    """Critic of SegSRGAN (article section 3.1.2): five strided 4^3 convolutions and a decision.

    The original takes patches of 64 voxels: a 2^3 kernel covers what five halvings leave of them.
    Another patch size changes the decision alone, whose kernel covers what is left (patch_size //
    32 voxels an axis); below 32 voxels there are only as many halvings as the patch allows.

    Args:
        base_filters: Filters of the first layer, d; doubled on each further one.
        in_channels: Channels to judge: intensity, cortex probability, and mask classes if any.
        conditional: Take the resolution as a further, constant channel behind these. Here it
            matters: there are biases and zero padding and no normalisation.
        patch_size: Voxels of a patch along every axis.

    Raises:
        ModelError: If an option is out of its range.
    """

    def __init__(
        self,
        base_filters: int = 32,
        in_channels: int = 2,
        conditional: bool = False,
        patch_size: int = 64,
    ) -> None:
        super().__init__()
        if min(base_filters, in_channels) < 1 or patch_size < 2:
            raise ModelError(
                'base_filters and in_channels must be positive and patch_size at least 2; got '
                f'{base_filters}, {in_channels} and {patch_size}'
            )
        self.in_channels = in_channels
        self.conditional = conditional
        self.patch_size = patch_size
        halvings = min(STRIDED_LAYERS, int(math.log2(patch_size)))
        layers: list[nn.Module] = []
        channels = in_channels + conditional
        for i in range(halvings):
            filters = base_filters * 2**i
            layers += [nn.Conv3d(channels, filters, 4, stride=2, padding=1), nn.LeakyReLU(0.01)]
            channels = filters
        self.layers = nn.Sequential(*layers)
        self.decision = nn.Conv3d(channels, 1, patch_size // 2**halvings, bias=False)
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the kernels anew: He normal, cut at two standard deviations; biases zero.

        Args:
            generator: Source of random numbers; torch's global one when None.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                # A normal cut at two sigma has 0.8796 of its standard deviation left.
                sd = math.sqrt(2 / module.weight[0].numel()) / 0.87962566
                nn.init.trunc_normal_(module.weight, 0.0, sd, -2 * sd, 2 * sd, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, resolution: Tensor | None = None) -> Tensor:
        """Judge patches.

        Args:
            x: Patches, (B, in_channels, P, P, P).
            resolution: For a conditional critic, the resolution in mm, (B,).

        Returns:
            Scores, (B, 1), unbounded; higher is more real.

        Raises:
            ModelError: If the shape of x or of the resolution does not suit.
        """
        _check_patch(x, self.in_channels, self.patch_size)
        if self.conditional:
            constant = check_resolution(x, resolution).view(-1, 1, 1, 1, 1)
            x = torch.cat([x, constant.expand_as(x[:, :1])], dim=1)
        elif resolution is not None:
            raise ModelError('this critic is not conditional and takes no resolution')
        return self.decision(self.layers(x)).flatten(1)


def _unit(in_channels: int, filters: int, stride: int) -> list[nn.Module]:
    # One group is layer normalisation over channels and voxels, with two parameters a channel.
    return [
        nn.Conv3d(in_channels, filters, 3, stride=stride, padding=1),
        nn.GroupNorm(1, filters),
        nn.LeakyReLU(LEAK_SRGAN),
    ]


class MDCSRNCritic(nn.Module):
    """Critic of mDCSRN-GAN: SRGAN's discriminator in 3D with layer instead of batch normalisation.

    Eight 3^3 convolutions, every second with stride 2 (64, 64, 128, 128, 256, 256, 512, 512
    filters), then dense layers of 1024 units and one; no sigmoid (section 3.3, 'GAN-Guided
    Training').

    Args:
        base_filters: Filters of the first layer.
        in_channels: Channels to judge.
        patch_size: Voxels of a patch along every axis, which the dense layers are made for.

    Raises:
        ModelError: If an option is not positive.
    """

    def __init__(self, base_filters: int = 64, in_channels: int = 1, patch_size: int = 40) -> None:
        super().__init__()
        if min(base_filters, in_channels, patch_size) < 1:
            raise ModelError(
                'base_filters, in_channels and patch_size must be positive; got '
                f'{base_filters}, {in_channels} and {patch_size}'
            )
        self.in_channels = in_channels
        self.patch_size = patch_size
        n = base_filters
        layers = [nn.Conv3d(in_channels, n, 3, padding=1), nn.LeakyReLU(LEAK_SRGAN)]
        layers += _unit(n, n, 2)
        for i in range(1, 4):
            filters = n * 2**i
            layers += _unit(filters // 2, filters, 1) + _unit(filters, filters, 2)
        self.layers = nn.Sequential(*layers)
        self.decision = nn.Sequential(
            nn.Linear(8 * n * math.ceil(patch_size / 16) ** 3, 16 * n),
            nn.LeakyReLU(LEAK_SRGAN),
            nn.Linear(16 * n, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Judge patches.

        Args:
            x: Patches, (B, in_channels, P, P, P).

        Returns:
            Scores, (B, 1), unbounded; higher is more real.

        Raises:
            ModelError: If the shape of x does not suit.
        """
        _check_patch(x, self.in_channels, self.patch_size)
        return self.decision(self.layers(x).flatten(1))


class RRDGCritic(nn.Module):
    """Patch critic of the RRDG article (section 2.2, Figure 3): local scores, averaged.

    SRGAN's discriminator without its last two strided convolutions (64, 64 strided, 128, 128
    strided, 256 and 512 filters) and with a 1^3 convolution and a mean in place of the dense
    layers. The article names layer normalisation (Figure 3) and instance normalisation (WGAN-GP
    paragraph); the first is taken: the second would remove what distinguishes the mean intensities
    of patches.

    Args:
        base_filters: Filters of the first layer.
        in_channels: Channels to judge.

    Raises:
        ModelError: If an option is not positive.
    """

    def __init__(self, base_filters: int = 64, in_channels: int = 1) -> None:
        super().__init__()
        if min(base_filters, in_channels) < 1:
            raise ModelError(
                f'base_filters and in_channels must be positive: {base_filters}, {in_channels}'
            )
        self.in_channels = in_channels
        n = base_filters
        self.layers = nn.Sequential(
            nn.Conv3d(in_channels, n, 3, padding=1),
            nn.LeakyReLU(LEAK_SRGAN),
            *_unit(n, n, 2),
            *_unit(n, 2 * n, 1),
            *_unit(2 * n, 2 * n, 2),
            *_unit(2 * n, 4 * n, 1),
            *_unit(4 * n, 8 * n, 1),
        )
        self.decision = nn.Conv3d(8 * n, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Judge patches.

        Args:
            x: Patches, (B, in_channels, X, Y, Z), any size.

        Returns:
            Scores, (B, 1), unbounded; higher is more real.

        Raises:
            ModelError: If the shape of x does not suit.
        """
        check_input(x, self.in_channels)
        return self.decision(self.layers(x)).mean(dim=(2, 3, 4))
