"""The steps of an image on arrays."""

from __future__ import annotations

import numpy as np
import pytest

from bids_segsr.inference.processing import Processing
from bids_segsr.inference.qc import KEYS
from bids_segsr.inference.steps import segment
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
