"""How many steps of back-projection should follow a model, on validation subjects.

    python benchmarks/back_projection.py --data DIR [--model NAME|PATH]

Slices as in default_model.py, of subjects that no weights were trained on (but for the scan, whose
thin axes were in the training of the default model), with two levels of noise: PSNR and SSIM of
cubic spline, of it and back-projection, of the network alone, and of the network and
back-projection. DIR is as there.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from held_out import (
    CONDITIONS,
    PLAIN,
    Case,
    Condition,
    fetal_average,
    make_slices,
    simulated_cases,
    thin_axes,
)

from bids_segsr.imaging.back_projection import back_project, interpolated_back_projection
from bids_segsr.imaging.measures.metrics import psnr, ssim
from bids_segsr.imaging.resample import resample
from bids_segsr.inference.predict import predict
from bids_segsr.zoo.feeding import interpolated
from bids_segsr.zoo.find import DEFAULT_MODEL, load_model
from bids_segsr.zoo.store import TrainedModel

ADULTS = ('adult-head/training_seg_16.nii.gz', 'adult-brain/brain4_labels.nii.gz')
FETUSES = ('fetal/GA32_operated_dseg.nii.gz',)
SCANS = ('patient20_T1W',)
SHARE = 0.5
STEPS = (1, 2, 3, 5, 8)
NOISES = (CONDITIONS[PLAIN].noise, CONDITIONS['noise 0.02'].noise)


def score(case: Case, how: Condition, model: TrainedModel) -> list[str]:
    """Score the numbers of steps on one case.

    Args:
        case: Fine image.
        how: Of the slices.
        model: Network.

    Returns:
        A row of the table.
    """
    made = make_slices(case, how)
    slices, mask = made.slices, made.mask
    # what follows the network is what is tried here
    contract = dataclasses.replace(model.card.contract, back_projection_steps=0)
    bare = dataclasses.replace(model, card=dataclasses.replace(model.card, contract=contract))
    seen = interpolated(bare.card, slices, made.grid.shape)
    network = predict(bare, seen, slices, mask=mask).image
    images = [
        resample(slices.data, slices.affine, made.grid),
        interpolated_back_projection(slices, made.grid),
        network,
        *(back_project(network, mask, slices, SHARE, steps) for steps in STEPS),
    ]
    inside, truth = made.inside, made.truth
    cells = [
        f'{psnr(truth, image, inside):.2f} / {ssim(truth * inside, image * inside, inside):.3f}'
        for image in images
    ]
    return [case.group.split(',')[0], case.name, f'{how.noise:g}', *cells]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description='Score numbers of steps of back-projection.')
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('--model', default=DEFAULT_MODEL)
    parser.add_argument('--threads', type=int, default=2)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    model = load_model(args.model)
    titles = ['images', 'subject', 'noise', 'spline', 'ibp', 'network']
    titles += [f'{steps} steps of {SHARE:g}' for steps in STEPS]
    print(f'| {" | ".join(titles)} |\n|---|---|{"--:|" * (len(titles) - 2)}')
    cases = (
        *simulated_cases(args.data / 'labels', ADULTS, FETUSES),
        fetal_average(args.data, 32),
        *thin_axes(args.data, SCANS, 'study2'),
    )
    for case in cases:
        for noise in NOISES:
            how = dataclasses.replace(CONDITIONS[PLAIN], noise=noise)
            print(f'| {" | ".join(score(case, how, model))} |', flush=True)


if __name__ == '__main__':
    main()
