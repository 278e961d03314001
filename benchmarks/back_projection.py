"""What share of back-projection a model should be followed by, on validation subjects.

    python benchmarks/back_projection.py --data DIR [--model NAME|PATH]

Slices as in default_model.py, of subjects that no weights were trained on (but for the scan, whose
thin axes were in the training of the default model): PSNR and SSIM of cubic spline, of the network
alone, and of the network and a step of back-projection. DIR is as there.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from default_model import (
    Case,
    fetal_average,
    interpolate,
    make_slices,
    simulated_cases,
    thin_axes,
)

from bids_segsr.imaging.back_projection import Slices, back_project
from bids_segsr.imaging.metrics import psnr, ssim
from bids_segsr.inference.predict import predict
from bids_segsr.inference.processing import Processing
from bids_segsr.zoo.find import DEFAULT_MODEL, load_model
from bids_segsr.zoo.store import TrainedModel

ADULTS = ('adult-head/training_seg_16.nii.gz', 'adult-brain/brain4_labels.nii.gz')
FETUSES = ('fetal/GA32_operated_dseg.nii.gz',)
SCANS = ('adult-clinical/patient20_T1W.nii.gz',)
SHARES = (0.5, 1.0)


def score(case: Case, model: TrainedModel) -> list[str]:
    """Score the shares on one case.

    Args:
        case: Fine image.
        model: Network.

    Returns:
        A row of the table.
    """
    axis = 2 if case.axis is None else case.axis
    slices = make_slices(case, axis)
    grid, mask, spline = interpolate(case, slices)
    acquired = Slices(slices.scan, slices.affine, grid.affine)
    contract = dataclasses.replace(model.card.contract, back_projection=0.0)
    alone = dataclasses.replace(model, card=dataclasses.replace(model.card, contract=contract))
    how = Processing(device='cpu')
    network = predict(alone, spline, acquired, mask=mask, processing=how).image
    images = [spline, network, *(back_project(network, mask, acquired, s) for s in SHARES)]
    inside, truth = mask & slices.brain, slices.truth
    cells = [
        f'{psnr(truth, image, inside):.2f} / {ssim(truth * inside, image * inside, inside):.3f}'
        for image in images
    ]
    return [case.group.split(',')[0], case.name, *cells]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description='Score shares of back-projection.')
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('--model', default=DEFAULT_MODEL)
    parser.add_argument('--threads', type=int, default=2)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    model = load_model(args.model)
    titles = ['images', 'subject', 'spline', 'network', *(f'share {s:g}' for s in SHARES)]
    print(f'| {" | ".join(titles)} |\n|---|---|{"--:|" * (len(titles) - 2)}')
    cases = (
        *simulated_cases(args.data / 'labels', ADULTS, FETUSES),
        fetal_average(args.data, 32),
        *thin_axes(args.data, SCANS),
    )
    for case in cases:
        print(f'| {" | ".join(score(case, model))} |', flush=True)


if __name__ == '__main__':
    main()
