"""Counters of a training, and when it ends."""

from __future__ import annotations

import dataclasses
import os
import signal
from typing import Any

import pytest
import torch

from bids_segsr.training.loop.progress import Length, Progress, StopSignals, steps_per_epoch
from bids_segsr.training.recipe import Recipe
from bids_segsr.training.recipe_file import read_recipe


def recipe(**changes: dict[str, Any]) -> Recipe:
    """A recipe without critic, with other values in its tables."""
    base = read_recipe('segsrgan-2020-no-gan')
    tables = {
        table: dataclasses.replace(getattr(base, table), **values)
        for table, values in changes.items()
    }
    return dataclasses.replace(base, **tables)


def test_a_row_holds_means_since_the_last_one() -> None:
    progress = Progress()
    assert progress.add_terms('loss_', {'a': torch.tensor(1.0), 'b': torch.tensor(4.0)})
    assert progress.add_terms('loss_', {'a': torch.tensor(3.0)})
    progress.add_time(8.0, 2.0)
    assert progress.take_row() == {'loss_a': 2.0, 'loss_b': 4.0, 'wait_share': 0.25}
    assert progress.take_row() == {}
    assert (progress.all_trained, progress.all_waited) == (8.0, 2.0)
    assert not progress.add_terms('loss_', {'a': torch.tensor(float('nan'))})
    assert Progress(**progress.as_json()).counts == {'loss_a': 1}


def test_a_plateau_reduces_the_rate_once_its_patience_is_over() -> None:
    plan = recipe(rates={'schedule': 'plateau', 'patience': 2})
    progress = Progress()
    told = [(progress.judge(score, plan), progress.reductions) for score in (3, 2, 2, 2, 2, 4, 4)]
    assert told == [
        *((True, 0), (False, 0), (False, 1), (False, 1), (False, 2), (True, 2), (False, 2)),
    ]
    assert (progress.best, progress.stale) == (4, 1)


def test_the_first_limit_ends_a_training() -> None:
    plan = recipe(schedule={'epochs': 3, 'steps': 100, 'minutes': 2.0}, validation={'patience': 4})
    length = Length(plan, steps_per_epoch(patches=81, patches_per_step=8))
    assert length.steps == 33
    assert length.share(Progress(step=11)) == pytest.approx(1 / 3)
    assert length.share(Progress(step=11, seconds=60)) == 0.5
    assert not length.over(Progress(step=32, seconds=119, stale=3))
    assert length.over(Progress(step=33))
    assert length.over(Progress(seconds=120))
    assert length.over(Progress(stale=4))


def test_a_signal_is_noted_and_the_next_one_obeyed() -> None:
    # a process in the background of a shell begins with Ctrl-C ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGINT)
            assert signals.caught == signal.SIGINT
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
