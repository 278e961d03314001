"""The model behind the results, told once a report and folded: what its card says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from bids_segsr.reports.page import formatted
from bids_segsr.zoo.card import OTHER_SLICES, other_slices_text

_MEASURES = {'psnr': 'PSNR (dB)', 'ssim': 'SSIM'}


@dataclass(frozen=True)
class Told:
    """One measure of a model on one kind of held-out images, beside what needs no network.

    Attributes:
        measure: What was measured.
        on: The kind of images.
        model: The model's score; more is better.
        spline: That of cubic spline.
        ibp: That of cubic spline with back-projection; None where the card does not tell.
    """

    measure: str
    on: str
    model: float
    spline: float
    ibp: float | None = None

    @property
    def verdict(self) -> str:
        """'above', 'below' or 'equal to' the better baseline, and which one that is."""
        base, name = max(
            (self.spline, 'cubic spline'),
            (-math.inf if self.ibp is None else self.ibp, 'back-projection alone'),
        )
        word = 'above' if self.model > base else 'below' if self.model < base else 'equal to'
        return f'{word} {name}'


def scores_told(scores: Mapping[str, Any]) -> list[Told]:
    """Find, on a card, the scores of a model beside those of what needs no network.

    Args:
        scores: The `scores` of a model card: lists of `{'on': .., 'psnr_network': ..,
            'psnr_spline': .., 'psnr_ibp': ..}` as `benchmarks/default_model.py` writes them.

    Returns:
        PSNR and SSIM of each entry that has those of the model and of cubic spline.
    """
    entries = [
        row
        for rows in scores.values()
        if isinstance(rows, (list, tuple))
        for row in rows
        if isinstance(row, Mapping)
    ]
    return [
        Told(
            text,
            str(row.get('on', 'held-out')),
            row[f'{m}_network'],
            row[f'{m}_spline'],
            row.get(f'{m}_ibp'),
        )
        for row in entries
        for m, text in _MEASURES.items()
        if row.keys() >= {f'{m}_network', f'{m}_spline'}
    ]


def model_html(card: Mapping[str, Any]) -> str:
    """Return what the card of a model says: scores, training, limitations, each folded.

    Args:
        card: The card as a dictionary (see `bids_segsr.zoo.card.ModelCard`); of a model that is
            not at hand, its name, version and hash.

    Returns:
        HTML fragment; every text from the card is escaped.
    """
    name = escape(f'{card.get("name", "n/a")} {card.get("version", "")}'.strip())
    digest = escape(str(card.get('sha256') or 'none (not saved)'))
    facts = [
        ('Trained on', _nested(card.get('training') or {}) or 'not told on the card'),
        ('Limitations', _list(card.get('limitations') or []) or 'none told on the card'),
        ('Licence', escape(str(card.get('licence') or 'not told on the card'))),
        ('SHA-256', f'<code class="hash">{digest}</code>'),
    ]
    listed = ''.join(f'<dt>{title}</dt><dd>{content}</dd>' for title, content in facts)
    return (
        f'<p><strong>{name}</strong></p>'
        '<details><summary>Scores on images that it was not trained on</summary>'
        f'{_scores(card.get("scores") or {})}</details>'
        '<details><summary>Training, limitations, licence, hash</summary>'
        f'<dl class="inner">{listed}</dl></details>'
    )


def _scores(scores: Mapping[str, Any]) -> str:
    others = escape(other_slices_text(scores))
    scores = {key: value for key, value in scores.items() if key != OTHER_SLICES}
    told = scores_told(scores)
    if not told:
        listed = _nested(scores)
        return f'{listed}<p>Not compared with cubic spline on the card.</p>' if listed else 'none'
    parts = [_table(text, [t for t in told if t.measure == text]) for text in _MEASURES.values()]
    if all(row.ibp is None for row in told):
        parts.append('<p>Not compared with back-projection alone on the card.</p>')
    if others:
        parts.append(f'<p>{others}</p>')
    rest = _overlaps(scores) | {k: v for k, v in scores.items() if isinstance(v, str)}
    return ''.join(parts) + _nested(rest)


def _table(measure: str, told: Sequence[Told]) -> str:
    """Return the scores of one measure, one row a kind of images."""
    if not told:
        return ''
    rows = ''.join(
        f'<tr><th scope="row">{escape(row.on)}</th>'
        f'<td class="number">{escape(formatted(row.model))}</td>'
        f'<td class="number">{"" if row.ibp is None else escape(formatted(row.ibp))}</td>'
        f'<td class="number">{escape(formatted(row.spline))}</td>'
        f'<td>{row.verdict}</td></tr>'
        for row in told
    )
    return (
        f'<div class="scroller" tabindex="0" role="region" aria-label="{escape(measure)}">'
        f'<table class="table table-sm scores"><thead><tr><th scope="col">{escape(measure)}</th>'
        '<th scope="col" class="number">Model</th>'
        '<th scope="col" class="number">Back-projection<br>alone</th>'
        '<th scope="col" class="number">Cubic<br>spline</th><th scope="col">The model is</th>'
        f'</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _overlaps(scores: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Tell the Dice overlaps, which need a network."""
    told = {}
    for rows in (value for value in scores.values() if isinstance(value, (list, tuple))):
        for row in (row for row in rows if isinstance(row, Mapping) and 'dice_network' in row):
            text = f'{row["dice_network"]:.2f}'
            if 'dice_window' in row:
                text += f'; the best intensity window reaches {row["dice_window"]:.2f}'
            told[str(row.get('on', 'held-out'))] = text
    return {'cortex Dice': told} if told else {}


def _list(items: Iterable[Any]) -> str:
    content = ''.join(f'<li>{escape(str(item))}</li>' for item in items)
    return f'<ul>{content}</ul>' if content else ''


def _nested(value: Any) -> str:
    if isinstance(value, Mapping):
        rows = ''.join(
            f'<li><span class="key">{escape(str(k).replace("_", " "))}</span> {_nested(v)}</li>'
            for k, v in value.items()
        )
        return f'<ul>{rows}</ul>' if rows else ''
    if isinstance(value, (list, tuple)):
        if any(isinstance(item, Mapping) for item in value):
            return '<ul>' + ''.join(f'<li>{_nested(item)}</li>' for item in value) + '</ul>'
        return escape(', '.join(str(item) for item in value))
    return escape(formatted(value))
