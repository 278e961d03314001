"""In which order samples are taken."""

from __future__ import annotations

import itertools

import pytest
import torch
from training_phantoms import Phantoms

from bids_segsr.training.data.batches import (
    CRITIC_OFFSET,
    Shares,
    TrainingOrder,
    evenly_chosen,
    make_loader,
    penalty_shares,
)


def test_processes_share_what_one_would_see() -> None:
    alone = Shares(4)
    parts = [Shares(2, rank, 2) for rank in range(2)]
    for batch in range(3):
        assert [n for part in parts for n in part.indices(batch)] == alone.indices(batch)
    assert alone.indices(2) == [8, 9, 10, 11]


def test_the_critic_comes_first_on_samples_of_its_own() -> None:
    def order(step: int = 0, critic_step: int = 0, in_step: int = 0) -> TrainingOrder:
        return TrainingOrder(7, Shares(2), 1, lambda step: 3 - step, step, critic_step, in_step)

    first = CRITIC_OFFSET // 7 * 7
    seen = list(itertools.islice(order(), 8))
    critic = [batch for batch in seen if batch[0] >= first]
    assert critic == [[first + 2 * n, first + 2 * n + 1] for n in range(6)]
    assert [seen.index(batch) for batch in ([0, 1], [2, 3])] == [3, 6]
    # taken up anywhere, it goes on with what would have come
    assert next(iter(order(0, 2, 2))) == seen[2]
    assert list(itertools.islice(order(1, 4, 1), 3)) == seen[5:8]


def test_accumulated_batches_follow_each_other() -> None:
    order = TrainingOrder(8, Shares(1), 2, lambda step: 0, 3, 0)
    assert list(itertools.islice(order, 4)) == [[6], [7], [8], [9]]


def test_samples_know_their_number() -> None:
    (batch,) = make_loader(Phantoms(), [[5, 2]], 0)
    assert batch['index'].tolist() == [5, 2]
    assert torch.equal(batch['image'][1], Phantoms()[2]['image'])


def test_numbers_are_chosen_evenly() -> None:
    assert evenly_chosen(10, 5) == [1, 3, 5, 7, 9]
    assert evenly_chosen(3, None) == evenly_chosen(3, 9) == [0, 1, 2]


def test_shares_of_the_penalty_depend_on_seed_and_number_alone() -> None:
    index = torch.arange(200)
    shares = penalty_shares(index, 3)
    assert shares.shape == (200, 1, 1, 1, 1)
    assert torch.equal(shares[7:9], penalty_shares(index[7:9], 3))
    assert not torch.equal(shares, penalty_shares(index, 4))
    assert shares.mean().item() == pytest.approx(0.5, abs=0.08)
    assert 0 <= shares.min() < 0.05 < 0.95 < shares.max() <= 1
