from __future__ import annotations

import pickle
import re

import pytest
import torch
from test_card import make_card

from bids_segsr.exceptions import ModelError
from bids_segsr.networks import create
from bids_segsr.zoo.find import (
    BRAIN_MASK_MODEL,
    DEFAULT_MODEL,
    absolute_model,
    card_paths,
    find_card,
    load_model,
)
from bids_segsr.zoo.store import save_model


@pytest.fixture
def network():
    torch.manual_seed(0)
    return create('segsrgan', base_filters=2, n_blocks=1)


@pytest.fixture
def folder(tmp_path, network):
    return save_model(tmp_path / 'tiny', network, make_card())


def refused(path, *words):
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


def test_models_are_found_by_name(folder, monkeypatch):
    monkeypatch.setenv('BIDS_SEGSR_MODELS', str(folder.parent))
    assert load_model('tiny').card.name == 'tiny'
    assert list(card_paths()) == [
        DEFAULT_MODEL,
        BRAIN_MASK_MODEL,
        'segsrgan-newborn',
        'segsrgan-synth',
        'tiny',
        'tissue-unet-newborn',
    ]


def test_unknown_name_lists_the_known_ones():
    refused('no-such-model', 'no-such-model', DEFAULT_MODEL)


def test_damaged_weights_are_refused(folder):
    weights = folder / 'weights.safetensors'
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    refused(folder, str(weights), 'SHA-256')
    weights.write_bytes(content[:100])
    refused(folder, str(weights), 'SHA-256')
    weights.unlink()
    refused(folder, str(weights), 'cannot be read')


def test_weights_of_another_architecture_are_refused(folder):
    card = folder / 'card.json'
    text = card.read_text(encoding='utf-8')
    card.write_text(text.replace('"base_filters": 2', '"base_filters": 4'), encoding='utf-8')
    refused(folder, 'weights.safetensors', 'another architecture')
    card.write_text(text.replace('"n_blocks": 1', '"n_blocks": 2'), encoding='utf-8')
    refused(folder, 'weights.safetensors', 'blocks.1', 'missing')
    card.write_text(
        text.replace('"architecture": "segsrgan"', '"architecture": "unknown"'), encoding='utf-8'
    )
    refused(folder, 'card.json', 'unknown')


def test_invalid_safetensors_with_the_right_hash_is_refused(folder):
    import hashlib

    weights = folder / 'weights.safetensors'
    old = hashlib.sha256(weights.read_bytes()).hexdigest()
    weights.write_bytes(b'\x00' * 64)
    new = hashlib.sha256(weights.read_bytes()).hexdigest()
    card = folder / 'card.json'
    card.write_text(card.read_text(encoding='utf-8').replace(old, new), encoding='utf-8')
    refused(folder, str(weights), 'not a valid safetensors file')


class _Trap:
    def __reduce__(self):
        return (pytest.fail, ('unpickled',))


@pytest.mark.parametrize('name', ['model.pt', 'model.pth', 'model.pkl', 'model.ckpt'])
def test_pickles_are_refused_unopened(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(pickle.dumps(_Trap()))
    refused(path, str(path), 'pickled')


def test_pickle_under_another_name_is_refused(tmp_path):
    path = tmp_path / 'model'
    path.write_bytes(pickle.dumps(_Trap()))
    refused(path, str(path), 'not a model')


def test_folder_or_weights_without_card_are_refused(folder):
    (folder / 'card.json').unlink()
    refused(folder, str(folder), 'card.json')
    refused(folder / 'weights.safetensors', 'card.json')


@pytest.mark.parametrize(
    ('name', 'channels'),
    [
        (DEFAULT_MODEL, 10),
        ('tissue-unet-newborn', 10),
        ('segsrgan-newborn', 2),
        ('segsrgan-synth', 2),
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
    assert card.scores
    assert model.path.stat().st_size < 10_000_000


def test_own_model_comes_before_a_packaged_one_of_its_name(tmp_path, network, monkeypatch):
    assert find_card(BRAIN_MASK_MODEL).version == '3'
    monkeypatch.setenv('BIDS_SEGSR_MODELS', str(tmp_path))
    save_model(tmp_path / BRAIN_MASK_MODEL, network, make_card(name=BRAIN_MASK_MODEL, version='7'))
    assert find_card(BRAIN_MASK_MODEL).version == '7'
    (tmp_path / BRAIN_MASK_MODEL / 'card.json').write_text('{', encoding='utf-8')
    with pytest.raises(ModelError, match=r'card\.json'):
        find_card(BRAIN_MASK_MODEL)


def test_paths_of_models_are_made_absolute_and_names_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine').mkdir()
    assert absolute_model('segsrgan-synth') == 'segsrgan-synth'
    assert absolute_model('mine') == str(tmp_path / 'mine')
    assert absolute_model('a/x') == str(tmp_path / 'a/x')
    assert absolute_model('mine:b/y:0.6') == f'{tmp_path}/mine:{tmp_path}/b/y:0.6'
