"""Train a generator on label maps: ``python -m bids_segsr.training.label_maps --help``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bids_segsr.exceptions import UserError
from bids_segsr.training.fit import Fit, Plan
from bids_segsr.training.synthesis import (
    Acquisition,
    Anatomy,
    Appearance,
    Recipe,
    Sample,
    make_sample,
    read_anatomy,
)

SOURCES: dict[str, tuple[str, float]] = {
    'adult-head': ('adult', 0.50),
    'adult-brain': ('adult', 0.15),
    'fetal': ('fetal', 0.35),
}
"""Folder to labelling and share of the samples."""

HELD_OUT = (
    'training_seg_17',
    'training_seg_18',
    'training_seg_19',
    'training_seg_20',
    'brain5',
    'GA28',
    'GA33',
)
"""Subjects for evaluation only: starts of the file names."""

VALIDATION: dict[str, tuple[str, ...]] = {
    'training_seg_16': ('adult-T1w', 'adult-T2w'),
    'brain4': ('adult-T1w', 'newborn-T2w'),
    'GA26': ('newborn-T2w',),
    'GA32': ('newborn-T2w', 'newborn-T1w'),
}
"""Subjects set aside to follow the training, and their contrasts: starts of the file names."""


def find_label_maps(folder: Path) -> dict[str, list[Path]]:
    """List the label maps that a training may read.

    Args:
        folder: Holds the folders named in SOURCES.

    Returns:
        Source to files, sorted, without those that are held out.

    Raises:
        UserError: If a source is missing.
    """
    found = {}
    for source in SOURCES:
        paths = sorted((folder / source).glob('*.nii.gz'))
        found[source] = [path for path in paths if not path.name.startswith(HELD_OUT)]
        if not found[source]:
            raise UserError(f'{folder / source}: no label maps (*.nii.gz) to train on')
    return found


def validation_samples(anatomies: Sequence[Anatomy]) -> list[Sample]:
    """Fixed samples: three-voxel slices of the contrasts in VALIDATION, little noise."""
    recipe = Recipe(
        Appearance(
            rim_share=0, loose_share=0, texture=(0.015, 0.015), bias=(0.05, 0.05), voxel=(1.0, 1.0)
        ),
        Acquisition(ratio=(3.0, 3.0), gap=0, noise=(0.01, 0.01)),
    )
    samples = []
    for anatomy in anatomies:
        contrasts = next(c for start, c in VALIDATION.items() if anatomy.name.startswith(start))
        for seed, contrast in enumerate(contrasts):
            rng = np.random.default_rng(seed)
            samples.append(make_sample(anatomy, (80, 80, 48), recipe, rng, contrast))
    return samples


def main(arguments: Sequence[str] | None = None) -> None:
    """Train a generator on label maps until the time is used up.

    Args:
        arguments: Words of the command; those of the process when None.
    """
    parser = argparse.ArgumentParser(
        prog='python -m bids_segsr.training.label_maps',
        description='Train a generator on label maps.',
    )
    parser.add_argument('--labels', type=Path, required=True, help='folder of label maps')
    parser.add_argument('--out', type=Path, required=True, help='folder of the run; resumed')
    parser.add_argument('--minutes', type=float, required=True, help='length of the training')
    parser.add_argument('--architecture', default='segsrgan-unet')
    parser.add_argument('--base-filters', type=int, default=16)
    parser.add_argument('--patch', type=int, default=48, help='patch edge, voxels')
    parser.add_argument('--learning-rate', type=float, default=1e-3)
    parser.add_argument('--batch', type=int, default=2, help='patches a step, a thread each')
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--save-minutes', type=float, default=5.0)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--start-from', type=Path, help='best.pt or last.pt of another run')
    args = parser.parse_args(arguments)

    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(message)s')
    training: list[Anatomy] = []
    set_aside: list[Anatomy] = []
    weights: list[float] = []
    for source, paths in find_label_maps(args.labels).items():
        labelling, share = SOURCES[source]
        for path in paths:
            anatomy = read_anatomy(path, labelling)
            if path.name.startswith(tuple(VALIDATION)):
                set_aside.append(anatomy)
            else:
                training.append(anatomy)
                weights.append(share / len(paths))
    assert not any(a.name.startswith(HELD_OUT) for a in (*training, *set_aside))  # noqa: S101
    logging.info('%d subjects, %d set aside for validation', len(training), len(set_aside))

    plan = Plan(
        architecture=args.architecture,
        options={'base_filters': args.base_filters},
        minutes=args.minutes,
        patch=args.patch,
        batch=args.batch,
        learning_rate=args.learning_rate,
        device=args.device,
        seed=args.seed,
        save_minutes=args.save_minutes,
    )
    fit = Fit(plan, args.out, args.start_from)
    fit.run(training, weights, Recipe(), validation_samples(set_aside))


if __name__ == '__main__':
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
