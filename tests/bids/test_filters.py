"""Filters of a query: what is read, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bids.layout import Query

from bids_segsr.bids.filters import load_filters
from bids_segsr.exceptions import UserError


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'T2w': {}}, "unknown key 'T2w'; known are t2w, t1w"),
        ({'bold': {}}, "unknown key 'bold'"),
        ({'t2w': {'acq': 'sag'}}, "unknown entity 'acq' under 't2w'; known are .*acquisition"),
        ({'t2w': 'sag'}, 'needs the form'),
        ([], 'needs the form'),
    ],
)
def test_filters_with_mistakes(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / 'filters.json'
    path.write_text(json.dumps(content), encoding='utf-8')

    with pytest.raises(UserError, match=message):
        load_filters(path)


def test_filters_that_are_no_json(tmp_path: Path) -> None:
    path = tmp_path / 'filters.json'
    path.write_text('{"t2w": ', encoding='utf-8')

    with pytest.raises(UserError, match=r'filters\.json: not valid JSON'):
        load_filters(path)


def test_null_is_absent_a_star_is_present_and_a_list_any_of_it(tmp_path: Path) -> None:
    path = tmp_path / 'filters.json'
    given = {'t2w': {'acquisition': None, 'run': '*', 'session': ['a', None]}, 't1w': {'echo': 2}}
    path.write_text(json.dumps(given), encoding='utf-8')

    assert load_filters(path) == {
        't2w': {'acquisition': Query.NONE, 'run': Query.ANY, 'session': ['a', Query.NONE]},
        't1w': {'echo': 2},
    }
