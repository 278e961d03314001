"""From recipe and patches to a model, in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_phantoms import DATA, Phantoms, tiny_recipe

from bids_segsr.exceptions import UserError
from bids_segsr.training.loop.training_run import Run, describe_run, run_training
from bids_segsr.training.recipe import Recipe, Schedule
from bids_segsr.zoo.find import load_model

ONE_STEP = Schedule(steps=1, batch_size=2)


class Made(Phantoms):
    on_device = False


def sets(recipe: Recipe, cache: Path, device: torch.device) -> tuple[Made, Made]:
    assert cache.is_dir()
    assert device.type == 'cpu'
    return Made(), Made(4, seed=1)


def test_a_run_leaves_a_model_and_tells_it_before(tmp_path: Path) -> None:
    recipe, run = tiny_recipe(schedule=ONE_STEP), Run(device='cpu', workers=0)
    told = describe_run(recipe, DATA, run)
    assert told['subjects'] == '2 train, 1 validation'
    assert (told['images'], told['length'], told['device']) == ('1 mm', '1 steps', 'cpu')
    assert told['start'] == 'random weights'
    outcome = run_training(recipe, DATA, sets, tmp_path / 'run', run)
    assert outcome is not None
    assert outcome.progress.step == 1
    network = load_model(tmp_path / 'run' / 'model').network
    count = sum(p.numel() for p in network.parameters())
    assert told['network'] == f'segsrgan, {count:,} parameters'

    init = str(tmp_path / 'run' / 'model')
    again = describe_run(recipe, DATA, Run(device='cpu', init=init, freeze=('conv1.*',)))
    assert again['start'] == f'{init}, fresh: nothing'
    assert again['frozen'] != told['frozen'] == '0 parameter tensors'


def test_a_folder_of_something_else_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / 'thesis.doc').touch()
    with pytest.raises(UserError, match='holds something else than a run'):
        run_training(tiny_recipe(), DATA, sets, tmp_path, Run(device='cpu'))
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.doc']
