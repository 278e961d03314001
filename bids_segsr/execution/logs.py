"""What a run says on the terminal, and all of it in a file."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from pathlib import Path
from threading import RLock

from tqdm import tqdm

IMPORTANT = 25
"""Level of what is told without -v."""

HANDLER = 'bids_segsr'
FILE_HANDLER = 'bids_segsr file'
_NIPYPE = ('nipype.workflow', 'nipype.interface', 'nipype.utils')


class OneLineFormatter(logging.Formatter):
    """Leave tracebacks to the crash files: of an error, only the first line is shown.

    A record at the debug level (-vvv) keeps its traceback: nothing else shows it. What is usual
    has no word for its level.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        if hasattr(record, 'program'):
            return f'{record.program}: {record.getMessage()}'
        level = f'{record.levelname}: ' if record.levelno > IMPORTANT else ''
        text = f'{self.formatTime(record, "%H:%M:%S")} {level}{record.getMessage()}'
        if record.levelno <= logging.DEBUG and record.exc_info:
            return f'{text}\n{self.formatException(record.exc_info)}'
        return text.split('\n', 1)[0] if record.levelno >= logging.ERROR else text


class _Terminal(logging.StreamHandler):
    """Writes above the line that moves."""

    def __init__(self, verbose: int) -> None:
        super().__init__(sys.stderr)
        self._verbose = verbose

    def filter(self, record: logging.LogRecord) -> bool:
        # each failed step has a line of ours already
        nipype = record.name.startswith('nipype') and self._verbose <= 0
        return not nipype

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


def complain(line: str) -> None:
    """Tell what is wrong with an image or a run: on the terminal as a line of the program.

    Args:
        line: The line.
    """
    logging.getLogger('bids_segsr').warning('%s', line, extra={'program': 'bids_segsr'})


class _File(logging.FileHandler):
    """Swallows what its disk has no room for: the run goes on, and the terminal tells it all."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - its name in logging
        """Stay silent about a disk; the traceback of anything else is shown."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        """Close the file, whether or not what is left fits on its disk."""
        with suppress(OSError):
            super().close()


def log_level(verbose: int) -> int:
    """Return the level of the log for the number of -v, as fMRIPrep does (25 - 5 n).

    Args:
        verbose: How often -v was given; -1 for --quiet.
    """
    return max(IMPORTANT - 5 * verbose, logging.DEBUG)


def start_logging(verbose: int) -> None:
    """Write the log to standard error.

    Args:
        verbose: How often -v was given; -1 for --quiet.
    """
    # the lock that tqdm shares between processes would stay with a worker that is killed
    tqdm.set_lock(RLock())
    root = logging.getLogger()
    for handler in [h for h in root.handlers if h.get_name() in (HANDLER, FILE_HANDLER)]:
        root.removeHandler(handler)
        handler.close()
    handler = _Terminal(verbose)
    handler.set_name(HANDLER)
    handler.setLevel(log_level(verbose))
    handler.setFormatter(OneLineFormatter())
    root.addHandler(handler)
    logging.getLogger('bids_segsr').setLevel(log_level(verbose))
    set_nipype_level(verbose)
    logging.captureWarnings(True)
    logging.getLogger('py.warnings').setLevel(logging.DEBUG if verbose > 1 else logging.ERROR)


def log_to_file(path: Path) -> None:
    """Write to a file, too: all but the details of -vvv, whatever is shown.

    Args:
        path: The file; a folder that cannot be written leaves it out.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _File(path, encoding='utf-8', delay=True)
    except OSError:
        return
    handler.set_name(FILE_HANDLER)
    handler.setLevel(logging.INFO)
    handler.setFormatter(logging.Formatter('%(asctime)s %(levelname)s %(name)s: %(message)s'))
    logging.getLogger().addHandler(handler)
    logger = logging.getLogger('bids_segsr')
    logger.setLevel(min(logger.level, logging.INFO))


def set_nipype_level(verbose: int) -> None:
    """Let Nipype speak from -v on; importing it sets the levels of its loggers anew."""
    for name in _NIPYPE:
        logging.getLogger(name).setLevel(min(log_level(verbose), logging.INFO))
