from __future__ import annotations

import hashlib
import json
import struct

import pytest

from bids_segsr.exceptions import ModelError
from bids_segsr.zoo import card as cards
from bids_segsr.zoo.find import find_card, load_model
from bids_segsr.zoo.store import SIZE_LIMIT, outline


def refused(folder, *words):
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    message = str(caught.value)
    assert '\n' not in message
    assert str(folder) in message
    for word in words:
        assert word in message


def replace_weights(folder, content):
    """Put other weights in place, with a card that vouches for them."""
    (folder / 'weights.safetensors').write_bytes(content)
    card = json.loads((folder / 'card.json').read_text(encoding='utf-8'))
    card['sha256'] = hashlib.sha256(content).hexdigest()
    (folder / 'card.json').write_text(json.dumps(card), encoding='utf-8')


def safetensors(header):
    text = json.dumps(header).encode()
    return struct.pack('<Q', len(text)) + text


def replace_options(folder, **options):
    card = json.loads((folder / 'card.json').read_text(encoding='utf-8'))
    card['options'] = options
    (folder / 'card.json').write_text(json.dumps(card), encoding='utf-8')


def test_weights_file_is_measured_before_it_is_read(folder):
    # A sparse file: two tebibytes that take no room.
    with (folder / 'weights.safetensors').open('r+b') as file:
        file.truncate(2**41)
    refused(folder, str(2**41), 'weights.safetensors')


def test_name_that_is_a_path_is_refused(folder):
    card = json.loads((folder / 'card.json').read_text(encoding='utf-8'))
    (folder / 'card.json').write_text(
        json.dumps(card | {'name': '../elsewhere'}), encoding='utf-8'
    )
    refused(folder, 'name', 'letters, digits and hyphens')


def test_hdf5_file_is_measured_before_it_is_read(tmp_path):
    path = tmp_path / 'weights.h5'
    path.write_bytes(b'\x89HDF\r\n\x1a\n')
    with path.open('r+b') as file:
        file.truncate(2**41)
    refused(path, str(2**41))


def test_card_is_measured_before_it_is_read(folder):
    with (folder / 'card.json').open('r+b') as file:
        file.truncate(2**41)
    refused(folder, str(cards.CARD_SIZE_LIMIT))
    with pytest.raises(ModelError, match='no model card'):
        find_card(folder)


@pytest.mark.parametrize(
    'header',
    [
        {'w': {'dtype': 'F32', 'shape': [2**20, 2**20], 'data_offsets': [0, 2**42]}},
        {'w': {'dtype': 'F32', 'shape': [2**62], 'data_offsets': [0, 0]}},
    ],
)
def test_header_that_declares_more_than_the_file_holds_is_refused(folder, header):
    replace_weights(folder, safetensors(header))
    refused(folder, 'not a valid safetensors file')


def test_header_longer_than_the_file_is_refused(folder):
    replace_weights(folder, struct.pack('<Q', 2**60) + b'{}')
    refused(folder, 'not a valid safetensors file')


@pytest.mark.parametrize(
    ('options', 'word'),
    [
        ({'base_filters': 10**9}, 'base_filters'),
        ({'n_blocks': 10**9}, 'n_blocks'),
        ({'base_filters': 4000}, 'at most'),
        ({'base_filters': -1}, 'segsrgan'),
        ({'base_filters': '16'}, 'segsrgan'),
        ({'base_filters': float('nan')}, 'NaN'),
    ],
)
def test_card_cannot_ask_for_a_huge_or_impossible_network(folder, options, word):
    replace_options(folder, **options)
    refused(folder, 'card.json', word)


def test_outline_takes_no_memory():
    network = outline('segsrgan', {'base_filters': 64})
    assert all(parameter.is_meta for parameter in network.parameters())
    k = 64
    expected = 343 * k + 5724 * k**2 + 343 * k * 2 + 116 * k
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_limit_leaves_room_for_every_architecture():
    from bids_segsr.networks import ARCHITECTURES

    for name in ARCHITECTURES:
        size = 4 * sum(parameter.numel() for parameter in outline(name, {}).parameters())
        assert 0 < size < SIZE_LIMIT / 4
