"""Do the super-resolved images of two stacks agree better than the interpolated ones?

    python benchmarks/stacks.py --data DIR [--model NAME|PATH] [--runs 1 3]

Two real stacks of one fetus, acquired in different directions, each restored on its own. The
second one is brought to the first by a rigid registration of the interpolated images, so that the
comparison does not favour the network; both pairs of images are then compared with that same
transform, inside both manual masks. Beside it, how well each image agrees with its own slices.
DIR holds `images/fetal-stacks`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from bids_segsr.imaging.back_projection import Slices, back_projection_alone
from bids_segsr.imaging.measures.fidelity import fidelity
from bids_segsr.imaging.measures.metrics import correlation, dice, nrmse
from bids_segsr.imaging.resample import (
    Grid,
    resample,
    to_sitk,
)
from bids_segsr.imaging.volume import load_mask, load_volume
from bids_segsr.inference import steps
from bids_segsr.inference.processing import Processing
from bids_segsr.zoo.find import DEFAULT_MODEL, load_model
from bids_segsr.zoo.store import TrainedModel


@dataclass(frozen=True)
class Restored:
    """A stack on an isotropic grid.

    Attributes:
        grid: The grid.
        mask: Brain, bool.
        images: 'spline', 'ibp' (back-projection without a network) and 'network' to float32
            images, 0 outside the brain.
        cortex: Cortex of the network, bool.
        residual: Each of them to its fidelity NRMSE.
    """

    grid: Grid
    mask: np.ndarray
    images: dict[str, np.ndarray]
    cortex: np.ndarray
    residual: dict[str, float]


def restore(folder: Path, run: int, model: TrainedModel) -> Restored:
    """Take a stack the way of the workflow."""
    scan = load_volume(folder / 'sub-01/anat' / f'sub-01_run-{run}_T2w.nii.gz')
    brain = load_mask(folder / 'masks' / f'sub-01_run-{run}_T2w_desc-brain_mask.nii.gz', scan)
    processing, _ = steps.settle(Processing(device='cpu'), scan, {})
    corrected = steps.correct(scan, processing, brain)
    fine = steps.interpolate(corrected, brain, processing)
    prediction = steps.restore(model, corrected, fine, processing)
    thickness = processing.slice_thickness
    slices = Slices(corrected.data, corrected.affine, fine.affine, thickness)
    images = {
        'spline': fine.image,
        'ibp': back_projection_alone(slices, fine.mask),
        'network': prediction.image,
    }
    found = fidelity(
        [*images.values()], fine.affine, corrected.data, corrected.affine, fine.mask, thickness
    )
    residual = {name: each.nrmse for name, each in zip(images, found, strict=True)}
    i, j, k = fine.mask.shape
    cortex = prediction.probabilities[0] > 0.5
    return Restored(Grid((i, j, k), fine.affine), fine.mask, images, cortex, residual)


def rigid(fixed: Restored, moving: Restored) -> np.ndarray:
    """Register the interpolated images; returns the matrix (4 x 4) from fixed to moving RAS mm."""
    images = [to_sitk(part.images['spline'], part.grid.affine) for part in (fixed, moving)]
    by_moments = sitk.CenteredTransformInitializer(
        *images, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    still = sitk.Euler3DTransform()
    still.SetCenter(sitk.Euler3DTransform(by_moments).GetCenter())
    found = []
    for start in (still, by_moments):  # the fetus may have moved, or not
        registration = sitk.ImageRegistrationMethod()
        registration.SetGlobalDefaultNumberOfThreads(1)
        registration.SetMetricAsCorrelation()
        registration.SetMetricFixedMask(to_sitk(fixed.mask.astype(np.uint8), fixed.grid.affine))
        registration.SetInterpolator(sitk.sitkLinear)
        registration.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, 300)
        registration.SetOptimizerScalesFromPhysicalShift()
        registration.SetShrinkFactorsPerLevel([4, 2, 1])
        registration.SetSmoothingSigmasPerLevel([4, 2, 0])
        registration.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
        registration.SetInitialTransform(start, inPlace=False)
        transform = registration.Execute(*images)
        found.append((registration.GetMetricValue(), len(found), transform))
    transform = min(found)[2]
    # ITK counts in LPS: the columns of the matrix are what it makes of the unit vectors.
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    for axis, unit in enumerate(np.eye(3)):
        matrix[:3, axis] = np.array(transform.TransformPoint(unit.tolist())) - origin
    matrix[:3, 3] = origin
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    return flip @ matrix @ flip


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('--model', default=DEFAULT_MODEL)
    parser.add_argument('--runs', nargs='+', type=int, default=(1, 3))
    parser.add_argument('--threads', type=int, default=2)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    model = load_model(arguments.model)
    folder = arguments.data / 'images' / 'fetal-stacks'
    stacks = {run: restore(folder, run, model) for run in arguments.runs}
    print('agreement with its own slices, NRMSE')
    for run, stack in stacks.items():
        print(f'run-{run}', {name: round(value, 4) for name, value in stack.residual.items()})
    first, *others = arguments.runs
    fixed = stacks[first]
    for other in others:
        moving = stacks[other]
        affine = np.linalg.inv(rigid(fixed, moving)) @ moving.grid.affine
        mask = resample(moving.mask.astype(np.float32), affine, fixed.grid, order=1) > 0.5
        inside = mask & fixed.mask
        print(f'run-{first} and run-{other}, {inside.sum()} voxels in both masks')
        for name in fixed.images:
            moved = resample(moving.images[name], affine, fixed.grid)
            here, there = fixed.images[name][inside], moved[inside]
            # The gain of the receiver differs from run to run.
            gain, offset = np.polyfit(there, here, 1)
            print(
                f'  {name:8} correlation {correlation(here, there):.4f}  '
                f'NRMSE {nrmse(here, gain * there + offset):.4f}'
            )
        cortex = resample(moving.cortex.astype(np.float32), affine, fixed.grid, order=1) > 0.5
        print(f'  Dice of the cortex {dice(fixed.cortex & inside, cortex & inside):.3f}')


if __name__ == '__main__':
    main()
