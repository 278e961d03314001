"""Layers in numpy, float64, to compute forward passes of the networks another way."""

from __future__ import annotations

import h5py
import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give every weight and running statistic a value that tells mistakes apart; float64, eval."""
    generator = torch.Generator().manual_seed(seed)
    network.double().eval()
    for name, value in network.state_dict().items():
        if name.endswith('num_batches_tracked'):
            continue
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        if name.endswith('running_var'):
            value.copy_(0.5 + noise**2)
        elif value.ndim > 1:
            value.copy_(noise * (2 / value[0].numel()) ** 0.5)
        else:
            value.copy_(0.3 * noise + (value > 0))
    return network


def weights(network: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy() for name, value in network.state_dict().items()}


def conv(x, w, name, stride=1, pad=None):
    """Cross-correlation of (C, X, Y, Z) with zero padding, kernel and bias found by name."""
    kernel = w[f'{name}.weight']
    width = kernel.shape[-1]
    before, after = (width // 2, width // 2) if pad is None else pad
    x = np.pad(x, [(0, 0)] + [(before, after)] * 3)
    windows = sliding_window_view(x, (width,) * 3, axis=(1, 2, 3))
    windows = windows[:, ::stride, ::stride, ::stride]
    y = np.einsum('cxyzijk,ocijk->oxyz', windows, kernel, optimize=True)
    bias = w.get(f'{name}.bias', np.zeros(len(kernel)))
    return y + bias[:, None, None, None]


def affine(x, w, name):
    return x * w[f'{name}.weight'][:, None, None, None] + w[f'{name}.bias'][:, None, None, None]


def batch_norm(x, w, name, eps=1e-5):
    """With running statistics where there are, else with those of x."""
    if f'{name}.running_mean' in w:
        mean, var = w[f'{name}.running_mean'], w[f'{name}.running_var']
        mean, var = mean[:, None, None, None], var[:, None, None, None]
    else:
        mean, var = x.mean((1, 2, 3), keepdims=True), x.var((1, 2, 3), keepdims=True)
    return affine((x - mean) / np.sqrt(var + eps), w, name)


def layer_norm(x, w, name):
    return affine((x - x.mean()) / np.sqrt(x.var() + 1e-5), w, name)


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def leaky(x, slope):
    return np.where(x > 0, x, slope * x)


def prelu(x, w, name):
    return np.where(x > 0, x, w[f'{name}.weight'].reshape(-1, 1, 1, 1) * x)


def image(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def compare(network, x, expected):
    """Output for the batch x against the references of its samples."""
    with torch.no_grad():
        y = network(x).numpy()
    np.testing.assert_allclose(y, np.stack(expected), rtol=1e-9, atol=1e-9)


def parameters(network):
    return sum(p.numel() for p in network.parameters())


RESOLUTIONS = torch.tensor([2.0, 3.5], dtype=torch.float64)


def load_fixture(folder, name, group, network):
    """Load original weights by position and return input, resolution and output."""
    with h5py.File(folder / f'{name}.weights.h5') as file:
        tensors = [
            np.asarray(file[group][key if isinstance(key, str) else key.decode()])
            for key in file[group].attrs['weight_names']
        ]
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), tensors, strict=True):
            kernel = value.transpose(4, 3, 0, 1, 2) if value.ndim == 5 else value
            assert parameter.shape == kernel.shape
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
    arrays = np.load(folder / f'{name}.npz')
    return [torch.from_numpy(arrays[key]) for key in ('input', 'resolution') if key in arrays] + [
        torch.from_numpy(arrays['output'])
    ]
