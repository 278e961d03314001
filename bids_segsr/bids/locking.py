"""The lock of a participant."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from bids_segsr.files import locked


def subject_lock(root: Path, subject: str) -> AbstractContextManager[None]:
    """Hold a participant of an output folder, or of a working directory, for this run.

    Other participants stay free, so that the tasks of a job array share one output folder.

    Args:
        root: Root of the derivatives, or the working directory.
        subject: Label without `sub-`.

    Raises:
        UserError: If another run holds it, or the file cannot be written.
    """
    return locked(
        root / 'logs' / f'.lock-sub-{subject}',
        f'{root}: another run is processing sub-{subject} in this folder; '
        'wait for its end or take another folder',
    )
