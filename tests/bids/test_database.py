"""The index that several runs share."""

from __future__ import annotations

from pathlib import Path

import pytest

from bids_segsr.bids.database import INDEX_FILE, make_index
from bids_segsr.exceptions import UserError


def test_an_index_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / INDEX_FILE).touch()
        raise ValueError('half way')

    with pytest.raises(ValueError, match='half way'):
        make_index(tmp_path / 'index', build)
    assert [path.name for path in (tmp_path / 'index').iterdir()] == ['.lock']


def test_an_index_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='cannot be made'):
        make_index(tmp_path / 'file' / 'index', lambda folder: None)
