"""Trained networks as files for other programs."""

from __future__ import annotations

import pytest
import torch
from test_card import make_card

from bids_segsr.exceptions import ModelError
from bids_segsr.networks import create
from bids_segsr.zoo.card import read_card
from bids_segsr.zoo.export import export_model
from bids_segsr.zoo.find import load_model
from bids_segsr.zoo.store import save_model


def test_torchscript_gives_the_same_maps_at_any_size(folder, tmp_path):
    model = load_model(folder)
    weights, card = export_model(model, 'torchscript', tmp_path / 'tiny.pt')
    assert (weights.name, card.name) == ('tiny.pt', 'tiny.pt.json')
    assert read_card(card) == model.card
    script = torch.jit.load(weights)
    for shape in ((8, 8, 8), (12, 16, 8)):
        x = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            torch.testing.assert_close(script(x), model.network(x), rtol=1e-4, atol=1e-5)


def test_torchscript_of_a_conditional_network_takes_the_resolution(tmp_path):
    torch.manual_seed(0)
    options = {'base_filters': 2, 'n_blocks': 1, 'conditional': 'film'}
    network = create('segsrgan', **options)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    model = load_model(save_model(tmp_path / 'film', network, make_card(options=options)))
    path, _ = export_model(model, 'torchscript', tmp_path / 'film.pt')
    script, x = torch.jit.load(path), torch.rand(1, 1, 8, 8, 8)
    maps = []
    for mm in (2.0, 4.0):
        with torch.no_grad():
            maps.append(script(x, torch.tensor([mm])))
            expected = model.network(x, torch.tensor([mm]))
        torch.testing.assert_close(maps[-1], expected, rtol=1e-4, atol=1e-5)
    assert (maps[0] - maps[1]).abs().max() > 1e-3


def test_safetensors_are_a_model_again(folder, tmp_path):
    model = load_model(folder)
    written = export_model(model, 'safetensors', tmp_path / 'copy')
    assert [path.name for path in written] == ['weights.safetensors', 'card.json']
    assert written[0].read_bytes() == model.path.read_bytes()
    assert load_model(tmp_path / 'copy').card == model.card


def test_a_file_that_cannot_be_written_leaves_nothing(folder, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError('no such operator\nand more')

    monkeypatch.setattr('bids_segsr.networks.torchscript.export_torchscript', fail)
    with pytest.raises(ModelError, match=r'as torchscript \(no such operator\)$'):
        export_model(load_model(folder), 'torchscript', tmp_path / 'x.pt')
    assert not list(tmp_path.glob('*x.pt*'))
