"""Errors that are the user's to mend: one line, naming the file and what to do."""

from __future__ import annotations

INTERRUPTED = 130
TERMINATED = 143
"""Exit status after Ctrl-C and after SIGTERM."""


class UserError(Exception):
    """A mistake in the input or in the command, told in one line without a traceback."""


class ImageError(UserError):
    """An image (or mask) that cannot be processed."""


class MissingContentError(ImageError):
    """An image whose content was not fetched: what was made of it before still holds."""


class ModelError(UserError):
    """A model that cannot be found, read, verified or applied."""


def denied(error: PermissionError, path: object = None) -> str:
    """Return the line for a file or folder that may not be read, entered or written.

    Args:
        error: What was raised.
        path: The file or folder; None for the one that the error names.
    """
    named = path or error.filename
    if named is None:
        return ' '.join(str(error).split())
    return (
        f'{named}: may not be accessed ({error.strerror}); mend its permissions, or those of the '
        'folders above it'
    )


class Terminated(KeyboardInterrupt):
    """SIGTERM: a scheduler, or `docker stop`, ends the run."""
