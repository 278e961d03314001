"""Patches over a volume: their number as the articles count them, and what becomes of them."""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from geometry_phantoms import laid
from test_predict import CARD
from torch import nn

from bids_segsr.cli.arguments import patch_size
from bids_segsr.exceptions import UserError
from bids_segsr.inference.predict import Patches, predict
from bids_segsr.inference.processing import Processing
from bids_segsr.inference.tiling import Layout, Tiling, resolve_patches
from bids_segsr.zoo.store import TrainedModel

DHCP = (290, 290, 198)
"""Size of the images of SegSRGAN (2020), section 4.4.1."""


class Recorded(nn.Module):
    """Hands the patch on, numbers the patches in channel 1, and keeps them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x[0, 0].clone())
        return torch.cat([x, torch.full_like(x, len(self.seen) / 1000)], dim=1)


def run(image, **choices):
    network = Recorded()
    contract = dataclasses.replace(CARD.contract, slice_axis_last=False)
    model = TrainedModel(network, dataclasses.replace(CARD, contract=contract), Path('toy'))
    result = predict(model, image, laid(image), processing=Processing(device='cpu', **choices))
    return result, network.seen[1:]  # the first one asks for the channels


@pytest.mark.parametrize(
    ('step', 'size', 'count'),
    [
        # the smallest n >= 290, 290, 198 with (n - 128) / step a whole number, counted by hand
        (128, (384, 384, 256), 3 * 3 * 2),
        (100, (328, 328, 228), 3 * 3 * 2),
        (80, (368, 368, 208), 4 * 4 * 2),
        (30, (308, 308, 218), 7 * 7 * 4),
        (10, (298, 298, 198), 18 * 18 * 8),
    ],
)
def test_patches_of_segsrgan_are_those_of_equation_17(step, size, count):
    layout = Tiling(128, step, 'uniform').layout(DHCP)
    padded = [a + n + b for a, n, b in zip(layout.before, DHCP, layout.after, strict=True)]
    assert tuple(padded) == size
    assert math.prod((n - 128) // step + 1 for n in size) == count
    assert math.prod(layout.counts) == count
    for before, after in zip(layout.before, layout.after, strict=True):
        assert 0 <= after - before <= 1


def test_times_of_figure_6_need_these_counts():
    """About five patches a second: 4 s at a step of 100, 600 s at 10 (section 4.4.1)."""
    for step, seconds in ((100, 4), (10, 600)):
        rate = math.prod(Tiling(128, step, 'uniform').layout(DHCP).counts) / seconds
        assert rate == pytest.approx(5, abs=1)


@pytest.mark.parametrize('step', [16, 12, 5])
def test_every_voxel_lies_in_as_many_patches_as_equation_17_says(step):
    shape, size = (29, 21, 16), 16
    image = np.random.default_rng(0).uniform(1, 2, shape).astype(np.float32)
    result, seen = run(image, patch_size=size, step=step, blending='uniform')
    np.testing.assert_allclose(result.image, image, rtol=1e-5)
    numbers, squares, count = (np.zeros((64, 64, 64)) for _ in range(3))
    padded = [size + step * math.ceil(max(0, n - size) / step) for n in shape]
    starts = [range(0, n - size + 1, step) for n in padded]
    number = 1  # of the first patch: 2
    for i in starts[0]:
        for j in starts[1]:
            for k in starts[2]:
                number += 1
                where = slice(i, i + size), slice(j, j + size), slice(k, k + size)
                numbers[where] += number / 1000
                squares[where] += (number / 1000) ** 2
                count[where] += 1
    assert len(seen) == number - 1 == math.prod(map(len, starts))
    low = [(m - n) // 2 for m, n in zip(padded, shape, strict=True)]
    inside = tuple(slice(a, a + n) for a, n in zip(low, shape, strict=True))
    np.testing.assert_allclose(result.probabilities[0], numbers[inside] / count[inside], rtol=1e-5)
    if step == size:
        assert count[inside].max() == 1
        assert (result.disagreement == 0).all()


@pytest.mark.parametrize(
    ('shape', 'patch', 'margin', 'counts'),
    [
        ((320, 320, 256), 70, 3, (5, 5, 4)),  # mDCSRN, section 4.1: 64 voxels are kept
        ((224, 224, 180), (64, 40, 64), 3, (4, 7, 4)),  # RRDG, section 3.1: 58 x 34 x 58
    ],
)
def test_patches_with_margins_are_counted_by_what_is_kept(shape, patch, margin, counts):
    layout = Processing(patch_size=patch, margin=margin).tiling.layout(shape)
    assert layout.counts == counts
    assert layout.before == (margin,) * 3


@pytest.mark.parametrize('patch', [15, (20, 12, 16)])
def test_margins_are_cut_off_and_pieces_merged_without_averaging(patch):
    shape, margin = (29, 21, 16), 3
    image = np.random.default_rng(0).uniform(1, 2, shape).astype(np.float32)
    result, seen = run(image, patch_size=patch, margin=margin)
    sides = (patch,) * 3 if isinstance(patch, int) else patch
    kept = [n - 2 * margin for n in sides]
    number = 1
    expected = np.zeros(shape)
    padded = np.pad(image, [(margin, 99)] * 3, mode='edge')
    for i in range(0, shape[0], kept[0]):
        for j in range(0, shape[1], kept[1]):
            for k in range(0, shape[2], kept[2]):
                number += 1
                start = (i, j, k)
                box = tuple(slice(a, a + n) for a, n in zip(start, sides, strict=True))
                # what the network sees goes on for the margin
                np.testing.assert_allclose(seen[number - 2] * image.max(), padded[box], rtol=1e-5)
                expected[tuple(slice(a, a + n) for a, n in zip(start, kept, strict=True))] = number
    assert len(seen) == number - 1
    np.testing.assert_allclose(result.probabilities[0], expected / 1000, rtol=1e-5)
    np.testing.assert_allclose(result.image, image, rtol=1e-5)
    assert (result.disagreement == 0).all()


def test_ours_are_spread_evenly_from_border_to_border():
    layout = Tiling(128, 128).layout(DHCP)
    assert layout.counts == (3, 3, 2)
    assert layout.before == layout.after == (0, 0, 0)
    assert layout.starts == ((0, 81, 162), (0, 81, 162), (0, 70))
    boxes = list(layout.boxes())
    assert len(boxes) == 18
    assert boxes[-1] == (slice(162, 290), slice(162, 290), slice(70, 198))
    assert Tiling(0, 0, 'uniform').layout((30, 26, 21)).size == (32, 28, 24)
    small = Tiling(96, 64).layout((30, 26, 21))
    assert small.size == (32, 28, 24)
    assert (small.before, small.after) == ((1, 1, 1), (1, 1, 2))
    assert small.counts == (1, 1, 1)


@pytest.mark.parametrize(
    ('patch', 'step', 'margin', 'told'),
    [
        (70, None, 0, '--patch-size 70'),
        ((64, 42, 64), None, 0, '--patch-size 64x42x64'),
        (7, None, 3, '--patch-size 7'),
        (70, None, 35, '--margin 35'),
        (70, None, -1, '--margin -1'),
        (0, None, 3, '--margin 3'),
        (70, 60, 3, '--step 60'),
        ((64, 40, 64), 41, 0, '--step 41'),
    ],
)
def test_impossible_patches_are_refused(patch, step, margin, told):
    with pytest.raises(UserError, match=told):
        resolve_patches(patch, step, margin)


def test_settled_choices_stay_as_they_are():
    how = Processing(patch_size=(64, 40, 64), margin=3)
    assert how.patches == ((64, 40, 64), 34)
    settled = how.settled(resolution=1.0, slice_thickness=2.0)
    assert settled.tiling == how.tiling


def test_patch_sizes_are_read():
    assert patch_size('70') == 70
    assert patch_size('64x40x64') == (64, 40, 64)
    for text in ('', 'x', '64x40', '64,40,64', 'a'):
        with pytest.raises(argparse.ArgumentTypeError, match='neither'):
            patch_size(text)


@pytest.mark.parametrize('size', [(96, 96, 96), (32, 28, 8)])
def test_weights_of_a_patch_are_those_of_monai(size):
    from monai.data.utils import compute_importance_map

    layout = Layout(size, (0, 0, 0), (0, 0, 0), ((0,), (0,), (0,)))
    found = Patches(Tiling(96, 80))._weights(layout)
    expected = compute_importance_map(size, mode='gaussian', sigma_scale=0.125)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
