from __future__ import annotations

import pytest
import torch

from bids_segsr.exceptions import ModelError
from bids_segsr.networks import ARCHITECTURES, create
from bids_segsr.networks.torchscript import export_torchscript

SMALL = {
    'segsrgan': {'base_filters': 2, 'n_blocks': 1, 'mask_classes': 2},
    'segsrgan-unet': {'base_filters': 2},
    'segsrgan-critic': {'base_filters': 1, 'patch_size': 32},
    'recnn': {'depth': 3, 'filters': 2},
    'srcnn3d': {'filters': (2, 2)},
    'mdcsrn': {'b': 1, 'u': 2, 'k': 2},
    'mdcsrn-critic': {'base_filters': 1, 'patch_size': 16},
    'rrdg': {'n_c': 1, 'n_f': 4, 'k': 2},
    'rrdg-critic': {'base_filters': 1},
    'fsrcnn': {'d': 2, 's': 2, 'm': 1},
    'srresnet': {'n_blocks': 1, 'filters': 2},
    'srdensenet': {'b': 1, 'u': 2, 'k': 2},
    'unet': {'base_filters': 2},
    'tissue-unet': {'base_filters': 2, 'classes': 2},
    'tissue-unet-pair': {'base_filters': 2, 'classes': 3, 'detail_filters': 2},
}


@pytest.mark.parametrize('name', ARCHITECTURES)
def test_torchscript_gives_the_same_numbers(name, tmp_path):
    torch.manual_seed(0)
    network = create(name, **SMALL[name])
    size = SMALL[name].get('patch_size', 8)
    shape = (1, 2 if name == 'segsrgan-critic' else 1, size, size, size)
    path = export_torchscript(network, tmp_path / 'network.pt', shape)
    assert network.training
    network.eval()
    exported = torch.jit.load(str(path))
    # Another batch, and for networks without a patch size another size, than recorded.
    other = shape if 'patch_size' in SMALL[name] else (*shape[:2], 8, 12, 16)
    for x in (torch.rand(shape), torch.rand(2, *other[1:])):
        with torch.no_grad():
            torch.testing.assert_close(exported(x), network(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize('conditional', ['original', 'film'])
def test_torchscript_of_a_conditional_generator(conditional, tmp_path):
    torch.manual_seed(0)
    network = create('segsrgan', base_filters=2, n_blocks=1, conditional=conditional).eval()
    if conditional == 'film':
        torch.nn.init.normal_(network.film.code.weight)
    path = export_torchscript(network, tmp_path / 'x.pt', (1, 1, 8, 8, 8), resolution=3.0)
    exported = torch.jit.load(str(path))
    x, resolution = torch.rand(2, 1, 8, 12, 8), torch.tensor([1.0, 4.0])
    with torch.no_grad():
        expected = network(x, resolution)
        torch.testing.assert_close(exported(x, resolution), expected, rtol=0, atol=1e-6)


def test_export_refuses_a_shape_that_the_network_cannot_take(tmp_path):
    with pytest.raises(ModelError, match='multiple of 4'):
        export_torchscript(create('segsrgan', base_filters=2), tmp_path / 'x.pt', (1, 1, 8, 8, 9))


def test_export_names_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(ModelError, match='missing'):
        export_torchscript(create('fsrcnn'), tmp_path / 'missing' / 'x.pt', (1, 1, 8, 8, 8))
