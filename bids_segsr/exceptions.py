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


class Terminated(KeyboardInterrupt):
    """SIGTERM: a scheduler, or `docker stop`, ends the run."""
