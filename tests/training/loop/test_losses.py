from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bids_segsr.training.loop.losses import (
    charbonnier,
    cross_entropy,
    l1,
    l2,
    reconstruction,
    soft_dice,
)
from bids_segsr.training.loop_tables import Loss
from bids_segsr.zoo.keras_import import load_keras


@pytest.fixture
def fixture(shared):
    with np.load(shared / 'fixtures' / 'segsrgan' / 'losses.npz') as arrays:
        return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays}


def test_penalties_of_known_errors():
    error = torch.tensor([[3.0, -4.0], [0.0, 0.0]])
    assert l1(error) == 1.75
    assert l2(error) == 6.25
    expected = (math.sqrt(9.25) + math.sqrt(16.25) + 1.0) / 4
    assert charbonnier(error, nu=0.5) == pytest.approx(expected)
    assert charbonnier(torch.zeros(7)) == pytest.approx(1e-3)


def test_soft_dice_of_known_overlap():
    target = torch.zeros(2, 2, 2, 2, 2)
    target[0, 0] = 1
    probability = torch.zeros_like(target)
    probability[0, 0, 0] = 0.5
    # channel 0: 4 voxels of one half on 8; channel 1: nothing on nothing
    expected = (1 - (2 * 2 + 1) / (8 + 2 + 1) + 0) / 2
    assert soft_dice(probability, target) == pytest.approx(expected)


def test_cross_entropy_of_known_probabilities():
    probability = torch.full((1, 1, 1, 1, 2), 0.25)
    target = torch.tensor([1.0, 0.0]).view(1, 1, 1, 1, 2)
    expected = -(math.log(0.25) + math.log(0.75)) / 2
    assert cross_entropy(probability, target) == pytest.approx(expected)
    probability = torch.tensor([0.2, 0.3, 0.5]).view(1, 3, 1, 1, 1)
    target = torch.tensor([0.0, 0.4, 0.6]).view(1, 3, 1, 1, 1)
    expected = -(0.4 * math.log(0.3) + 0.6 * math.log(0.5))
    assert cross_entropy(probability, target) == pytest.approx(expected)


@pytest.mark.parametrize('channels', [1, 2])
def test_cross_entropy_of_certainty_has_finite_gradient(channels):
    probability = torch.zeros(1, channels, 2, 2, 2)
    probability[:, -1] = 1
    probability.requires_grad_()
    loss = cross_entropy(probability, 1 - probability.detach())
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(probability.grad).all()
    assert loss > 10


@pytest.mark.shared
def test_charbonnier_and_dice_equal_the_original(fixture):
    truth, output = fixture['y_true'], fixture['y_pred']
    channels = ('intensity', 'cortex', 'mask-0')
    assert charbonnier(output - truth).item() == pytest.approx(
        fixture['charbonnier'].item(), rel=1e-6
    )
    # the mean over three channels weighs the intensity by a third
    loss = Loss(intensity_weight=1 / 3, segmentation_weight=2 / 3)
    assert reconstruction(output, truth, loss, channels)['total'].item() == pytest.approx(
        fixture['charbonnier'].item(), rel=1e-6
    )
    dice = reconstruction(output, truth, Loss(segmentation='dice'), channels)['total']
    assert dice.item() == pytest.approx(fixture['dice_total'].item(), rel=1e-6)


@pytest.mark.shared
def test_wasserstein_equals_the_original(fixture):
    from bids_segsr.training.loop.adversarial import generator_adversarial

    # the original multiplies scores by labels, -1 for what shall be taken as real
    assert (fixture['w_true'] == -1).all()
    loss = generator_adversarial(torch.nn.Identity(), fixture['w_pred'])
    assert loss.item() == pytest.approx(fixture['wasserstein'].item(), rel=1e-6)


def random_maps(*channels, seed=0):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(2, len(channels), 4, 4, 4, generator=generator)
    if len(channels) > 2:
        maps[:, 2:] /= maps[:, 2:].sum(1, keepdim=True)
    return maps


def test_terms_and_weights():
    channels = ('intensity', 'cortex', 'background', 'white')
    output, target = random_maps(*channels), random_maps(*channels, seed=1)
    loss = Loss('l1', 'dice+cross-entropy', intensity_weight=2.0, segmentation_weight=0.25)
    terms = reconstruction(output, target, loss, channels)
    assert list(terms) == ['intensity', 'segmentation', 'dice', 'cross_entropy', 'total']
    assert terms['intensity'] == l1(output[:, :1] - target[:, :1])
    assert terms['dice'] == soft_dice(output[:, 1:], target[:, 1:])
    entropy = cross_entropy(output[:, 1:2], target[:, 1:2])
    entropy = entropy + cross_entropy(output[:, 2:], target[:, 2:])
    assert terms['cross_entropy'] == pytest.approx(entropy.item())
    expected = 2 * terms['intensity'] + 0.25 * (terms['dice'] + terms['cross_entropy'])
    assert terms['total'] == pytest.approx(expected.item())


@pytest.mark.parametrize('kind', ['charbonnier', 'dice', 'cross-entropy', 'dice+cross-entropy'])
def test_unknown_tissues_ask_for_nothing(kind):
    channels = ('intensity', 'cortex', 'background', 'grey')
    loss = Loss(intensity='none', segmentation=kind)
    logits = torch.randn(2, 2, 4, 4, 4, requires_grad=True)
    classes = torch.softmax(logits, 1)
    output = torch.cat([torch.zeros(2, 1, 4, 4, 4), classes[:, 1:], classes], dim=1)
    target = torch.zeros_like(output)
    grey = torch.rand(4, 4, 4).round()
    target[0, 1:] = torch.stack([grey, 1 - grey, grey])  # of the second one nothing is known
    total = reconstruction(output, target, loss, channels)['total']
    total.backward()
    assert logits.grad[0].abs().min() > 0
    assert logits.grad[1].abs().max() == 0
    both = torch.stack([grey, 1 - grey, grey]).expand(2, -1, -1, -1, -1)
    known = torch.cat([target[:, :1], both], dim=1)
    assert not torch.isclose(reconstruction(output, known, loss, channels)['total'], total)


@pytest.mark.parametrize(
    ('channels', 'asked'),
    [
        (('intensity', 'outside', 'white'), False),  # classes without a cortex
        (('intensity', 'outside', 'grey', 'white'), False),
        (('intensity', 'grey', 'white'), False),  # and such as come behind it in the alphabet
        (('intensity', 'cortex', 'white'), True),  # a cortex and one class: 0 is known
        (('intensity', 'cortex'), True),
        (('intensity', 'white'), True),
    ],
)
def test_nothing_is_known_where_classes_are_all_zero(channels, asked):
    output = torch.full((1, len(channels), 2, 2, 2), 0.5)
    target = torch.zeros_like(output)
    loss = reconstruction(output, target, Loss('none', 'charbonnier'), channels)['total']
    assert loss == pytest.approx(0.5 if asked else 1e-3, rel=1e-3)


def test_intensity_alone_and_segmentation_alone():
    output, target = random_maps('intensity'), random_maps('intensity', seed=1)
    terms = reconstruction(output, target, Loss('l2'), ('intensity',))
    assert set(terms) == {'intensity', 'total'}
    assert terms['total'] == l2(output - target)
    channels = ('intensity', 'cortex')
    output, target = random_maps(*channels), random_maps(*channels, seed=1)
    found, true = output[:, 1:], target[:, 1:]
    for kind, expected in {
        'cross-entropy': cross_entropy(found, true),
        'dice': soft_dice(found, true),
        'charbonnier': charbonnier(found - true),
    }.items():
        terms = reconstruction(output, target, Loss('none', kind), channels)
        assert set(terms) == {'segmentation', 'total'}
        assert terms['total'] == expected
    with pytest.raises(ValueError, match='no loss for the channels intensity'):
        reconstruction(output[:, :1], target[:, :1], Loss('none'), ('intensity',))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'intensity_weight': -1.0}, 'intensity_weight must be 0 or more, not -1'),
        ({'gradient_penalty': -0.5}, 'gradient_penalty must be 0 or more, not -0.5'),
        ({'intensity': 'none', 'segmentation': 'none'}, "must not both be 'none'"),
    ],
)
def test_impossible_loss_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Loss(**options)


def test_half_precision_is_computed_in_single():
    channels = ('intensity', 'cortex')
    output, target = random_maps(*channels), random_maps(*channels, seed=1)
    with torch.autocast('cpu', torch.bfloat16):
        loss = Loss('charbonnier', 'dice+cross-entropy')
        total = reconstruction(output.bfloat16(), target, loss, channels)['total']
    assert total.dtype == torch.float32
    exact = reconstruction(output.bfloat16().float(), target, loss, channels)['total']
    assert total == exact


def tensor_name(keras: str) -> str:
    """Name in our generator of a tensor of the original."""
    layer, part = keras.removeprefix('G_gen_').split('/')
    part = {'kernel': 'weight'}.get(part, part)
    if layer == '1conv':
        return f'head.conv.{part}'
    norm = 'isnorm' in layer
    pieces = [piece for piece in layer.split('_') if piece not in ('isnorm', 'conv')]
    if pieces[0].startswith('block'):
        module = f'blocks.{int(pieces[0][5:]) - 1}.{"norm" if norm else "conv"}_{pieces[1]}'
        return f'{module}.{part}' if norm else f'{module}.conv.{part}'
    return f'{pieces[0]}.norm.{part}' if norm else f'{pieces[0]}.conv.conv.{part}'


@pytest.mark.shared
@pytest.mark.parametrize(
    ('kind', 'loss'),
    [
        ('charbonnier', Loss(intensity_weight=0.5, segmentation_weight=0.5)),
        ('dice', Loss(segmentation='dice')),
    ],
)
def test_generator_gradients_equal_the_original(shared, kind, loss):
    from original_critic import load_keras_critic

    from bids_segsr.training.loop.adversarial import generator_adversarial

    folder = shared / 'fixtures' / 'segsrgan'
    with np.load(folder / 'train_step.npz') as arrays:
        image = torch.from_numpy(arrays['z']).double()
        truth = torch.from_numpy(arrays['y']).double()
        step = arrays['g_losses'][0]
    network = load_keras(folder / 'train_step_before.weights.h5')[0].double()
    critic = load_keras_critic(folder / 'train_step_before.weights.h5').double()
    output = network(image)
    rec = reconstruction(output, truth, loss, ('intensity', 'cortex'))['total']
    total = rec + 0.001 * generator_adversarial(critic, output)
    total.backward()
    found = {name: p.grad.numpy() for name, p in network.named_parameters()}
    with np.load(folder / 'train_step_gradients.npz') as arrays:
        prefix = f'generator_{kind}|'
        expected = {
            tensor_name(name.removeprefix(prefix)): arrays[name]
            for name in arrays
            if name.startswith(prefix)
        }
        expected_total = arrays[f'generator_{kind}_total_loss']
    assert total.item() == pytest.approx(expected_total.item(), rel=1e-6)
    if kind == 'charbonnier':
        # the generator was not updated before this loss was taken; the critic was, twice
        assert rec.item() == pytest.approx(step[2], rel=1e-6)
    assert found.keys() == expected.keys()
    largest = max(np.abs(value).max() for value in expected.values())
    for name, value in expected.items():
        value = value.transpose(4, 3, 0, 1, 2) if value.ndim == 5 else value
        np.testing.assert_allclose(found[name], value, rtol=0, atol=7e-5 * largest, err_msg=name)
