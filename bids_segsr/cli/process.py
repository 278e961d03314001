"""What a command owes the process it runs in: an exit status, signals, streams, a home."""

from __future__ import annotations

import errno
import os
import pwd
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from bids_segsr.exceptions import INTERRUPTED, TERMINATED, Terminated, UserError, denied

FINE = 0
FAILED = 1
NO_HOME = '/nonexistent'
"""Home of users that have none, by Debian's custom."""


def run_command(program: str, command: Callable[[], int], resumed: str = '') -> int:
    """Run a command and turn whatever ends it into one line and an exit status.

    Args:
        program: Its name, for messages.
        command: Returns its exit status.
        resumed: How the work goes on after an interrupt.

    Returns:
        The status; 1 after a UserError or PermissionError, 130 after Ctrl-C, 143 after SIGTERM. It
        does not depend on what becomes of standard output.
    """
    ensure_home()
    with _terminable(), _lasting_streams(program):
        try:
            return command()
        except UserError as error:
            complain(program, str(error))
            return FAILED
        except PermissionError as error:
            complain(program, denied(error))
            return FAILED
        except Terminated:
            complain(program, f'terminated{resumed}')
            return TERMINATED
        except KeyboardInterrupt:
            complain(program, f'interrupted{resumed}')
            return INTERRUPTED


def complain(program: str, line: str) -> None:
    """Print a line on standard error.

    Args:
        program: Name of the program, which begins the line.
        line: The line.
    """
    print(f'{program}: {line}', file=sys.stderr, flush=True)


def ensure_home() -> None:
    """Give libraries the home and the user's name that they ask for when they are imported.

    A container may run under a number that no user has, and without HOME.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ['HOME'] = NO_HOME
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault('LOGNAME', f'uid{os.getuid()}')


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does, with a line of its own."""
    owner = os.getpid()

    def stop(*_: Any) -> None:
        if os.getpid() != owner:
            os._exit(TERMINATED)
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _lasting_streams(program: str) -> Iterator[None]:
    """Let the work go on when nobody reads what is printed, or its disk is full."""
    # Of a stream that is closed, the next file that is opened would get what is printed.
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    before = sys.stdout, sys.stderr
    out, err = _Outlet(before[0]), _Outlet(before[1])
    sys.stdout, sys.stderr = out, err
    try:
        yield
    finally:
        out.flush()
        if out.lost not in (None, errno.EPIPE):
            reason = os.strerror(out.lost or 0)
            complain(program, f'standard output cannot be written ({reason}); the work was done')
        err.flush()
        sys.stdout, sys.stderr = before


class _Outlet:
    """A stream that swallows what cannot be written.

    Args:
        stream: The stream; None where Python found it closed.

    Attributes:
        lost: Number of the error that ended it, or None.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.lost: int | None = None

    def write(self, text: str) -> int:
        """Write a text, or nothing."""
        return self._tried(lambda stream: stream.write(text))

    def flush(self) -> None:
        """Hand on what was written."""
        self._tried(lambda stream: stream.flush() or 0)

    def _tried(self, action: Callable[[TextIO], int]) -> int:
        if self._stream is None or self.lost is not None:
            return 0
        try:
            return action(self._stream)
        except OSError as error:
            self.lost = error.errno
            # What is left in its buffer must go somewhere when the process ends.
            with suppress(OSError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)
            return 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
