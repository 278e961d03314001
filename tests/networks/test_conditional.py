from __future__ import annotations

import numpy as np
import pytest
import torch
from networks_reference import RESOLUTIONS, image, load_fixture, parameters, randomise, weights

from bids_segsr.exceptions import ModelError
from bids_segsr.networks import create


@pytest.mark.parametrize(
    ('name', 'options', 'expected'),
    [
        ('segsrgan', {'n_blocks': 5}, 1_483_664 - 2 * 27 * 64**2 - 4 * 64),
        ('segsrgan', {'conditional': 'original'}, 1_489_152),
        ('segsrgan-unet', {'conditional': 'original'}, 1_404_116 + 343 * 28),
        # hidden layer of 32 units, then a factor and an offset for each of the 928 channels
        ('segsrgan', {'conditional': 'film'}, 1_483_664 + 64 + 2 * 928 * 33),
        ('segsrgan-critic', {}, 11_150_304),
        ('segsrgan-critic', {'conditional': True}, 11_152_352),
        ('segsrgan-critic', {'in_channels': 5}, 11_156_448),
    ],
)
def test_parameter_count(name, options, expected):
    assert parameters(create(name, **options)) == expected


@pytest.mark.shared
def test_conditional_generator_reproduces_the_original(shared):
    network = create('segsrgan', base_filters=4, conditional='original')
    folder = shared / 'fixtures/segsrgan'
    x, resolution, expected = load_fixture(folder, 'generator_conditional', 'G_cond', network)
    with torch.no_grad():
        y = network(x, resolution)
        torch.testing.assert_close(y, expected, rtol=0, atol=5e-4)
        # In double precision less is lost where the constant cancels.
        y = network.double()(x.double(), resolution.double())
        torch.testing.assert_close(y.float(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize('name', ['segsrgan', 'segsrgan-unet'])
def test_original_condition_has_no_effect(name):
    network = randomise(create(name, base_filters=2, conditional='original'))
    x = image(2, 1, 8, 12, 8)
    with torch.no_grad():
        y = network(x, RESOLUTIONS)
        # 1e-5: the normalisation computes its statistics in single precision.
        torch.testing.assert_close(network(x, RESOLUTIONS + 5), y, rtol=0, atol=1e-5)
        plain = create(name, base_filters=2, residual=network.residual).double()
        state = network.state_dict()
        state['conv1.conv.conv.weight'] = state['conv1.conv.conv.weight'][:, :1]
        plain.load_state_dict(state)
        torch.testing.assert_close(plain(x), y, rtol=0, atol=1e-5)


def test_original_unet_is_made_in_the_form_that_worked():
    assert not create('segsrgan-unet', conditional='original').residual


@pytest.mark.parametrize('name', ['segsrgan', 'segsrgan-unet'])
def test_film_starts_as_the_unconditional_generator(name):
    network = create(name, base_filters=2, conditional='film', mask_classes=2)
    plain = create(name, base_filters=2, mask_classes=2)
    missing = network.load_state_dict(plain.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert all(key.startswith('film.') for key in missing.missing_keys)
    x = torch.rand(2, 1, 8, 12, 8)
    for resolution in (RESOLUTIONS.float(), RESOLUTIONS.float() * 2):
        torch.testing.assert_close(network(x, resolution), plain(x))


@pytest.mark.parametrize('name', ['segsrgan', 'segsrgan-unet'])
def test_film_equals_a_generator_with_scales_and_shifts_of_its_resolution(name):
    network = randomise(create(name, base_filters=2, conditional='film'))
    x = image(2, 1, 8, 12, 8)
    with torch.no_grad():
        y = network(x, RESOLUTIONS)
        for index, resolution in enumerate(RESOLUTIONS.numpy()):
            w = weights(network)
            hidden = w['film.hidden.weight'][:, 0] * np.log2(resolution) + w['film.hidden.bias']
            code = w['film.code.weight'] @ np.maximum(hidden, 0) + w['film.code.bias']
            gain, offset = (torch.from_numpy(part) for part in np.split(code, 2))
            plain = create(name, base_filters=2).double()
            plain.load_state_dict(
                {key: value for key, value in network.state_dict().items() if 'film' not in key}
            )
            start = 0
            for key, norm in plain.named_modules():
                if 'norm' in key.rsplit('.', 1)[-1]:
                    part = slice(start, start + len(norm.scale))
                    norm.scale.mul_(1 + gain[part])
                    norm.shift.mul_(1 + gain[part]).add_(offset[part])
                    start = part.stop
            assert start == len(gain)
            torch.testing.assert_close(plain(x[index : index + 1]), y[index : index + 1])
        assert (network(x, RESOLUTIONS.flip(0)) - y).abs().amax((1, 2, 3, 4)).min() > 1e-2


def test_film_learns_the_resolution():
    torch.manual_seed(0)
    network = create('segsrgan', base_filters=4, n_blocks=1, conditional='film')
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    x = torch.rand(1, 1, 8, 8, 8).expand(2, -1, -1, -1, -1)
    resolution = torch.tensor([1.0, 4.0])
    target = x * resolution.view(-1, 1, 1, 1, 1)
    losses = []
    for _ in range(80):
        loss = (network(x, resolution)[:, :1] - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    # The same image has two answers: without the resolution the best is their mean.
    blind = (target - target.mean(0)).square().mean().item()
    assert losses[-1] < 0.7 * blind < losses[0]


@pytest.mark.parametrize('conditional', ['original', 'film'])
def test_resolution_must_fit_the_batch(conditional):
    network = create('segsrgan', base_filters=2, conditional=conditional)
    x = torch.zeros(2, 1, 8, 8, 8)
    for resolution in (None, torch.tensor(3.0), torch.tensor([3.0])):
        with pytest.raises(ModelError, match='one resolution'):
            network(x, resolution)
    with pytest.raises(ModelError, match='multiple of 4'):
        network(torch.zeros(2, 1, 8, 8, 10), torch.ones(2))


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('segsrgan', {'conditional': 'yes'}),
        ('segsrgan', {'conditional': 'film', 'filters': 2}),
        ('segsrgan-unet', {'conditional': True}),
        ('segsrgan-critic', {'patch_size': 1}),
        ('segsrgan-critic', {'base_filters': 0}),
    ],
)
def test_impossible_option_is_refused(name, options):
    with pytest.raises(ModelError):
        create(name, **options)
