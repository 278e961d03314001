from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_phantoms import DATA, Phantoms, adversarial_recipe, tiny_recipe

from bids_segsr.exceptions import UserError
from bids_segsr.training.data.batches import Shares, TrainingOrder
from bids_segsr.training.loop.checkpoint import load_checkpoint
from bids_segsr.training.loop.distributed import make_fabric
from bids_segsr.training.loop.engine import Trainer
from bids_segsr.training.loop.run_log import read_log
from bids_segsr.training.loop_tables import Optimiser
from bids_segsr.training.recipe import Schedule

# Adam divides gradients by their size, rounding errors among them: not a measure of likeness.
SGD = Optimiser('sgd', learning_rate=0.02, momentum=0.5, clip=5.0)

PROCESS = """
import sys
from pathlib import Path
from test_distributed import train
if __name__ == '__main__':
    train(Path(sys.argv[1]), batch_size=1, workers=1)
"""


def train(out: Path, batch_size: int, workers: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    """Train with and without a critic; in as many processes as torchrun has started.

    Returns the weights that each generator began with.
    """
    starts = {}
    torch.set_num_threads(1)
    fabric = make_fabric('cpu', None, 'fp32')
    fabric.launch()
    recipes = {
        'plain': tiny_recipe(
            schedule=Schedule(steps=6, batch_size=batch_size, accumulate=2, ema=0.8),
            optimiser=SGD,
        ),
        'critic': adversarial_recipe(
            schedule=Schedule(steps=4, batch_size=batch_size, accumulate=2),
            optimiser=SGD,
            critic_optimiser=SGD,
        ),
    }
    for name, recipe in recipes.items():
        data, validation = Phantoms(9), Phantoms(4, seed=1)
        trainer = Trainer(recipe, data, validation, out / name, DATA, fabric, workers=workers)
        weights = trainer.networks.plain_generator.state_dict()
        starts[name] = {key: tensor.clone() for key, tensor in weights.items()}
        trainer.fit()
    return starts


def test_two_processes_train_as_one_with_the_double_batch(tmp_path):
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.pathsep.join(sys.path)}
    script = tmp_path / 'process.py'
    script.write_text(PROCESS)
    arguments = ['-m', 'torch.distributed.run', '--nproc-per-node=2', '--standalone']
    two = subprocess.run(
        [sys.executable, *arguments, str(script), str(tmp_path / 'two')],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert two.returncode == 0, two.stderr
    assert 'Grad strides' not in two.stderr
    starts = train(tmp_path / 'one', batch_size=2)
    for name in ('plain', 'critic'):
        one, pair = (
            load_checkpoint(tmp_path / run / name / 'checkpoints' / 'last')
            for run in ('one', 'two')
        )
        moved = 0.0
        for key, tensor in one.tensors.items():
            if 'optimiser' in key:
                continue
            torch.testing.assert_close(tensor, pair.tensors[key], rtol=0, atol=1e-6)
            own = starts[name].get(key.removeprefix('generator.'))
            if own is not None:
                moved = max(moved, float((tensor - own).abs().max()))
        # likeness is not that of two starts
        assert moved > 1e-3
        tables = [read_log(tmp_path / run / name / 'log.csv') for run in ('one', 'two')]
        for row, other in zip(*tables, strict=True):
            for key in set(row) - {'minutes', 'wait_share'}:
                assert row[key] == pytest.approx(other[key], rel=2e-3, abs=2e-4, nan_ok=True), key
        assert (tmp_path / 'two' / name / 'model' / 'card.json').is_file()


def test_processes_share_out_every_patch_once():
    whole = Shares(4)
    parts = [Shares(2, rank, 2) for rank in (0, 1)]
    for batch in range(3):
        assert whole.indices(batch, 7) == [i for part in parts for i in part.indices(batch, 7)]


def test_order_of_the_batches_goes_on_where_it_stopped():
    def order(step, critic_step, count):
        batches = iter(TrainingOrder(10, Shares(2), 2, lambda s: 1 + s % 2, step, critic_step))
        return [next(batches) for _ in range(count)]

    whole = order(0, 0, 24)
    # Two batches an update: one critic update in step 0, two in step 1.
    assert order(2, 3, 14) == whole[10:]
    resumed = iter(TrainingOrder(10, Shares(2), 2, lambda s: 1 + s % 2, 1, 2, critic_in_step=1))
    # The second of the two critic updates of step 1 is still to come.
    assert [next(resumed) for _ in range(4)] == whole[6:10]
    critic = [i for batch in whole for i in batch if i >= 2**39]
    assert critic == list(range(critic[0], critic[0] + len(critic)))


def test_contradicting_numbers_of_processes_are_refused(monkeypatch):
    for name, value in {
        'RANK': '0', 'GROUP_RANK': '0', 'LOCAL_RANK': '0', 'LOCAL_WORLD_SIZE': '2',
        'WORLD_SIZE': '4', 'MASTER_ADDR': 'localhost', 'MASTER_PORT': '1',
        'TORCHELASTIC_RUN_ID': 'x',
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match='--devices 3: torchrun started 2 here'):
        make_fabric('cpu', 3, 'fp32')


class Residual(torch.nn.Module):
    """An image plus what a convolution finds, as the networks that are trained here."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv3d(1, 1, 3, padding=1)
        torch.nn.init.zeros_(self.conv.weight)
        torch.nn.init.zeros_(self.conv.bias)

    def forward(self, x):
        found = self.conv(x)
        self.precision = found.dtype
        return x + found


@pytest.mark.parametrize(
    ('precision', 'inside'), [('bf16', torch.bfloat16), ('fp32', torch.float32)]
)
def test_mixed_precision_is_that_of_convolutions_alone(precision, inside):
    fabric = make_fabric('cpu', None, precision)
    network = fabric.setup_module(Residual())
    image = torch.linspace(0, 3, 512).reshape(1, 1, 8, 8, 8)
    assert torch.equal(network(image), image)
    assert network.precision == inside
