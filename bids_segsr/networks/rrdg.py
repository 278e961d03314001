"""RRDG: residual-in-residual dense block generator.

Wang, Chen et al., 'Enhanced generative adversarial network for 3D brain MRI super-resolution'
(section 2.1, Figure 2), after ESRGAN (Wang et al. 2018).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bids_segsr.exceptions import ModelError
from bids_segsr.networks.blocks import check_input, check_normalisable, same_conv

LEAK = 0.2
"""Negative slope of the leaky ReLU, as in ESRGAN."""


def _conv_norm(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(same_conv(in_channels, out_channels, 3), nn.BatchNorm3d(out_channels))


class DenseBlock(nn.Module):
    """Four convolutions that see all before them, and one back to n_f channels.

    Args:
        n_f: Channels in and out.
        k: Growth rate.
        beta: Weight of the block against its input.
        checkpointed: Keep only the input for the backward pass and compute the rest again.
    """

    def __init__(self, n_f: int, k: int, beta: float, checkpointed: bool) -> None:
        super().__init__()
        self.beta = beta
        self.checkpointed = checkpointed
        self.growth = nn.ModuleList(
            nn.Sequential(*_conv_norm(n_f + i * k, k), nn.LeakyReLU(LEAK)) for i in range(4)
        )
        self.fusion = _conv_norm(n_f + 4 * k, n_f)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Args:
            x: Features, (B, n_f, X, Y, Z).

        Returns:
            Features, same shape.
        """
        if self.checkpointed and self.training and torch.is_grad_enabled():
            return checkpoint(self._block, x, use_reentrant=False, context_fn=self._contexts)
        return self._block(x)

    def _block(self, x: Tensor) -> Tensor:
        features = x
        for unit in self.growth:
            features = torch.cat([features, unit(features)], dim=1)
        return x + self.beta * self.fusion(features)

    def _contexts(
        self,
    ) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), self._running_statistics_kept()

    @contextmanager
    def _running_statistics_kept(self) -> Iterator[None]:
        # Computing again must not count the batch twice. Switching the statistics off would save
        # other tensors than the first time, which checkpointing refuses.
        norms = [module for module in self.modules() if isinstance(module, nn.BatchNorm3d)]
        kept = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]  # type: ignore[union-attr]
        for norm in norms:
            norm.momentum = 0.0
        try:
            yield
        finally:
            for norm, (momentum, batches) in zip(norms, kept, strict=True):
                norm.momentum = momentum
                norm.num_batches_tracked.copy_(batches)  # type: ignore[union-attr]


class RRDB(nn.Sequential):
    """Three dense blocks in a row, weighted and added to their input.

    Args:
        n_f: Channels in and out.
        k: Growth rate.
        beta: Weight of the dense blocks, each and together.
        checkpointed: As `DenseBlock`.
    """

    def __init__(self, n_f: int, k: int, beta: float, checkpointed: bool) -> None:
        super().__init__(*(DenseBlock(n_f, k, beta, checkpointed) for _ in range(3)))
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Args:
            x: Features, (B, n_f, X, Y, Z).

        Returns:
            Features, same shape.
        """
        return x + self.beta * super().forward(x)


class RRDG(nn.Module):
    """Residual-in-residual dense block generator, without upsampling: input and output match.

    The printed 2,650,129 parameters come out with five convolutions a dense block (as ESRGAN),
    biases everywhere, batch normalisation after every convolution of the blocks and after the one
    that ends the trunk, and ESRGAN's two convolutions at the end.

    Args:
        n_c: Residual-in-residual dense blocks.
        n_f: Width of the trunk.
        k: Growth rate.
        beta: Weight of the residuals.
        checkpointed: Compute the dense blocks again in the backward pass instead of keeping their
            features (section 3.1): less memory, more time, the same numbers.

    Raises:
        ModelError: If n_c, n_f or k is not positive.
    """

    def __init__(
        self,
        n_c: int = 4,
        n_f: int = 48,
        k: int = 12,
        beta: float = 0.2,
        checkpointed: bool = True,
    ) -> None:
        super().__init__()
        if min(n_c, n_f, k) < 1:
            raise ModelError(f'n_c, n_f and k must be positive, got {n_c}, {n_f} and {k}')
        self.stem = same_conv(1, n_f, 3)
        self.blocks = nn.Sequential(*(RRDB(n_f, k, beta, checkpointed) for _ in range(n_c)))
        self.trunk = _conv_norm(n_f, n_f)
        self.reconstruction = nn.Sequential(
            same_conv(n_f, n_f, 3), nn.LeakyReLU(LEAK), same_conv(n_f, 1, 3)
        )

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
        return self.reconstruction(features + self.trunk(self.blocks(features)))
