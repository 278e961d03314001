"""Whether a folder can be taken for a training, and who has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bids_segsr.exceptions import UserError
from bids_segsr.training.loop import run_folder
from bids_segsr.training.loop.run_folder import check_out, is_first, locked


def test_new_and_begun_folders_are_taken_and_others_refused(tmp_path: Path) -> None:
    check_out(tmp_path / 'a' / 'new')
    out = tmp_path / 'run'
    out.mkdir()
    check_out(out)
    # what a run leaves that was refused before its first step
    (out / '.lock').touch()
    (out / 'cache').mkdir()
    check_out(out)
    (out / 'thesis.doc').touch()
    with pytest.raises(UserError, match=r'run: holds something else than a run; give a new'):
        check_out(out)
    (out / 'recipe.toml').touch()
    check_out(out)
    for file in (out / 'thesis.doc', out / 'thesis.doc' / 'below'):
        with pytest.raises(UserError, match=r'thesis\.doc'):
            check_out(file)


def test_one_run_at_a_time_with_all_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, 'LOCK_SECONDS', 0.1)
    with locked(tmp_path):
        with pytest.raises(UserError, match='another segsr train is running'), locked(tmp_path):
            pass
        monkeypatch.setenv('RANK', '1')
        assert not is_first()
        with locked(tmp_path):
            pass
        monkeypatch.delenv('RANK')
    with locked(tmp_path):
        assert is_first()
