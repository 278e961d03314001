from __future__ import annotations

import dataclasses

import pytest
import torch
from test_card import make_card

from bids_segsr.exceptions import ModelError
from bids_segsr.networks import create
from bids_segsr.zoo.blend import blend_cards, blend_models
from bids_segsr.zoo.card import InputContract
from bids_segsr.zoo.find import find_card, load_model
from bids_segsr.zoo.store import save_model


@pytest.fixture
def parents(tmp_path):
    made = []
    for name in ('psnr', 'gan'):
        torch.manual_seed(len(name))
        network = create('segsrgan', base_filters=2, n_blocks=1)
        folder = save_model(tmp_path / name, network, make_card(name=name, licence='CC0-1.0'))
        made.append(load_model(folder))
    return made


def test_alpha_is_the_weight_of_the_second(parents):
    psnr, gan = parents
    blended = blend_models(psnr, gan, 0.6)
    one, other = psnr.network.state_dict(), gan.network.state_dict()
    assert any(not one[name].equal(other[name]) for name in one)
    for name, tensor in blended.network.state_dict().items():
        expected = 0.4 * one[name].double() + 0.6 * other[name].double()
        torch.testing.assert_close(tensor.double(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize('alpha', [0.0, 1.0])
def test_either_end_is_a_parent_bit_by_bit(parents, alpha):
    blended = blend_models(*parents, alpha)
    x = torch.rand(1, 1, 8, 8, 8)
    with torch.no_grad():
        assert torch.equal(blended.network(x), parents[int(alpha)].network(x))


def test_parents_are_left_alone(parents):
    before = {n: t.clone() for n, t in parents[0].network.state_dict().items()}
    blend_models(*parents, 0.5)
    for name, tensor in parents[0].network.state_dict().items():
        assert tensor.equal(before[name])


def test_counters_are_kept_and_statistics_blended(tmp_path):
    models = []
    for value in (1, 3):
        network = torch.nn.BatchNorm3d(1)
        network.running_mean.fill_(value)
        network.num_batches_tracked.fill_(value)
        models.append(dataclasses.replace(_as_model(tmp_path), network=network))
    state = blend_models(*models, 0.5).network.state_dict()
    assert state['running_mean'].item() == 2
    assert state['num_batches_tracked'].item() == 1


def _as_model(tmp_path):
    network = create('segsrgan', base_filters=2, n_blocks=1)
    return load_model(save_model(tmp_path / 'tiny', network, make_card()))


def test_blend_on_the_fly_is_found_by_name_and_path(parents, monkeypatch, tmp_path):
    monkeypatch.setenv('BIDS_SEGSR_MODELS', str(tmp_path))
    expected = blend_models(*parents, 0.6)
    for text in ('psnr:gan:0.6', f'{tmp_path / "psnr"}:gan:0.6'):
        model = load_model(text)
        assert model.card == find_card(text) == expected.card
        for name, tensor in model.network.state_dict().items():
            assert tensor.equal(expected.network.state_dict()[name])


def test_card_names_both_parents_with_their_hashes(parents):
    psnr, gan = (model.card for model in parents)
    card = blend_cards(psnr, gan, 0.6)
    assert card.name == 'psnr-gan-0p6'
    assert card.training['blend_of'] == [
        {'name': 'psnr', 'version': '1', 'sha256': psnr.sha256, 'weight': 0.4},
        {'name': 'gan', 'version': '1', 'sha256': gan.sha256, 'weight': 0.6},
    ]
    assert psnr.sha256 != gan.sha256
    assert card.scores == {}
    assert card.licence == 'CC0-1.0'
    assert 'esearch use only' in card.description
    assert type(card).from_json(card.to_json()) == card


def test_hash_of_a_blend_tells_blends_apart(parents):
    psnr, gan = (model.card for model in parents)
    cards = [blend_cards(psnr, gan, 0.5), blend_cards(gan, psnr, 0.5), blend_cards(psnr, gan, 0.6)]
    assert len({card.sha256 for card in cards}) == 3
    assert cards[0] == blend_cards(psnr, gan, 0.5)


def test_contract_is_what_both_were_made_for():
    first, second = (
        make_card(
            contract=InputContract(
                modalities, 'patch-standard', spacing, slices, patch_size=patch_size
            )
        )
        for modalities, spacing, slices, patch_size in (
            (('T1w', 'T2w'), (0.5, 1.0), (1.5, 4.0), 64),
            (('T2w', 'FLAIR'), (0.7, 1.2), (2.0, 5.0), 96),
        )
    )
    contract = blend_cards(first, second, 0.5).contract
    assert contract == InputContract(
        ('T2w',), 'patch-standard', (0.7, 1.0), (2.0, 4.0), patch_size=96
    )


@pytest.mark.parametrize(
    ('changes', 'word'),
    [
        ({'architecture': 'segsrgan-unet', 'options': {'base_filters': 2}}, 'architecture'),
        ({'options': {'base_filters': 2, 'n_blocks': 2}}, 'options'),
        ({'options': {'base_filters': 2, 'n_blocks': 1, 'residual': False}}, 'options'),
        ({'channels': ('intensity', 'hippocampus')}, 'channels'),
        ({'labels': {2: 'cortical grey matter'}}, 'labels'),
        ({'contract': InputContract(('T2w',), 'volume-max', (0.5, 1), (2, 4))}, 'normalisation'),
        ({'contract': InputContract(('T1w',), 'patch-standard', (0.5, 1), (2, 4))}, 'contrasts'),
        ({'contract': InputContract(('T2w',), 'patch-standard', (2, 3), (2, 4))}, 'spacing'),
    ],
)
def test_models_that_do_not_agree_are_refused(changes, word):
    with pytest.raises(ModelError, match=word) as caught:
        blend_cards(make_card(), make_card(**changes), 0.5)
    assert '\n' not in str(caught.value)


def test_options_left_out_have_their_defaults():
    explicit = {'base_filters': 2, 'n_blocks': 1, 'mask_classes': 0, 'residual': True}
    blend_cards(make_card(), make_card(options=explicit), 0.5)


@pytest.mark.parametrize('alpha', [-0.1, 1.01, float('nan')])
def test_weights_outside_zero_to_one_are_refused(alpha):
    with pytest.raises(ModelError, match=r'0 \(first model\)'):
        blend_cards(make_card(), make_card(), alpha)


@pytest.mark.parametrize('text', ['a:b', 'a:b:c', ':b:0.5', 'a:b:0.5:c'])
def test_what_is_no_blend_is_an_unknown_name(text):
    with pytest.raises(ModelError, match='no such model'):
        find_card(text)


def test_unknown_parent_is_named():
    with pytest.raises(ModelError, match='no-such-model: no such model'):
        find_card('segsrgan-newborn:no-such-model:0.5')
