"""Locks between runs: for each participant of an output folder, and for files that runs share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bids_segsr.bids.files import make_folder
from bids_segsr.exceptions import UserError


@contextmanager
def subject_lock(root: Path, subject: str) -> Iterator[Path]:
    """Hold a participant of an output folder, or of a working directory, for this run.

    Other participants stay free, so that the tasks of a job array share one output folder.

    Args:
        root: Root of the derivatives, or the working directory.
        subject: Label without `sub-`.

    Yields:
        Path of the lock file, which stays behind without meaning.

    Raises:
        UserError: If another run holds it, or the file cannot be written.
    """
    from filelock import FileLock, Timeout

    path = make_folder(root / 'logs') / f'.lock-sub-{subject}'
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f'{root}: another run is processing sub-{subject} in this folder; '
            'wait for its end or take another folder'
        ) from None
    except OSError as error:
        raise UserError(f'{path}: cannot be written ({error.strerror})') from None
    try:
        yield path
    finally:
        lock.release()


@contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Hold a file that several runs read and write; wait while another run holds it.

    Args:
        path: The lock file, which stays behind without meaning; its folder is made.

    Raises:
        UserError: If the file cannot be written.
    """
    from filelock import FileLock

    make_folder(path.parent)
    lock = FileLock(path)
    try:
        lock.acquire()
    except OSError as error:
        raise UserError(f'{path}: cannot be written ({error.strerror})') from None
    try:
        yield
    finally:
        lock.release()
