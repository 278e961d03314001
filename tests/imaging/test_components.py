"""Topology of bodies whose numbers are known."""

from __future__ import annotations

import numpy as np
import pytest

from bids_segsr.imaging.components import (
    Topology,
    bounding_box,
    drop_specks,
    keep_largest_component,
    topology,
)

PLACE = np.indices((25, 25, 25)) - 12
RADIUS = np.sqrt((PLACE**2).sum(0))
BALL = RADIUS < 9
SHELL = BALL & (RADIUS > 5)
TORUS = np.hypot(np.hypot(PLACE[0], PLACE[1]) - 7, PLACE[2]) < 3


@pytest.mark.parametrize(('body', 'holes', 'euler'), [(BALL, 0, 1), (SHELL, 1, 2), (TORUS, 0, 0)])
@pytest.mark.parametrize('connectivity', [6, 26])
def test_cavities_and_tunnels(body: np.ndarray, holes: int, euler: int, connectivity: int) -> None:
    assert topology(body, connectivity) == Topology(1, 1.0, holes, euler, body.sum())


def test_corners_join_at_26_neighbours_and_not_at_6() -> None:
    mask = np.zeros((4, 4, 4), dtype=bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[2, 2, 2] = True
    assert topology(mask).components == 1
    assert topology(mask, 6).components == 3
    assert topology(mask, 6).largest_share == pytest.approx(1 / 3)
    assert topology(np.zeros((3, 3, 3), dtype=bool)) == Topology(0, 0.0, 0, 0, 0)


def test_specks_and_lesser_pieces_are_dropped() -> None:
    speck = np.zeros_like(BALL)
    speck[0, 0, :3] = True
    lesser = np.zeros_like(BALL)
    lesser[-2:, -2:] = True
    body = BALL | speck | lesser
    np.testing.assert_array_equal(keep_largest_component(body), BALL)
    np.testing.assert_array_equal(drop_specks(body, 0.01), BALL | lesser)
    np.testing.assert_array_equal(drop_specks(body, 0), body)


def test_a_box_stops_at_the_border() -> None:
    mask = np.zeros((9, 9, 9), dtype=bool)
    mask[1, 4, 7:] = True
    assert bounding_box(mask, 2) == (slice(0, 4), slice(2, 7), slice(5, 9))
    assert bounding_box(np.zeros_like(mask)) == (slice(0, 9),) * 3
