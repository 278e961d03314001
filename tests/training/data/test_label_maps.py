"""Which label maps train, and in which order."""

from __future__ import annotations

import numpy as np
import pytest
from training_phantoms import LABEL_MAPS

from bids_segsr.training.data.label_maps import LabelMapOrder, find_label_maps
from bids_segsr.training.data_tables import LabelMaps, Sampling


def test_maps_are_held_out_and_set_aside(map_folder):
    found = find_label_maps(LABEL_MAPS, map_folder)
    names = {split: [m.path.name for m in maps] for split, maps in found.items()}
    assert names == {
        'train': ['a1.nii.gz', 'a2.nii.gz', 'b1.nii'],
        'validation': ['a3.nii.gz', 'b2.nii'],
    }
    assert [label_map.share for label_map in found['train']] == [1.5, 1.5, 1]
    assert found['train'][0].spacing == pytest.approx(0.8)


def test_any_folder_will_do(map_folder):
    found = find_label_maps(LabelMaps(), map_folder)
    assert len(found['train']) == 5
    assert len(found['validation']) == 1


def test_label_maps_come_in_order_or_by_their_shares():
    sampling = Sampling(patches_per_epoch=30)
    fixed = LabelMapOrder([1.0, 3.0], sampling, in_order=True)
    rng = np.random.default_rng(0)
    assert [fixed.label_map(n, rng) for n in range(len(fixed))] == [0] * 4 + [1] * 4
    drawn = LabelMapOrder([1.0, 3.0], sampling, in_order=False)
    assert len(drawn) == 30
    assert np.mean([drawn.label_map(n, rng) for n in range(4000)]) == pytest.approx(0.75, abs=0.03)
