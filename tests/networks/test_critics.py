"""Critics of the papers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks_reference import (
    RESOLUTIONS,
    compare,
    conv,
    image,
    layer_norm,
    leaky,
    load_fixture,
    parameters,
    randomise,
    weights,
)

from bids_segsr.exceptions import ModelError
from bids_segsr.networks import create


@pytest.mark.shared
@pytest.mark.parametrize(
    ('name', 'group', 'options', 'tolerance'),
    [
        ('discriminator', 'DX', {'base_filters': 8}, 2e-6),
        ('discriminator_conditional', 'DX_cond', {'base_filters': 4, 'conditional': True}, 2e-6),
    ],
)
def test_segsrgan_reproduces_the_original(shared, name, group, options, tolerance):
    critic = create('segsrgan-critic', **options)
    *inputs, expected = load_fixture(shared / 'fixtures/segsrgan', name, group, critic)
    with torch.no_grad():
        torch.testing.assert_close(critic(*inputs), expected, rtol=0, atol=tolerance)


def test_segsrgan_against_numpy():
    critic = randomise(create('segsrgan-critic', base_filters=2, patch_size=32, conditional=True))
    w = weights(critic)
    x = image(2, 2, 32, 32, 32)
    expected = []
    for sample, resolution in zip(x.numpy(), RESOLUTIONS.numpy(), strict=True):
        y = np.concatenate([sample, np.full((1, 32, 32, 32), resolution)])
        for i in range(5):
            y = leaky(conv(y, w, f'layers.{2 * i}', stride=2, pad=(1, 1)), 0.01)
        expected.append(conv(y, w, 'decision', pad=(0, 0)).ravel())
    compare(lambda batch: critic(batch, RESOLUTIONS), x, expected)


@pytest.mark.parametrize('patch_size', [16, 32, 40, 50, 96])
def test_segsrgan_sees_every_voxel_of_a_patch(patch_size):
    torch.manual_seed(0)
    critic = create('segsrgan-critic', base_filters=1, patch_size=patch_size)
    x = torch.randn(1, 2, *[patch_size] * 3, requires_grad=True)
    score = critic(x)
    assert score.shape == (1, 1)
    score.sum().backward()
    assert (x.grad != 0).float().mean() > 0.99


def test_initialisation_of_segsrgan_is_he_normal():
    torch.manual_seed(0)
    weight = create('segsrgan-critic').layers[4].weight
    assert weight.std().item() == pytest.approx((2 / (64 * 64)) ** 0.5, rel=0.02)


@pytest.mark.parametrize(
    ('options', 'shape', 'resolution', 'message'),
    [
        ({}, (1, 2, 64, 64, 32), None, 'patch of 64x64x32'),
        ({'patch_size': 32}, (1, 3, 32, 32, 32), None, 'expected an input'),
        ({'patch_size': 32, 'conditional': True}, (1, 2, 32, 32, 32), None, 'one resolution'),
        ({'patch_size': 32}, (1, 2, 32, 32, 32), torch.ones(1), 'not conditional'),
    ],
)
def test_segsrgan_refuses_what_it_cannot_take(options, shape, resolution, message):
    critic = create('segsrgan-critic', base_filters=1, **options)
    with pytest.raises(ModelError, match=message):
        critic(torch.zeros(shape), resolution)


def test_parameter_count_of_rrdg():
    convolutions = [(1, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 512)]
    expected = sum(27 * c * f + f for c, f in convolutions)
    expected += 2 * sum(f for _, f in convolutions[1:]) + 512 + 1
    assert parameters(create('rrdg-critic')) == expected


def test_rrdg_against_numpy():
    network = randomise(create('rrdg-critic', base_filters=3, in_channels=2))
    w = weights(network)
    x = image(2, 2, 8, 9, 10)
    expected = []
    for sample in x.numpy():
        y = leaky(conv(sample, w, 'layers.0'), 0.2)
        for i, stride in enumerate((2, 1, 2, 1, 1)):
            y = conv(y, w, f'layers.{2 + 3 * i}', stride=stride)
            y = leaky(layer_norm(y, w, f'layers.{3 + 3 * i}'), 0.2)
        expected.append(conv(y, w, 'decision').mean(axis=(1, 2, 3)))
    compare(network, x, expected)


def test_score_of_rrdg_does_not_mix_samples():
    torch.manual_seed(0)
    critic = create('rrdg-critic', base_filters=2)
    x = torch.randn(2, 1, 8, 8, 8)
    torch.testing.assert_close(critic(x)[:1], critic(x[:1]))


def test_parameter_count_of_mdcsrn():
    convolutions = [(1, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256)]
    convolutions += [(256, 512), (512, 512)]
    expected = sum(27 * c * f + f for c, f in convolutions)
    expected += 2 * sum(f for _, f in convolutions[1:])  # layer normalisation
    expected += 512 * 3**3 * 1024 + 1024 + 1024 + 1
    assert parameters(create('mdcsrn-critic')) == expected


def test_mdcsrn_against_numpy():
    network = randomise(create('mdcsrn-critic', base_filters=2, in_channels=2, patch_size=12))
    w = weights(network)
    x = image(2, 2, 12, 12, 12)
    expected = []
    for sample in x.numpy():
        y = leaky(conv(sample, w, 'layers.0'), 0.2)
        for i in range(7):
            y = conv(y, w, f'layers.{2 + 3 * i}', stride=1 + (i % 2 == 0))
            y = leaky(layer_norm(y, w, f'layers.{3 + 3 * i}'), 0.2)
        y = leaky(w['decision.0.weight'] @ y.ravel() + w['decision.0.bias'], 0.2)
        expected.append(w['decision.2.weight'] @ y + w['decision.2.bias'])
    compare(network, x, expected)
