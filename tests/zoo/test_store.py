from __future__ import annotations

import re

import pytest
import torch
from test_card import make_card

from bids_segsr.exceptions import ModelError
from bids_segsr.zoo.find import (
    BRAIN_MASK_MODEL,
    DEFAULT_MODEL,
    find_card,
    load_model,
)
from bids_segsr.zoo.store import save_model


def refuses(path, *words):
    with pytest.raises(ModelError) as caught:
        load_model(path)
    message = str(caught.value)
    assert '\n' not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize('part', ['', 'card.json', 'weights.safetensors'])
def test_model_is_loaded_as_it_was_saved(folder, network, part):
    model = load_model(folder / part)
    assert not model.network.training
    assert model.path == folder / 'weights.safetensors'
    assert model.card == find_card(str(folder / part))
    assert model.card.sha256
    x = torch.rand(1, 1, 8, 8, 8)
    with torch.no_grad():
        assert torch.equal(model.network(x), network.eval()(x))


def test_half_precision_is_loaded_as_float32(tmp_path, network):
    single = save_model(tmp_path / 'single', network, make_card())
    half = save_model(tmp_path / 'half', network, make_card(), half_precision=True)
    sizes = [(f / 'weights.safetensors').stat().st_size for f in (single, half)]
    assert sizes[1] < 0.6 * sizes[0]
    for loaded, saved in zip(
        load_model(half).network.parameters(), network.parameters(), strict=True
    ):
        assert loaded.dtype == torch.float32
        torch.testing.assert_close(loaded, saved, rtol=1e-3, atol=1e-6)


def test_saving_twice_gives_the_same_bytes(tmp_path, network):
    first, second = (save_model(tmp_path / n, network, make_card()) for n in ('a', 'b'))
    for name in ('card.json', 'weights.safetensors'):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_damaged_weights_are_refused(folder):
    weights = folder / 'weights.safetensors'
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    refuses(folder, str(weights), 'SHA-256')
    weights.write_bytes(content[:100])
    refuses(folder, str(weights), 'SHA-256')
    weights.unlink()
    refuses(folder, str(weights), 'cannot be read')


def test_weights_of_another_architecture_are_refused(folder):
    card = folder / 'card.json'
    text = card.read_text(encoding='utf-8')
    card.write_text(text.replace('"base_filters": 2', '"base_filters": 4'), encoding='utf-8')
    refuses(folder, 'weights.safetensors', 'another architecture')
    card.write_text(text.replace('"n_blocks": 1', '"n_blocks": 2'), encoding='utf-8')
    refuses(folder, 'weights.safetensors', 'blocks.1', 'missing')
    card.write_text(
        text.replace('"architecture": "segsrgan"', '"architecture": "unknown"'), encoding='utf-8'
    )
    refuses(folder, 'card.json', 'unknown')


def test_invalid_safetensors_with_the_right_hash_is_refused(folder):
    import hashlib

    weights = folder / 'weights.safetensors'
    old = hashlib.sha256(weights.read_bytes()).hexdigest()
    weights.write_bytes(b'\x00' * 64)
    new = hashlib.sha256(weights.read_bytes()).hexdigest()
    card = folder / 'card.json'
    card.write_text(card.read_text(encoding='utf-8').replace(old, new), encoding='utf-8')
    refuses(folder, str(weights), 'not a valid safetensors file')


@pytest.mark.parametrize(
    ('name', 'channels'),
    [
        (DEFAULT_MODEL, 10),
        ('tissue-unet-newborn', 10),
        ('tissue-unet-newborn-t1w', 10),
        ('segsrgan-newborn', 2),
        (BRAIN_MASK_MODEL, 2),
    ],
)
def test_packaged_models_ship_with_an_honest_card(name, channels):
    model = load_model(name)
    card = model.card
    assert card.name == name
    assert len(card.channels) == channels
    assert 'esearch use only' in card.description
    assert {'training_seg_17', 'brain5', 'GA28', 'GA33'} <= set(card.training['held_out'])
    for source in card.training['data']:
        assert re.match('Apache-2.0|CC0-1.0|CC-BY|BSD-3-Clause', source['licence'])
    assert card.limitations
    images = [row for row in card.scores['held_out'] if 'psnr_network' in row]
    assert images or name == BRAIN_MASK_MODEL
    missed = [
        row
        for row in images
        for measure in ('psnr', 'ssim')
        if row[f'{measure}_network'] <= max(row[f'{measure}_spline'], row[f'{measure}_ibp'])
    ]
    # what needs no network and is as good is told first
    assert not missed or 'back-projection' in card.limitations[0]
    assert model.path.stat().st_size < 10_000_000
