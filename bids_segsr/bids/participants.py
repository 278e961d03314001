"""What a dataset tells of the person in a scanner: age, and what brain that age has."""

from __future__ import annotations

import csv
import logging
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from bids_segsr.bids.metadata import read_sidecar
from bids_segsr.exceptions import UserError

logger = logging.getLogger(__name__)

TERM_WEEKS = 40.0
WEEKS = {'day': 1 / 7, 'week': 1.0, 'month': 52.18 / 12, 'year': 52.18}
"""Weeks in a unit of age."""

POSTMENSTRUAL = ('scan_age', 'postmenstrual_age', 'pma')
"""Columns that count weeks from the last menstruation, as the dHCP's sessions.tsv does."""

OLDEST_YEARS = 125.0

BRAIN_ML_BY_AGE = (
    (18.0, 15.0, 110.0),
    (22.0, 30.0, 160.0),
    (26.0, 60.0, 250.0),
    (30.0, 110.0, 370.0),
    (34.0, 170.0, 500.0),
    (40.0, 250.0, 700.0),
    (53.0, 350.0, 1000.0),
    (66.0, 450.0, 1200.0),
    (92.0, 600.0, 1450.0),
    (144.0, 700.0, 1650.0),
    (352.0, 850.0, 1950.0),
    (1000.0, 900.0, 2100.0),
)
"""Postmenstrual weeks, least and most mL inside the skull that a scan of that age shows.

Wide: from small and malformed brains to large heads with all their fluid. Medians of fetuses are
those of Kyriakopoulou et al. (2017, Brain Struct Funct 222:2295), of all others those of Bethlehem
et al. (2022, Nature 604:525); the bounds are about half and twice of them before birth, and open
by half around them in grown people.
"""

ANY_AGE_ML = (40.0, 2100.0)
"""Where no age is known: from fetuses of some 20 weeks to large heads of adults."""


@dataclass(frozen=True)
class Age:
    """Postmenstrual age in weeks, 40 at term: a range, since a column may be read in two ways.

    Attributes:
        youngest: Weeks.
        oldest: Weeks.
        text: As the dataset tells it, for a reader.
    """

    youngest: float
    oldest: float
    text: str


def find_age(root: Path, subject: str, session: str | None = None) -> Age | None:
    """Find the age of a participant at a scan.

    `sub-X_sessions.tsv` comes before `participants.tsv`. A column of `POSTMENSTRUAL` counts weeks;
    `age` counts years, as BIDS has it, or the `Units` of the JSON file beside the table. Weeks of
    `age` may count from birth or before it, and `gestational_age` may be that at birth. A table or
    unit that cannot be understood tells nothing, with a warning.

    Args:
        root: Root of the dataset.
        subject: Label without `sub-`.
        session: Label without `ses-`, or None.

    Returns:
        The age; None where none is told or none can be understood.
    """
    tables = [(root / 'participants.tsv', 'participant_id', f'sub-{subject}')]
    if session is not None:
        sessions = root / f'sub-{subject}' / f'sub-{subject}_sessions.tsv'
        tables.insert(0, (sessions, 'session_id', f'ses-{session}'))
    for table, column, name in tables:
        row = _row(table, column, name)
        age = _age(row, table) if row else None
        if age is not None:
            return age
    return None


def postmenstrual(weeks: float | str) -> Age:
    """Return an age that is told in postmenstrual weeks, 40 at term.

    Args:
        weeks: A number, or its digits.

    Raises:
        ValueError: It is none, or no age of a person.
    """
    value = float(weeks)
    if not 15 <= value <= TERM_WEEKS + OLDEST_YEARS * WEEKS['year']:
        raise ValueError(f'{weeks} are no postmenstrual weeks of a person')
    return Age(value, value, f'{value:g} postmenstrual weeks')


def brain_ml_expected(age: Age | None) -> tuple[float, float]:
    """Return the least and the most mL of brain that an age lets expect (`BRAIN_ML_BY_AGE`)."""
    if age is None:
        return ANY_AGE_ML
    weeks, least, most = np.transpose(BRAIN_ML_BY_AGE)
    low = float(np.interp(age.youngest, weeks, least))
    return round(low), round(float(np.interp(age.oldest, weeks, most)))


def _row(table: Path, column: str, name: str) -> Mapping[str, str] | None:
    try:
        with table.open(encoding='utf-8-sig', newline='') as lines:
            rows = [r for r in csv.DictReader(lines, delimiter='\t') if r.get(column) == name]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, csv.Error) as error:
        _tell_unread(table, str(error))
        return None
    return {str(k).strip().lower(): str(v).strip() for k, v in rows[0].items()} if rows else None


@lru_cache  # once
def _tell_unread(table: Path, error: str) -> None:
    logger.warning('%s: cannot be read (%s): ages are not used; mend it.', table, error)


def _age(row: Mapping[str, str], table: Path) -> Age | None:
    for column in POSTMENSTRUAL:
        weeks = _number(row.get(column))
        if weeks is not None and weeks > 10:
            return Age(weeks, weeks, f'{weeks:g} postmenstrual weeks')
    value = _number(row.get('age'))
    if value is not None:
        unit = _unit(table)
        weeks = value * WEEKS.get(unit, math.inf)
        if weeks <= OLDEST_YEARS * WEEKS['year']:
            text = f'{value:g} {unit}{"" if value == 1 else "s"}'
            before_birth = unit in ('day', 'week') and 15 <= weeks <= 50
            return Age(weeks if before_birth else weeks + TERM_WEEKS, weeks + TERM_WEEKS, text)
    weeks = _number(row.get('gestational_age'))
    if weeks is not None and 10 < weeks < 50:
        return Age(weeks, max(weeks, TERM_WEEKS) + 6, f'gestation of {weeks:g} weeks')
    return None


def _number(text: str | None) -> float | None:
    try:
        value = float((text or '').removesuffix('+'))
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


@lru_cache  # a warning is told once
def _unit(table: Path) -> str:
    """Return the unit of the column `age`, as a key of `WEEKS`; '' where it is not understood."""
    file = table.with_suffix('.json')
    if not os.path.lexists(file):
        return 'year'
    try:
        told = read_sidecar(file)['age']['Units']
    except (KeyError, TypeError):
        return 'year'
    except UserError as error:
        logger.warning('%s: ages are not used.', error)
        return ''
    short = {'y': 'year', 'yr': 'year', 'mo': 'month', 'wk': 'week', 'w': 'week', 'd': 'day'}
    words = {word.removesuffix('s') for word in re.findall('[a-z]+', str(told).lower())}
    units = {short.get(word, word) for word in words} & {*WEEKS}
    if len(units) != 1:
        logger.warning(
            '%s: the unit of age, %r, is not years, months, weeks or days: ages are not used.',
            file,
            told,
        )
        return ''
    return units.pop()
