"""Small images, label maps, patches and recipes for the tests of the training."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from geometry_phantoms import oblique_affine
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from bids_segsr.cli import train
from bids_segsr.training.data.data_summary import TrainingData
from bids_segsr.training.data.patches import Patch
from bids_segsr.training.data_tables import LabelMaps, LabelSource, Sampling
from bids_segsr.training.loop.distributed import make_fabric
from bids_segsr.training.loop.engine import Trainer
from bids_segsr.training.loop_tables import CriticSchedule, Loss, Optimiser
from bids_segsr.training.recipe import Network, Recipe, Schedule, Task, Validation

EDGE = 8
DATA = TrainingData('phantoms', {'train': ['a', 'b'], 'validation': ['c']}, (1.0, 1.0), (2.0, 4.0))


def segsr(*words: object) -> int:
    """Run `segsr train` in this process; returns its exit code."""
    parser = argparse.ArgumentParser(prog='segsr')
    train.add_parser(parser.add_subparsers())
    arguments = parser.parse_args(['train', *map(str, words)])
    status: int = arguments.func(arguments)
    return status


class Phantoms:
    """Smooth random patches, blurred along the last axis; the cortex is what is bright.

    Every patch depends on seed and number alone. Patch `constant` is a constant one, patch
    `broken` holds a NaN.
    """

    def __init__(
        self,
        length: int = 8,
        *,
        seed: int = 0,
        channels: tuple[str, ...] = ('intensity', 'cortex'),
        guides: int = 0,
        constant: int | None = None,
        broken: int | None = None,
    ) -> None:
        self.length, self.seed, self.channels, self.n_guides = length, seed, channels, guides
        self.constant, self.broken = constant, broken

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Patch:
        rng = np.random.default_rng([self.seed, index])
        truth = 0.5 + gaussian_filter(rng.normal(size=(EDGE,) * 3), 1.2) * 1.5
        low = gaussian_filter1d(truth, 1.0, axis=2)
        if index == self.constant:
            truth = low = np.full((EDGE,) * 3, 0.5)
        if index == self.broken:
            low = np.full((EDGE,) * 3, np.nan)
        labels = [truth > 0.6] * (len(self.channels) - 1)
        if len(self.channels) > 2:
            labels[1] = ~labels[2]
        image = np.stack([low, *[truth**2] * self.n_guides])
        return {
            'image': torch.from_numpy(image.astype(np.float32)),
            'target': torch.from_numpy(np.stack([truth, *labels]).astype(np.float32)),
            'resolution': torch.tensor(2.0 + index % 3),
        }


def tiny_recipe(**changes: object) -> Recipe:
    """A recipe that trains 4 filters for 6 steps."""
    recipe = Recipe(
        name='tiny',
        network=Network('segsrgan', {'base_filters': 4, 'n_blocks': 1}, start_near_identity=True),
        schedule=Schedule(steps=6, batch_size=2),
        sampling=Sampling(patch_size=EDGE, normalisation='patch-standard'),
        task=Task(),
        loss=Loss(),
        optimiser=Optimiser(learning_rate=1e-3),
        validation=Validation(every_steps=3, patches=4, pictures=1, score='psnr+10*dice'),
    )
    return dataclasses.replace(recipe, **changes)  # type: ignore[arg-type]


def adversarial_recipe(**changes: object) -> Recipe:
    """The same against a critic."""
    options = {'base_filters': 2, 'patch_size': EDGE}
    critic = {
        'critic': Network('segsrgan-critic', options),
        'critic_schedule': CriticSchedule(updates=2, head_start=1, extra_every=3, extra=1),
        'loss': Loss(adversarial_weight=1e-2),
    }
    return tiny_recipe(**(critic | changes))


def make_trainer(
    out: Path, recipe: Recipe, dataset: Phantoms | None = None, **options: object
) -> Trainer:
    """A trainer on one CPU."""
    dataset = dataset or Phantoms(channels=recipe.task.channels)
    validation = Phantoms(4, seed=1, channels=dataset.channels, guides=dataset.n_guides)
    fabric = make_fabric('cpu', None, recipe.schedule.precision)
    return Trainer(recipe, dataset, validation, out, DATA, fabric, **options)  # type: ignore[arg-type]


RECIPE_TEXT = """
name = "mine"
reference = "nobody (2020), section 1"
seed = 3
[network]
architecture = "segsrgan"
options = { base_filters = 8, conditional = "film" }
[critic]
architecture = "segsrgan-critic"
[schedule]
epochs = 200
batch_size = 16
[forward]
spacing_mm = [2, 3.5]
[task]
labels = { cortex = [2, 3] }
[loss]
adversarial_weight = 1e-3
[rates]
schedule = "step"
every_epochs = 20
[label_maps]
[[label_maps.sources]]
pattern = "*.nii.gz"
labelling = "adult"
table = { cortex = [3, 42] }
"""


AFFINE = oblique_affine((0.8, 0.8, 0.8), (4, -3, 6))


def write(path, data, affine=AFFINE):
    nib.Nifti1Image(data, affine).to_filename(path)
    return path


OWN_NUMBERS = {'cortex': (30,), 'white': (20,)}


def write_folded_ball(path, cortex=3, white=2):
    """A ball of white matter in a folded shell of cortex."""
    axis = np.linspace(-1.2, 1.2, 48)
    x, y, z = np.meshgrid(axis, axis, axis, indexing='ij')
    radius = np.sqrt(x**2 + y**2 + z**2) + 0.06 * np.sin(9 * x) * np.sin(9 * y)
    labels = np.where(radius < 0.7, white, np.where(radius < 0.9, cortex, 0))
    path.parent.mkdir(exist_ok=True)
    nib.Nifti1Image(labels.astype(np.int16), np.diag([0.8, 0.8, 0.8, 1])).to_filename(path)


LABEL_MAPS = LabelMaps(
    sources=(
        LabelSource('adult/*.nii.gz', 'adult', share=3),
        LabelSource('own/*.nii', 'adult', table=OWN_NUMBERS),
    ),
    hold_out=('held*',),
    validation=('a3*', 'b2*'),
    reuse=4,
)
