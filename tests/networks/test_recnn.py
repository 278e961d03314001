from __future__ import annotations

import numpy as np
import pytest
import torch
from networks_reference import compare, conv, image, parameters, randomise, weights

from bids_segsr.exceptions import ModelError
from bids_segsr.networks import create


@pytest.mark.parametrize(
    ('name', 'options', 'expected'),
    [
        ('recnn', {}, 888_769),
        ('recnn', {'depth': 20}, 1_995_329),
        # Two guides: two further channels of the first 64 filters.
        ('recnn', {'guides': 2}, 888_769 + 2 * 27 * 64),
        ('srcnn3d', {}, 729 * 64 + 64 + 64 * 32 + 32 + 125 * 32 + 1),
    ],
)
def test_parameter_count(name, options, expected):
    assert parameters(create(name, **options)) == expected


@pytest.mark.parametrize('depth', [10, 20])
def test_layers_of_the_article(depth):
    kernels = [p.shape for p in create('recnn', depth=depth).parameters() if p.ndim == 5]
    middle = [(64, 64, 3, 3, 3)] * (depth - 2)
    assert kernels == [(64, 1, 3, 3, 3), *middle, (1, 64, 3, 3, 3)]


@pytest.mark.parametrize('residual', [True, False])
def test_forward_against_numpy(residual):
    options = {'depth': 4, 'filters': 5, 'filter_size': 5, 'guides': 1, 'residual': residual}
    network = randomise(create('recnn', **options))
    w = weights(network)
    x = image(2, 2, 6, 7, 8)
    expected = []
    for sample in x.numpy():
        y = sample
        for layer in (0, 2, 4):
            y = np.maximum(conv(y, w, f'layers.{layer}'), 0)
        y = conv(y, w, 'layers.6')
        expected.append(sample[:1] + y if residual else y)
    compare(network, x, expected)


def test_srcnn3d_forward_against_numpy():
    network = randomise(create('srcnn3d', filters=(4, 3)))
    w = weights(network)
    assert [w[f'layers.{i}.weight'].shape[-1] for i in (0, 2, 4)] == [9, 1, 5]
    x = image(1, 1, 6, 7, 8)
    y = np.maximum(conv(x[0].numpy(), w, 'layers.0'), 0)
    compare(network, x, [conv(np.maximum(conv(y, w, 'layers.2'), 0), w, 'layers.4')])


@pytest.mark.parametrize(('depth', 'filter_size'), [(10, 3), (12, 3), (5, 5), (20, 3)])
def test_receptive_field(depth, filter_size):
    network = create('recnn', depth=depth, filter_size=filter_size, filters=2, residual=False)
    with torch.no_grad():
        for p in network.parameters():
            p.fill_(0.1 if p.ndim == 5 else 0.01)  # positive: no ReLU cuts a path
    field = (filter_size - 1) * depth + 1
    # Along one axis: the field is a cube since every kernel is.
    x = torch.rand(1, 1, field + 4, 5, 5, dtype=torch.float64, requires_grad=True)
    network.double()(x)[0, 0, field // 2 + 2, 2, 2].backward()
    reached = x.grad[0, 0].abs().sum((1, 2)).nonzero().flatten()
    assert reached[-1] - reached[0] + 1 == field
    assert len(reached) == field


def test_msra_initialisation():
    torch.manual_seed(0)
    network = create('recnn')
    for index in (2, 10):
        weight = network.layers[index].weight
        assert weight.std().item() == pytest.approx((2 / (64 * 27)) ** 0.5, rel=0.02)
    assert all((p == 0).all() for p in network.parameters() if p.ndim == 1)


@pytest.mark.parametrize(
    ('law', 'sd', 'largest'),
    [
        # n f^3 = 64 x 27 inputs a filter; a uniform law of half width a has the sd a / sqrt(3)
        ('xavier', (1 / 1728) ** 0.5, (3 / 1728) ** 0.5),
        ('normal-0.01', 0.01, None),
        ('normal-0.001', 0.001, None),
    ],
)
def test_other_initialisations(law, sd, largest):
    weight = create('recnn', initialisation=law).layers[2].weight
    assert weight.std().item() == pytest.approx(sd, rel=0.02)
    assert weight.mean().item() == pytest.approx(0, abs=sd / 50)
    top = weight.abs().max().item()
    if largest is None:
        assert top > 3 * sd
    else:
        assert 0.99 * largest < top <= largest


def test_initialisation_and_output_are_reproducible():
    outputs = []
    for _ in range(2):
        torch.manual_seed(3)
        outputs.append(create('recnn', filters=4)(torch.ones(1, 1, 8, 8, 8)))
    assert torch.equal(*outputs)


@pytest.mark.parametrize('shape', [(1, 1, 8, 8, 8), (2, 8, 8, 8), (1, 2, 8, 0, 8)])
def test_unsuitable_input_is_refused(shape):
    with pytest.raises(ModelError, match=r'expected an input|patch of'):
        create('recnn', filters=2, guides=1)(torch.zeros(shape))


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('recnn', {'depth': 1}),
        ('recnn', {'filter_size': 4}),
        ('recnn', {'filters': 0}),
        ('recnn', {'guides': -1}),
        ('srcnn3d', {'filters': (64,)}),
    ],
)
def test_impossible_option_is_refused(name, options):
    with pytest.raises(ModelError):
        create(name, **options)
