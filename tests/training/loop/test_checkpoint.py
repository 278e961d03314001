from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from training_phantoms import adversarial_recipe, make_trainer

from bids_segsr.exceptions import UserError
from bids_segsr.training.loop.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from bids_segsr.training.loop_tables import Optimiser
from bids_segsr.training.recipe import Schedule

KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from training_phantoms import Phantoms, make_trainer
from test_checkpoint import CASES, RECIPE
from bids_segsr.training.loop import checkpoint

torch.set_num_threads(1)

class Deadly(Phantoms):
    def __getitem__(self, index):
        if when == 'training' and index == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)

write, written = checkpoint._write, []

def deadly_write(path, content):
    if when == 'writing' and len(written) == number:
        path.with_name(f'{path.name}.partial').write_bytes(content[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    written.append(path)
    write(path, content)

checkpoint._write = deadly_write
# One process of its own for each way to die; loading torch anew for each would take long.
for case, (when, number, _) in CASES.items():
    child = os.fork()
    if child == 0:
        make_trainer(Path(sys.argv[1]) / case, RECIPE, Deadly()).fit()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, case
"""

# Patch 8 is read in the fifth step. The initial validation writes 4 files (tensors and state of
# best and last); that after step 3 begins with the tensors and the state of one of them.
CASES = {
    'training': ('training', 8, 3),
    'tensors': ('writing', 4, 0),
    'state': ('writing', 5, 0),
}
RECIPE = adversarial_recipe(
    schedule=Schedule(steps=6, batch_size=2, ema=0.9), optimiser=Optimiser('adam', clip=1.0)
)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp('whole')
    make_trainer(out, RECIPE).fit()
    return out


@pytest.fixture(scope='module')
def killed(tmp_path_factory):
    out = tmp_path_factory.mktemp('killed')
    environment = {
        **os.environ,
        'OMP_NUM_THREADS': '1',
        'PYTHONPATH': os.pathsep.join(sys.path),
    }
    arguments = [sys.executable, '-c', KILLED, str(out)]
    ended = subprocess.run(arguments, env=environment, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return out


@pytest.mark.parametrize('case', CASES)
def test_a_killed_run_ends_in_the_same_weights(whole, killed, case):
    folder = killed / case
    assert load_checkpoint(folder / 'checkpoints' / 'last').state['step'] == CASES[case][2]
    make_trainer(folder, RECIPE).fit()
    for name in ('last', 'best'):
        expected = load_checkpoint(whole / 'checkpoints' / name)
        found = load_checkpoint(folder / 'checkpoints' / name)
        assert found.tensors.keys() == expected.tensors.keys()
        for key, tensor in expected.tensors.items():
            assert torch.equal(tensor, found.tensors[key]), key
    # one state with its tensors, and the model that the ended run left beside them
    kept = sorted(path.name.split('-')[0] for path in (folder / 'checkpoints' / 'last').iterdir())
    assert kept == ['card.json', 'state.json', 'step', 'weights.safetensors']


def test_a_checkpoint_holds_no_pickle(whole):
    from safetensors import safe_open

    folder = whole / 'checkpoints' / 'last'
    assert {path.suffix for path in folder.iterdir()} == {'.json', '.safetensors'}
    state = json.loads((folder / 'state.json').read_text())
    with safe_open(folder / state['file'], 'pt') as file:
        assert any(key.startswith('critic_optimiser.0.exp_avg') for key in file.keys())  # noqa: SIM118


def test_damage_is_told(tmp_path):
    assert load_checkpoint(tmp_path) is None
    save_checkpoint(tmp_path, Checkpoint({'step': 1}, {'a': torch.ones(3)}))
    save_checkpoint(tmp_path, Checkpoint({'step': 2}, {'a': torch.arange(3)}))
    found = load_checkpoint(tmp_path)
    assert found.state['step'] == 2
    assert torch.equal(found.tensors['a'], torch.arange(3))
    weights = next(tmp_path.glob('*.safetensors'))
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UserError, match=r'state\.json: damaged \(the hash .*delete .* begin anew'):
        load_checkpoint(tmp_path)
    weights.unlink()
    with pytest.raises(UserError, match='damaged'):
        load_checkpoint(tmp_path)
    state = tmp_path / 'state.json'
    state.write_text(state.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(UserError, match='another release'):
        load_checkpoint(tmp_path)
