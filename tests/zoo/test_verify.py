"""Whether a model loads, fits its card and gives numbers."""

from __future__ import annotations

import math

import pytest
import torch
from test_card import make_card

from bids_segsr.exceptions import ModelError
from bids_segsr.zoo.store import save_model
from bids_segsr.zoo.verify import verify_model


def test_a_sound_model_is_handed_back(folder):
    model = verify_model(folder)
    assert model.card.name == 'tiny'
    assert model.path == folder / 'weights.safetensors'


def test_weights_without_numbers_are_refused(tmp_path, network):
    with torch.no_grad():
        next(network.parameters()).fill_(math.nan)
    folder = save_model(tmp_path / 'nan', network, make_card())
    with pytest.raises(ModelError, match=r'weights\.safetensors: gives numbers that are not fin'):
        verify_model(folder)


def test_a_card_with_other_channels_is_refused(tmp_path, network):
    card = make_card(channels=('intensity', 'cortex', 'white'), labels={1: 'cortex'})
    folder = save_model(tmp_path / 'three', network, card)
    with pytest.raises(ModelError, match=r'\(1, 2, 32, 32, 32\), its card says \(1, 3, 32'):
        verify_model(folder)
