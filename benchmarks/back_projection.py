"""How many steps of back-projection should follow a model, on validation subjects.

    python benchmarks/back_projection.py --data DIR [--model NAME|PATH]

Slices as in default_model.py, of subjects that no weights were trained on (but for the scan, whose
thin axes were in the training of the default model), with several levels of noise, of a box
profile, and stripped: PSNR and SSIM of cubic spline, of it and back-projection, of the network
alone, and of the network and back-projection; in the last column with at most MOST steps, which
end at the noise. A model of newborns is scored on label maps painted so, with slices 3.5 voxels
apart, as sharp as they are, as scans are, and as these are when all but the brain was taken away
before. DIR is as there.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from held_out import (
    CONDITIONS,
    Case,
    Condition,
    fetal_average,
    make_slices,
    simulated_cases,
    thin_axes,
)
from scipy.ndimage import gaussian_filter

from bids_segsr.imaging.back_projection import (
    back_project,
    back_projection_alone,
    noise_of,
)
from bids_segsr.imaging.measures.metrics import psnr, ssim
from bids_segsr.imaging.resample import FWHM_PER_SIGMA, resample
from bids_segsr.inference.predict import predict
from bids_segsr.zoo.feeding import interpolated
from bids_segsr.zoo.find import DEFAULT_MODEL, load_model
from bids_segsr.zoo.store import TrainedModel

ADULTS = ('adult-head/training_seg_16.nii.gz', 'adult-brain/brain4_labels.nii.gz')
FETUSES = ('fetal/GA32_operated_dseg.nii.gz',)
SCANS = ('patient20_T1W',)
SHARE = 0.5
STEPS = (1, 2, 3, 5, 8)
MOST = 5
HOW = (
    *(Condition(noise=noise) for noise in (0.0, 0.01, 0.02, 0.03)),
    CONDITIONS['box profile'],
    CONDITIONS['slices stripped'],
)
NEWBORN_DISTANCE = 3.5
"""Of the slices, in voxels."""
SCAN_BLUR = (1.2, 1.2, 1.5)
"""FWHM in voxels of what a scan shows, across the slices last."""


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
    seen = interpolated(bare.card, slices, mask)
    network = predict(bare, seen, slices, mask=mask).image
    images = [
        resample(slices.data, slices.affine, made.grid),
        back_projection_alone(slices, mask),
        network,
        *(back_project(network, mask, slices, SHARE, steps) for steps in STEPS),
        back_project(network, mask, slices, SHARE, MOST, noise_of(slices, mask)),
    ]
    inside, truth = made.inside, made.truth
    cells = [
        f'{psnr(truth, image, inside):.2f} / {ssim(truth * inside, image * inside, inside):.3f}'
        for image in images
    ]
    slices_are = f'{how.profile}, stripped' if how.stripped else how.profile
    return [case.group, case.name, slices_are, f'{how.noise:g}', *cells]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description='Score numbers of steps of back-projection.')
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('--model', default=DEFAULT_MODEL)
    parser.add_argument('--threads', type=int, default=2)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    model = load_model(args.model)
    titles = ['images', 'subject', 'slices', 'noise', 'spline', 'ibp', 'network']
    titles += [f'{steps} steps of {SHARE:g}' for steps in STEPS]
    titles.append(f'at most {MOST}')
    print(f'| {" | ".join(titles)} |\n|---|---|---|{"--:|" * (len(titles) - 3)}')
    newborn = model.card.contract.modalities if 'newborn' in model.card.name else ()
    for case in cases_for(args.data, newborn):
        for how in HOW:
            if newborn:
                how = dataclasses.replace(how, distance=round(NEWBORN_DISTANCE * case.spacing, 3))
            print(f'| {" | ".join(score(case, how, model))} |', flush=True)


def cases_for(data: Path, newborn: Sequence[str]) -> Iterator[Case]:
    """Return the validation subjects.

    Args:
        data: Folder of label maps and images.
        newborn: Sequences of a model of newborns; nothing for another one.
    """
    if not newborn:
        yield from simulated_cases(data / 'labels', ADULTS, FETUSES)
        yield fetal_average(data, 32)
        yield from thin_axes(data, SCANS, 'study2')
    for sequence in newborn:
        for case in simulated_cases(
            data / 'labels', ADULTS[:1], FETUSES, (f'newborn-{sequence}',)
        ):
            yield case
            sigma = np.array(SCAN_BLUR) / FWHM_PER_SIGMA
            image = gaussian_filter(case.image, sigma)
            scan = dataclasses.replace(case, group=f'{case.group}, as a scan', image=image)
            yield scan
            stripped = np.where(case.brain, image, 0)
            yield dataclasses.replace(scan, group=f'{scan.group}, stripped', image=stripped)


if __name__ == '__main__':
    main()
