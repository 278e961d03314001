"""Writing of small text files into a folder that several runs may share."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bids_segsr.exceptions import UserError


def make_folder(path: Path) -> Path:
    """Make a folder and its parents.

    Args:
        path: The folder; it may exist.

    Returns:
        The path.

    Raises:
        UserError: If it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f'{path}: the folder cannot be made ({error.strerror}); '
            'choose a folder that you may write to'
        ) from None
    return path


def write_text(path: Path, text: str) -> Path:
    """Write a text file at once, so that a reader sees the old or the new file and no part of it.

    A file that holds the text already is left as it is.

    Args:
        path: The file; its folder is made.
        text: What it shall hold, written as UTF-8.

    Returns:
        The path.

    Raises:
        UserError: If the file cannot be written.
    """
    make_folder(path.parent)
    content = text.encode()
    try:
        if path.is_file() and path.read_bytes() == content:
            return path
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
        with os.fdopen(handle, 'wb') as stream:
            stream.write(content)
        # mkstemp opens for the owner alone, while derivatives follow the user's umask.
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except OSError as error:
        raise UserError(
            f'{path}: cannot be written ({error.strerror}); '
            'choose an output folder that you may write to'
        ) from None
    return path


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
