"""Errors that are the user's to mend: one line, naming the file and what to do."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in the input or in the command, told in one line without a traceback."""


class ImageError(UserError):
    """An image (or mask) that cannot be processed."""


class ModelError(UserError):
    """A model that cannot be found, read, verified or applied."""
