"""Weights that the authors of SegSRGAN released."""

from __future__ import annotations

from test_card import make_card

from bids_segsr.zoo.card import ModelCard
from bids_segsr.zoo.released import RELEASED


def test_released_weights_are_those_of_the_repository():
    assert {w.file: w.blob for w in RELEASED.values()} == {
        'Perso_without_data_augmentation': '94b752940de1dc950bc818cced602d9883be1e50',
        'Perso_with_constrast_0.5_and_noise_0.03_val_max': (
            '9362453345e13957774384d807e85046e57724eb'
        ),
        'Perso_with_constrast_0.5_and_noise_0.03_val_max_res_between_2_and_4': (
            '9d2913af81f10e069a2a7922b93c5096a162517d'
        ),
        'Perso_with_constrast_0.5_and_noise_0.03_val_max_res_between_2_and_4_conditional': (
            '620a9d656d78b35d1a20a9df172ffd29c13b263b'
        ),
        'Perso_without_data_agmentation_u_net': 'c9cd63d0cb169bb3d0e82aa832a54837aba68736',
    }


def test_cards_tell_what_each_was_trained_with():
    imported = make_card(limitations=('Of the importer.',))
    for name, weights in RELEASED.items():
        card = weights.card(imported)
        assert card.name == name
        assert card.contract.spacing_mm == (0.5, 0.5)
        assert card.contract.slice_thickness_mm == weights.slice_thickness_mm
        assert ('slices of 2 to 4 mm.' in card.description) == ('2-4mm' in name)
        assert (card.training['augmentation'] != 'none') == ('augmented' in name)
        assert card.training['git_blob'] == weights.blob
        assert card.limitations[0] == 'Of the importer.'
        assert card.channels == imported.channels
        assert ModelCard.from_json(card.to_json()) == card
