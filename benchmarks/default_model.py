"""Scores of a model on subjects that no training has seen.

    python benchmarks/default_model.py --data DIR [--model NAME|PATH] [--write-card]
    python benchmarks/default_model.py --data DIR --slice-mm 5 --axis 0

Every image goes the way of the workflow: thick slices, cubic B-spline interpolation to the
isotropic grid, brain mask of the slices, network. DIR holds `labels` and `images` as the training
of the default model took them.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from nilearn import datasets

from bids_segsr.imaging.back_projection import Slices
from bids_segsr.imaging.components import topology
from bids_segsr.imaging.conform import acquired_axis
from bids_segsr.imaging.degrade import degrade, thick_slice_grid
from bids_segsr.imaging.metrics import dice, psnr, ssim
from bids_segsr.imaging.resample import Grid, isotropic_grid, resample
from bids_segsr.imaging.volume import load_volume
from bids_segsr.inference.predict import predict
from bids_segsr.inference.processing import Processing
from bids_segsr.simulation.anatomy import read_anatomy
from bids_segsr.simulation.contrast import paint
from bids_segsr.simulation.synthesis import brain_of, classes_of
from bids_segsr.simulation.tables import CLASSES, CONTRASTS
from bids_segsr.zoo.card import ModelCard
from bids_segsr.zoo.find import DEFAULT_MODEL, load_model
from bids_segsr.zoo.store import CARD_FILE, TrainedModel

SLICE_MM = 3.0
"""Of the scores on the card."""
NOISE = 0.01
"""Standard deviation in the slices over the image maximum."""

ADULTS = (
    *(f'adult-head/training_seg_{number}.nii.gz' for number in (17, 18, 19, 20)),
    'adult-brain/brain5_labels.nii.gz',
)
FETUSES = ('fetal/GA28_operated_dseg.nii.gz', 'fetal/GA33_operated_dseg.nii.gz')
SCANS = tuple(f'adult-clinical/patient01_{suffix}.nii.gz' for suffix in ('T1W', 'T2W', 'FLAIR'))
"""Real thick slices of a patient whom no training has seen."""
FETAL_CLASSES = (0, 2, 4, 6, 3, 1, 5, 7, 2)
"""Index in CLASSES of the labels 0 to 8 of the fetal atlas."""
HEAD = 0.15
"""Share of the bright intensities of a head that counts as head."""


@dataclass(frozen=True)
class Case:
    """A fine image whose thick slices are simulated.

    Attributes:
        group: What it is averaged with.
        name: Subject.
        image: (i, j, k) float32, RAS+ axes.
        brain: Where it is scored.
        tissues: Class of every voxel, in the order of CLASSES, or None where it is not known.
        spacing: Of the voxels, mm.
        axis: Slice axis, where the case has one of its own.
        masked: Whether the network sees the brain alone.
    """

    group: str
    name: str
    image: np.ndarray
    brain: np.ndarray
    tissues: np.ndarray | None
    spacing: float
    axis: int | None = None
    masked: bool = True


def simulated_cases(
    labels: Path, adults: Sequence[str] = ADULTS, fetuses: Sequence[str] = FETUSES
) -> Iterator[Case]:
    """Label maps, by default those held out, painted with the intensities of a sequence."""
    for path in (*adults, *fetuses):
        labelling = 'fetal' if path in fetuses else 'adult'
        spacing = 0.8 if path in fetuses else 1.0
        anatomy = read_anatomy(labels / path, labelling)
        for contrast in ('newborn-T2w',) if path in fetuses else ('adult-T1w', 'adult-T2w'):
            # The scanner sees what surrounds the brain too; the mask is applied afterwards.
            image = paint(anatomy.fractions, CONTRASTS[contrast], rim=True)
            brain = brain_of(anatomy.fractions)
            shares = torch.from_numpy(anatomy.fractions.astype(np.float32) / 255)
            tissues = classes_of(shares, torch.from_numpy(brain)).numpy()
            name = contrast.replace('newborn', 'fetal')
            yield Case(
                f'simulated {name}, {spacing:g} mm',
                Path(path).name.split('.')[0],
                image,
                brain,
                tissues.argmax(0),
                spacing,
            )


def real_cases(data: Path) -> Iterator[Case]:
    """Real images: the fetal atlas at 33 weeks (T2w), ICBM 152 (T1w), thin axes of scans."""
    yield fetal_average(data, 33)
    template = nib.as_closest_canonical(datasets.load_mni152_template(resolution=1))
    mask = nib.as_closest_canonical(datasets.load_mni152_brain_mask(resolution=1))
    brain = np.asarray(mask.dataobj) > 0
    image = template.get_fdata(dtype=np.float32)
    yield Case('real ICBM 152 T1w, 1 mm', 'icbm152', image, brain, None, 1.0)
    yield from thin_axes(data, SCANS)


def fetal_average(data: Path, week: int) -> Case:
    """Average T2w image of the fetal atlas."""
    name = f'GA{week}_operated'
    image = nib.as_closest_canonical(nib.load(data / f'images/fetal/{name}_T2w.nii.gz'))
    labels = nib.as_closest_canonical(nib.load(data / f'labels/fetal/{name}_dseg.nii.gz'))
    values = np.rint(np.asarray(labels.dataobj))
    tissues = np.array(FETAL_CLASSES)[values.astype(int)]
    return Case(
        f'real fetal T2w GA{week}, 0.8 mm',
        f'GA{week}',
        image.get_fdata(dtype=np.float32),
        values > 0,
        tissues,
        0.8,
    )


def thin_axes(data: Path, scans: Sequence[str]) -> Iterator[Case]:
    """Thick-slice scans, whole heads, along each of the axes of their slices."""
    for name in scans:
        scan = load_volume(data / 'images' / name)
        grid = isotropic_grid(scan.data.shape, scan.affine, 1.0)
        image = np.maximum(resample(scan.data, scan.affine, grid), 0)
        head = image > HEAD * np.percentile(image, 99)
        for axis in range(3):
            if axis != acquired_axis(scan.affine, grid.affine):
                group = f'real {name.split("_")[1].split(".")[0]}, thin axes, 1 mm, whole head'
                label = f'{name.split("/")[1].split(".")[0]} {"ijk"[axis]}'
                yield Case(group, label, image, head, None, 1.0, axis, masked=False)


@dataclass(frozen=True)
class Simulated:
    """Thick slices made of a case.

    Attributes:
        scan: (i, j, k) float32 with noise.
        affine: Of the slices.
        mask: Brain mask of the slices, bool.
        truth: Fine image, as long as the slices are.
        brain: Where it is scored, on the grid of the truth.
        cut: What was taken of the case.
    """

    scan: np.ndarray
    affine: np.ndarray
    mask: np.ndarray
    truth: np.ndarray
    brain: np.ndarray
    cut: tuple[slice, ...]


def make_slices(case: Case, axis: int, slice_mm: float = SLICE_MM) -> Simulated:
    """Simulate slices along an axis."""
    # A whole number of slices makes the restored grid the fine one, voxel by voxel.
    block = (Fraction(str(slice_mm)) / Fraction(str(case.spacing))).numerator
    length = case.image.shape[axis] // block * block
    cut = tuple(slice(0, length if other == axis else None) for other in range(3))
    truth, brain = case.image[cut], case.brain[cut]
    affine = np.diag([case.spacing] * 3 + [1.0])
    slices = thick_slice_grid(truth.shape, affine, slice_mm, axis)
    rng = np.random.default_rng(0)
    scan = degrade(truth, affine, slices)
    scan = scan + rng.normal(0, NOISE * float(truth.max()), scan.shape).astype(np.float32)
    mask = degrade(brain, affine, slices) > 0.5
    return Simulated(scan, slices.affine, mask, truth, brain, cut)


def interpolate(case: Case, slices: Simulated) -> tuple[Grid, np.ndarray, np.ndarray]:
    """Bring slices to the grid of the truth as the workflow does.

    Args:
        case: What they were made of.
        slices: They.

    Returns:
        The grid, the mask and what the network sees.
    """
    grid = isotropic_grid(slices.scan.shape, slices.affine, case.spacing)
    np.testing.assert_allclose(grid.affine, np.diag([case.spacing] * 3 + [1.0]), atol=1e-6)
    mask = resample(slices.mask, slices.affine, grid, order=1) >= 0.5
    if not case.masked:
        mask = np.ones_like(mask)
    spline = np.where(mask, resample(slices.scan, slices.affine, grid), np.float32(0))
    return grid, mask, spline


def score(
    case: Case, model: TrainedModel, axis: int, slice_mm: float = SLICE_MM
) -> dict[str, float | str]:
    """Simulate slices along an axis, restore them, compare.

    Args:
        case: Fine image.
        model: Network under test.
        axis: Slice axis.
        slice_mm: Thickness and distance of the slices.

    Returns:
        One row of the table.
    """
    slices = make_slices(case, axis, slice_mm)
    truth = slices.truth
    grid, mask, spline = interpolate(case, slices)
    started = time.monotonic()
    prediction = predict(
        model,
        spline,
        Slices(slices.scan, slices.affine, grid.affine),
        mask=mask,
        processing=Processing(device='cpu'),
    )
    seconds = time.monotonic() - started

    inside = mask & slices.brain
    row: dict[str, float | str] = {
        'group': case.group,
        'name': case.name,
        'psnr_spline': psnr(truth, spline, inside),
        'psnr_network': psnr(truth, prediction.image, inside),
        'ssim_spline': ssim(truth * inside, spline * inside, inside),
        'ssim_network': ssim(truth * inside, prediction.image * inside, inside),
        'seconds': seconds,
    }
    if case.tissues is None:
        return row
    tissues = np.where(inside, case.tissues[slices.cut], 0)
    cortex = tissues == 1
    found = (prediction.probabilities[0] > 0.5) & inside
    row['dice_network'] = dice(cortex, found)
    row['dice_window'] = best_window_dice(spline[inside], cortex[inside])
    row['components'] = topology(found).components
    if model.card.regions:
        classes = np.where(inside, prediction.probabilities[1:].argmax(0), 0)
        overlaps = [dice(tissues == n, classes == n) for n in range(1, len(CLASSES))]
        row['dice_tissues'] = float(np.mean(overlaps))
        for name, overlap in zip(list(CLASSES)[1:], overlaps, strict=True):
            row[f'dice {name}'] = overlap
    return row


def best_window_dice(intensity: np.ndarray, cortex: np.ndarray) -> float:
    """Dice of the best intensity window, chosen with the truth at hand: what contrast alone gives.

    Args:
        intensity: Intensities inside the brain, (n,).
        cortex: Truth of the same voxels, (n,).

    Returns:
        The highest Dice over all windows between 100 equally spaced thresholds.
    """
    edges = np.linspace(intensity.min(), intensity.max(), 101)
    every = np.histogram(intensity, edges)[0]
    true = np.histogram(intensity[cortex], edges)[0]
    all_below = np.concatenate([[0], np.cumsum(every)])
    true_below = np.concatenate([[0], np.cumsum(true)])
    found = all_below[None] - all_below[:, None]
    hits = true_below[None] - true_below[:, None]
    return float((2 * hits / (np.maximum(found, 0) + true.sum())).max())


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation of every column over the subjects of each group."""
    numbers = table.drop(columns='name').groupby('group', sort=False)
    return numbers.agg(['mean', 'std', 'count'])


def card_scores(table: pd.DataFrame) -> list[dict[str, object]]:
    """Scores as they stand on a card: mean and, over several subjects, standard deviation."""
    scores = []
    for group, rows in table.groupby('group', sort=False):
        entry: dict[str, object] = {'on': group, 'slices_mm': SLICE_MM, 'subjects': len(rows)}
        for column in rows.columns.drop(['group', 'name', 'seconds']):
            values = rows[column].dropna()
            if len(values):
                entry[column] = round(float(values.mean()), 4)
            if len(values) > 1:
                entry[f'{column}_sd'] = round(float(values.std()), 4)
        scores.append(entry)
    return scores


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description='Score a model on held-out subjects.')
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('--model', default=DEFAULT_MODEL)
    parser.add_argument('--axis', type=int, default=2, help='slice axis, RAS+ (2: axial)')
    parser.add_argument('--slice-mm', type=float, default=SLICE_MM)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--write-card', action='store_true', help="into the model's folder")
    args = parser.parse_args(arguments)
    if args.write_card and args.slice_mm != SLICE_MM:
        parser.error(f'--write-card: the card tells of slices of {SLICE_MM:g} mm')

    torch.set_num_threads(args.threads)
    model = load_model(args.model)
    rows = []
    for cases in (simulated_cases(args.data / 'labels'), real_cases(args.data)):
        for case in cases:
            axis = args.axis if case.axis is None else case.axis
            rows.append(score(case, model, axis, args.slice_mm))
            print({k: v if isinstance(v, str) else round(v, 3) for k, v in rows[-1].items()})
    table = pd.DataFrame(rows)
    with pd.option_context('display.max_columns', None, 'display.width', 250):
        print(summarise(table).round(3).T.to_string())
    if args.write_card:
        card: ModelCard = dataclasses.replace(
            model.card,
            scores={
                'held_out': card_scores(table),
                'note': 'dB and Dice inside the brain; *_spline: cubic B-spline interpolation; '
                'dice_window: best intensity window, chosen with the truth at hand; dice_tissues: '
                'mean over the classes. The fetal and the ICBM image are averages of many '
                'subjects; the scans are blurred along one of their in-plane axes.',
            },
        )
        (model.path.parent / CARD_FILE).write_text(card.to_json(), encoding='utf-8')


if __name__ == '__main__':
    main()
