"""Cost of the generators: one patch forward and backward, one core, against the first one.

python benchmarks/generator_cost.py [--patch-size 64] [--batch 2]
"""

from __future__ import annotations

import argparse
import platform
import time

import torch

from bids_segsr.networks import create
from bids_segsr.training.recipe_file import read_recipe

NETWORKS = {
    'segsrgan-unet, 16 filters': ('segsrgan-unet', {'base_filters': 16}),
    'segsrgan-unet, 16 filters, 8 classes': (
        'segsrgan-unet',
        {'base_filters': 16, 'mask_classes': 8},
    ),
    'tissue-unet, 16 filters, 8 classes': ('tissue-unet', {'base_filters': 16}),
    'tissue-unet, the same, 32 detail filters': (
        'tissue-unet',
        {'base_filters': 16, 'detail_filters': 32},
    ),
    'tissue-unet-pair': ('tissue-unet-pair', {}),
    'tissue-unet, 24 filters, 8 classes': ('tissue-unet', {'base_filters': 24}),
}
"""What is told, architecture and options."""

RECIPES = ('segsrgan-2020', 'recnn-10l', 'srcnn3d', 'mdcsrn-b4u4', 'rrdg')
"""Packaged recipes whose networks come after those."""


def seconds(name: str, options: dict[str, object], size: int, batch: int, repeats: int) -> float:
    """Time of a patch, the shortest of several batches."""
    network = create(name, **options)
    x = torch.randn(batch, 1, size, size, size)
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        network(x).square().mean().backward()
        found.append(time.perf_counter() - started)
    return min(found) / batch


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--patch-size', type=int, default=64)
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--repeats', type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recipes = {name: read_recipe(name).network for name in RECIPES}
    networks = {**NETWORKS, **{n: (r.architecture, r.options) for n, r in recipes.items()}}
    size, batch = arguments.patch_size, arguments.batch
    print(f'{platform.processor() or platform.machine()}, one thread, {batch} x {size}^3')
    print(f'{"network":42}{"parameters":>11}{"s a patch":>11}{"ratio":>7}')
    base = 0.0
    for name, (architecture, options) in networks.items():
        taken = seconds(architecture, dict(options), size, batch, arguments.repeats)
        base = base or taken
        count = sum(p.numel() for p in create(architecture, **options).parameters())
        print(f'{name:42}{count:11,}{taken:11.2f}{taken / base:7.2f}', flush=True)


if __name__ == '__main__':
    main()
