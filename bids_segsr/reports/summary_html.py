"""Pieces of HTML in the report: the summary of an image and its table of QC numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from bids_segsr.inference.qc import QUANTITIES, Entry
from bids_segsr.reports.page import formatted

_AXES = ('left\N{EN DASH}right', 'posterior\N{EN DASH}anterior', 'inferior\N{EN DASH}superior')
RESEARCH_ONLY = '<span class="badge research">Research use only: not for diagnosis</span>'

_MEASURES = {'psnr': 'PSNR (dB)', 'ssim': 'SSIM'}


def qc_table(qc: Mapping[str, Any]) -> str:
    """Return the QC numbers of one image as an HTML table, its warnings above.

    Args:
        qc: Content of the QC JSON. A key that is missing shows as n/a.

    Returns:
        HTML fragment; every text from `qc` is escaped.
    """
    parts = ['<div class="qc">', _warnings(qc.get('warnings') or [])]
    groups = dict.fromkeys(q.group for q in QUANTITIES)
    parts.append(
        '<table class="table table-sm align-middle qc-table"><thead><tr><th scope="col">Quantity'
        '</th><th scope="col" class="number">Value</th><th scope="col">Unit</th>'
        '<th scope="col">How to read it</th></tr></thead>'
    )
    for group in groups:
        parts.append(
            f'<tbody><tr class="group"><th colspan="4" scope="rowgroup">{group}</th></tr>'
        )
        parts += [
            f'<tr><th scope="row">{q.name}</th>{_value_cell(q, qc.get(q.key))}'
            f'<td>{q.unit}</td><td class="meaning">{q.text}</td></tr>'
            for q in QUANTITIES
            if q.group == group
        ]
        parts.append('</tbody>')
    parts.append('</table></div>')
    return '\n'.join(part for part in parts if part)


def image_summary(
    *,
    file: str,
    entities: Mapping[str, Any],
    qc: Mapping[str, Any],
    card: Mapping[str, Any],
    shape: Sequence[int] | None = None,
    fine_shape: Sequence[int] | None = None,
    slice_direction: int | None = None,
) -> str:
    """Return what was done with one image, and with which model, as HTML.

    Args:
        file: Path of the scan relative to its dataset.
        entities: BIDS entities of the scan, long name to value.
        qc: Content of the QC JSON.
        card: The model's card as a dictionary (see `bids_segsr.zoo.card.ModelCard`).
        shape: Voxels of the scan along its array axes.
        fine_shape: Voxels of the super-resolved image.
        slice_direction: Canonical axis (0 right, 1 anterior, 2 superior) closest to the slice
            axis.

    Returns:
        HTML fragment; every text is escaped.
    """
    spacing = [qc.get(f'spacing_{axis}') for axis in 'ijk']
    scan = [
        ('File', f'<code>{escape(file)}</code>'),
        ('Entities', _badges(entities)),
        ('Grid', _grid(shape, spacing)),
        ('Slices', _slices(qc, slice_direction)),
    ]
    notes = [str(note) for note in qc.get('header_notes') or []]
    resolution = qc.get('resolution_mm')
    steps = [
        ('Output grid', _grid(fine_shape, [resolution] * 3)),
        ('Brain mask', escape(str(qc.get('skull_strip', 'n/a')))),
        ('Computed on', escape(str(qc.get('device', 'n/a')))),
        ('Header repairs', _list(notes) if notes else 'none'),
    ]
    return '\n'.join(
        [
            '<div class="summary row g-3">',
            _block('Scan', scan),
            _block('Processing', steps),
            _block('Model', _model_rows(card, qc)),
            '</div>',
        ]
    )


@dataclass(frozen=True)
class Told:
    """One measure of a model on one kind of held-out images, beside what needs no network.

    Attributes:
        measure: What was measured, on what.
        model: The model's score; more is better.
        spline: That of cubic spline.
        ibp: That of cubic spline with back-projection; None where the card does not tell.
    """

    measure: str
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
            f'{text}, {row.get("on", "held-out")}',
            row[f'{m}_network'],
            row[f'{m}_spline'],
            row.get(f'{m}_ibp'),
        )
        for row in entries
        for m, text in _MEASURES.items()
        if row.keys() >= {f'{m}_network', f'{m}_spline'}
    ]


def _model_rows(card: Mapping[str, Any], qc: Mapping[str, Any]) -> list[tuple[str, str]]:
    digest = str(card.get('sha256') or qc.get('model_sha256') or '')
    name = escape(f'{card.get("name", qc.get("model", "n/a"))} {card.get("version", "")}'.strip())
    training = card.get('training') or {}
    more = [
        ('Trained on', _nested(training) or 'not told on the card'),
        ('Limitations', _list(card.get('limitations') or []) or 'none told on the card'),
        ('Licence', escape(str(card.get('licence') or 'not told on the card'))),
        (
            'SHA-256',
            f'<code class="hash">{escape(digest)}</code>' if digest else 'none (not saved)',
        ),
    ]
    listed = ''.join(f'<dt>{title}</dt><dd>{content}</dd>' for title, content in more)
    return [
        ('Name', f'<strong>{name}</strong> {RESEARCH_ONLY}'),
        ('Held-out scores', _scores(card.get('scores') or {})),
        (
            'More',
            '<details><summary>Training, limitations, licence, hash</summary>'
            f'<dl class="inner">{listed}</dl></details>',
        ),
    ]


def _scores(scores: Mapping[str, Any]) -> str:
    told = scores_told(scores)
    if not told:
        listed = _nested(scores)
        return f'{listed}<p>Not compared with cubic spline on the card.</p>' if listed else 'none'
    rows = ''.join(
        f'<tr><td>{escape(row.measure)}</td>'
        f'<td class="number">{escape(formatted(row.model))}</td>'
        f'<td class="number">{"" if row.ibp is None else escape(formatted(row.ibp))}</td>'
        f'<td class="number">{escape(formatted(row.spline))}</td>'
        f'<td><span class="verdict {row.verdict.split()[0]}">{row.verdict}</span></td></tr>'
        for row in told
    )
    rest = _overlaps(scores) | {k: v for k, v in scores.items() if isinstance(v, str)}
    missing = ''
    if all(row.ibp is None for row in told):
        missing = '<p>Not compared with back-projection alone on the card.</p>'
    return (
        '<table class="scores"><thead><tr><th>Measure</th><th class="number">Model</th>'
        '<th class="number">Back-projection alone</th><th class="number">Spline</th><th></th>'
        f'</tr></thead><tbody>{rows}</tbody></table>{missing}{_nested(rest)}'
    )


def _overlaps(scores: Mapping[str, Any]) -> dict[str, str]:
    """Tell the Dice overlaps, which need a network."""
    told = {}
    for rows in (value for value in scores.values() if isinstance(value, (list, tuple))):
        for row in (row for row in rows if isinstance(row, Mapping) and 'dice_network' in row):
            text = f'{row["dice_network"]:.2f}'
            if 'dice_window' in row:
                text += f'; the best intensity window reaches {row["dice_window"]:.2f}'
            told[f'cortex Dice, {row.get("on", "held-out")}'] = text
    return told


def _value_cell(entry: Entry, value: Any) -> str:
    expected = entry.implausible(value)
    mark = f' outlier" title="{expected}"' if expected else '"'
    return f'<td class="number{mark}>{escape(formatted(value))}</td>'


def _warnings(warnings: Iterable[Any]) -> str:
    return ''.join(
        f'<p class="alert alert-warning" role="alert">{escape(str(text))}</p>' for text in warnings
    )


def _block(title: str, rows: Iterable[tuple[str, str]]) -> str:
    body = ''.join(f'<dt>{name}</dt><dd>{content}</dd>' for name, content in rows)
    width = 'col-12' if title == 'Model' else 'col-lg-6'
    section = f'<section class="panel"><h4>{title}</h4><dl>{body}</dl></section>'
    return f'<div class="{width}">{section}</div>'


def _badges(entities: Mapping[str, Any]) -> str:
    return ' '.join(
        f'<span class="entity">{escape(str(name))} <b>{escape(str(value))}</b></span>'
        for name, value in entities.items()
    )


def _grid(shape: Sequence[int] | None, spacing: Sequence[Any]) -> str:
    times = ' \N{MULTIPLICATION SIGN} '
    sizes = times.join(formatted(float(s)) if s is not None else 'n/a' for s in spacing)
    voxels = f'{times.join(str(n) for n in shape)} voxels of ' if shape is not None else ''
    return f'{voxels}{escape(sizes)} mm'


def _slices(qc: Mapping[str, Any], direction: int | None) -> str:
    axis = escape(str(qc.get('slice_axis', 'n/a')))
    where = f' ({_AXES[direction]})' if direction is not None else ''
    thickness = qc.get('slice_thickness_mm')
    thick = f', {escape(formatted(thickness))} mm thick' if thickness is not None else ''
    return f'along array axis {axis}{where}{thick}'


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
