"""Rows of results outlive the run that made them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bids_segsr.evaluation.result_rows import ROWS_FILE, Store
from bids_segsr.exceptions import UserError


def row(key: str, value: float, **varied: Any) -> dict[str, Any]:
    fixed = {'dataset': '', 'person': 'p', 'subject': '01', 'system': 's', 'device': 'cpu'}
    return {'key': key, **fixed, **varied, 'metric': 'psnr', 'structure': '', 'value': value}


def test_a_later_run_finds_and_orders_what_an_earlier_one_measured(tmp_path: Path) -> None:
    first = Store(tmp_path)
    first.expect({'a': {'step': 30}, 'z': {}})
    first.add([row('z', 1.0)])
    first.add([row('a', 29.523456789, step=30)])
    first.finish()
    later = Store(tmp_path)
    later.expect({'b': {'step': 50}, 'a': {'step': 30}})
    assert ('a' in later, 'b' in later) == (True, False)
    later.add([row('b', float('nan'), step=50)])
    found = later.finish()
    assert list(found['key']) == ['b', 'a']  # those of this run alone, in its order
    assert list(found['step']) == [50, 30]
    assert found['value'].isna().tolist() == [True, False]
    assert found['value'][1] == 29.52345679
    assert [line[:1] for line in (tmp_path / ROWS_FILE).read_text().splitlines()[1:]] == [*'baz']


@pytest.mark.parametrize('text', ['key\tvalue\n', '\x00', 'no table'])
def test_a_table_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / ROWS_FILE).write_text(text, encoding='utf-8')
    with pytest.raises(UserError, match=ROWS_FILE):
        Store(tmp_path)
