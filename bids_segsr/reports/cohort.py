"""The place of an image among all of its modality, told in the report of its participant."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bids_segsr.files import write_text
from bids_segsr.inference.qc import QUANTITIES

OUTLIER_Z = 3.0
SMALLEST_GROUP = 5
"""Fewer images say nothing about what is unusual."""

_TABLE = re.compile(r'group_([a-zA-Z0-9]+)\.tsv')
_ELEMENT = '<script type="application/json" id="cohort">{}</script>'
_WRITTEN = re.compile(re.escape(_ELEMENT).replace(r'\{\}', '[^<]*'))


@dataclass(frozen=True)
class Distribution:
    """What a QC number is in a cohort.

    Attributes:
        values: Known values, ascending.
        quartiles: First quartile, median, third quartile.
        deviation: Median absolute deviation from the median.
    """

    values: np.ndarray
    quartiles: tuple[float, float, float]
    deviation: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Distribution | None:
        """Return that of finite values, or None of fewer than `SMALLEST_GROUP`."""
        known = np.sort(np.fromiter(values, dtype=float))
        if known.size < SMALLEST_GROUP:
            return None
        first, median, third = (float(v) for v in np.percentile(known, (25, 50, 75)))
        return cls(known, (first, median, third), float(np.median(np.abs(known - median))))

    def robust_z(self, value: Any) -> Any:
        """Return 0.6745 (x - median) / MAD; 0 where more than half of the cohort is equal."""
        return (
            0.6745 * (value - self.quartiles[1]) / self.deviation if self.deviation else 0 * value
        )

    def below(self, value: float) -> float:
        """Return the share of the cohort that lies below a value, equals counted by half."""
        left, right = (np.searchsorted(self.values, value, side) for side in ('left', 'right'))
        return float(left + right) / (2 * self.values.size)


@dataclass(frozen=True)
class Cohort:
    """The images of one modality.

    Attributes:
        modality: Their BIDS suffix.
        size: How many they are.
        numbers: By key of the QC dictionary; those of which enough is known.
    """

    modality: str
    size: int
    numbers: Mapping[str, Distribution]

    def places(self, record: Mapping[str, Any]) -> dict[str, list[float]]:
        """Return where the numbers of an image lie.

        Args:
            record: Its QC record.

        Returns:
            By key: value, least, quartiles and most of the cohort, percent of the cohort below
            it, and 1 for an outlier (robust z above `OUTLIER_Z`), else 0.
        """
        found = {}
        for key, numbers in self.numbers.items():
            value = record.get(key)
            if not isinstance(value, (int, float)) or value != value:
                continue
            ends = numbers.values[[0, -1]]
            drawn = (value, ends[0], *numbers.quartiles, ends[1], 100 * numbers.below(value))
            unusual = int(abs(numbers.robust_z(value)) > OUTLIER_Z)
            found[key] = [float(f'{number:.4g}') for number in drawn] + [unusual]
        return found


def read_cohorts(root: Path) -> list[Cohort]:
    """Read the tables of the group level; there are none before it has run.

    Args:
        root: Root of the derivatives.

    Returns:
        One for each `group_<suffix>.tsv` that can be read, sorted.
    """
    import pandas as pd

    cohorts = []
    for path in sorted(root.glob('group_*.tsv')):
        match = _TABLE.fullmatch(path.name)
        if not match:
            continue
        try:
            table = pd.read_csv(path, sep='\t', na_values=['n/a'])
        except (OSError, ValueError):
            continue
        numbers = {}
        for key in (q.key for q in QUANTITIES if q.key in table):
            column = table[key]
            if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
                values = column.to_numpy(dtype=float)
                if (numbers_of := Distribution.of(values[np.isfinite(values)])) is not None:
                    numbers[key] = numbers_of
        cohorts.append(Cohort(match[1], len(table), numbers))
    return cohorts


def cohort_element(cohorts: Sequence[Cohort], records: Iterable[Mapping[str, Any]]) -> str:
    """Return the element of a report that its script draws the places from.

    Args:
        cohorts: See `read_cohorts`.
        records: QC records of the participant.
    """
    images = {
        name: {'of': cohort.size, 'modality': cohort.modality, 'places': cohort.places(record)}
        for record in records
        for cohort in cohorts
        if (name := str(record.get('bids_name'))).endswith(f'_{cohort.modality}')
    }
    pages = [f'group_{cohort.modality}.html' for cohort in cohorts]
    content = json.dumps({'pages': pages, 'images': images}, separators=(',', ':'))
    return _ELEMENT.format(content.replace('<', '\\u003c'))


def tell_reports(root: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write into the reports of all participants where their images lie in the cohort.

    Args:
        root: Root of the derivatives, with the tables of the group level.
        records: QC records of all images.
    """
    cohorts = read_cohorts(root)
    people: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        people.setdefault(str(record.get('bids_name')).split('_')[0], []).append(record)
    for subject, found in people.items():
        path = root / f'{subject}.html'
        if not path.is_file():
            continue
        text = path.read_text(encoding='utf-8')
        element = cohort_element(cohorts, found)
        written = _WRITTEN.search(text)
        if written and written[0] != element:
            write_text(path, text[: written.start()] + element + text[written.end() :])


def without_pages(text: str) -> str:
    """Return the text of a report that is sent: without links to pages that lie elsewhere."""
    return re.sub(r'(id="cohort">\{"pages":)\[[^\]]*\]', r'\1[]', text, count=1)
