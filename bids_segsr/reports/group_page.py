"""The page of the group level: distributions, ages, repeats, ratings, pictures, and the table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bids_segsr.inference.qc import QUANTITIES
from bids_segsr.inference.verdict import USABLE
from bids_segsr.reports.cohort import OUTLIER_Z, SMALLEST_GROUP, Distribution
from bids_segsr.reports.missing_results import LeftOut
from bids_segsr.reports.page import data_text, formatted, rendered

MOST_REPEATS = 100
"""Rows of the table of repeated scans; those that differ most come first."""


def group_page(
    root: Path,
    modality: str,
    records: Sequence[Mapping[str, Any]],
    *,
    people: Sequence[Mapping[str, Any]] = (),
    units: Mapping[str, str] | None = None,
    ratings: Sequence[Mapping[str, Any]] = (),
    missing: Sequence[LeftOut] = (),
) -> str:
    """Return the page; its script draws everything from the numbers that it holds.

    Args:
        root: Root of the derivatives, where the reports and pictures lie.
        modality: BIDS suffix of the images.
        records: QC record of each image.
        people: What is known of the participant of each image, in the same order.
        units: Units of what is known of them, by column.
        ratings: See `rating.read_ratings`.
        missing: Images without a result.

    Returns:
        HTML that asks for nothing but the pictures beside it.
    """
    facts = _facts(root, records, people, units or {}, ratings)
    return rendered(
        'group.html',
        modality=modality,
        css=data_text('group.css'),
        script=data_text('group.js'),
        missing=missing,
        facts=facts,
        marked=len(records) >= SMALLEST_GROUP,
        smallest=SMALLEST_GROUP,
        outlier_z=OUTLIER_Z,
        repeats=repeats(records),
        counts=_rating_counts(ratings),
        pictures=any(facts['pictures']),
        people=any(column['group'] == 'Participant' for column in facts['columns']),
    )


def robust_z(values: Sequence[float | None]) -> np.ndarray:
    """Return how far each value lies from the median, in robust standard deviations.

    Args:
        values: Numbers; None or NaN where missing.

    Returns:
        0.6745 (x - median) / MAD; 0 where a value is missing, fewer than five values are there,
        or more than half of them are equal.
    """
    numbers = np.array([np.nan if v is None else v for v in values], dtype=float)
    cohort = Distribution.of(numbers[np.isfinite(numbers)])
    return np.nan_to_num(0 * numbers if cohort is None else cohort.robust_z(numbers))


def repeats(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Compare the volumes of images that show one brain: those of one participant and session.

    Args:
        records: QC record of each image.

    Returns:
        `names` of the volumes; `rows`, each with `head` (participant and session), `images`, and
        `cells`: values and how far they lie apart, in percent of their mean. Rows that differ most
        come first; `total` counts them all.
    """
    sizes = [q for q in QUANTITIES if q.unit == 'mL' and any(_number(r, q.key) for r in records)]
    heads: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        parts = str(record['bids_name']).split('_')
        heads['_'.join(p for p in parts if p.startswith(('sub-', 'ses-')))].append(record)
    rows: list[dict[str, Any]] = []
    for head, found in heads.items():
        cells, most = [], 0.0
        for quantity in sizes:
            values = [v for r in found if (v := _number(r, quantity.key)) is not None]
            if len(values) < 2 or not np.mean(values):
                cells.append(('n/a', ''))
                continue
            apart = 100 * (max(values) - min(values)) / float(np.mean(values))
            most = max(most, apart)
            cells.append((', '.join(formatted(v) for v in values), f'{apart:.1f} %'))
        if len(found) > 1:
            names = [_short(str(r['bids_name']), head) for r in found]
            rows.append({'head': head, 'images': ', '.join(names), 'cells': cells, 'most': most})
    rows.sort(key=lambda row: float(row['most']), reverse=True)
    return {
        'names': [f'{q.name} ({q.unit})' for q in sizes],
        'rows': rows[:MOST_REPEATS],
        'total': len(rows),
    }


def _facts(
    root: Path,
    records: Sequence[Mapping[str, Any]],
    people: Sequence[Mapping[str, Any]],
    units: Mapping[str, str],
    ratings: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    columns: list[dict[str, Any]] = []
    marks = [dict[int, str]() for _ in records]
    values: list[Sequence[Any]] = []
    if any(record.get('verdict') for record in records):
        text = 'Usable, to be looked at before use, or failed; and why.'
        columns.append(
            {'key': 'verdict', 'name': 'Verdict', 'unit': '', 'text': text, 'group': ''}
        )
        values.append([record.get('verdict') for record in records])
        for mark, record in zip(marks, records, strict=True):
            if record.get('verdict') != USABLE:
                mark[0] = str(record.get('reasons') or 'not usable')
    for quantity in QUANTITIES:
        column = [record.get(quantity.key) for record in records]
        if all(value is None for value in column):
            continue
        numeric = all(isinstance(v, (int, float, type(None))) for v in column)
        place = len(columns)
        if numeric:
            for mark, value, z in zip(marks, column, robust_z(column), strict=True):
                told = [quantity.implausible(value) or '']
                told += [f'robust z = {z:+.1f}'] if abs(z) > OUTLIER_Z else []
                if reasons := ', '.join(filter(None, told)):
                    mark[place] = reasons
        values.append(column)
        columns.append({
            'key': quantity.key,
            'name': quantity.name,
            'unit': quantity.unit,
            'text': quantity.text,
            'group': quantity.group,
            'number': numeric,
            'low': quantity.low,
            'high': quantity.high,
        })  # fmt: skip
    for key in people[0] if people else ():
        column = [row.get(key) for row in people]
        numeric = all(isinstance(v, (int, float, type(None))) for v in column)
        name, text = key.replace('_', ' '), 'From participants.tsv or sessions.tsv.'
        values.append(column)
        columns.append(
            {'key': key, 'name': name, 'unit': units.get(key, '')}
            | {'text': text, 'group': 'Participant'}
            | {'number': numeric, 'low': None, 'high': None}
        )
    words: dict[str, list[str]] = defaultdict(list)
    for rating in ratings:
        words[str(rating['bids_name'])].append(f'{rating["rating"]} ({rating["rater"]})')
    remarks: dict[str, list[Any]] = {
        'Rating': [', '.join(words[str(r['bids_name'])]) or None for r in records],
        'Warnings': [record.get('warnings') for record in records],
    }
    for name, column in remarks.items():
        if any(column):
            values.append(column)
            columns.append(
                {'key': name.lower(), 'name': name, 'unit': '', 'text': '', 'group': ''}
            )
    names = [str(record['bids_name']) for record in records]
    reports = {name: (root / f'{name.split("_")[0]}.html').is_file() for name in names}
    return {
        'columns': columns,
        'names': names,
        'values': [[_rounded(value) for value in column] for column in values],
        'marks': marks,
        'reports': [int(reports[name]) for name in names],
        'pictures': [_picture(root, name) for name in names],
    }


def _picture(root: Path, name: str) -> str:
    stem, _, suffix = name.rpartition('_')
    path = f'{name.split("_")[0]}/figures/{stem}_desc-thumbnail_{suffix}.jpg'
    return path if (root / path).is_file() else ''


def _rating_counts(ratings: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for rating in ratings:
        counts[str(rating['rating'])] = counts.get(str(rating['rating']), 0) + 1
    return counts


def _number(record: Mapping[str, Any], key: str) -> float | None:
    value = record.get(key)
    return float(value) if isinstance(value, (int, float)) and value == value else None


def _rounded(value: Any) -> Any:
    return float(f'{value:.6g}') if isinstance(value, float) else value


def _short(name: str, head: str) -> str:
    return name.removeprefix(f'{head}_')
