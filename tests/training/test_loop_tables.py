"""Tables of a recipe about the training itself."""

from __future__ import annotations

import pytest

from bids_segsr.training.loop_tables import CriticSchedule, Rates


def test_learning_rates_follow_their_schedules():
    def factors(rates, steps, reductions=0):
        return [rates.factor(step, 10, step / 100, reductions) for step in steps]

    assert factors(Rates(warmup=4), (0, 1, 3, 50)) == [0.25, 0.5, 1, 1]
    assert factors(Rates('step', every_epochs=2), (19, 20, 40)) == pytest.approx([1, 0.1, 0.01])
    assert factors(Rates('step', every_steps=5, gamma=0.5), (4, 5, 10)) == [1, 0.5, 0.25]
    cosine = factors(Rates('cosine', floor=0.1), (0, 50, 100))
    assert cosine == pytest.approx([1, 0.55, 0.1])
    assert factors(Rates('plateau', gamma=0.5, floor=0.2), (7,), reductions=3) == [0.2]
    with pytest.raises(ValueError, match='gamma must be between 0 and 1, not 2'):
        Rates(gamma=2)


def test_schedule_of_mdcsrn_gan():
    schedule = CriticSchedule(updates=5, head_start=10_000, extra_every=500, extra=200)
    assert schedule.critic_updates(0) == 10_005
    assert [schedule.critic_updates(step) for step in (1, 499, 501, 999)] == [5] * 4
    assert schedule.critic_updates(500) == schedule.critic_updates(1000) == 205


def test_schedule_of_segsrgan():
    assert {CriticSchedule().critic_updates(step) for step in range(1000)} == {5}


@pytest.mark.parametrize('options', [{'updates': 0}, {'head_start': -1}, {'extra_every': -2}])
def test_impossible_schedule_is_refused(options):
    with pytest.raises(ValueError, match=f'{next(iter(options))} must be'):
        CriticSchedule(**options)
