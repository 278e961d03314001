"""Checks on the folders of a run, before anything is written."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from bids_segsr import __version__
from bids_segsr.exceptions import UserError
from bids_segsr.execution.settings import Settings
from bids_segsr.files import writable


def check_folders(settings: Settings) -> None:
    """Make sure that the folders of a run exist, are apart from each other and can be written.

    Args:
        settings: The settings of the run.

    Raises:
        UserError: On the first folder that will not do, with a path to take instead.
    """
    bids_dir, output_dir, work_dir = (
        path.resolve() for path in (settings.bids_dir, settings.output_dir, settings.work_dir)
    )
    if not bids_dir.is_dir():
        raise UserError(f'{settings.bids_dir}: no such folder; give the root of a BIDS dataset')
    if output_dir == bids_dir:
        suggestion = settings.bids_dir / 'derivatives' / f'bids_segsr-{__version__}'
        raise UserError(
            f'{settings.output_dir}: the output folder is the input dataset itself; '
            f'take another (suggestion: {suggestion})'
        )
    derivatives = bids_dir / 'derivatives'
    if bids_dir in output_dir.parents and derivatives not in (output_dir, *output_dir.parents):
        suggestion = settings.bids_dir / 'derivatives' / f'bids_segsr-{__version__}'
        raise UserError(
            f'{settings.output_dir}: the output folder lies among the files of the input dataset; '
            f'take another (suggestion: {suggestion})'
        )
    if work_dir == bids_dir or bids_dir in work_dir.parents:
        raise UserError(
            f'{settings.work_dir}: the working directory lies inside the input dataset; '
            f'take another with -w (suggestion: {settings.bids_dir.parent / "work"})'
        )
    if settings.clean_workdir:
        given = (*settings.derivatives.values(), settings.bids_database_dir)
        also_kept = (path.resolve() for path in given if path is not None)
        for kept in (output_dir, bids_dir, Path.cwd(), *also_kept):
            if work_dir == kept or work_dir in kept.parents:
                raise UserError(
                    f'{settings.work_dir}: --clean-workdir would delete {kept}; '
                    f'take another with -w (suggestion: {settings.work_dir / "work"})'
                )
    _check_writable(settings.output_dir, 'output folder')
    _check_writable(settings.work_dir, 'working directory')
    if not settings.trust_work_dir and _open_to_others(work_dir):
        raise UserError(
            f'{settings.work_dir}: anybody may write into this working directory, and with it run '
            f'programs as you; run chmod o-w {settings.work_dir}, take another with -w, or give '
            '--trust-work-dir'
        )
    for name, path in settings.derivatives.items():
        if not path.is_dir():
            raise UserError(f'{path}: no such folder; check --derivatives {name}=PATH')
    for flag, file in (
        ('--bids-filter-file', settings.bids_filter_file),
        ('--use-plugin', settings.use_plugin),
    ):
        if file is not None and not file.is_file():
            raise UserError(f'{file}: no such file; check {flag}')


def _open_to_others(work_dir: Path) -> bool:
    """Return whether others may put results there: pickles, which run code when they are read.

    Where the sticky bit is set (/tmp), others can make folders but not touch those of this user.
    """
    if not work_dir.is_dir() or not work_dir.stat().st_mode & stat.S_IWOTH:
        return False
    if not work_dir.stat().st_mode & stat.S_ISVTX:
        return True
    return any(
        path.lstat().st_uid not in (0, os.getuid()) for path in work_dir.glob('bids_segsr*')
    )


def _check_writable(folder: Path, what: str) -> None:
    if not writable(folder):
        home = Path.home()
        suggestion = (
            home if os.access(home, os.W_OK) else Path(tempfile.gettempdir())
        ) / folder.name
        raise UserError(
            f'{folder}: the {what} cannot be written; '
            f'take another that you may write to (suggestion: {suggestion})'
        )
