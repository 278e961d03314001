"""Overlap of the masks of a brain mask network with those of heads it has not seen.

    python benchmarks/brain_mask.py --data DIR [--model NAME|PATH] [--write-card]
    python benchmarks/brain_mask.py --data DIR --prepare OUT

Simulated: held-out label maps of whole heads, what surrounds the brain in random intensities, in
thick slices. Real: three scans of a patient with a mask (Lesjak et al.), three stacks of one fetal
subject with manual masks. DIR holds `labels` and `images` as the training took them. --prepare
writes other scans with masks of the same two sources for the recipe `brain-mask`.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from held_out import clinical_head
from scipy import ndimage

from bids_segsr.imaging.bias_field import correct_bias_field
from bids_segsr.imaging.conform import spacing_of
from bids_segsr.imaging.degrade import degrade, thick_slice_grid
from bids_segsr.imaging.measures.metrics import dice
from bids_segsr.imaging.volume import Volume, load_mask, load_volume
from bids_segsr.inference.brain_extraction import LEAST_CERTAINTY, predict_brain_mask
from bids_segsr.simulation.heads import draw_levels, read_head
from bids_segsr.simulation.tables import CONTRASTS
from bids_segsr.zoo.find import BRAIN_MASK_MODEL, load_model
from bids_segsr.zoo.store import CARD_FILE, TrainedModel

HEADS = tuple(f'adult-head/training_seg_{number}.nii.gz' for number in (17, 18, 19, 20))
SEQUENCES = ('adult-T1w', 'adult-T2w')
SCANS = ('T1W', 'T2W', 'FLAIR')
RUNS = (1, 3, 5)
TRAINED_SCANS = {
    **{f'patient{n}_study1_{scan}': 'study1' for n in ('04', '12') for scan in SCANS},
    'patient20_T1W': 'study2',
    'patient20_study2_FLAIR': 'study2',
}
"""Scans to train on, and the visit whose transforms lead from them to the mask."""
TRAINED_RUNS = (2, 4)
PREPARED_MM = 1.5
"""Scans to train on are averaged to voxels of about this in plane: the network sees 2 mm."""
SLICE_MM = 3.0
NOISE = 0.02
"""Standard deviation in the slices over the image maximum."""


@dataclass(frozen=True)
class Case:
    """A scan whose brain is known.

    Attributes:
        group: What it is averaged with.
        name: Subject, or run.
        scan: (i, j, k) float32, as acquired.
        affine: Voxel to RAS+ mm.
        brain: Mask on its grid.
    """

    group: str
    name: str
    scan: np.ndarray
    affine: np.ndarray
    brain: np.ndarray


def simulated_heads(labels: Path, axis: int) -> Iterator[Case]:
    """Make scans of held-out heads.

    Args:
        labels: Folder of the label maps.
        axis: Slice axis, RAS+.

    Yields:
        A case for each head and contrast; what surrounds the brain has random intensities.
    """
    for number, name in enumerate(HEADS):
        head = read_head(labels / name, 'adult')
        affine = np.diag([*head.spacing, 1.0])
        grid = thick_slice_grid(head.regions.shape, affine, SLICE_MM, axis)
        brain = degrade(head.brain.astype(np.float32), affine, grid) > 0.5
        for sequence in SEQUENCES:
            rng = np.random.default_rng(number)
            levels = draw_levels(rng, CONTRASTS[sequence])
            fine = ndimage.gaussian_filter(levels[head.regions], 0.5)
            scan = degrade(fine, affine, grid)
            noise = rng.normal(0, NOISE * float(scan.max()), (2, *scan.shape))
            noisy = np.hypot(scan + noise[0], noise[1]).astype(np.float32)
            group = f'simulated {sequence} of whole heads, {SLICE_MM:g} mm slices'
            yield Case(group, head.name.split('.')[0], noisy, grid.affine, brain)


def clinical_heads(images: Path) -> Iterator[Case]:
    """Read real scans of a patient, bias-corrected as in the workflow, and the patient's mask."""
    for name in SCANS:
        scan, brain = clinical_head(images, f'patient01_{name}', 'study1')
        corrected = correct_bias_field(scan.data, scan.affine)
        yield Case(
            'real adult T1w, T2w, FLAIR', f'patient01 {name}', corrected, scan.affine, brain
        )


def fetal_stacks(images: Path) -> Iterator[Case]:
    """Read real stacks of a fetal subject, bias-corrected as in the workflow, and manual masks."""
    for run in RUNS:
        scan, mask = fetal_stack(images, run)
        corrected = correct_bias_field(scan.data, scan.affine)
        yield Case('real fetal stacks, T2w', f'run-{run}', corrected, scan.affine, mask)


def fetal_stack(images: Path, run: int) -> tuple[Volume, np.ndarray]:
    """Read a real stack of a fetal subject as acquired, and its manual mask, bool."""
    folder = images / 'fetal-stacks'
    scan = load_volume(folder / 'sub-01/anat' / f'sub-01_run-{run}_T2w.nii.gz')
    mask = load_mask(folder / 'masks' / f'sub-01_run-{run}_T2w_desc-brain_mask.nii.gz', scan)
    return scan, mask


def prepare(images: Path, out: Path) -> None:
    """Write real scans with masks that the benchmark does not score, for training.

    Args:
        images: Holds them as they were published.
        out: Gets `adult/NAME_scan.nii.gz`, the scan, its small voxels averaged, and
            `adult/NAME_mask.nii.gz` on the same grid; `fetal` likewise.
    """
    adults = (
        ('adult', name, *clinical_head(images, name, visit))
        for name, visit in TRAINED_SCANS.items()
    )
    fetuses = (('fetal', f'sub-01_run-{run}', *fetal_stack(images, run)) for run in TRAINED_RUNS)
    for folder, name, scan, mask in (*adults, *fetuses):
        values, affine = average_voxels(scan.data, scan.affine)
        inside = average_voxels(mask.astype(np.float32), scan.affine)[0] > 0.5
        (out / folder).mkdir(parents=True, exist_ok=True)
        for kind, voxels in (('scan', np.rint(values)), ('mask', inside)):
            image = nib.Nifti1Image(voxels.astype(np.uint16), affine)
            image.to_filename(out / folder / f'{name}_{kind}.nii.gz')


def average_voxels(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average as many voxels along each axis as PREPARED_MM holds, about.

    Args:
        data: (i, j, k) float32; what does not fill a voxel at the far end is left out.
        affine: Voxel to RAS+ mm.

    Returns:
        The means, and their affine.
    """
    counts = [max(1, round(PREPARED_MM / mm)) for mm in spacing_of(affine)]
    kept = [n // count * count for n, count in zip(data.shape, counts, strict=True)]
    blocks = data[: kept[0], : kept[1], : kept[2]].reshape(
        [part for n, count in zip(kept, counts, strict=True) for part in (n // count, count)]
    )
    step = np.diag([*counts, 1.0])
    step[:3, 3] = (np.array(counts) - 1) / 2
    return blocks.mean((1, 3, 5)), affine @ step


def score(case: Case, model: TrainedModel) -> dict[str, float | str]:
    """Find the brain of a case and compare.

    Args:
        case: The scan.
        model: Network under test.

    Returns:
        One row of the table.
    """
    started = time.monotonic()
    found, certainty = predict_brain_mask(model, case.scan, case.affine)
    seconds = time.monotonic() - started
    millilitres = float(np.prod(spacing_of(case.affine))) / 1000
    return {
        'group': case.group,
        'name': case.name,
        'dice': dice(case.brain, found),
        'certainty': certainty,
        'refused': float(certainty < LEAST_CERTAINTY),
        'missed_ml': float((case.brain & ~found).sum()) * millilitres,
        'added_ml': float((found & ~case.brain).sum()) * millilitres,
        'seconds': seconds,
    }


def card_scores(table: pd.DataFrame) -> list[dict[str, object]]:
    """Scores as they stand on a card.

    Args:
        table: Rows of `score`.

    Returns:
        For each group mean and standard deviation, the worst overlap, how many masks are refused
        because the network is not sure, and the worst overlap of those that are not.
    """
    scores = []
    for group, rows in table.groupby('group', sort=False):
        entry: dict[str, object] = {'on': group, 'images': len(rows)}
        for column in ('dice', 'missed_ml', 'added_ml', 'certainty'):
            entry[column] = round(float(rows[column].mean()), 4)
            entry[f'{column}_sd'] = round(float(rows[column].std()), 4)
        entry['dice_worst'] = round(float(rows['dice'].min()), 4)
        kept = rows['dice'][rows['refused'] == 0]
        entry['refused'] = len(rows) - len(kept)
        if len(kept):
            entry['dice_worst_kept'] = round(float(kept.min()), 4)
        scores.append(entry)
    return scores


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description='Score a brain mask model on held-out heads.')
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('--model', default=BRAIN_MASK_MODEL)
    parser.add_argument('--axis', type=int, default=2, help='slice axis, RAS+ (2: axial)')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--prepare', type=Path, help='write scans with masks to train on here')
    parser.add_argument('--write-card', action='store_true', help="into the model's folder")
    args = parser.parse_args(arguments)

    if args.prepare is not None:
        prepare(args.data / 'images', args.prepare)
        return
    torch.set_num_threads(args.threads)
    model = load_model(args.model)
    rows = []
    for cases in (
        simulated_heads(args.data / 'labels', args.axis),
        clinical_heads(args.data / 'images'),
        fetal_stacks(args.data / 'images'),
    ):
        for case in cases:
            rows.append(score(case, model))
            print({k: v if isinstance(v, str) else round(v, 3) for k, v in rows[-1].items()})
    table = pd.DataFrame(rows)
    numbers = table.drop(columns='name').groupby('group', sort=False)
    with pd.option_context('display.max_columns', None, 'display.width', 250):
        print(numbers.agg(['mean', 'std', 'min', 'max']).round(3).T.to_string())
    if args.write_card:
        card = dataclasses.replace(
            model.card,
            scores={
                'held_out': card_scores(table),
                'note': 'Simulated: label maps that no training has seen, with random intensities '
                f'around the brain, slices along axis {args.axis} (RAS+). Real: three scans of '
                'one patient with one mask (how it was drawn is not told), three stacks of one '
                'fetal subject with manual masks: two other stacks of this fetus were trained on.',
            },
        )
        (model.path.parent / CARD_FILE).write_text(card.to_json(), encoding='utf-8')


if __name__ == '__main__':
    main()
