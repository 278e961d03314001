"""The steps of an image on arrays."""

from __future__ import annotations

import numpy as np
import pytest

from bids_segsr.imaging.volume import Volume
from bids_segsr.inference.processing import Processing
from bids_segsr.inference.qc import KEYS
from bids_segsr.inference.steps import segment, settle
from bids_segsr.zoo.find import DEFAULT_MODEL, find_card


def test_volumes_of_all_tissues_are_told() -> None:
    card = find_card(DEFAULT_MODEL)
    labels = np.arange(8 * 10).reshape(8, 10, 1) % 8
    labels[labels == 7] = 6
    classes = [(labels == n).astype(np.float32) for n in range(8)]
    told = segment([classes[1], *classes], (10.0, 10.0, 10.0), card, Processing()).qc
    assert told['white_matter_volume_ml'] == pytest.approx(10)
    assert told['cerebellum_volume_ml'] == pytest.approx(20)
    assert told['brainstem_volume_ml'] == 0
    assert told['cortex_volume_ml'] == pytest.approx(10)
    assert len([key for key in told if key.endswith('_volume_ml')]) == 7
    assert set(told) <= set(KEYS)


@pytest.mark.parametrize(
    ('metadata', 'thickness', 'warned'),
    [({}, 3.0, 0), ({'SliceThickness': 2.5}, 2.5, 0), ({'SliceThickness': 250}, 3.0, 1)],
)
def test_a_thickness_that_no_slices_can_have_gives_way_to_their_distance(
    metadata: dict, thickness: float, warned: int
) -> None:
    scan = Volume(np.ones((6, 6, 4), np.float32), np.diag([0.8, 0.8, 3.0, 1.0]))
    settled, warnings = settle(Processing(), scan, metadata)
    assert (settled.slice_thickness, settled.resolution) == (thickness, 0.8)
    assert len(warnings) == warned
    given, warnings = settle(Processing(slice_thickness=4.0), scan, metadata)
    assert (given.slice_thickness, warnings) == (4.0, [])
