"""Files that appear completely or not at all, folders, and locks between runs."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bids_segsr.exceptions import UserError

SHARE_FILE = 'share.txt'
"""In the folder of a step that runs: the share of it that is done."""
ELSEWHERE = 'choose a folder that you may write to'
PART = '.part-'
"""How the folder begins in which a file is written."""


def make_folder(path: Path, elsewhere: str = ELSEWHERE) -> Path:
    """Make a folder and its parents.

    Args:
        path: The folder; it may exist.
        elsewhere: What to do where it cannot be made.

    Returns:
        The path.

    Raises:
        UserError: If it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f'{path}: the folder cannot be made ({error.strerror}); {elsewhere}'
        ) from None
    return path


def writable(folder: Path) -> bool:
    """Tell whether files can be made in a folder, which may be missing itself."""
    existing = folder.absolute()
    # unlike that of Path, this has False below a folder that may not be entered
    while not os.path.exists(existing):  # noqa: PTH110
        existing = existing.parent
    if not os.access(existing, os.W_OK | os.X_OK, effective_ids=True):
        return False
    try:  # what permissions allow, a file system may refuse
        tempfile.TemporaryFile(dir=existing).close()
    except OSError:
        return False
    return True


@contextmanager
def complete(path: Path, elsewhere: str = ELSEWHERE) -> Iterator[Path]:
    """Write a file, so that a reader sees the old or the new one and no part of it.

    A run that is killed while it writes leaves the old file, or none; what it had begun is removed
    by the next one that writes into this folder.

    Args:
        path: The file; its folder is made.
        elsewhere: What to do where its folder cannot take it.

    Yields:
        Path of the same name, to write to; what lies there in the end takes the place of `path`.

    Raises:
        UserError: If the file cannot be written.
    """
    make_folder(path.parent, elsewhere)
    _remove_abandoned(path.parent)
    try:
        with (
            tempfile.TemporaryDirectory(dir=path.parent, prefix=PART) as folder,
            _held(folder, wait=True),
        ):
            part = Path(folder) / path.name
            yield part
            part.replace(path)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = f'free some space, or {elsewhere}' if full else elsewhere
        raise UserError(
            f'{path}: cannot be written ({error.strerror or error}); {advice}'
        ) from None


def remove_partial(root: Path, subject: str) -> None:
    """Remove what a run that was killed has left of files of a participant.

    Args:
        root: Root of the derivatives; no other run may write files of the participant.
        subject: Label without `sub-`.
    """
    for folder in (root / f'sub-{subject}').rglob(f'{PART}*'):
        shutil.rmtree(folder, ignore_errors=True)
    for report in root.glob(f'{PART}*/sub-{subject}.html'):
        shutil.rmtree(report.parent, ignore_errors=True)


def write_text(path: Path, text: str) -> Path:
    """Write a text file, completely or not at all.

    A file that holds the text already is left as it is.

    Args:
        path: The file; its folder is made.
        text: What it shall hold, written as UTF-8.

    Returns:
        The path.

    Raises:
        UserError: If the file cannot be written.
    """
    content = text.encode()
    if not _holds(path, content):
        with complete(path) as part:
            part.write_bytes(content)
    return path


def write_share(folder: Path, share: float) -> None:
    """Leave the share of a step that is done, 0 to 1, where another process finds it."""
    with suppress(OSError):
        (folder / SHARE_FILE).write_text(f'{share:.4f}', encoding='ascii')


def read_share(folder: Path) -> float:
    """Return the share of a step that is done; 0 where it tells none."""
    try:
        return float((folder / SHARE_FILE).read_text(encoding='ascii'))
    except (OSError, ValueError):
        return 0.0


@contextmanager
def locked(path: Path, taken: str | None = None, seconds: float = 0) -> Iterator[None]:
    """Hold a lock that other runs respect.

    Args:
        path: The lock file, which stays behind without meaning; its folder is made.
        taken: What to say where another run holds it; None to wait for the end of that run.
        seconds: How long it may be held before that is said.

    Raises:
        UserError: If another run holds it, or the file cannot be written.
    """
    from filelock import FileLock, Timeout

    make_folder(path.parent)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=-1 if taken is None else seconds)
    except Timeout:
        raise UserError(taken) from None
    except OSError as error:
        raise UserError(f'{path}: cannot be written ({error.strerror})') from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _held(folder: str | Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a folder for this process, which lets go of it however it ends.

    Args:
        folder: What is held.
        wait: Until nobody else does: who looks for abandoned folders holds one for a moment.

    Yields:
        Whether it could be held: not by another process, and its file system knows locks.
    """
    held, number = False, None
    try:
        with suppress(OSError):
            number = os.open(folder, os.O_RDONLY)
            fcntl.flock(number, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held = True
        yield held
    finally:
        if number is not None:
            os.close(number)


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed processes have begun in a folder; one that lives holds what it writes."""
    for part in folder.glob(f'{PART}*'):
        # one that is empty may be a moment old, and not held yet
        with _held(part) as mine, suppress(OSError):
            if mine and any(part.iterdir()):
                shutil.rmtree(part)


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False
