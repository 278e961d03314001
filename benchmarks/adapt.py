"""Is it worth training on the very scan that is to be restored? Its thin axes teach the network.

    python benchmarks/adapt.py --data DIR --out DIR [--model NAME] [--minutes 5]

For one real image of each kind that no training has seen: the thick slices are simulated, the
packaged network goes on for some minutes on what those slices show in plane (as ECLARE and SMORE
do), with the tissues fixed, and is scored beside what it was.
A second run goes on where the first one stopped. DIR as for `segsr train default-model`.
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from default_model import score
from held_out import CONDITIONS, PLAIN, Case, make_slices, real_cases
from search import train

from bids_segsr.training.data_tables import UNLABELLED, LabelMaps, LabelSource
from bids_segsr.training.recipe import Network, Recipe
from bids_segsr.training.recipe_file import read_recipe
from bids_segsr.zoo.find import load_model
from bids_segsr.zoo.store import TrainedModel

HOW = CONDITIONS[PLAIN]
FROZEN = ('tissues*',)
"""All but the half for the intensity."""


def chosen(data: Path) -> Iterator[Case]:
    """One image of a kind."""
    groups = set()
    for case in real_cases(data):
        if case.group not in groups:
            groups.add(case.group)
            yield case


def make_recipe(model: TrainedModel, ratio: float, minutes: float) -> Recipe:
    """Turn the recipe of the default model into one for the thin axes of one scan."""
    recipe = read_recipe('default-model')
    assert recipe.label_maps is not None  # noqa: S101 - narrows
    maps = LabelMaps(
        sources=(LabelSource('*.nii.gz', UNLABELLED),),
        validation=('follow*',),
        reuse=recipe.label_maps.reuse,
        appearance=dataclasses.replace(recipe.label_maps.appearance, random_share=0.0, gamma=0.0),
        acquisition=dataclasses.replace(
            recipe.label_maps.acquisition, ratio=(ratio, ratio), usual_share=0.0
        ),
        deformation=recipe.label_maps.deformation,
    )
    return dataclasses.replace(
        recipe,
        name=f'{model.card.name}-{model.card.version}',
        network=Network(model.card.architecture, model.card.options),
        label_maps=maps,
        loss=dataclasses.replace(recipe.loss, segmentation='none'),
        optimiser=dataclasses.replace(recipe.optimiser, learning_rate=3e-4),
        rates=dataclasses.replace(recipe.rates, warmup=10),
        schedule=dataclasses.replace(recipe.schedule, minutes=minutes, batch_size=2, ema=0.98),
        validation=dataclasses.replace(
            recipe.validation, every_steps=1_000_000, score='gain', pictures=1
        ),
    )


def adapt(case: Case, model: TrainedModel, minutes: float, out: Path) -> Path:
    """Train on the slices of a case, unless that was done; return the folder of the model."""
    here = out / case.name.replace(' ', '-')
    folder = here / 'scan'
    if not folder.is_dir():
        made = make_slices(case, HOW)
        slices = made.slices
        scan = np.where(made.seen, slices.data, 0)
        folder.mkdir(parents=True)
        for name in ('scan', 'follow'):
            image = nib.Nifti1Image(scan.astype(np.float32), slices.affine)
            nib.save(image, folder / f'{name}.nii.gz')
    recipe = make_recipe(model, HOW.distance / case.spacing, minutes)
    train(recipe, folder, here, init=str(model.path.parent), freeze=FROZEN)
    return here / recipe.name / 'model'


def main() -> None:
    """Adapt to every image and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--model', default='tissue-unet')
    parser.add_argument('--minutes', type=float, default=5.0, help='of each training')
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(arguments.model)
    rows = []
    for case in chosen(arguments.data):
        folder = adapt(case, model, arguments.minutes, arguments.out)
        before, after = (score(case, each, HOW) for each in (model, load_model(str(folder))))
        rows.append(
            {
                'image': case.group,
                'spline': before['psnr_spline'],
                'ibp': before['psnr_ibp'],
                'network': before['psnr_network'],
                'adapted': after['psnr_network'],
                'SSIM network': before['ssim_network'],
                'SSIM adapted': after['ssim_network'],
            }
        )
    print(f'{platform.processor() or platform.machine()}, one thread')
    print(pd.DataFrame(rows).round(3).to_string(index=False))


if __name__ == '__main__':
    main()
