"""The verdict: what is wrong is named, what is right is left in peace."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bids_segsr.inference.verdict import FAILED, LOOK, USABLE, judge, judge_all

ADULT = {
    'bids_name': 'sub-01_T2w',
    'brain_volume_ml': 1350.0,
    'brain_volume_expected_ml': [850, 2100],
    'age': '34 years',
    'brain_solidity': 0.87,
    'brain_at_border': 0.08,
    'brain_pieces': 1,
    'brain_brightness': 1.4,
    'largest_share': 0.99,
    'fidelity_nrmse': 0.05,
    'entropy_mean': 0.3,
}


def test_a_plain_adult_is_usable() -> None:
    assert judge(ADULT) == judge({})
    assert judge(ADULT).word == USABLE
    assert judge(ADULT).reasons == ()


@pytest.mark.parametrize(
    ('change', 'word', 'told'),
    [
        ({'brain_volume_ml': 700.0}, LOOK, '700 mL, expected 850 to 2100 at an age of 34 years'),
        ({'brain_volume_ml': 12.0}, FAILED, 'no size that a brain has: 12 mL'),
        ({'brain_solidity': 0.8}, LOOK, 'no shape that a brain has: 0.8, expected 0.82 to 1'),
        ({'brain_solidity': 0.7}, FAILED, 'no shape'),
        ({'brain_at_border': 0.4}, LOOK, 'out of the field of view'),
        ({'brain_pieces': 2}, LOOK, 'in pieces: 2, expected 1'),
        ({'brain_brightness': 0.2}, LOOK, 'where the scan is dark'),
        (
            {'tissue_contrast': 0.01},
            LOOK,
            'phantom: contrast: 0.01, expected 0.04 or more',
        ),
        ({'cerebellum_volume_ml': 0.0}, LOOK, 'next to no cerebellum: 0 mL, expected 0.3 or more'),
        ({'largest_share': 0.5}, LOOK, 'cortex is in pieces'),
        ({'fidelity_nrmse': 0.4}, LOOK, 'does not agree with the scan'),
        ({'entropy_mean': 0.7}, LOOK, 'mean entropy: 0.7 bits, expected 0 to 0.65'),
    ],
)
def test_each_sign_has_its_consequence_and_its_words(
    change: dict[str, Any], word: str, told: str
) -> None:
    verdict = judge({**ADULT, **change})
    assert verdict.word == word
    assert len(verdict.reasons) == 1
    assert told in verdict.reasons[0]


@pytest.mark.parametrize('value', [None, math.nan, 'n/a'])
def test_what_is_not_known_is_not_judged(value: Any) -> None:
    assert judge(dict.fromkeys(ADULT, value)).word == USABLE


def test_without_an_age_a_fetus_and_a_large_adult_pass_and_nothing_smaller() -> None:
    words = [judge({'brain_volume_ml': v}).word for v in (35.0, 60.0, 1990.0, 2200.0)]
    assert words == [LOOK, USABLE, USABLE, LOOK]


def test_real_fetal_stacks() -> None:
    """Brain masks as found in runs 1, 3 and 5 of a fetus of 155 mL, and as drawn by hand."""
    found = [
        {'brain_volume_ml': 183.4, 'brain_solidity': 0.761, 'brain_at_border': 0.47},
        {'brain_volume_ml': 99.6, 'brain_solidity': 0.792, 'brain_at_border': 0.02},
        {'brain_volume_ml': 545.9, 'brain_solidity': 0.697, 'brain_at_border': 0.0},
    ]
    assert [judge(record).word for record in found] == [FAILED, LOOK, FAILED]
    drawn = [
        {'bids_name': f'sub-01_run-{run}_T2w', 'brain_volume_ml': v, 'brain_solidity': s}
        for run, v, s in ((1, 160.1, 0.866), (3, 152.3, 0.848), (5, 155.0, 0.833))
    ]
    assert {v.word for v in judge_all(drawn).values()} == {USABLE}


def test_scans_of_one_head_must_agree() -> None:
    def volumes(**names: float) -> dict[str, str]:
        records = [{'bids_name': n, 'brain_volume_ml': v} for n, v in names.items()]
        return {name: verdict.word for name, verdict in judge_all(records).items()}

    apart = {'sub-01_run-1_T2w': 160.0, 'sub-01_run-2_T2w': 100.0, 'sub-01_run-3_T2w': 150.0}
    assert set(volumes(**apart).values()) == {LOOK}
    assert set(volumes(**{**apart, 'sub-01_run-2_T2w': 130.0}).values()) == {USABLE}
    grown = {'sub-01_ses-1_T2w': 400.0, 'sub-01_ses-2_T2w': 900.0, 'sub-02_T2w': 1300.0}
    assert set(volumes(**grown).values()) == {USABLE}
    verdicts = judge_all([{'bids_name': n, 'brain_volume_ml': v} for n, v in apart.items()])
    assert verdicts['sub-01_run-1_T2w'].reasons == (
        'Scans of one head disagree in the size of its brain: run-1 T2w 160 mL, '
        'run-2 T2w 100 mL, run-3 T2w 150 mL.',
    )


def test_the_demonstration_is_usable() -> None:
    """Numbers of the ICBM 152 average behind the default model."""
    told = {'brain_volume_ml': 1972.4, 'brain_volume_expected_ml': [40, 2100]}
    told |= {'brain_solidity': 0.861, 'brain_at_border': 0.0, 'brain_pieces': 1}
    told |= {'entropy_mean': 0.508, 'largest_share': 0.9999, 'fidelity_nrmse': 0.0098}
    assert judge(told).word == USABLE


def test_what_has_failed_stays_failed_beside_others() -> None:
    records = [
        {'bids_name': 'sub-1_run-1_T2w', 'brain_volume_ml': 150.0, 'brain_solidity': 0.6},
        {'bids_name': 'sub-1_run-2_T2w', 'brain_volume_ml': 500.0, 'brain_solidity': 0.9},
    ]
    verdicts = judge_all(records)
    assert [verdict.word for verdict in verdicts.values()] == [FAILED, LOOK]
    assert [len(verdict.reasons) for verdict in verdicts.values()] == [2, 1]
