"""Draw what a model makes of images that no training has seen, and of what it cannot know.

    python benchmarks/draw_examples.py --data DIR [--model NAME] [--out docs/images]

Writes examples.png and failures.png, of the model of newborns failures-newborn.png: slices, cubic
spline, network, truth where there is one, and the classes, in a plane across the slices. DIR as
for `default_model.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from held_out import CONDITIONS, PLAIN
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap
from nibabel import as_closest_canonical, load
from scipy import ndimage

from bids_segsr.imaging.back_projection import Slices
from bids_segsr.imaging.bias_field import correct_bias_field
from bids_segsr.imaging.conform import acquired_axis
from bids_segsr.imaging.degrade import degrade, thick_slice_grid
from bids_segsr.imaging.resample import auto_resolution, isotropic_grid, resample, resample_mask
from bids_segsr.imaging.volume import load_mask, load_volume
from bids_segsr.inference.predict import predict
from bids_segsr.inference.processing import Processing
from bids_segsr.simulation.anatomy import read_anatomy
from bids_segsr.simulation.contrast import paint
from bids_segsr.simulation.synthesis import brain_of
from bids_segsr.simulation.tables import CLASSES, CONTRASTS
from bids_segsr.zoo.feeding import interpolated
from bids_segsr.zoo.find import DEFAULT_MODEL, NEWBORN_MODELS, load_model
from bids_segsr.zoo.store import TrainedModel

LESION_MM = 9.0
SHIFT_MM = 1.5
LOOSE_MM = 8.0
NEWBORN_SIZE = 0.75
COLOURS = ('#000000', '#e69f00', '#f0f0f0', '#56b4e9', '#0072b2', '#d55e00', '#009e73', '#cc79a7')
"""Of the classes, in their order (Okabe and Ito)."""


@dataclass(frozen=True)
class Picture:
    """One row of a figure.

    Attributes:
        title: What it shows.
        scan: Thick slices (i, j, k) float32.
        affine: Of the scan.
        mask: Brain mask of the scan.
        spacing: Of the restored image, mm.
        plane: Axis across which the picture is taken, of the restored image.
        position: Where on it, voxels; None for a little behind the middle of the brain.
        truth: Fine image on the restored grid, or None.
    """

    title: str
    scan: np.ndarray
    affine: np.ndarray
    mask: np.ndarray
    spacing: float
    plane: int
    truth: np.ndarray | None = None
    position: int | None = None


def simulated(
    path: Path,
    labelling: str,
    contrast: str,
    title: str,
    *,
    lesion: bool = False,
    shift: float = 0,
    size: float = 1.0,
) -> Picture:
    """Axial slices of a painted label map, with a lesion or with slices that moved.

    Args:
        path: Label map.
        labelling: Key of LABELLINGS.
        contrast: Key of CONTRASTS.
        title: Of the picture.
        lesion: Paint a bright ball.
        shift: Standard deviation of the moves of the slices, mm.
        size: Of the head over that of the label map.
    """
    anatomy = read_anatomy(path, labelling)
    spacing = float(load(path).header.get_zooms()[0]) * size
    truth = paint(anatomy.fractions, CONTRASTS[contrast], rim=True)
    brain = brain_of(anatomy.fractions)
    position = None
    if lesion:
        inside = ndimage.distance_transform_edt(brain)
        i, j, k = np.unravel_index(np.argmax(inside), brain.shape)
        at = np.indices(brain.shape) - np.array([i, j, k])[:, None, None, None]
        ball = np.sqrt((at**2).sum(0)) * spacing < LESION_MM
        truth = np.where(ball, truth.max(), truth).astype(np.float32)
        position = int(j)
    # A whole number of slices makes the restored grid the fine one.
    distance = CONDITIONS[PLAIN].distance
    block = Fraction(distance / spacing).limit_denominator(20).numerator
    above = -truth.shape[2] % block
    truth, brain = (np.pad(part, ((0, 0), (0, 0), (0, above))) for part in (truth, brain))
    affine = np.diag([spacing] * 3 + [1.0])
    slices = thick_slice_grid(truth.shape, affine, distance, 2)
    rng = np.random.default_rng(0)
    scan = degrade(truth, affine, slices)
    for number in range(scan.shape[2]):
        move = rng.normal(0, shift / spacing, 2)
        scan[..., number] = ndimage.shift(scan[..., number], move, order=3, mode='nearest')
    scan = scan + rng.normal(0, 0.01 * float(truth.max()), scan.shape).astype(np.float32)
    mask = degrade(brain, affine, slices) > 0.5
    return Picture(title, scan, slices.affine, mask, spacing, 1, truth * brain, position)


def fetal_average(data: Path) -> Picture:
    """Axial slices of the real T2w average at 33 weeks."""
    image = as_closest_canonical(load(data / 'images/fetal/GA33_operated_T2w.nii.gz'))
    labels = as_closest_canonical(load(data / 'labels/fetal/GA33_operated_dseg.nii.gz'))
    truth = image.get_fdata(dtype=np.float32)
    brain = np.rint(np.asarray(labels.dataobj)) > 0
    truth, brain = (part[..., : truth.shape[2] // 15 * 15] for part in (truth, brain))
    affine = np.diag([0.8, 0.8, 0.8, 1.0])
    slices = thick_slice_grid(truth.shape, affine, CONDITIONS[PLAIN].distance, 2)
    scan, mask = degrade(truth, affine, slices), degrade(brain, affine, slices) > 0.5
    title = 'real T2w average, 33 weeks\n3 mm axial slices'
    return Picture(title, scan, slices.affine, mask, 0.8, 1, truth * brain)


def stack(data: Path, run: int, loose_mm: float, title: str) -> Picture:
    """A real fetal stack, its mask as drawn or widened."""
    folder = data / 'images/fetal-stacks'
    scan = load_volume(folder / f'sub-01/anat/sub-01_run-{run}_T2w.nii.gz')
    mask = load_mask(folder / f'masks/sub-01_run-{run}_T2w_desc-brain_mask.nii.gz', scan)
    if loose_mm:
        mask = ndimage.distance_transform_edt(~mask, sampling=scan.spacing) <= loose_mm
    corrected = correct_bias_field(scan.data, scan.affine, mask)
    spacing = auto_resolution(scan.spacing)
    grid = isotropic_grid(scan.data.shape, scan.affine, spacing)
    across = acquired_axis(scan.affine, grid.affine)
    plane = next(axis for axis in (0, 1, 2) if axis != across)
    return Picture(title, corrected, scan.affine, mask, spacing, plane)


def examples(data: Path) -> Iterator[Picture]:
    """What the model was made for."""
    adult = data / 'labels/adult-head'
    for number, contrast in ((18, 'adult-T1w'), (19, 'adult-T2w')):
        title = f'simulated {contrast}, held-out head\n3 mm axial slices'
        yield simulated(adult / f'training_seg_{number}.nii.gz', 'adult', contrast, title)
    yield fetal_average(data)
    yield stack(data, 1, 0, 'real fetal stack, 3.3 mm slices\nmanual mask')


def failures(data: Path) -> Iterator[Picture]:
    """What it was not made for."""
    adult = data / 'labels/adult-head'
    yield simulated(
        adult / 'training_seg_20.nii.gz',
        'adult',
        'adult-T2w',
        f'pathology: a bright ball of {2 * LESION_MM:g} mm',
        lesion=True,
    )
    yield simulated(
        adult / 'training_seg_17.nii.gz',
        'adult',
        'adult-T2w',
        f'motion: slices shifted by {SHIFT_MM:g} mm (SD)',
        shift=SHIFT_MM,
    )
    yield stack(data, 1, LOOSE_MM, f'fetal surroundings: mask\n{LOOSE_MM:g} mm too wide')
    yield simulated(
        data / 'labels/fetal/GA22_notoperated_dseg.nii.gz',
        'fetal',
        'newborn-T2w',
        'extreme prematurity: 22 weeks, simulated\n(this map was in the training)',
    )


def newborn_failures(data: Path) -> Iterator[Picture]:
    """What the model of newborns was made for the least; all painted as T2w."""
    adult, fetal, contrast = data / 'labels/adult-head', data / 'labels/fetal', 'newborn-T2w'
    yield simulated(
        adult / 'training_seg_18.nii.gz',
        'adult',
        contrast,
        "adult folding at a newborn's size, held out:\nwhat it was made for",
        size=NEWBORN_SIZE,
    )
    yield simulated(
        adult / 'training_seg_17.nii.gz',
        'adult',
        contrast,
        f'the same size, slices shifted by {SHIFT_MM:g} mm (SD)',
        shift=SHIFT_MM,
        size=NEWBORN_SIZE,
    )
    yield simulated(
        adult / 'training_seg_20.nii.gz',
        'adult',
        contrast,
        f'pathology: a bright ball of {2 * LESION_MM:g} mm',
        lesion=True,
        size=NEWBORN_SIZE,
    )
    yield simulated(
        fetal / 'GA28_operated_dseg.nii.gz',
        'fetal',
        contrast,
        'very preterm, large ventricles: 28 weeks, held out',
    )
    yield simulated(
        fetal / 'GA22_notoperated_dseg.nii.gz',
        'fetal',
        contrast,
        'extreme prematurity: 22 weeks\n(this map was in the training)',
    )


FIGURES = {
    DEFAULT_MODEL: {'examples': examples, 'failures': failures},
    NEWBORN_MODELS['T2w']: {'failures-newborn': newborn_failures},
}


def draw(pictures: list[Picture], model: TrainedModel, path: Path) -> None:
    """Restore the scans and draw them, one a row."""
    titles = ('slices', 'cubic spline', 'network', 'truth', 'classes')
    figure, axes = plt.subplots(
        len(pictures), len(titles), figsize=(2.1 * len(titles), 2.1 * len(pictures))
    )
    for row, picture in zip(axes, pictures, strict=True):
        grid = isotropic_grid(picture.scan.shape, picture.affine, picture.spacing)
        mask = resample_mask(picture.mask, picture.affine, grid)
        spline = np.where(mask, resample(picture.scan, picture.affine, grid), np.float32(0))
        nearest = resample(picture.scan, picture.affine, grid, order=0)
        slices = Slices(picture.scan, picture.affine, grid.affine)
        found = predict(
            model,
            interpolated(model.card, slices, mask),
            slices,
            mask=mask,
            processing=Processing(device='cpu'),
        )
        classes = (
            found.probabilities[1:].argmax(0)
            if len(found.probabilities) > 2
            else found.probabilities[0] > 0.5
        )
        here = np.argwhere(mask)
        low, high = here.min(0), here.max(0) + 1
        position = picture.position or (low[picture.plane] * 9 + high[picture.plane] * 11) // 20
        box = [slice(max(a - 3, 0), b + 3) for a, b in zip(low, high, strict=True)]
        top = float(np.percentile(spline[mask], 99.5))
        truth = picture.truth
        for panel, image in zip(row, (nearest * mask, spline, found.image, truth), strict=False):
            panel.axis('off')
            if image is None:
                panel.text(0.5, 0.5, 'not known', ha='center', color='0.4', fontsize=8)
                continue
            plane = np.take(image[tuple(box)], position - box[picture.plane].start, picture.plane)
            panel.imshow(plane.T, cmap='gray', origin='lower', vmin=0, vmax=top)
        plane = np.take(classes[tuple(box)], position - box[picture.plane].start, picture.plane)
        row[-1].axis('off')
        row[-1].imshow(
            plane.T,
            cmap=ListedColormap(COLOURS),
            origin='lower',
            vmin=-0.5,
            vmax=len(COLOURS) - 0.5,
            interpolation='nearest',
        )
        row[0].set_title(picture.title, fontsize=7, loc='left')
    for panel, title in zip(axes[0][1:], titles[1:], strict=True):
        panel.set_title(title, fontsize=8)
    names = [name.replace('cortical grey matter', 'cortex') for name in list(CLASSES)[1:]]
    handles = [mpl.patches.Patch(facecolor=c, edgecolor='0.5') for c in COLOURS[1:]]
    figure.legend(handles, names, loc='lower center', ncols=7, fontsize=7, frameon=False)
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    figure.savefig(path, dpi=110, facecolor='white')
    plt.close(figure)


def main() -> None:
    """Write the figures of a model."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('--model', choices=FIGURES, default=DEFAULT_MODEL)
    parser.add_argument('--out', type=Path, default=Path('docs/images'))
    parser.add_argument('--threads', type=int, default=2)
    arguments = parser.parse_args()
    mpl.use('Agg')
    torch.set_num_threads(arguments.threads)
    model = load_model(arguments.model)
    for name, pictures in FIGURES[arguments.model].items():
        draw(list(pictures(arguments.data)), model, arguments.out / f'{name}.png')


if __name__ == '__main__':
    main()
