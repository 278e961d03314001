"""Means, deviations and paired tests against scipy and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bids_segsr.evaluation.article_tables import (
    as_text,
    cell,
    paired_tests,
    paper_table,
    summarise,
)

VALUES = {'spline': [24.0, 25.0, 23.5, 24.5], 'network': [26.0, 26.5, 26.0, 27.5]}


def rows(values: dict[str, list[float]], **columns: Any) -> pd.DataFrame:
    return pd.DataFrame([
        {
            'key': f'{system}{n}', 'dataset': 'a', 'person': f'sub-{n}', 'subject': f'sub-{n}',
            'system': system, 'device': 'cpu', **columns, 'metric': 'psnr', 'structure': '',
            'value': value,
        }
        for system, series in values.items()
        for n, value in enumerate(series)
    ])  # fmt: skip


def test_summary() -> None:
    found = summarise(rows(VALUES)).set_index('system')
    assert found.loc['network', 'mean'] == pytest.approx(26.5)
    assert found.loc['network', 'sd'] == pytest.approx(np.std(VALUES['network'], ddof=1))
    assert found.loc['network', 'images'] == 4
    alone = summarise(rows({'spline': [24.0]}))
    assert np.isnan(alone['sd'][0])


def test_paired_tests_are_those_of_scipy() -> None:
    found = paired_tests(rows(VALUES)).iloc[0]
    assert (found['first'], found['second'], found['pairs']) == ('spline', 'network', 4)
    assert found['difference'] == pytest.approx(2.25)
    one, other = VALUES['network'], VALUES['spline']
    assert found['t_p'] == pytest.approx(stats.ttest_rel(one, other).pvalue)
    assert found['wilcoxon_p'] == pytest.approx(stats.wilcoxon(one, other).pvalue)


def test_pairs_are_of_the_same_image_and_condition() -> None:
    table = pd.concat([rows(VALUES, step=30), rows({'spline': [1.0], 'network': [2.0]}, step=80)])
    # sub-1 was not restored at step 30
    table = table[(table['system'] == 'spline') | (table['subject'] != 'sub-1')]
    found = paired_tests(table).set_index('step')
    assert found.loc[30, 'pairs'] == 3
    assert found.loc[30, 'difference'] == pytest.approx(np.mean([2.0, 2.5, 3.0]))
    assert found.loc[80, 'pairs'] == 1


@pytest.mark.parametrize(
    ('first', 'second', 't', 'wilcoxon'),
    [
        ([24.0], [26.0], False, False),
        ([24.0, 25.0, 26.0], [24.0, 25.0, 26.0], False, False),
        ([24.0, 25.0, 26.0], [25.0, 26.0, 27.0], False, True),
        ([24.0, 25.0], [25.0, 27.5], True, True),
        ([np.inf, 25.0], [25.0, 27.5], False, True),
        ([np.nan, 25.0], [25.0, 27.5], False, False),
    ],
)
def test_no_p_value_where_there_is_none(
    first: list[float], second: list[float], t: bool, wilcoxon: bool
) -> None:
    found = paired_tests(rows({'a': first, 'b': second})).iloc[0]
    assert (bool(np.isfinite(found['t_p'])), bool(np.isfinite(found['wilcoxon_p']))) == (
        t, wilcoxon,
    )  # fmt: skip


def test_a_model_that_finds_nothing_stays_in_the_test() -> None:
    good, bad = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2.0, np.inf, 1.0, 9.0, np.inf, 6.5]
    found = paired_tests(rows({'good': good, 'bad': bad}).assign(metric='hd95')).iloc[0]
    assert (found['pairs'], found['infinite'], found['difference']) == (6, 2, np.inf)
    assert np.isnan(found['t_p'])
    # any large number has the rank of infinity
    large = [1000.0 if np.isinf(value) else value for value in np.subtract(bad, good)]
    assert found['wilcoxon_p'] == pytest.approx(stats.wilcoxon(large).pvalue)
    both = paired_tests(rows({'a': [np.inf, 1.0, 2.0], 'b': [np.inf, 2.0, 4.0]})).iloc[0]
    assert (both['pairs'], both['infinite'], both['difference']) == (3, 0, 1.0)


def test_a_person_is_one_pair() -> None:
    table = rows({'a': [1.0, 1.0, 1.0, 1.0], 'b': [2.0, 4.0, 6.0, 8.0]})
    table['person'] = table['subject'].replace({'sub-1': 'sub-0'})
    # an image that one system lacks has no part in the person's average
    table = table[(table['system'] == 'a') | (table['subject'] != 'sub-3')]
    found = paired_tests(table).iloc[0]
    assert found['pairs'] == 2
    assert found['difference'] == pytest.approx(np.mean([(1 + 3) / 2, 5]))
    assert found['t_p'] == pytest.approx(stats.ttest_1samp([2.0, 5.0], 0).pvalue)


def test_cost_is_not_tested() -> None:
    assert not len(paired_tests(rows(VALUES).assign(metric='seconds')))


def test_cells() -> None:
    assert cell(np.array([26.0, 27.0]), 'psnr') == '26.50 ± 0.71'
    assert cell(np.array([26.0]), 'psnr') == '26.00'
    assert cell(np.array([np.nan]), 'psnr') == '-'
    assert cell(np.array([1.0, np.inf]), 'hd95') == 'inf'
    assert cell(np.array([1144921.0, 1144921.0]), 'parameters') == '1,144,921'


def test_table_of_the_article() -> None:
    dice = rows({'network': [0.8, 0.9, 0.8, 0.9]}).assign(metric='dice', structure='cortex')
    table = paper_table(pd.concat([rows(VALUES), dice]), ['system'], ['dice', 'ncc', 'psnr'])
    assert table.columns.tolist() == ['system', 'Dice', 'PSNR (dB)']
    assert table.values.tolist() == [
        ['spline', '-', '24.25 ± 0.65'],
        ['network', '0.850 ± 0.058', '26.50 ± 0.71'],
    ]
    lines = as_text(table).splitlines()
    assert lines[0].split() == ['system', 'Dice', 'PSNR', '(dB)']
    assert len({len(line) for line in lines}) == 1


def test_table_across() -> None:
    both = pd.concat([rows(VALUES, variant=name) for name in ('original', 'noisy')])
    white = both.assign(metric='dice', structure='white')
    cortex = both.assign(metric='dice', structure='cortex')
    table = paper_table(pd.concat([white, cortex]), ['system'], ['dice'], ['variant'])
    assert table.columns.tolist() == [
        'system', 'Dice, white | original', 'Dice, white | noisy', 'Dice, cortex | original',
        'Dice, cortex | noisy',
    ]  # fmt: skip
