"""(nL-)ReCNN, also called SRReCNN3D, and SRCNN3D.

Pham et al., Computerized Medical Imaging and Graphics 2019 (multiscale brain MRI
super-resolution).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from bids_segsr.exceptions import ModelError
from bids_segsr.networks.blocks import check_input, same_conv


def _xavier(weight: Tensor, generator: torch.Generator | None) -> Tensor:
    limit = math.sqrt(3 / weight[0].numel())
    return nn.init.uniform_(weight, -limit, limit, generator=generator)


Filler = Callable[[Tensor, torch.Generator | None], Tensor]

INITIALISATIONS: dict[str, Filler] = {
    'he': lambda w, g: nn.init.kaiming_normal_(w, nonlinearity='relu', generator=g),
    'xavier': _xavier,
    'normal-0.01': lambda w, g: nn.init.normal_(w, std=0.01, generator=g),
    'normal-0.001': lambda w, g: nn.init.normal_(w, std=0.001, generator=g),
}
"""Laws of section 3.4, n the input channels: N(0, sqrt(2 / (n f^3))) (He et al. 2015, "MSRA"),
U(-sqrt(3 / (n f^3)), sqrt(3 / (n f^3))) (Glorot and Bengio 2010, "Xavier"), and normal laws of
fixed standard deviation."""


class PlainCNN(nn.Module):
    """Convolutions with biases and a ReLU between them (eq. 5), zero padding.

    Args:
        kernels: Filter size f_i of each layer, odd.
        filters: Filters n_i of each layer but the last, which has one.
        guides: Registered high-resolution images of other contrasts, further input channels
            (section 5).
        residual: Predict the difference to the interpolated image (section 3.5).

    Raises:
        ModelError: If a filter size is even or a number is not positive.
    """

    def __init__(
        self, kernels: Sequence[int], filters: Sequence[int], guides: int, residual: bool
    ) -> None:
        super().__init__()
        if min(*kernels, *filters) < 1 or guides < 0 or any(f % 2 == 0 for f in kernels):
            raise ModelError(
                f'filter sizes must be odd, filters positive and guides not negative; got '
                f'{tuple(kernels)}, {tuple(filters)}, {guides}'
            )
        self.in_channels = 1 + guides
        self.residual = residual
        widths = [self.in_channels, *filters, 1]
        layers: list[nn.Module] = []
        for index, kernel in enumerate(kernels):
            layers += [same_conv(widths[index], widths[index + 1], kernel), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Super-resolve.

        Args:
            x: Interpolated image, followed by the registered guides, (B, 1 + guides, X, Y, Z), any
                size.

        Returns:
            Super-resolved intensity, (B, 1, X, Y, Z).

        Raises:
            ModelError: If the shape of x does not suit.
        """
        check_input(x, self.in_channels)
        y = self.layers(x)
        return x[:, :1] + y if self.residual else y


class ReCNN(PlainCNN):
    """Residual-learning network of equal layers; 10L-ReCNN by default, 20L with ``depth=20``.

    The field of view of an output voxel is ((f - 1) D + 1)^3 for D layers of filter size f.

    Args:
        depth: Convolution layers, L in the article.
        filters: Filters of each layer but the last, n.
        filter_size: Filter size, f.
        residual: Predict the difference to the interpolated image; False is nL-CNN.
        guides: Registered high-resolution images of other contrasts, further input channels.
        initialisation: First weights, see INITIALISATIONS.

    Raises:
        ModelError: If an option is out of its range.
    """

    def __init__(
        self,
        depth: int = 10,
        filters: int = 64,
        filter_size: int = 3,
        residual: bool = True,
        guides: int = 0,
        initialisation: str = 'he',
    ) -> None:
        if depth < 2:
            raise ModelError(f'depth must be at least 2, not {depth}')
        if initialisation not in INITIALISATIONS:
            known = ', '.join(INITIALISATIONS)
            raise ModelError(f'initialisation must be one of {known}, not {initialisation!r}')
        super().__init__([filter_size] * depth, [filters] * (depth - 1), guides, residual)
        self.initialisation = initialisation
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the filters anew; biases zero.

        Args:
            generator: Source of random numbers; torch's global one when None.
        """
        for layer in self.layers:
            if isinstance(layer, nn.Conv3d):
                INITIALISATIONS[self.initialisation](layer.weight, generator)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


class SRCNN3D(PlainCNN):
    """Three layers 9-1-5 with 64, 32 and one filter (section 3.2), no residual.

    Its weights are drawn from N(0, 0.001), the choice that section 3.4 reports of it; biases zero.

    Args:
        filters: Filters of the first two layers.
        guides: Registered high-resolution images of other contrasts, further input channels.

    Raises:
        ModelError: If an option is out of its range.
    """

    def __init__(self, filters: Sequence[int] = (64, 32), guides: int = 0) -> None:
        if len(filters) != 2:
            raise ModelError(f'SRCNN3D has two numbers of filters, not {len(filters)}')
        super().__init__([9, 1, 5], filters, guides, residual=False)
        for layer in self.layers:
            if isinstance(layer, nn.Conv3d):
                nn.init.normal_(layer.weight, std=0.001)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
