"""What the card of a model says in a report."""

from __future__ import annotations

from bids_segsr.reports.model_html import model_html, scores_told
from bids_segsr.zoo.card import OTHER_SLICES

CARD = {
    'name': 'phantom-T2w',
    'version': '1.0',
    'architecture': 'segsrgan',
    'training': {'images': 12, 'source': 'label maps <synthetic contrasts>'},
    'scores': {
        'held_out': [
            {'on': 'adults', 'psnr_network': 27.9, 'psnr_spline': 29.4, 'psnr_ibp': 30.1},
        ],
    },
    'limitations': ['Not for images with motion.'],
    'licence': 'CC-BY-4.0',
    'sha256': 'ab12' * 16,
}


def test_model_is_told_as_on_its_card() -> None:
    text = model_html(CARD)
    assert 'label maps &lt;synthetic contrasts&gt;' in text
    assert 'below back-projection alone' in text
    assert 'ab12' * 16 in text
    assert 'CC-BY-4.0' in text


def test_scores_are_judged_against_what_needs_no_network() -> None:
    rows = [
        {'on': 'heads', 'psnr_network': 24.1, 'psnr_spline': 23.4, 'psnr_ibp': 24.0},
        {'on': 'real', 'psnr_network': 24.1, 'psnr_spline': 23.4, 'psnr_ibp': 24.5},
        # the slices were not those that back-projection assumes
        {'on': 'gap', 'ssim_network': 0.85, 'ssim_spline': 0.9, 'ssim_ibp': 0.8},
        {'on': 'fetus', 'ssim_network': 0.9, 'ssim_spline': 0.9, 'dice_network': 0.7},
        {'on': 'no baseline', 'psnr_network': 24.1},
    ]
    told = scores_told({'held_out': rows, 'note': 'text', 'psnr': 20.0})
    assert [(t.measure, t.on, t.model, t.spline, t.ibp, t.verdict) for t in told] == [
        ('PSNR (dB)', 'heads', 24.1, 23.4, 24.0, 'above back-projection alone'),
        ('PSNR (dB)', 'real', 24.1, 23.4, 24.5, 'below back-projection alone'),
        ('SSIM', 'gap', 0.85, 0.9, 0.8, 'below cubic spline'),
        ('SSIM', 'fetus', 0.9, 0.9, None, 'equal to cubic spline'),
    ]


def test_a_card_without_that_comparison_says_so() -> None:
    row = {'on': 'heads', 'psnr_network': 24.1, 'psnr_spline': 23.4}
    texts = [
        model_html({**CARD, 'scores': {'held_out': [scores]}})
        for scores in (row, {**row, 'psnr_ibp': 24.0})
    ]
    missing = 'Not compared with back-projection alone on the card.'
    assert [missing in text for text in texts] == [True, False]
    assert [text.count('above ') for text in texts] == [1, 1]


def test_slices_of_other_kinds_are_summed_up() -> None:
    usual = {'on': 'heads', 'psnr_network': 24.1, 'psnr_spline': 23.4, 'psnr_ibp': 24.0}
    rows = [
        {'psnr_network': 24.1, 'psnr_spline': 23.4, 'psnr_ibp': 23.5},
        {'psnr_network': 23.9, 'psnr_spline': 24.2, 'psnr_ibp': 22.0},
        {'ssim_network': 0.9},
        {'psnr_network': None, 'psnr_spline': 24.2, 'psnr_ibp': 22.0},
        'not a table',
    ]
    text = model_html({**CARD, 'scores': {'held_out': [usual], OTHER_SLICES: rows}})
    assert '-0.30 to +0.60 dB over the better of spline and IBP.' in text
    one = model_html({**CARD, 'scores': {'held_out': [usual], OTHER_SLICES: rows[:1]}})
    assert ' +0.60 dB over the better of spline and IBP.' in one
    for nothing in ('text', None, {}, []):
        scores = {'held_out': [usual], OTHER_SLICES: nothing}
        assert 'slices of other kinds' not in model_html({**CARD, 'scores': scores})


def test_overlaps_are_told_beside_the_best_window() -> None:
    row = {'on': 'heads', 'psnr_network': 24.1, 'psnr_spline': 23.4, 'dice_network': 0.7}
    html = model_html({**CARD, 'scores': {'held_out': [{**row, 'dice_window': 0.8}]}})
    assert 'cortex Dice' in html
    assert '0.70; the best intensity window reaches 0.80' in html
