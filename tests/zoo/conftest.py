"""A small model that several tests of the zoo share."""

from __future__ import annotations

import pytest
import torch
from test_card import make_card

from bids_segsr.networks import create
from bids_segsr.zoo.store import save_model


@pytest.fixture
def network():
    torch.manual_seed(0)
    return create('segsrgan', base_filters=2, n_blocks=1)


@pytest.fixture
def folder(tmp_path, network):
    return save_model(tmp_path / 'tiny', network, make_card())
