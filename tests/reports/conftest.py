"""Reports that several tests read."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_group import make_group
from test_subject import RUN, FakeSettings, make_tree

from bids_segsr.reports.subject import generate_report


@pytest.fixture(scope='session')
def tree(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FakeSettings]:
    root = tmp_path_factory.mktemp('derivatives') / 'out'
    return root, make_tree(root)


@pytest.fixture(scope='session')
def report(tree: tuple[Path, FakeSettings]) -> Path:
    root, settings = tree
    return generate_report(root, 'sub-01', RUN, settings)


@pytest.fixture
def group(tmp_path: Path) -> Path:
    make_group(tmp_path)
    return tmp_path
