from __future__ import annotations

import numpy as np
import pytest
import torch
from networks_reference import (
    batch_norm,
    compare,
    conv,
    elu,
    image,
    parameters,
    prelu,
    randomise,
    weights,
)

from bids_segsr.exceptions import ModelError
from bids_segsr.networks import create


def statistics(network):
    return sum(b.numel() for name, b in network.named_buffers() if 'running' in name)


@pytest.mark.parametrize(
    ('name', 'expected'), [('fsrcnn', 64_893), ('srresnet', 2_004_620), ('srdensenet', 389_869)]
)
def test_parameter_count(name, expected):
    assert parameters(create(name)) == expected


def test_counts_that_include_running_statistics():
    assert round((2_004_620 + statistics(create('srresnet'))) / 1e6, 2) == 2.01
    unet = create('unet')
    assert parameters(unet) == 1_144_921
    assert parameters(unet) + statistics(unet) == 1_146_041


def test_fsrcnn_against_numpy():
    network = randomise(create('fsrcnn', d=5, s=3, m=2))
    w = weights(network)
    x = image(2, 1, 6, 7, 8)
    expected = []
    for sample in x.numpy():
        y = sample
        for layer in range(0, 10, 2):
            y = prelu(conv(y, w, f'layers.{layer}'), w, f'layers.{layer + 1}')
        expected.append(conv(y, w, 'layers.10'))
    compare(network, x, expected)
    kernels = [p.shape[-1] for p in network.parameters() if p.ndim == 5]
    assert kernels == [5, 1, 3, 3, 1, 9]


def test_srresnet_against_numpy():
    network = randomise(create('srresnet', n_blocks=2, filters=4))
    w = weights(network)
    x = image(2, 1, 5, 6, 7)
    expected = []
    for sample in x.numpy():
        stem = y = prelu(conv(sample, w, 'stem.0'), w, 'stem.1')
        for name in ('blocks.0', 'blocks.1'):
            z = batch_norm(conv(y, w, f'{name}.0'), w, f'{name}.1')
            z = conv(prelu(z, w, f'{name}.2'), w, f'{name}.3')
            y = y + batch_norm(z, w, f'{name}.4')
        y = stem + y
        for layer in (0, 2):
            y = prelu(conv(y, w, f'same_scale.{layer}'), w, f'same_scale.{layer + 1}')
        expected.append(conv(y, w, 'reconstruction'))
    compare(network, x, expected)


def test_srdensenet_against_numpy():
    network = randomise(create('srdensenet', b=2, u=3, k=2))
    w = weights(network)
    x = image(2, 1, 5, 6, 7)
    expected = []
    for sample in x.numpy():
        levels = [elu(conv(sample, w, 'stem.0'))]
        for i in range(2):
            inside = [elu(conv(levels[-1], w, f'blocks.{i}.first.0'))]
            for j in range(2):
                inside.append(elu(conv(np.concatenate(inside), w, f'blocks.{i}.units.{j}.0')))
            levels.append(np.concatenate(inside))
        y = conv(np.concatenate(levels), w, 'bottleneck.0')
        y = elu(batch_norm(y, w, 'bottleneck.1'))
        for layer in (0, 2):
            y = elu(conv(y, w, f'same_scale.{layer}'))
        expected.append(conv(y, w, 'reconstruction'))
    compare(network, x, expected)


def test_unet_against_numpy():
    network = randomise(create('unet', base_filters=3))
    w = weights(network)

    def level(y, name):
        for i in (0, 3):
            y = np.maximum(conv(y, w, f'{name}.{i}'), 0)
            y = batch_norm(y, w, f'{name}.{i + 2}', eps=1e-3)
        return y

    def up(y, name):
        y = y.repeat(2, 1).repeat(2, 2).repeat(2, 3)
        return np.maximum(conv(y, w, name, pad=(0, 1)), 0)

    x = image(2, 1, 8, 12, 4)
    expected = []
    for sample in x.numpy():
        full = level(sample, 'level1')
        half = level(conv(full, w, 'down1', stride=2, pad=(0, 1)), 'level2')
        y = level(conv(half, w, 'down2', stride=2, pad=(0, 1)), 'bottom')
        y = level(np.concatenate([half, up(y, 'up2')]), 'merge2')
        y = level(np.concatenate([full, up(y, 'up1')]), 'merge1')
        expected.append(np.concatenate([sample, 1 / (1 + np.exp(-conv(y, w, 'head')))]))
    compare(network, x, expected)


@pytest.mark.parametrize('name', ['fsrcnn', 'srresnet', 'srdensenet', 'unet'])
def test_output_is_reproducible(name):
    options = {'srresnet': {'n_blocks': 1, 'filters': 4}, 'srdensenet': {'b': 1}}.get(name, {})
    outputs = []
    for _ in range(2):
        torch.manual_seed(3)
        network = create(name, **options)
        outputs.append(network(torch.linspace(0, 1, 1024).view(2, 1, 8, 8, 8)))
    assert torch.equal(*outputs)


@pytest.mark.parametrize(
    ('name', 'shape'),
    [
        ('fsrcnn', (1, 3, 8, 8, 8)),
        ('srresnet', (1, 1, 8, 8)),
        ('srresnet', (1, 1, 1, 1, 1)),
        ('srdensenet', (3, 1, 1, 1, 1)),
        ('unet', (1, 1, 8, 8, 10)),
        ('unet', (1, 1, 4, 4, 4)),
    ],
)
def test_unsuitable_input_is_refused(name, shape):
    with pytest.raises(ModelError, match=r'expected an input|patch|batch of one'):
        create(name)(torch.zeros(shape))


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('fsrcnn', {'d': 0}),
        ('srresnet', {'filters': 0}),
        ('srdensenet', {'u': 0}),
        ('unet', {'base_filters': 0}),
        ('unet', {'depth': 3}),
    ],
)
def test_impossible_option_is_refused(name, options):
    with pytest.raises(ModelError):
        create(name, **options)
