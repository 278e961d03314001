"""The network and a training on a GPU, beside the CPU."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from training_phantoms import DATA, Phantoms, tiny_recipe

from bids_segsr.exceptions import UserError
from bids_segsr.imaging.back_projection import Slices
from bids_segsr.inference.predict import Prediction, predict, resolve_device
from bids_segsr.inference.processing import Processing
from bids_segsr.training.loop.distributed import make_fabric
from bids_segsr.training.loop.engine import Trainer
from bids_segsr.zoo.find import DEFAULT_MODEL, load_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device'),
]

SHAPE = (104, 96, 88)

BOUNDS = {'fp32': (0.005, 0.002, 0.999), 'bf16': (0.02, 0.005, 0.99)}
"""Precision on the GPU to what may differ from a CPU in fp32: a voxel, as a share of the image's
maximum (a GPU multiplies in TF32); the probabilities on average; least Dice of the cortex."""


def on(device: str, precision: str = 'fp32') -> Prediction:
    """The default model over a folded shell of known make."""
    model = load_model(DEFAULT_MODEL)
    contract = dataclasses.replace(model.card.contract, precision=precision)
    model = dataclasses.replace(model, card=dataclasses.replace(model.card, contract=contract))
    axes = [np.linspace(-1.2, 1.2, n) for n in SHAPE]
    x, y, z = np.meshgrid(*axes, indexing='ij')
    radius = np.sqrt(x**2 + y**2 + z**2) + 0.06 * np.sin(9 * x) * np.sin(9 * y)
    noise = np.random.default_rng(0).normal(0, 10, SHAPE)
    image = np.where(radius < 0.7, 600, np.where(radius < 0.9, 350, 900)) + noise
    image = np.where(radius < 1, image, 0).astype(np.float32)
    scan = Slices(image[:, :, 1::3], np.diag([1.0, 1, 3, 1]), np.eye(4))
    how = Processing(device=device)
    return predict(model, image, scan, mask=radius < 1, processing=how)


def digest(found: Prediction) -> str:
    parts = (found.image, found.probabilities, found.entropy, found.disagreement)
    return hashlib.sha256(b''.join(part.tobytes() for part in parts)).hexdigest()


@pytest.fixture(scope='module')
def on_gpu() -> Prediction:
    return on('cuda')


@pytest.fixture(scope='module')
def on_cpu() -> Prediction:
    return on('cpu')


@pytest.mark.parametrize('precision', BOUNDS)
def test_a_gpu_finds_what_a_cpu_finds(on_gpu, on_cpu, precision):
    found = on_gpu if precision == 'fp32' else on('cuda', precision)
    assert (found.device, found.precision) == ('cuda', precision)
    assert (on_cpu.device, on_cpu.precision) == ('cpu', 'fp32')
    voxel, probability, overlap = BOUNDS[precision]
    assert np.abs(found.image - on_cpu.image).max() < voxel * on_cpu.image.max()
    assert np.abs(found.probabilities - on_cpu.probabilities).mean() < probability
    ours, theirs = found.probabilities[0] > 0.5, on_cpu.probabilities[0] > 0.5
    assert 2 * (ours & theirs).sum() > overlap * (ours.sum() + theirs.sum())


def test_two_processes_share_a_card_and_find_the_same_bytes(on_gpu):
    command = 'import test_gpu; print(test_gpu.digest(test_gpu.on("cuda")))'
    path = [folder for folder in sys.path if folder]
    other = subprocess.Popen(
        [sys.executable, '-c', f'import sys; sys.path[:] = {path!r}; {command}'],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    runs = 0
    while other.poll() is None or not runs:
        assert digest(on('cuda')) == digest(on_gpu)
        runs += 1
    found, errors = other.communicate()
    assert other.returncode == 0, errors[-2000:]
    assert found.split()[-1] == digest(on_gpu)


def test_a_full_card_hands_over_to_the_cpu():
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(100e6 / total)
    try:
        found = on('cuda')
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert found.device == 'cpu'
    assert 'GPU ran out of memory' in found.warnings[0]
    assert len(found.warnings) == 1


def test_cards_have_numbers(on_gpu):
    count = torch.cuda.device_count()
    found = on(f'cuda:{count - 1}')
    assert found.device == f'cuda:{count - 1}'
    assert digest(found) == digest(on_gpu)
    with pytest.raises(UserError, match='no such GPU'):
        resolve_device(f'cuda:{count}')


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_a_training_on_a_gpu_goes_as_on_a_cpu(tmp_path, monkeypatch, precision):
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', MagicMock())
    scores = {}
    for device in ('cpu', 'cuda'):
        recipe = tiny_recipe()
        fabric = make_fabric(device, None, precision if device == 'cuda' else 'fp32')
        out = tmp_path / device
        trainer = Trainer(recipe, Phantoms(), Phantoms(4, seed=1), out, DATA, fabric)
        outcome = trainer.fit()
        assert outcome.progress.step == recipe.schedule.steps
        scores[device] = outcome.scores['psnr']
    assert scores['cuda'] == pytest.approx(scores['cpu'], abs=0.05 if precision == 'fp32' else 0.5)
