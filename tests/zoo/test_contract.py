"""Whether an image is one that a model was made for."""

from __future__ import annotations

import dataclasses

import pytest
from test_card import make_card

from bids_segsr.exceptions import ModelError
from bids_segsr.zoo.contract import (
    check_guides,
    check_restores,
    contract_warnings,
    mask_note,
)

FITTING = {
    'modality': 'T2w',
    'resolution': 0.5,
    'slice_thickness': 5.0,
    'skull_stripped': True,
}


@pytest.mark.parametrize(
    ('changes', 'told'),
    [
        ({}, []),
        ({'modality': None, 'resolution': 1.015, 'slice_thickness': 1.485}, []),
        ({'modality': 'FLAIR'}, ['tiny was made for T2w images, this one is FLAIR.']),
        (
            {'resolution': 1.25},
            ['tiny was made for an output grid of 0.5 to 1 mm, here 1.25 mm.'],
        ),
        (
            {'slice_thickness': 6, 'skull_stripped': False},
            [
                'tiny was made for slices of 1.5 to 5 mm, here 6 mm.',
                'tiny was made for skull-stripped images, this one is not masked.',
            ],
        ),
    ],
)
def test_what_differs_from_the_training_is_told(changes, told):
    assert contract_warnings(make_card(), **(FITTING | changes)) == told


def test_a_single_thickness_is_told_as_one():
    contract = dataclasses.replace(make_card().contract, slice_thickness_mm=(3.0, 3.0))
    assert contract_warnings(make_card(contract=contract), **FITTING) == [
        'tiny was made for slices of 3 mm, here 5 mm.'
    ]


def test_guides_are_counted():
    plain = make_card()
    guided = make_card(contract=dataclasses.replace(plain.contract, guides=2))
    check_guides(plain, 0, '--guide')
    check_guides(guided, 2, '--guide')
    with pytest.raises(ModelError, match='takes no guide image, 1 given; leave out --guide'):
        check_guides(plain, 1, '--guide')
    with pytest.raises(ModelError, match=r'needs 2 guide images .*, 1 given; give 2 with --guide'):
        check_guides(guided, 1, '--guide')


def test_a_model_that_finds_the_brain_restores_nothing():
    check_restores(make_card())
    finder = make_card(channels=('intensity', 'brain'), labels={1: 'brain'})
    assert finder.finds_brain
    with pytest.raises(ModelError, match=r'finds the brain .* super-resolves nothing'):
        check_restores(finder)


def test_masks_of_networks_alone_have_a_note():
    assert mask_note('given') == ''
    assert 'Look at the mask' in mask_note('network (brain-mask 3)')
