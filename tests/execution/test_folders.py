"""The working directory: what lies there is unpickled."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from bids_segsr.exceptions import UserError
from bids_segsr.execution.folders import check_folders
from bids_segsr.execution.settings import Settings


def check(root: Path, **values: Any) -> None:
    (root / 'raw').mkdir(exist_ok=True)
    folders = {'bids_dir': root / 'raw', 'output_dir': root / 'out', 'work_dir': root / 'work'}
    check_folders(Settings(**(folders | values)))


def test_working_directory_that_anybody_may_write_to_is_refused(tmp_path: Path) -> None:
    work = tmp_path / 'work'
    check(tmp_path)
    work.mkdir()
    for mode in (0o700, 0o755, 0o775, 0o2775):
        work.chmod(mode)
        check(tmp_path)
    for mode in (0o777, 0o702):
        work.chmod(mode)
        with pytest.raises(UserError, match=rf'^{work}: anybody may write .*--trust-work-dir$'):
            check(tmp_path)
        check(tmp_path, trust_work_dir=True)


@pytest.mark.skipif(os.getuid() != 0, reason='only root may give a folder away')
def test_result_of_another_user_in_a_folder_like_tmp_is_refused(tmp_path: Path) -> None:
    results = tmp_path / 'work' / 'bids_segsr_0_1_0_wf'
    results.mkdir(parents=True)
    (tmp_path / 'work' / 'other').mkdir()
    (tmp_path / 'work').chmod(0o1777)
    os.chown(tmp_path / 'work' / 'other', 4321, 4321)
    check(tmp_path)
    os.chown(results, 4321, 4321)
    with pytest.raises(UserError, match='anybody may write'):
        check(tmp_path)
