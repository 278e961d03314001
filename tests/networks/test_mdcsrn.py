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
    randomise,
    weights,
)

from bids_segsr.exceptions import ModelError
from bids_segsr.networks import create


@pytest.mark.parametrize(
    ('b', 'u', 'k', 'reconstruction', 'exact', 'printed'),
    [
        # Tables 1 and 2 of the article; b4u4k12 is printed 0.22 and 0.23.
        (4, 4, 12, False, 229_561, (0.22, 0.23)),
        (6, 4, 12, False, 354_361, (0.35,)),
        (8, 4, 12, False, 486_073, (0.49,)),
        (4, 4, 8, False, 102_737, (0.10,)),
        (4, 4, 16, False, 406_689, (0.41,)),
        (8, 4, 8, False, 217_297, (0.22,)),
        (4, 4, 12, True, 262_081, (0.26,)),
        (1, 12, 12, True, 247_801, (0.25,)),
        (1, 16, 12, True, 352_441, (0.35,)),
    ],
)
def test_parameter_count(b, u, k, reconstruction, exact, printed):
    network = create('mdcsrn', b=b, u=u, k=k, reconstruction=reconstruction)
    assert parameters(network) == exact
    millions = exact / 1e6
    for number in printed:
        assert number in (round(millions, 2), int(100 * millions) / 100)


def unit(x, w, name, bottleneck):
    y = conv(elu(batch_norm(x, w, f'{name}.0')), w, f'{name}.2')
    return conv(elu(batch_norm(y, w, f'{name}.3')), w, f'{name}.5') if bottleneck else y


@pytest.mark.parametrize('reconstruction', [False, True])
def test_forward_against_numpy(reconstruction):
    k = 2
    network = randomise(create('mdcsrn', b=2, u=4, k=k, reconstruction=reconstruction))
    w = weights(network)
    x = image(2, 1, 5, 6, 7)
    expected = []
    for sample in x.numpy():
        levels = [conv(sample, w, 'stem')]
        for i in range(2):
            inside = [conv(np.concatenate(levels), w, f'blocks.{i}.compressor')]
            for j in range(4):
                # 2k, 3k, 4k, 5k channels: only the last needs a bottleneck.
                inside.append(unit(np.concatenate(inside), w, f'blocks.{i}.units.{j}', j == 3))
            levels += inside
        y = np.concatenate(levels)
        if reconstruction:
            y = conv(y, w, 'combination.0')
            expected.append(conv(batch_norm(y, w, 'combination.1'), w, 'combination.2'))
        else:
            expected.append(conv(y, w, 'combination'))
    compare(network, x, expected)


def test_evaluation_normalises_each_patch_as_a_training_batch_of_one():
    torch.manual_seed(0)
    network = create('mdcsrn', b=1, u=2, k=2)
    x = torch.randn(2, 1, 6, 6, 6)
    network.train()
    alone = torch.cat([network(x[:1]), network(x[1:])])
    network.eval()
    torch.testing.assert_close(network(x), alone)


def test_every_layer_is_trained():
    network = create('mdcsrn', b=2, u=4, k=2, reconstruction=True)
    network(torch.rand(2, 1, 6, 6, 6)).square().sum().backward()
    # Convolutions before a normalisation have biases without effect; all else must get a gradient.
    assert all(p.grad.abs().sum() > 0 for p in network.parameters() if p.ndim == 5)


def test_output_is_reproducible():
    outputs = []
    for _ in range(2):
        torch.manual_seed(3)
        outputs.append(create('mdcsrn', b=1, u=2, k=2)(torch.ones(1, 1, 6, 6, 6)))
    assert torch.equal(*outputs)


@pytest.mark.parametrize(
    ('name', 'shape'),
    [
        ('mdcsrn', (1, 2, 8, 8, 8)),
        ('mdcsrn', (1, 8, 8, 8)),
        ('mdcsrn', (4, 1, 1, 1, 1)),
        ('mdcsrn-critic', (1, 1, 40, 40, 41)),
    ],
)
def test_unsuitable_input_is_refused(name, shape):
    options = {'b': 1, 'u': 1} if name == 'mdcsrn' else {'base_filters': 1}
    with pytest.raises(ModelError, match=r'expected an input|patch of'):
        create(name, **options)(torch.zeros(shape))


@pytest.mark.parametrize('options', [{'b': 0}, {'u': 0}, {'k': 0}, {'growth': 12}])
def test_impossible_option_is_refused(options):
    with pytest.raises(ModelError):
        create('mdcsrn', **options)
