"""A card as a person reads it."""

from __future__ import annotations

from test_card import make_card

from bids_segsr.cli.card_text import LINE_WIDTH, RESEARCH_USE, UNMEASURED, describe

SCORES = {
    'measured': [
        {'on': 'heads', 'subjects': 12, 'psnr_spline': 28.123, 'psnr_network': 30.5},
        {'on': 'fetuses', 'subjects': 3, 'psnr_spline': 25.0, 'dice': 0.876},
    ]
}


def test_scores_stand_in_columns_beside_those_of_no_network() -> None:
    lines = describe(make_card(scores=SCORES)).splitlines()
    (head,) = [number for number, line in enumerate(lines) if line.startswith('Scores')]
    assert lines[head].split() == ['Scores', 'spline', 'model', 'Dice']
    assert lines[head + 1].split() == ['heads', '(12)', '28.12', '30.50']
    assert lines[head + 2].split() == ['fetuses', '(3)', '25.00', '0.88']
    assert lines[head].index('model') == lines[head + 1].index('30.50')
    assert lines[-2:] == ['More: segsr models show tiny --full', RESEARCH_USE]


def test_all_is_told_in_full_and_no_line_is_too_long() -> None:
    card = make_card(
        scores={}, limitations=('Fails. ' * 40,), citation=('Someone 2020.',), sha256='ab12'
    )
    short, full = describe(card), describe(card, full=True)
    assert UNMEASURED in short
    assert 'ab12' in full
    assert 'Someone 2020.' in full
    assert 'ab12' not in short
    assert full.endswith(RESEARCH_USE)
    assert max(map(len, full.splitlines())) <= LINE_WIDTH
    assert '0.5 to 1 mm' in short
