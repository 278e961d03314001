"""The pybids index that several runs share."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

from bids_segsr.files import locked

logger = logging.getLogger(__name__)

INDEX_FILE = 'layout_index.sqlite'
"""Name that pybids gives its index."""


def make_index(folder: Path, build: Callable[[Path], object], *, anew: bool = False) -> None:
    """Make sure that a folder holds a pybids index, built once however many runs ask for it.

    pybids itself fills the file in place: a second run would read the half of it, or fail on its
    tables. Here the others wait for the first one, and a run that is killed leaves no half index.

    Args:
        folder: Folder of the index; it is made.
        build: Writes the index into the empty folder that it is given.
        anew: Whether an index that is there is replaced.

    Raises:
        UserError: If the folder cannot be written.
    """
    path = folder / INDEX_FILE
    if path.is_file() and not anew:
        return
    with locked(folder / '.lock'):
        if path.is_file() and not anew:
            logger.info('%s: index of another run', path)
            return
        with tempfile.TemporaryDirectory(dir=folder, prefix='.index-') as partial:
            build(Path(partial))
            (Path(partial) / INDEX_FILE).replace(path)
