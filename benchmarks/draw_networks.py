"""Draw the networks and write their parameter counts into the documentation.

    python benchmarks/draw_networks.py docs/networks

Every figure comes from a forward pass of the network itself. The tables of counts stand between
the lines ``<!-- counts -->`` and ``<!-- end of counts -->`` of each page.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib import pyplot as plt
from torch import nn

from bids_segsr.networks import create
from bids_segsr.networks.segsrgan import InstanceNorm, ReflectConv, UpsampleConv

PAGES: dict[str, list[tuple[str, str, dict[str, Any], int]]] = {
    # page: (title, architecture, options, voxels an axis of the input drawn)
    'segsrgan': [
        ('six residual blocks (journal)', 'segsrgan', {}, 64),
        ('five residual blocks (ISBI)', 'segsrgan', {'n_blocks': 5}, 64),
        ('three mask classes', 'segsrgan', {'mask_classes': 3}, 64),
        ('original condition', 'segsrgan', {'conditional': 'original'}, 64),
        ('FiLM condition', 'segsrgan', {'conditional': 'film'}, 64),
        ('U-Net variant', 'segsrgan-unet', {}, 64),
        ('U-Net variant, original condition', 'segsrgan-unet', {'conditional': 'original'}, 64),
        ('critic', 'segsrgan-critic', {}, 64),
        ('critic, conditional', 'segsrgan-critic', {'conditional': True}, 64),
        ('critic, three mask classes', 'segsrgan-critic', {'in_channels': 5}, 64),
        ('critic, patches of 128 voxels', 'segsrgan-critic', {'patch_size': 128}, 128),
    ],
    'recnn': [
        ('10L-ReCNN', 'recnn', {}, 25),
        ('20L-ReCNN', 'recnn', {'depth': 20}, 25),
        ('10L-ReCNN, one guide', 'recnn', {'guides': 1}, 25),
        ('SRCNN3D (9-1-5)', 'srcnn3d', {}, 25),
    ],
    'mdcsrn': [
        ('b4u4k12', 'mdcsrn', {}, 40),
        ('b6u4k12', 'mdcsrn', {'b': 6}, 40),
        ('b8u4k12', 'mdcsrn', {'b': 8}, 40),
        ('b4u4k8', 'mdcsrn', {'k': 8}, 40),
        ('b4u4k16', 'mdcsrn', {'k': 16}, 40),
        ('b8u4k8', 'mdcsrn', {'b': 8, 'k': 8}, 40),
        ('b4u4k12-r', 'mdcsrn', {'reconstruction': True}, 40),
        ('b1u12k12-r', 'mdcsrn', {'b': 1, 'u': 12, 'reconstruction': True}, 40),
        ('b1u16k12-r', 'mdcsrn', {'b': 1, 'u': 16, 'reconstruction': True}, 40),
        ('critic', 'mdcsrn-critic', {}, 40),
    ],
    'rrdg': [('RRDG', 'rrdg', {}, 40), ('patch critic', 'rrdg-critic', {}, 40)],
    'baselines': [
        ('FSRCNN', 'fsrcnn', {}, 40),
        ('SRResNet', 'srresnet', {}, 40),
        ('SRDenseNet', 'srdensenet', {}, 40),
        ('U-Net', 'unet', {}, 40),
    ],
}
DRAWN = {page: {'segsrgan': (0, 5, 7), 'recnn': (0, 3)}.get(page, ()) for page in PAGES} | {
    'mdcsrn': (0, 9),
    'rrdg': (0, 1),
    'baselines': (0, 1, 2, 3),
}
COLOURS = {1: '#c6dbef', 2: '#c7e9c0', 4: '#fdd0a2', 8: '#dadaeb'}


@dataclass(frozen=True)
class Row:
    """One drawn layer: what it is, and the shape of what it puts out."""

    text: str
    shape: tuple[int, ...]


def describe(module: nn.Module) -> str | None:
    """Short name of a layer that computes something; None for one that only joins others."""
    if isinstance(module, UpsampleConv):
        weight = module.conv.weight
        return f'up x2, conv 3³, {weight.shape[1]} → {weight.shape[0]}'
    if isinstance(module, ReflectConv):
        module = module.conv
    if isinstance(module, nn.Conv3d):
        stride = f', stride {module.stride[0]}' if module.stride[0] > 1 else ''
        channels = f'{module.in_channels} → {module.out_channels}'
        return f'conv {module.kernel_size[0]}³{stride}, {channels}'
    if isinstance(module, nn.Linear):
        return f'dense, {module.in_features} → {module.out_features}'
    names = {
        InstanceNorm: 'instance norm',
        nn.BatchNorm3d: 'batch norm',
        nn.GroupNorm: 'layer norm',
        nn.Upsample: 'up x2',
    }
    for kind, name in names.items():
        if isinstance(module, kind):
            return name
    if isinstance(module, nn.ReLU | nn.PReLU | nn.ELU | nn.LeakyReLU):
        return type(module).__name__
    return None


def layers(network: nn.Module, shape: tuple[int, ...]) -> list[Row]:
    """Run a network and list its layers in the order of their calls.

    Args:
        network: The network.
        shape: Shape of the input.

    Returns:
        A row a convolution or dense layer, with the norms and activations that follow it.
    """
    rows: list[Row] = []

    def note(module: nn.Module, _: object, output: torch.Tensor) -> None:
        text = describe(module)
        if text is None:
            return
        starts = isinstance(module, nn.Conv3d | nn.Linear | ReflectConv | UpsampleConv)
        shape = tuple(output.shape[1:])
        # Another shape: there was a concatenation, or the layer itself resizes.
        if starts or not rows or shape != rows[-1].shape:
            rows.append(Row(text, shape))
        else:
            rows[-1] = Row(f'{rows[-1].text}, {text}', shape)

    hooks = []

    def attach(module: nn.Module) -> None:
        children = list(module.children())
        if not children or isinstance(module, ReflectConv | UpsampleConv):
            hooks.append(module.register_forward_hook(note))
            return
        for child in children:
            attach(child)

    attach(network)
    try:
        with torch.no_grad():
            network.eval()(torch.rand(shape))
    finally:
        for hook in hooks:
            hook.remove()
    return rows


def fold(rows: list[Row]) -> list[tuple[list[Row], int]]:
    """Write repetitions once.

    Args:
        rows: Layers in their order.

    Returns:
        Runs of layers and how often each run is repeated.
    """
    runs: list[tuple[list[Row], int]] = []
    start = 0
    while start < len(rows):
        best = (1, 1)
        for period in range(1, (len(rows) - start) // 2 + 1):
            unit = rows[start : start + period]
            times = 1
            while rows[start + times * period : start + (times + 1) * period] == unit:
                times += 1
            if times > 1 and period * times > best[0] * best[1]:
                best = (period, times)
        period, times = best
        runs.append((rows[start : start + period], times))
        start += period * times
    return runs


def draw(rows: list[Row], shape: tuple[int, ...], title: str, path: Path) -> None:
    """Draw layers from top to bottom; the colour is the resolution.

    Args:
        rows: Layers.
        shape: Shape of the input, (B, C, X, Y, Z).
        title: Title of the figure.
        path: SVG to write.
    """
    runs = [([Row('input', shape[1:])], 1), *fold(rows)]
    height = 0.3 * (sum(len(run) for run, _ in runs) + 1.5)
    figure = plt.figure(figsize=(8.5, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 8.5), ylim=(height, 0))
    axes.axis('off')
    axes.text(0.3, 0.25, title, fontsize=11, va='center', weight='bold')
    y = 0.5
    for run, times in runs:
        top = y
        for row in run:
            scale = shape[2] // row.shape[1] if len(row.shape) == 4 and row.shape[1] else 8
            colour = COLOURS.get(scale, '#eeeeee')
            axes.add_patch(plt.Rectangle((0.3, y), 5.5, 0.24, facecolor=colour, edgecolor='#777'))
            axes.text(0.4, y + 0.13, row.text, fontsize=8, va='center')
            axes.text(5.9, y + 0.13, ' x '.join(map(str, row.shape)), fontsize=8, va='center')
            y += 0.3
        if times > 1:
            axes.plot([7.5, 7.6, 7.6, 7.5], [top, top, y - 0.06, y - 0.06], color='#333', lw=1)
            axes.text(7.7, (top + y) / 2, f'{times} times', fontsize=8, va='center')
    figure.savefig(path, metadata={'Date': None, 'Creator': None})
    plt.close(figure)


def count(network: nn.Module) -> tuple[int, int]:
    """Trained parameters, and running statistics of batch normalisation."""
    statistics = [value for name, value in network.named_buffers() if 'running_' in name]
    return sum(p.numel() for p in network.parameters()), sum(s.numel() for s in statistics)


def write_table(path: Path, table: list[str]) -> None:
    """Put a table in the place that a page keeps for it."""
    text = path.read_text(encoding='utf-8')
    new = '<!-- counts -->\n\n' + '\n'.join(table) + '\n\n<!-- end of counts -->'
    pattern = '<!-- counts -->.*<!-- end of counts -->'
    path.write_text(re.sub(pattern, lambda _: new, text, flags=re.DOTALL), encoding='utf-8')


def main() -> None:
    """Draw all figures, and print and write all counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path, help='documentation of the networks')
    folder = parser.parse_args().folder
    (folder / 'figures').mkdir(parents=True, exist_ok=True)
    mpl.rcParams.update({'svg.fonttype': 'none', 'svg.hashsalt': 'networks'})
    for page, networks in PAGES.items():
        table = [
            '| network | `create(...)` | parameters | running statistics |',
            '|---|---|--:|--:|',
        ]
        for index, (title, name, options, size) in enumerate(networks):
            network = create(name, **options)
            given = ''.join(f', {key}={value!r}' for key, value in options.items())
            parameters, statistics = count(network)
            table.append(f'| {title} | `{name!r}{given}` | {parameters:,} | {statistics:,} |')
            if index in DRAWN[page]:
                shape = (1, 2 if name == 'segsrgan-critic' else 1, size, size, size)
                draw(layers(network, shape), shape, title, folder / 'figures' / f'{name}.svg')
        print('\n'.join(table), end='\n\n')
        write_table(folder / f'{page}.md', table)


if __name__ == '__main__':
    main()
