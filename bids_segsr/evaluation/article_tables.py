"""Means, standard deviations, paired tests, and tables as the articles print them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from bids_segsr.evaluation.result_rows import FIXED_COLUMNS, VALUE_COLUMNS
from bids_segsr.evaluation.scores import COST, METRICS

SUMMARY_FILE = 'summary.tsv'
TESTS_FILE = 'tests.tsv'
FEWEST_PAIRS = 2


def varied_columns(rows: pd.DataFrame) -> list[str]:
    """Columns that tell what a protocol varies."""
    return [c for c in rows.columns if c not in FIXED_COLUMNS and c not in VALUE_COLUMNS]


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over the images.

    Args:
        rows: See `run.Rows.table`.

    Returns:
        One row a dataset, system, condition and measure: mean, sd (n - 1; NaN for one image),
        images.
    """
    by = ['dataset', 'system', *varied_columns(rows), 'metric', 'structure']
    grouped = rows.groupby(by, sort=False, dropna=False)['value']
    return grouped.agg(mean='mean', sd='std', images='count').reset_index()


def paired_tests(rows: pd.DataFrame) -> pd.DataFrame:
    """Compare every two systems on the images that both have, condition by condition.

    Several images of one person are not independent: their differences are averaged, and a person
    is one pair. Where one system of a pair has no finite value (such as HD95 of a segmentation
    that is empty), the difference is infinite: it ranks behind all finite ones in the signed-rank
    test. Where both are infinite alike, they do not differ.

    Args:
        rows: See `run.Rows.table`.

    Returns:
        One row a dataset, condition, measure and pair: number of pairs (persons), how many of
        them differ infinitely, mean difference (second minus first; infinite with them), two-sided
        p of the paired t-test (RRDG article, section 3.2) and of the Wilcoxon signed-rank test,
        not corrected for their number. A p-value is NaN where there are fewer than two pairs or
        no pair differs, that of the t-test also where all differences are equal or one is
        infinite.
    """
    found: list[dict[str, Any]] = []
    quality = rows[~rows['metric'].isin(COST)]
    by = ['dataset', *varied_columns(rows), 'metric', 'structure']
    for values, group in quality.groupby(by, sort=False, dropna=False):
        wide = group.pivot_table(
            'value', ['person', 'subject'], 'system', aggfunc='first', sort=False
        )
        for first, second in itertools.combinations(wide.columns, 2):
            difference = _differences(wide[[first, second]].dropna())
            infinite = int(np.isinf(difference).sum())
            found.append(
                {
                    **dict(zip(by, values, strict=True)),
                    'first': first,
                    'second': second,
                    'pairs': len(difference),
                    'infinite': infinite,
                    'difference': _mean(difference),
                    't_p': float('nan') if infinite else _t_test(difference),
                    'wilcoxon_p': _wilcoxon(difference),
                }
            )
    columns = [*by, 'first', 'second', 'pairs', 'infinite', 'difference', 't_p', 'wilcoxon_p']
    return pd.DataFrame(found, columns=columns)


def paper_table(
    rows: pd.DataFrame, index: Sequence[str], metrics: Sequence[str], across: Sequence[str] = ()
) -> pd.DataFrame:
    """Lay means and standard deviations out as a table of an article.

    Args:
        rows: See `run.Rows.table`.
        index: Columns of `rows` that name the table's rows.
        metrics: Measures, in order; those that no row has are left out.
        across: Columns of `rows` whose values are spread over the table's columns.

    Returns:
        Strings: mean, and standard deviation where there are several subjects; a dash where
        nothing was measured. Everything in order of appearance.
    """
    lines = rows[list(index)].drop_duplicates()
    spread = rows[list(across)].drop_duplicates() if across else pd.DataFrame(index=[0])
    kinds = _kinds(rows, metrics)
    several = len({structure for _, structure in kinds if structure}) > 1
    table = pd.DataFrame({name: [_plain(v) for v in lines[name]] for name in index})
    for (metric, structure), (_, place) in itertools.product(kinds, spread.iterrows()):
        chosen = rows[(rows['metric'] == metric) & (rows['structure'] == structure)]
        for name in across:
            chosen = chosen[_equal(chosen[name], place[name])]
        if not len(chosen):
            continue
        label = METRICS[metric].label + (f', {structure}' if several and structure else '')
        heading = ' | '.join(
            [label, *(_plain(place[name]) for name in across if _plain(place[name]))]
        )
        cells = []
        for _, line in lines.iterrows():
            own = chosen
            for name in index:
                own = own[_equal(own[name], line[name])]
            cells.append(cell(own['value'].to_numpy(), metric))
        table[heading] = cells
    return table


def cell(values: np.ndarray, metric: str) -> str:
    """Print a mean, and the standard deviation of several values.

    Args:
        values: One a subject.
        metric: What they are.

    Returns:
        Such as ``26.84 ± 0.62``; a dash without values.
    """
    values = values[~np.isnan(values)]
    if not len(values):
        return '-'
    digits = METRICS[metric].digits
    mean = (
        f'{values.mean():,.{digits}f}' if metric == 'parameters' else f'{values.mean():.{digits}f}'
    )
    if len(values) < FEWEST_PAIRS or metric == 'parameters' or not np.isfinite(values).all():
        return mean
    return f'{mean} ± {values.std(ddof=1):.{digits}f}'


def as_text(table: pd.DataFrame) -> str:
    """Print a table with aligned columns, the first one to the left."""
    columns = [[str(name), *map(str, table[name])] for name in table.columns]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        '  '.join(
            text.ljust(width) if number == 0 else text.rjust(width)
            for number, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in zip(*columns, strict=True)
    ]
    return '\n'.join([lines[0], '-' * max(map(len, lines)), *lines[1:]])


def _t_test(difference: np.ndarray) -> float:
    if len(difference) < FEWEST_PAIRS or np.ptp(difference) <= 1e-12 * np.abs(difference).max():
        return float('nan')
    return float(stats.ttest_1samp(difference, 0).pvalue)


def _differences(pairs: pd.DataFrame) -> np.ndarray:
    """Second minus first column, averaged over the images of a person."""
    first, second = (pairs.iloc[:, number].to_numpy(dtype=float) for number in (0, 1))
    with np.errstate(invalid='ignore'):
        difference = np.where(first == second, 0.0, second - first)
    persons = pairs.index.get_level_values('person')
    means = [_mean(difference[persons == person]) for person in persons.unique()]
    # infinitely better on one image and infinitely worse on another: neither
    return np.nan_to_num(np.array(means), nan=0.0, posinf=np.inf, neginf=-np.inf)


def _mean(values: np.ndarray) -> float:
    with np.errstate(invalid='ignore'):
        return float(values.mean()) if len(values) else float('nan')


def _wilcoxon(difference: np.ndarray) -> float:
    if len(difference) < FEWEST_PAIRS or not difference.any():
        return float('nan')
    # only the ranks count, and those of infinite differences are the highest
    finite = np.abs(difference[np.isfinite(difference)])
    highest = 2 * finite.max(initial=0.5)
    difference = np.clip(difference, -highest, highest)
    return float(stats.wilcoxon(difference).pvalue)


def _kinds(rows: pd.DataFrame, metrics: Sequence[str]) -> list[tuple[str, str]]:
    present = rows[['metric', 'structure']].drop_duplicates().itertuples(index=False)
    pairs = [(str(metric), str(structure)) for metric, structure in present]
    return [pair for wanted in metrics for pair in pairs if pair[0] == wanted]


def _equal(column: pd.Series, value: Any) -> pd.Series:
    return column.isna() if pd.isna(value) else column == value


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return '' if np.isnan(value) else f'{value:g}'
    return str(value)
