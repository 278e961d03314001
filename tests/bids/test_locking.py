"""The lock of a participant: one run at a time, other participants stay free."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bids_segsr.bids.locking import subject_lock
from bids_segsr.exceptions import UserError


def test_two_runs_of_one_participant(tmp_path: Path) -> None:
    with (
        subject_lock(tmp_path, '01'),
        subject_lock(tmp_path, '02'),
        pytest.raises(UserError, match=r'another run is processing sub-01'),
        subject_lock(tmp_path, '01'),
    ):
        pass
    with subject_lock(tmp_path, '01'):
        pass


def test_lock_holds_against_another_process(tmp_path: Path) -> None:
    code = (
        'import sys; from pathlib import Path; from bids_segsr.bids.locking import subject_lock\n'
        'with subject_lock(Path(sys.argv[1]), "01"): print("held")'
    )

    def attempt() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, '-c', code, tmp_path], capture_output=True, text=True, check=False
        )

    with subject_lock(tmp_path, '01'):
        assert 'another run' in attempt().stderr
    assert attempt().stdout == 'held\n'
