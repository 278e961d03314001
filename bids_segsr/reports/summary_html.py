"""Pieces of HTML in the report: the summary of an image and its table of QC numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from bids_segsr.inference.qc import QUANTITIES, Entry
from bids_segsr.reports.page import formatted

_AXES = ('left\N{EN DASH}right', 'posterior\N{EN DASH}anterior', 'inferior\N{EN DASH}superior')
RESEARCH_ONLY = '<span class="badge research">Research use only: not for diagnosis</span>'

_MEASURES = {'psnr': 'PSNR (dB)', 'ssim': 'SSIM'}
_SPLINE = ('spline', 'cubic_spline', 'cubic spline')
_LOWER_IS_BETTER = ('nrmse', 'rmse', 'mse', 'mae', 'distance')


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


def scores_told(scores: Mapping[str, Any]) -> list[tuple[str, Any, Any, str]]:
    """Pair the scores of a model with those of cubic spline, where its card holds both.

    Understood are lists of `{'on': .., 'psnr_network': .., 'psnr_spline': ..}`, as
    `benchmarks/default_model.py` writes them, and, of other origin,
    `{'psnr': {'model': .., 'spline': ..}}` and `{'psnr': .., 'psnr_spline': ..}` at any depth.

    Args:
        scores: The `scores` of a model card.

    Returns:
        Measure, score of the model, score of cubic spline, and 'above', 'below' or 'equal to'
        cubic spline in quality (a smaller error counts as above).
    """
    told = []
    for name, value in scores.items():
        if isinstance(value, (list, tuple)):
            for row in (row for row in value if isinstance(row, Mapping)):
                told += [
                    (f'{text}, {row.get("on", name)}', row[f'{m}_network'], row[f'{m}_spline'])
                    for m, text in _MEASURES.items()
                    if row.keys() >= {f'{m}_network', f'{m}_spline'}
                ]
        elif isinstance(value, Mapping):
            spline = next((k for k in value if k in _SPLINE), None)
            others = [
                k
                for k in value
                if k != spline
                and isinstance(value[k], (int, float))
                and k not in ('n', 'subjects')
            ]
            if isinstance(value.get(spline), (int, float)) and others:
                told.append((str(name), value[others[0]], value[spline]))
            else:
                told += [(f'{name} {m}', a, b) for m, a, b, _ in scores_told(value)]
        elif isinstance(value, (int, float)):
            spline = next(
                (k for k in (f'{name}_spline', f'{name}_cubic_spline') if k in scores), None
            )
            if spline and isinstance(scores[spline], (int, float)):
                told.append((str(name), value, scores[spline]))
    return [(m, a, b, _verdict(m, a, b)) for m, a, b in told]


def _verdict(measure: str, model: float, spline: float) -> str:
    better, worse = ('above', 'below')
    if any(word in measure.lower() for word in _LOWER_IS_BETTER):
        better, worse = worse, better
        # the words speak of quality, so that "above" is good for every measure
        model, spline, better, worse = spline, model, worse, better
    return 'equal to' if model == spline else better if model > spline else worse


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


def _spelled(measure: str) -> str:
    words = {'psnr': 'PSNR', 'ssim': 'SSIM', 'nrmse': 'NRMSE', 'dice': 'Dice', 'db': '(dB)'}
    return ' '.join(words.get(word, word) for word in measure.replace('_', ' ').split())


def _scores(scores: Mapping[str, Any]) -> str:
    told = scores_told(scores)
    if not told:
        listed = _nested(scores)
        return f'{listed}<p>Not compared with cubic spline on the card.</p>' if listed else 'none'
    rows = ''.join(
        f'<tr><td>{escape(_spelled(measure))}</td>'
        f'<td class="number">{escape(formatted(model))}</td>'
        f'<td class="number">{escape(formatted(spline))}</td>'
        f'<td><span class="verdict {verdict.split()[0]}">{verdict} cubic spline</span></td></tr>'
        for measure, model, spline, verdict in told
    )
    rest = _overlaps(scores) | {k: v for k, v in scores.items() if isinstance(v, str)}
    return (
        '<table class="scores"><thead><tr><th>Measure</th><th class="number">Model</th>'
        f'<th class="number">Spline</th><th></th></tr></thead><tbody>{rows}</tbody></table>'
        f'{_nested(rest)}'
    )


def _overlaps(scores: Mapping[str, Any]) -> dict[str, str]:
    """Tell the Dice overlaps, which have no counterpart in cubic spline."""
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
