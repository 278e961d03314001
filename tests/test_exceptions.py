"""Errors of the user, and the status that a stopped run ends with."""

from __future__ import annotations

import signal

import pytest

from bids_segsr import exceptions


@pytest.mark.parametrize('name', ['ImageError', 'MissingContentError', 'ModelError'])
def test_all_mistakes_are_caught_as_one_and_programming_errors_are_not(name: str) -> None:
    assert issubclass(getattr(exceptions, name), exceptions.UserError)
    assert not issubclass(exceptions.UserError, ValueError | OSError | RuntimeError)


def test_a_scheduler_ends_a_run_as_ctrl_c_does_with_a_status_of_its_own() -> None:
    # what catches all errors of an image must not go on after it
    assert issubclass(exceptions.Terminated, KeyboardInterrupt)
    assert not issubclass(exceptions.Terminated, Exception)
    assert exceptions.INTERRUPTED == 128 + signal.SIGINT
    assert exceptions.TERMINATED == 128 + signal.SIGTERM
