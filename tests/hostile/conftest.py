"""Seeds of the hostile inputs: one that stays, and a fresh one every run."""

from __future__ import annotations

import os
import secrets

import pytest

FIXED = 1
FRESH = int(os.environ.get('HOSTILE_SEED', secrets.randbelow(2**31)))


def pytest_report_header() -> str:
    return f'hostile inputs: seeds {FIXED} and {FRESH} (again with HOSTILE_SEED={FRESH})'


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if 'seed' in metafunc.fixturenames:
        metafunc.parametrize('seed', [FIXED, FRESH], ids=['fixed', f'fresh-{FRESH}'])
