"""Seeds of the hostile inputs: one that stays, and a fresh one every run."""

from __future__ import annotations

import os

import pytest

FIXED = 1


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if 'seed' in metafunc.fixturenames:
        seeds = [FIXED, int(os.environ['HOSTILE_SEED'])]
        metafunc.parametrize('seed', seeds, ids=['fixed', 'fresh'])
