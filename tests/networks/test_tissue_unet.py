from __future__ import annotations

import numpy as np
import pytest
import torch

from bids_segsr.exceptions import ModelError
from bids_segsr.networks import create
from bids_segsr.networks.tissue_unet import (
    BLOCK,
    ClassHead,
    SampleNorm,
    TissueUNet,
    TissueUNetPair,
    channels_to_voxels,
    convolve_pairs,
    voxels_to_channels,
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_voxels_become_channels_and_come_back():
    x = torch.arange(2 * 3 * 4 * 6 * 8.0).reshape(2, 3, 4, 6, 8)
    y = voxels_to_channels(x)
    assert y.shape == (2, 24, 2, 3, 4)
    for channel in range(3):
        for n, (a, b, c) in enumerate(np.ndindex(2, 2, 2)):
            torch.testing.assert_close(y[:, 8 * channel + n], x[:, channel, a::2, b::2, c::2])
    torch.testing.assert_close(channels_to_voxels(y), x)


def test_two_voxels_at_once_are_convolved_as_one_after_the_other():
    conv = torch.nn.Conv3d(3, 4, 3, padding=1).double()
    x = torch.randn(2, 3, 5, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(convolve_pairs(conv, x), conv(x))


def test_output_is_intensity_cortex_and_classes():
    network = create('tissue-unet', base_filters=4).eval()
    x = torch.randn(1, 1, 16, 24, 12)
    with torch.inference_mode():
        y = network(x)
    assert y.shape == (1, 10, 16, 24, 12)
    torch.testing.assert_close(y[:, 2:].sum(1), torch.ones(1, 16, 24, 12))
    torch.testing.assert_close(y[:, 1], y[:, 3])
    assert (y[:, :1] - x).abs().max() > 1e-3


def test_near_identity_start_returns_the_input():
    network = TissueUNet(4)
    network.start_near_identity()
    x = torch.randn(1, 1, 16, 16, 16)
    with torch.inference_mode():
        y = network(x)
    assert (y[:, :1] - x).abs().max() < 0.1
    torch.testing.assert_close(y[:, 2:], torch.full_like(y[:, 2:], 1 / 8), atol=0.02, rtol=0)


def test_single_task_twins():
    x = torch.randn(1, 1, 8, 8, 8)
    with torch.inference_mode():
        assert TissueUNet(4, classes=0)(x).shape == (1, 1, 8, 8, 8)
        network = TissueUNet(4, classes=2, intensity=False)
        y = network(x)
        likelier = network.logits(x).diff(dim=1)
    assert y.shape == (1, 2, 8, 8, 8)
    torch.testing.assert_close(y[:, :1], x)
    torch.testing.assert_close(y[:, 1:], torch.sigmoid(likelier))


def test_pair_is_its_twins_side_by_side():
    pair = TissueUNetPair(4, detail_filters=6).eval()
    x = torch.randn(2, 1, 12, 16, 8)
    with torch.inference_mode():
        y, image, tissues = pair(x), pair.intensity(x), pair.tissues(x)
    assert y.shape == (2, 10, 12, 16, 8)
    assert torch.equal(y[:, :1], image)
    assert torch.equal(y[:, 1:], tissues[:, 1:])


def test_tasks_of_a_pair_leave_each_other_alone():
    pair = TissueUNetPair(4, detail_filters=6)
    y = pair(torch.randn(1, 1, 16, 16, 16))
    y[:, 1:2].sum().backward()
    assert not any(p.grad.any() for p in pair.intensity.parameters())
    assert any(p.grad.any() for p in pair.tissues.parameters() if p.grad is not None)


@pytest.mark.parametrize('classes', [-1, 0, 1])
def test_pair_needs_classes(classes):
    with pytest.raises(ModelError, match='at least 2'):
        TissueUNetPair(4, classes=classes)


def test_pair_starts_near_identity():
    pair = TissueUNetPair(4)
    pair.start_near_identity()
    x = torch.randn(1, 1, 16, 16, 16)
    with torch.inference_mode():
        y = pair(x)
    assert (y[:, :1] - x).abs().max() < 0.1
    torch.testing.assert_close(y[:, 2:], torch.full_like(y[:, 2:], 1 / 8), atol=0.02, rtol=0)


def test_detail_goes_on_from_a_network_without():
    x = torch.randn(1, 1, 16, 16, 16)
    plain, detailed = TissueUNet(4), TissueUNet(4, detail_filters=6)
    lacking, unexpected = detailed.load_state_dict(plain.state_dict(), strict=False)
    assert {name.split('.')[0] for name in lacking} == {'detail'}
    assert not unexpected
    with torch.inference_mode():
        torch.testing.assert_close(detailed(x), plain(x))
        torch.nn.init.normal_(detailed.detail[-1].weight)
        y = detailed(x)
        torch.testing.assert_close(y[:, 1:], plain(x)[:, 1:])
    assert (y[:, :1] - plain(x)[:, :1]).abs().max() > 0.1


def test_detail_sees_every_voxel():
    network = TissueUNet(4, classes=0, detail_filters=6)
    with torch.no_grad():
        for parameter in network.heads.parameters():
            parameter.zero_()
        network.detail[0].weight[:, BLOCK**3 :] = 0  # of the features
        torch.nn.init.normal_(network.detail[-1].weight)
    x = torch.randn(1, 1, 16, 16, 16, requires_grad=True)
    (network(x) - x).square().sum().backward()
    assert (x.grad[..., 6:10, 6:10, 6:10].abs() > 0).all()


def test_every_parameter_learns():
    network = TissueUNet(4, classes=3)
    output = network(torch.randn(1, 1, 16, 16, 16))
    (output[:, 0].square().mean() + output[:, 2].square().mean()).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_short_axes_are_continued_and_cut_again():
    network = TissueUNet(4).eval()
    x = torch.randn(1, 1, 16, 16, 12)
    longer = torch.cat([x, x[..., -1:].expand(-1, -1, -1, -1, 4)], dim=-1)
    with torch.inference_mode():
        torch.testing.assert_close(network(x), network(longer)[..., :12])


def test_normalisation_is_that_of_torch():
    norm = SampleNorm(5)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(1, 5, 4, 6, 8) * 3 + 1
    expected = (
        (x - x.mean((2, 3, 4), keepdim=True))
        / torch.sqrt(x.var((2, 3, 4), correction=0, keepdim=True) + 1e-5)
        * norm.weight.view(1, -1, 1, 1, 1)
    )
    torch.testing.assert_close(norm(x), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(norm(x.repeat(2, 1, 1, 1, 1))[1:], norm(x), atol=1e-5, rtol=1e-4)


def test_levels_are_heard_however_large_the_features_above():
    network = TissueUNet(4).eval()
    with torch.no_grad():
        network.down1.weight.mul_(1000)
        network.down2.weight.mul_(1000)
    added = {}
    for name in ('level2', 'level3'):
        getattr(network, name).register_forward_hook(
            lambda module, seen, given, name=name: added.update(
                {name: (given - module[0](seen[0])).std() / given.std()}
            )
        )
    with torch.inference_mode():
        network(torch.randn(1, 1, 32, 32, 32))
    assert added['level2'] > 0.3
    assert added['level3'] > 0.3


@pytest.mark.parametrize(
    'options',
    [
        {'classes': 1},
        {'classes': -2},
        {'base_filters': 0},
        {'detail_filters': -1},
        {'intensity': False, 'detail_filters': 8},
    ],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ModelError):
        create('tissue-unet', **options)


def test_wrong_shapes_are_refused():
    with pytest.raises(ModelError, match='multiple of 4'):
        TissueUNet(4)(torch.zeros(1, 1, 8, 8, 6))


def test_classes_at_full_resolution_see_their_neighbours_across_blocks():
    head = ClassHead(4, 3, 2).double().eval()
    features = torch.zeros(1, 4, 4, 4, 4, dtype=torch.float64)
    image = torch.zeros(1, 1, 8, 8, 8, dtype=torch.float64, requires_grad=True)
    # voxel 3 ends its block of two: its logits depend on voxel 4 of the next one
    head(features, image)[0, 1, 3, 3, 3].backward()
    reach = image.grad[0, 0, 3, 3].nonzero().flatten().tolist()
    assert reach == [1, 2, 3, 4, 5]


def test_class_head_goes_on_from_a_head_of_blocks():
    torch.manual_seed(0)
    blocks = create('tissue-unet', base_filters=4, classes=3, intensity=False)
    fine = create('tissue-unet', base_filters=4, classes=3, intensity=False, class_filters=5)
    given = blocks.state_dict()
    weight, bias = (given.pop(f'heads.classes.{name}') for name in ('weight', 'bias'))
    fine.load_state_dict(given, strict=False)
    image = torch.rand(1, 1, 16, 16, 16)
    fine.heads['classes'].start_from_blocks(weight, bias)
    torch.testing.assert_close(fine(image), blocks(image), atol=1e-5, rtol=0)


def test_class_head_needs_a_filter_a_class_to_go_on():
    fine = create('tissue-unet', base_filters=4, classes=3, intensity=False, class_filters=2)
    with pytest.raises(ModelError, match='class_filters: give 3 or more'):
        fine.heads['classes'].start_from_blocks(torch.zeros(24, 4, 1, 1, 1), torch.zeros(24))


def test_class_filters_leave_the_old_network_as_it_was():
    old = set(create('tissue-unet-pair').state_dict())
    new = set(create('tissue-unet-pair', class_filters=8).state_dict())
    assert old - new == {
        'tissues.heads.classes.weight',
        'tissues.heads.classes.bias',
    }
    out = create('tissue-unet-pair', class_filters=8).eval()(torch.randn(1, 1, 20, 24, 28))
    assert out.shape == (1, 10, 20, 24, 28)
    torch.testing.assert_close(out[:, 2:].sum(1), torch.ones(1, 20, 24, 28))
