"""The methods text says what happened, and everything that it cites has an entry."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bids_segsr.bids.citation import write_citation
from bids_segsr.inference.methods_text import methods_text
from bids_segsr.inference.processing import Processing
from bids_segsr.zoo.card import InputContract, ModelCard
from bids_segsr.zoo.find import BRAIN_MASK_MODEL, DEFAULT_MODEL, find_card

CARD = ModelCard(
    name='m',
    version='1',
    description='',
    architecture='segsrgan',
    options={},
    contract=InputContract(('T2w',), 'volume-max', (0.5, 1.0), (2.0, 4.0)),
    channels=('intensity', 'cortex'),
    labels={1: 'cortex'},
)


def text_of(
    card: ModelCard = CARD, masks: tuple[str, ...] = (), all_masked: bool = False, **choices: Any
) -> str:
    how = Processing(**choices)
    return methods_text(card, how, modality='T2w', masks=masks, all_masked=all_masked)


@pytest.mark.parametrize(
    'architecture',
    ['segsrgan', 'segsrgan-unet', 'recnn', 'mdcsrn', 'rrdg', 'tissue-unet', 'tissue-unet-pair'],
)
@pytest.mark.parametrize('template', [None, 'MNIInfant'])
def test_every_citation_has_an_entry(tmp_path: Path, architecture: str, template: str) -> None:
    card = replace(CARD, architecture=architecture)
    written = text_of(card, ('x',), skull_strip='force', skull_strip_template=template)
    text, bib = (path.read_text('utf-8') for path in write_citation(tmp_path, written))
    cited = set(re.findall(r'@([a-z_0-9]+)', text))
    own = 'synthseg' if architecture.startswith('tissue') else architecture.split('-')[0]
    assert {own, 'templateflow' if template else 'synthseg'} <= cited
    assert cited == set(re.findall(r'^@\w+\{(\w+),', bib, flags=re.MULTILINE))


@pytest.mark.parametrize(
    ('choices', 'words'),
    [
        ({'resolution': 0.7}, '0.7 mm'),
        ({'patch_size': 0}, 'on the whole volume'),
        ({'patch_size': 64, 'step': 32}, 'of 64^3^ voxels every 32 voxels'),
        ({'blending': 'uniform'}, 'uniform weights'),
        (
            {'patch_size': (64, 40, 64), 'margin': 3},
            'on patches of 64 x 40 x 64 voxels, 3 of which were cut off at every side',
        ),
        ({'threshold': 0.25}, 'probability above 0.25'),
        ({'keep_largest': True}, 'largest connected component was kept'),
        ({'skull_strip': 'skip'}, 'was not extracted'),
        ({'bias_correction': 'none'}, 'The bias field of each T2w image was not corrected.'),
        ({'skull_strip_tool': 'hd-bet'}, 'by *HD-BET* [@hdbet]'),
        ({'skull_strip_template': 'MNIInfant'}, 'registration of the template MNIInfant'),
        ({'masks': ('manual',)}, 'taken from manual where they exist. The brain was'),
        ({'masks': ('manual',), 'all_masked': True}, 'taken from manual. The image was'),
    ],
)
def test_choices_are_told(choices: dict[str, Any], words: str) -> None:
    assert words in text_of(**choices)
    assert words not in text_of()


def test_defaults_are_told_too() -> None:
    assert 'patches of 96^3^ voxels every 80 voxels with gaussian weights' in text_of()
    finder = find_card(BRAIN_MASK_MODEL)
    assert f'by the network {finder.name} {finder.version}, trained on' in text_of()


@pytest.mark.parametrize(
    ('contract', 'words'),
    [
        (
            {'mirrored': True},
            '; its result is the mean of what it makes of the image and of its mirror image.',
        ),
        ({'interpolation': 'linear'}, 'shown the image interpolated linearly'),
        ({'skull_stripped': False}, 'shown the whole head'),
        ({'back_projection': 0.5}, 'a share of 0.5 of what the acquired slices differ by'),
        (
            {'back_projection': 0.5},
            'applied in 1 step to the restored image (fewer where noise alone was left).',
        ),
        (
            {'back_projection': 0.5, 'input_back_projection_steps': 5, 'back_projection_steps': 2},
            'applied in 5 steps to the interpolated image and 2 steps to the restored image '
            '(fewer where noise alone was left). What surrounds the brain was taken from the '
            'slices; a stripped scan has nothing there.',
        ),
    ],
)
def test_what_the_card_asks_for_is_told(contract: dict[str, Any], words: str) -> None:
    card = replace(CARD, contract=replace(CARD.contract, **contract))
    assert words in text_of(card)
    assert words not in text_of()


def test_networks_are_told_as_they_are() -> None:
    default = text_of(find_card(DEFAULT_MODEL))
    assert 'jointly' not in default
    assert '7 tissues were segmented by another, trained apart' in default
    assert 'labelled as its most probable tissue' in default
    assert 'probability above' not in default
    assert 'The image was restored, and the cortex segmented, by the network m 1' in text_of()
    alone = text_of(replace(CARD, channels=('intensity',), labels={}))
    assert 'The image was restored by the network m 1' in alone
    assert 'cort' not in alone.replace('@', '')
    assert 'Euler' not in alone


def test_of_a_pair_the_tissues_alone_are_looked_at_twice() -> None:
    contract = replace(CARD.contract, mirrored=True)
    card = replace(CARD, architecture='tissue-unet-pair', contract=contract)
    words = '; the tissues are the mean of what it makes of the image and of its mirror image.'
    assert words in text_of(card)
