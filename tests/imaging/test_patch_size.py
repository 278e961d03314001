"""Edges of patches, and where they lie in an image."""

from __future__ import annotations

import numpy as np
import pytest

from bids_segsr.imaging.patch_size import edges, edges_in_image, patch_text


def test_one_number_is_a_cube() -> None:
    assert edges(64) == (64, 64, 64)
    assert edges((64, 40, 32)) == (64, 40, 32)
    assert (patch_text(64), patch_text((64, 40, 32))) == ('64', '64x40x32')


@pytest.mark.parametrize('last', [0, 1, 2])
def test_the_axis_that_is_seen_last_has_the_last_edge(last: int) -> None:
    in_image = np.empty(edges_in_image((8, 6, 4), last))
    assert np.moveaxis(in_image, last, -1).shape == (8, 6, 4)
