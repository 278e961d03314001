from __future__ import annotations

import pytest
import torch
from torch import nn

from bids_segsr.exceptions import ModelError
from bids_segsr.networks import create
from bids_segsr.networks.segsrgan import InstanceNorm, ReflectConv, UpsampleConv


@pytest.mark.parametrize(
    ('name', 'options', 'parameters'),
    [
        ('segsrgan', {}, 1_483_664),
        ('segsrgan', {'mask_classes': 3}, 1_500_128),
        ('segsrgan-unet', {}, 1_404_116),
        ('segsrgan-unet', {'base_filters': 16}, 470_576),
    ],
)
def test_parameter_count(name, options, parameters):
    assert sum(p.numel() for p in create(name, **options).parameters()) == parameters


def test_instance_norm_adds_epsilon_outside_the_root():
    norm = InstanceNorm(1)
    # A spread not far from epsilon tells the ways of adding it apart.
    x = torch.linspace(0, 1e-5, 64).reshape(1, 1, 4, 4, 4)
    expected = (x - x.mean()) / (x.std(correction=0) + 1e-7)
    torch.testing.assert_close(norm(x), expected, rtol=1e-3, atol=1e-5)

    y = torch.randn(2, 1, 6, 6, 6, generator=torch.Generator().manual_seed(1)) * 5 + 3
    sd, mean = torch.std_mean(y, dim=(2, 3, 4), correction=0, keepdim=True)
    torch.testing.assert_close(norm(y), (y - mean) / (sd + 1e-7))


def test_instance_norm_turns_a_constant_channel_into_its_shift():
    norm = InstanceNorm(2)
    with torch.no_grad():
        norm.shift.copy_(torch.tensor([0.25, -1.0]))
    y = norm(torch.full((1, 2, 4, 4, 4), 0.3))
    torch.testing.assert_close(y[0, 0], torch.full((4, 4, 4), 0.25), rtol=0, atol=0)
    torch.testing.assert_close(y[0, 1], torch.full((4, 4, 4), -1.0), rtol=0, atol=0)


@pytest.mark.parametrize('filters', [2, 9])
def test_reflect_convolution_equals_plain_torch(filters):
    conv = ReflectConv(3, filters, 7)
    x = torch.randn(2, 3, 8, 9, 10)
    padded = nn.functional.pad(x, (3,) * 6, mode='reflect')
    expected = nn.functional.conv3d(padded, conv.conv.weight)
    torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-5)


def test_strided_convolution_is_centred_on_even_voxels():
    conv = ReflectConv(1, 8, 3, stride=2)
    with torch.no_grad():
        conv.conv.weight.zero_()
        conv.conv.weight[:, 0, 1, 1, 1] = 1
    x = torch.randn(1, 1, 8, 8, 12)
    torch.testing.assert_close(conv(x)[:, :1], x[:, :, ::2, ::2, ::2])


def test_upsampling_convolution_equals_plain_torch():
    conv = UpsampleConv(5, 3)
    x = torch.randn(2, 5, 4, 6, 3)
    repeated = nn.functional.interpolate(x, scale_factor=2, mode='nearest')
    padded = nn.functional.pad(repeated, (1,) * 6, mode='reflect')
    expected = nn.functional.conv3d(padded, conv.conv.weight)
    torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', ['segsrgan', 'segsrgan-unet'])
def test_gradients_stay_finite_on_a_constant_patch(name):
    network = create(name, base_filters=2)
    network(torch.full((1, 1, 8, 8, 8), 0.3)).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_output_channels():
    network = create('segsrgan', base_filters=2, mask_classes=3)
    output = network(torch.rand(2, 1, 8, 12, 16))
    assert output.shape == (2, 5, 8, 12, 16)
    assert ((output[:, 1] > 0) & (output[:, 1] < 1)).all()
    torch.testing.assert_close(output[:, 2:].sum(1), torch.ones(2, 8, 12, 16))


def test_residual_is_subtracted():
    torch.manual_seed(0)
    network = create('segsrgan', base_filters=2)
    x = torch.rand(1, 1, 8, 8, 8)
    residual = network(x)[:, 0]
    network.residual = False
    torch.testing.assert_close(residual, x[:, 0] - network(x)[:, 0])


@pytest.mark.parametrize(
    'shape', [(1, 1, 16, 16, 18), (1, 1, 4, 16, 16), (1, 2, 16, 16, 16), (1, 16, 16, 16)]
)
def test_unsuitable_input_is_refused(shape):
    with pytest.raises(ModelError):
        create('segsrgan', base_filters=2)(torch.zeros(shape))


@pytest.mark.parametrize(
    ('name', 'options'),
    [('segsrgan2', {}), ('segsrgan', {'filters': 3}), ('segsrgan', {'mask_classes': 1})],
)
def test_unknown_architecture_or_option_is_refused(name, options):
    with pytest.raises(ModelError):
        create(name, **options)


def test_initialisation_is_lecun_normal():
    torch.manual_seed(0)
    weight = create('segsrgan').blocks[0].conv_a.conv.weight
    sd = (1 / (27 * 64)) ** 0.5
    assert weight.std().item() == pytest.approx(sd, rel=0.02)
    assert weight.abs().max().item() <= 2 * sd / 0.87962566
