"""The recipe of the default model, and its network."""

from __future__ import annotations

from fnmatch import fnmatch

import pytest
import torch

from bids_segsr.networks import create
from bids_segsr.simulation.tables import CLASSES
from bids_segsr.training.recipe_file import read_recipe


@pytest.fixture(scope='module')
def recipe():
    return read_recipe('default-model')


def test_channels_are_the_classes(recipe):
    assert recipe.task.channels == ('intensity', 'cortex', *CLASSES)


def test_network_gives_the_channels_of_the_recipe(recipe):
    network = create(recipe.network.architecture, **recipe.network.options).eval()
    with torch.inference_mode():
        output = network(torch.zeros(1, 1, 8, 8, 8))
    assert output.shape[1] == len(recipe.task.channels)


def test_held_out_and_followed_subjects_differ(recipe):
    maps = recipe.label_maps
    held_out = (
        *(f'training_seg_{number}.nii.gz' for number in (17, 18, 19, 20)),
        'brain5_labels.nii.gz',
        'GA28_operated_dseg.nii.gz',
        'GA33_operated_dseg.nii.gz',
    )
    for name in held_out:
        assert any(fnmatch(name, pattern) for pattern in maps.hold_out)
        assert not any(fnmatch(name, pattern) for pattern in maps.validation)
    for name in ('training_seg_01.nii.gz', 'brain1_labels.nii.gz', 'GA30_operated_dseg.nii.gz'):
        assert not any(fnmatch(name, p) for p in (*maps.hold_out, *maps.validation))
