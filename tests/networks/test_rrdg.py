from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from networks_reference import (
    batch_norm,
    compare,
    conv,
    image,
    leaky,
    parameters,
    randomise,
    weights,
)

from bids_segsr.exceptions import ModelError
from bids_segsr.networks import create


def test_parameter_count():
    assert parameters(create('rrdg')) == 2_650_129
    assert parameters(create('rrdg', n_c=4, n_f=48, k=12, beta=0.2)) == 2_650_129


def test_forward_against_numpy():
    network = randomise(create('rrdg', n_c=2, n_f=4, k=3, beta=0.3))
    w = weights(network)
    x = image(2, 1, 5, 6, 7)
    expected = []
    for sample in x.numpy():
        stem = trunk = conv(sample, w, 'stem')
        for i in range(2):
            inner = trunk
            for j in range(3):
                name = f'blocks.{i}.{j}'
                features = [inner]
                for unit in (f'{name}.growth.{m}' for m in range(4)):
                    y = conv(np.concatenate(features), w, f'{unit}.0')
                    features.append(leaky(batch_norm(y, w, f'{unit}.1'), 0.2))
                y = conv(np.concatenate(features), w, f'{name}.fusion.0')
                inner = inner + 0.3 * batch_norm(y, w, f'{name}.fusion.1')
            trunk = trunk + 0.3 * inner
        y = stem + batch_norm(conv(trunk, w, 'trunk.0'), w, 'trunk.1')
        y = leaky(conv(y, w, 'reconstruction.0'), 0.2)
        expected.append(conv(y, w, 'reconstruction.2'))
    compare(network, x, expected)


def test_checkpointing_changes_no_number():
    torch.manual_seed(0)
    plain = create('rrdg', n_c=2, n_f=4, k=2, checkpointed=False).double().train()
    checkpointed = create('rrdg', n_c=2, n_f=4, k=2, checkpointed=True).double().train()
    checkpointed.load_state_dict(copy.deepcopy(plain.state_dict()))
    x = image(2, 1, 5, 6, 7)
    outputs = [network(x) for network in (plain, checkpointed)]
    assert torch.equal(*outputs)
    for output in outputs:
        output.square().mean().backward()
    for a, b in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-14)
    # Running statistics too: computing again must not count the batch twice.
    for a, b in zip(plain.buffers(), checkpointed.buffers(), strict=True):
        assert torch.equal(a, b)


def test_checkpointing_keeps_less_for_the_backward_pass():
    def kept(checkpointed):
        network = create('rrdg', n_c=1, n_f=8, k=4, checkpointed=checkpointed)
        sizes = {}

        def pack(tensor):
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = network(torch.rand(1, 1, 12, 12, 12))
        assert output.requires_grad
        return sum(sizes.values())

    assert kept(True) < kept(False) / 3


def test_output_is_reproducible():
    outputs = []
    for _ in range(2):
        torch.manual_seed(3)
        outputs.append(create('rrdg', n_c=1, n_f=4, k=2)(torch.ones(2, 1, 6, 6, 6)))
    assert torch.equal(*outputs)


@pytest.mark.parametrize(
    ('name', 'shape'),
    [
        ('rrdg', (1, 2, 8, 8, 8)),
        ('rrdg', (8, 8, 8)),
        ('rrdg', (1, 1, 1, 1, 1)),
        ('rrdg-critic', (1, 2, 8, 8, 8)),
    ],
)
def test_unsuitable_input_is_refused(name, shape):
    options = {'n_c': 1, 'n_f': 2} if name == 'rrdg' else {'base_filters': 1}
    with pytest.raises(ModelError, match=r'expected an input|batch of one'):
        create(name, **options)(torch.zeros(shape))


@pytest.mark.parametrize(
    ('name', 'options'), [('rrdg', {'n_c': 0}), ('rrdg', {'k': 0}), ('rrdg-critic', {'d': 3})]
)
def test_impossible_option_is_refused(name, options):
    with pytest.raises(ModelError):
        create(name, **options)
