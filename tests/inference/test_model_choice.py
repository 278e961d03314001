"""Which model a scan gets where none is named."""

from __future__ import annotations

import numpy as np
import pytest

from bids_segsr.bids.participants import Age, postmenstrual
from bids_segsr.imaging.volume import Volume
from bids_segsr.inference.model_choice import choose_model, known_brain_ml
from bids_segsr.zoo.find import AUTO_MODEL, DEFAULT_MODEL, NEWBORN_MODELS, candidates, find_card

NEWBORN_MODEL = NEWBORN_MODELS['T2w']


@pytest.mark.parametrize(
    ('contrast', 'age', 'brain_ml', 'model', 'told'),
    [
        ('T2w', postmenstrual(40), None, NEWBORN_MODEL, '40 postmenstrual weeks'),
        ('T2w', postmenstrual(33), None, DEFAULT_MODEL, '33 postmenstrual weeks'),
        ('T2w', postmenstrual(92), 400.0, DEFAULT_MODEL, '92 postmenstrual weeks'),
        # a column "age" in weeks that may count from birth or from before it
        ('T2w', Age(38, 78, '38 weeks'), None, DEFAULT_MODEL, '38 weeks'),
        (
            'T2w',
            Age(38, 78, '38 weeks'),
            400.0,
            NEWBORN_MODEL,
            '38 weeks may be a newborn or not; a brain of 400 mL is that',
        ),
        ('T2w', Age(38, 78, '38 weeks'), 900.0, DEFAULT_MODEL, '900 mL is no newborn'),
        ('T2w', Age(20, 60, '20 weeks'), 900.0, DEFAULT_MODEL, '900 mL is no newborn'),
        ('T2w', Age(16, 33, '16 weeks'), 400.0, DEFAULT_MODEL, 'the one for T2w at 16 weeks'),
        ('T1w', postmenstrual(40), None, NEWBORN_MODELS['T1w'], 'for T1w at 40'),
        ('T1w', postmenstrual(92), None, DEFAULT_MODEL, '92 postmenstrual weeks'),
        ('T1w', None, 1400.0, DEFAULT_MODEL, '1400 mL is no newborn'),
        ('T1w', None, 475.0, NEWBORN_MODELS['T1w'], '475 mL is that of a newborn'),
        ('T1w', None, None, DEFAULT_MODEL, NEWBORN_MODELS['T1w']),
        ('FLAIR', postmenstrual(40), 400.0, DEFAULT_MODEL, 'for FLAIR'),
        (None, postmenstrual(40), 400.0, DEFAULT_MODEL, 'unknown contrast'),
        ('T2w', None, 475.0, NEWBORN_MODEL, '475 mL is that of a newborn'),
        ('T2w', None, 1400.0, DEFAULT_MODEL, '1400 mL is no newborn'),
        ('T2w', None, 160.0, DEFAULT_MODEL, '160 mL is no newborn'),
        ('T2w', None, None, DEFAULT_MODEL, NEWBORN_MODEL),
    ],
)
def test_contrast_age_and_size_choose(contrast, age, brain_ml, model, told):
    choice = choose_model(AUTO_MODEL, contrast, age, lambda: brain_ml)
    assert choice.model == model
    assert told in choice.reason


def test_named_model_is_taken_unseen():
    def never() -> float:
        raise AssertionError

    choice = choose_model('some/model', 'T2w', None, never)
    assert (choice.model, choice.reason) == ('some/model', '')


def test_candidates_have_the_same_outputs():
    first, *others = map(find_card, candidates(AUTO_MODEL))
    for card in others:
        assert (card.channels, card.labels, card.regions) == (
            first.channels,
            first.labels,
            first.regions,
        )
    assert candidates('toy') == ('toy',)


def test_brain_is_that_of_the_mask_or_of_a_stripped_scan():
    data = np.zeros((20, 20, 20), np.float32)
    data[5:15, 5:15, 5:15] = np.random.default_rng(0).uniform(50, 100, (10, 10, 10))
    scan = Volume(data, np.diag([2.0, 2.0, 3.0, 1.0]))
    mask = np.zeros(data.shape, bool)
    mask[:10, :10, :5] = True
    assert known_brain_ml(scan, mask) == pytest.approx(500 * 12 / 1000)
    assert known_brain_ml(scan, None) == pytest.approx(12.0)
    assert known_brain_ml(scan, None, look=False) is None
    everywhere = np.random.default_rng(1).uniform(50, 100, data.shape).astype(np.float32)
    head = Volume(everywhere, scan.affine)
    assert known_brain_ml(head, None) is None


@pytest.mark.parametrize('weeks', ['forty', '3', '1e9', 'nan'])
def test_weeks_that_no_person_has_are_refused(weeks):
    with pytest.raises(ValueError, match=r'weeks|convert'):
        postmenstrual(weeks)
