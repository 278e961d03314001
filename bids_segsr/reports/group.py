"""The group table: the QC numbers of all images, as TSV and as a page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from bids_segsr import __version__
from bids_segsr.exceptions import UserError
from bids_segsr.files import write_text
from bids_segsr.inference.qc import KEYS, QUANTITIES
from bids_segsr.inference.verdict import USABLE, judge_all
from bids_segsr.reports.missing_results import LeftOut, left_out_html, left_out_tsv
from bids_segsr.reports.page import data_text, formatted, style_and_script

OUTLIER_Z = 3.0
RUN_AGAIN = 'remove it and run this participant again'
SMALLEST_GROUP = 5
"""Fewer images say nothing about what is unusual."""


def write_group(root: Path, modality: str, missing: Sequence[LeftOut] = ()) -> list[Path]:
    """Collect the QC numbers of all images of a modality.

    Args:
        root: Root of the derivatives.
        modality: BIDS suffix of the images, such as `T2w`.
        missing: Images without a result, see `reports.missing_results`.

    Returns:
        `group_<modality>.tsv` (one row an image, sorted by name, `n/a` where a number is missing),
        `group_<modality>.html`, in which outliers are marked (see `robust_z`) and the images
        without a result are listed, and `group_<modality>_left-out.tsv` with these.

    Raises:
        UserError: There is no image of this modality.
    """
    import pandas as pd

    # figures and logs hold most of the files, and are not looked through
    paths = [*root.glob('sub-*/anat/*_qc.json'), *root.glob('sub-*/ses-*/anat/*_qc.json')]
    read = {path: _record(path) for path in sorted(paths)}
    damaged = [
        LeftOut(path.name.removesuffix('_qc.json'), f'{path.name} is no QC file; {RUN_AGAIN}')
        for path, record in read.items()
        if not record
    ]
    missing = [*missing, *damaged]
    # scans of other modalities show the same head
    verdicts = judge_all([record for record in read.values() if record])
    records = [
        _flat(record) | {'verdict': verdict.word, 'reasons': ' '.join(verdict.reasons) or None}
        for record in read.values()
        if (name := str(record.get('bids_name'))).endswith(f'_{modality}')
        for verdict in (verdicts[name],)
    ]
    if not records and not missing:
        raise UserError(
            f'{root}: holds no QC file of a {modality} image; run the participant level first'
        )
    table = pd.DataFrame.from_records(records, columns=None if records else ['bids_name'])
    table = table.sort_values('bids_name', ignore_index=True)[_columns(list(table.columns))]
    tsv = table.to_csv(sep='\t', index=False, na_rep='n/a', float_format='%.6g')
    html = _page(
        root,
        modality,
        table.astype(object).where(table.notna(), None).to_dict('records'),
        left_out_html(missing),
    )
    return [
        write_text(root / f'group_{modality}.tsv', tsv),
        write_text(root / f'group_{modality}.html', html),
        write_text(root / f'group_{modality}_left-out.tsv', left_out_tsv(missing)),
    ]


def robust_z(values: Sequence[float | None]) -> np.ndarray:
    """Return how far each value lies from the median, in robust standard deviations.

    Args:
        values: Numbers; None or NaN where missing.

    Returns:
        0.6745 (x - median) / MAD; 0 where a value is missing, fewer than five values are there,
        or more than half of them are equal.
    """
    numbers = np.array([np.nan if v is None else v for v in values], dtype=float)
    known = numbers[np.isfinite(numbers)]
    if known.size < SMALLEST_GROUP:
        return np.zeros(numbers.shape)
    deviation = float(np.median(np.abs(known - np.median(known))))
    if deviation == 0:
        return np.zeros(numbers.shape)
    return np.nan_to_num(0.6745 * (numbers - np.median(known)) / deviation)


def _record(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding='utf-8'))
        return content if content['bids_name'] else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _flat(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with one text or number an entry, without line breaks and tabs."""
    flat = {
        key: ' | '.join(str(item) for item in value) if isinstance(value, list) else value
        for key, value in content.items()
        if not isinstance(value, dict)
    }
    texts = {
        key: ' '.join(value.split()) or None
        for key, value in flat.items()
        if isinstance(value, str)
    }
    return {**flat, **texts}


def _columns(present: list[str]) -> list[str]:
    known = ['bids_name', 'verdict', 'reasons', *KEYS[1:]]
    return [c for c in known if c in present] + sorted(c for c in present if c not in known)


def _page(root: Path, modality: str, records: Sequence[Mapping[Any, Any]], missing: str) -> str:
    shown = [q for q in QUANTITIES if any(r.get(q.key) is not None for r in records)]
    scores = {
        q.key: robust_z([r.get(q.key) for r in records])
        for q in shown
        if all(isinstance(r.get(q.key), (int, float, type(None))) for r in records)
    }
    heads = [_head('Image', '', False, 'Name of the image; opens the report of the participant.')]
    heads.append(_head('Verdict', '', False, 'Usable, look before use, or failed; and why.'))
    heads += [_head(q.name, q.unit, q.key in scores, q.text) for q in shown]
    heads.append(_head('Warnings', '', False, 'What was reported while the image was processed.'))
    rows = []
    for number, record in enumerate(records):
        cells = [_name_cell(root, str(record['bids_name'])), _verdict_cell(record)]
        for quantity in shown:
            z = float(scores[quantity.key][number]) if quantity.key in scores else 0.0
            value = record.get(quantity.key)
            cells.append(_cell(value, z, quantity.key in scores, quantity.implausible(value)))
        cells.append(_cell(record.get('warnings') or 'none', 0.0, False))
        rows.append(f'<tr>{"".join(cells)}</tr>')
    note = (
        f'Orange: outside the plausible range, or robust z-score above {OUTLIER_Z:g} (0.6745 '
        'times the distance from the median over the median absolute deviation).'
        if len(records) >= SMALLEST_GROUP
        else f'Orange: outside the plausible range; outliers are marked from {SMALLEST_GROUP} '
        'images on.'
    )
    name = escape(modality)
    return '\n'.join(
        [
            '<!DOCTYPE html>',
            '<html lang="en">',
            '<head>',
            '<meta charset="utf-8" />',
            '<meta name="viewport" content="width=device-width, initial-scale=1" />',
            f'<title>Group, {name} - bids_segsr</title>',
            *style_and_script(),
            '</head>',
            '<body>',
            '<nav class="navbar navbar-dark fixed-top"><div class="container-fluid">'
            f'<span class="navbar-brand">Group, {name} <span>bids_segsr</span></span></div></nav>',
            '<main style="max-width: none">',
            '<section class="step">',
            f'<h2>QC numbers of all {name} images</h2>',
            f'<p class="reading">{note} A click on a heading sorts; a click on a name opens the '
            'report of the participant.</p>',
            '<div class="tools">',
            '<input id="filter" class="form-control form-control-sm" type="search" '
            'placeholder="Filter, e.g. sub-01" aria-label="Filter the images" />',
            '<label class="form-check-label"><input id="only-outliers" class="form-check-input" '
            'type="checkbox" /> only with outliers</label>',
            '<span id="count" role="status"></span>',
            '</div>',
            '<div class="scroller">',
            '<table id="group-table" class="table table-sm table-hover group">',
            f'<thead><tr>{"".join(heads)}</tr></thead>',
            f'<tbody>\n{chr(10).join(rows)}\n</tbody>',
            '</table></div>',
            '</section>',
            missing,
            '</main>',
            f'<footer>bids_segsr {__version__}. For research use only: not for diagnosis.',
            '</footer>',
            f'<script>\n{data_text("group.js")}</script>',
            '</body>',
            '</html>',
            '',
        ]
    )


def _head(name: str, unit: str, number: bool, meaning: str) -> str:
    kind = ' class="number" data-number' if number else ''
    shown = f'<span class="unit">{escape(unit)}</span>' if unit else ''
    return (
        f'<th scope="col"{kind} title="{escape(meaning)}">'
        f'<button type="button">{escape(name)}</button>{shown}</th>'
    )


def _name_cell(root: Path, name: str) -> str:
    report = f'{name.split("_")[0]}.html'
    text = escape(name)
    if (root / report).is_file():
        text = f'<a href="./{escape(report)}">{text}</a>'
    return f'<th scope="row" data-value="{escape(name)}">{text}</th>'


def _verdict_cell(record: Mapping[Any, Any]) -> str:
    word, why = escape(str(record['verdict'])), escape(str(record.get('reasons') or ''))
    kind = '' if word == USABLE else ' class="outlier"'
    label = f'<span class="verdict {word}" title="{why}">{word}</span>'
    return f'<td{kind} data-value="{word}">{label}</td>'


def _cell(value: Any, z: float, number: bool, expected: str | None = None) -> str:
    classes = ['number'] if number else []
    reasons = [expected] if expected else []
    if abs(z) > OUTLIER_Z:
        reasons.append(f'robust z = {z:+.1f}')
    title = f' title="{escape(", ".join(reasons))}"' if reasons else ''
    if reasons:
        classes.append('outlier')
    kind = f' class="{" ".join(classes)}"' if classes else ''
    data = '' if value is None else escape(str(value))
    return f'<td{kind}{title} data-value="{data}">{escape(formatted(value))}</td>'
