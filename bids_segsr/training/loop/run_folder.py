"""The folder of a training: whether it can be taken, and that one run has it at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bids_segsr import files
from bids_segsr.exceptions import UserError
from bids_segsr.training.data.data_summary import TrainingData, changed_file
from bids_segsr.training.recipe import Recipe, changed_key
from bids_segsr.training.recipe_file import parse_recipe

RECIPE_FILE = 'recipe.toml'
CACHE_FOLDER = 'cache'
LOCK_FILE = '.lock'

LOCK_SECONDS = 15.0
"""How long a run waits for its folder: the helpers of one that was killed hold it for some seconds
before they notice."""


def check_out(out: Path) -> None:
    """Check the folder of a run before anything is written.

    Args:
        out: The folder; it may be missing.

    Raises:
        UserError: It cannot be written, or holds something else than a run.
    """
    if out.exists():
        # A run that was refused before its first step leaves these alone.
        others = (path.name for path in out.iterdir()) if out.is_dir() else iter([out.name])
        if set(others) - {LOCK_FILE, CACHE_FOLDER} and not (out / RECIPE_FILE).is_file():
            raise UserError(f'{out}: holds something else than a run; give a new folder')
    if not files.writable(out):
        raise UserError(f'{out}: cannot be written; give another folder as --out')


def check_same_run(
    out: Path,
    state: Mapping[str, Any],
    recipe: Recipe,
    data: TrainingData,
    freeze: Sequence[str],
) -> None:
    """Compare the run of a folder with what shall go on in it.

    Args:
        out: The folder.
        state: Of its checkpoint.
        recipe: What shall go on.
        data: On what.
        freeze: Patterns of parameters that are not trained.

    Raises:
        UserError: Recipe, data or frozen layers are others.
    """
    key = changed_key(parse_recipe(state['recipe'], str(out)), recipe)
    file = changed_file(state['files'], data.files)
    frozen, wanted = state['freeze'], list(freeze)
    for what, changed in (
        ('with another recipe', key),
        ('on other data', file),
        ('with other frozen layers', f'{frozen}, now {wanted}' if frozen != wanted else None),
    ):
        if changed is not None:
            raise UserError(
                f'{out}: holds a run {what}: {changed}; go on with the same, or give another '
                'folder'
            )


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the folder of a run, in its first process; the others belong to it.

    Args:
        out: The folder.

    Raises:
        UserError: Another run holds it.
    """
    if not is_first():
        yield
        return
    with files.locked(
        out / LOCK_FILE,
        f'{out}: another segsr train is running in this folder; wait for its end or give '
        'another folder',
        LOCK_SECONDS,
    ):
        yield


def is_first() -> bool:
    """Return whether this is the first process of a training, or the only one."""
    # torchrun and Fabric tell the processes that they start which one they are.
    return os.environ.get('RANK', os.environ.get('LOCAL_RANK', '0')) == '0'
