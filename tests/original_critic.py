"""Critics of the original implementation, whose numbers ours must give."""

from __future__ import annotations

import re
from pathlib import Path

from torch import nn

from bids_segsr.zoo import keras_import


def load_keras_critic(path: Path) -> nn.Module:
    """Load the critic of an HDF5 snapshot of the original training, for patches of 64 voxels.

    A conditional one takes the resolution as second argument, which the original appends after
    the other channels.
    """
    group, found = keras_import._read_group(path, re.compile('DX(_cond)?'), 'critic')
    tensors = {re.sub('DX_(cond_)?', '', name): value for name, value in found.items()}
    kernel = next(value for value in tensors.values() if value.ndim == 5)
    conditional = group.endswith('_cond')
    options = {
        'base_filters': int(kernel.shape[4]),
        'in_channels': int(kernel.shape[3]) - conditional,
        'conditional': conditional,
    }
    layers = {f'conv_dis_{index + 1}': f'layers.{2 * index}' for index in range(5)}
    layers['dis_decision'] = 'decision'
    return keras_import._fill(path, 'segsrgan-critic', options, tensors, layers)
