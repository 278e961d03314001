"""Scores of a model on subjects that no training has seen.

    python benchmarks/default_model.py --data DIR [--model NAME|PATH] [--write-card]
    python benchmarks/default_model.py --data DIR --conditions "box profile" sagittal

Every image goes the way of the workflow: thick slices, bias correction, brain mask of the slices,
interpolation to the isotropic grid, network. Beside the network stand cubic B-spline interpolation
and the same with five half steps of back-projection ("ibp"), which know no more than the slices.
Slices of other kinds than back-projection assumes (`held_out.CONDITIONS`) are made of the first
subject of each group of brains. DIR holds `labels` and `images` as the training of the default
model took them.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from held_out import CONDITIONS, PLAIN, Case, Condition, make_slices, real_cases, simulated_cases

from bids_segsr.imaging.back_projection import back_projection_alone
from bids_segsr.imaging.components import topology
from bids_segsr.imaging.measures.metrics import calibration_error, dice, psnr, ssim
from bids_segsr.imaging.resample import resample
from bids_segsr.inference.predict import predict
from bids_segsr.inference.processing import Processing
from bids_segsr.simulation.tables import CLASSES
from bids_segsr.zoo.card import OTHER_SLICES, ModelCard
from bids_segsr.zoo.feeding import interpolated
from bids_segsr.zoo.find import DEFAULT_MODEL, load_model
from bids_segsr.zoo.store import CARD_FILE, TrainedModel

LIMIT = 1.96
"""Standard deviations from the mean to the limits of agreement (Bland and Altman 1986)."""

NO_BETTER = 'The image is no better than'
BASELINES = {
    'ibp': 'interpolation with back-projection, without a network',
    'spline': 'plain interpolation',
}

NOTE = (
    'dB, SSIM and Dice inside the brain. *_spline: cubic B-spline interpolation; *_ibp: the same '
    'and five half steps of back-projection, without a network; dice_window: best intensity '
    'window, chosen with the truth at hand; dice_tissues: mean over the classes; components: '
    'pieces of the cortex; calibration_error: of its probability, expected; volume_*: percent by '
    'which a tissue is too large, *_low and *_high its limits of agreement (1.96 standard '
    'deviations over the subjects). The fetal and the ICBM image are averages of many subjects; '
    'the scans are blurred along one of their in-plane axes. "as assumed": slices whose profile '
    'is the one of back-projection; the other conditions on one subject of each group.'
)


def score(
    case: Case, model: TrainedModel, how: Condition, *, n4: bool = True
) -> dict[str, float | str]:
    """Simulate slices, restore them, compare.

    Args:
        case: Fine image.
        model: Network under test.
        how: Of the slices.
        n4: Whether the bias field is corrected.

    Returns:
        One row of the table.
    """
    made = make_slices(case, how, n4=n4)
    slices, inside, truth = made.slices, made.inside, made.truth
    started = time.monotonic()
    prediction = predict(
        model,
        interpolated(model.card, slices, made.mask),
        slices,
        mask=made.mask,
        processing=Processing(device='cpu'),
    )
    seconds = time.monotonic() - started
    spline = resample(slices.data, slices.affine, made.grid)
    images = {
        'spline': spline,
        'ibp': back_projection_alone(slices, made.mask),
        'network': prediction.image,
    }
    row: dict[str, float | str] = {'group': case.group, 'name': case.name}
    for name, image in images.items():
        row[f'psnr_{name}'] = psnr(truth, image, inside)
    for name, image in images.items():
        row[f'ssim_{name}'] = ssim(truth * inside, image * inside, inside)
    row['seconds'] = seconds
    if made.tissues is None:
        return row
    cortex = made.tissues == 1
    probability = prediction.probabilities[0]
    found = (probability > 0.5) & inside
    row['dice_network'] = dice(cortex, found)
    row['dice_window'] = best_window_dice(spline[inside], cortex[inside])
    row['components'] = topology(found).components
    row['calibration_error'] = calibration_error(probability[inside], cortex[inside])
    row['volume_cortex'] = too_large(cortex, found)
    if model.card.regions:
        classes = np.where(inside, prediction.probabilities[1:].argmax(0), 0)
        pairs = {name: (made.tissues == n, classes == n) for n, name in enumerate(CLASSES) if n}
        overlaps = {name: dice(*pair) for name, pair in pairs.items()}
        row['dice_tissues'] = float(np.mean(list(overlaps.values())))
        row |= {f'dice {name}': overlap for name, overlap in overlaps.items()}
        row |= {f'volume {name}': too_large(*pair) for name, pair in pairs.items()}
    return row


def too_large(truth: np.ndarray, found: np.ndarray) -> float:
    """Percent by which a segmentation is larger than the true one; NaN where there is none."""
    return 100 * (found.sum() / truth.sum() - 1) if truth.any() else float('nan')


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
    numbers = table.drop(columns='name').groupby(['condition', 'group'], sort=False)
    return numbers.agg(['mean', 'std', 'count'])


def card_scores(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Scores as they stand on a card: mean and, over several subjects, standard deviation."""
    scores: list[dict[str, Any]] = []
    for (condition, group), rows in table.groupby(['condition', 'group'], sort=False):
        where = group if condition == PLAIN else f'{group}, {condition}'
        entry: dict[str, Any] = {
            'on': where,
            'slices_mm': CONDITIONS[condition].distance,
            'subjects': len(rows),
        }
        for column in rows.columns.drop(['condition', 'group', 'name', 'seconds']):
            values = rows[column].dropna()
            if not len(values):
                continue
            mean = float(values.mean())
            entry[column] = round(mean, 4)
            if len(values) < 2:
                continue
            spread = float(values.std())
            if column.startswith('volume'):
                entry[f'{column}_low'] = round(mean - LIMIT * spread, 4)
                entry[f'{column}_high'] = round(mean + LIMIT * spread, 4)
            else:
                entry[f'{column}_sd'] = round(spread, 4)
        scores.append(entry)
    return scores


def no_better(usual: pd.DataFrame, others: pd.DataFrame) -> list[str]:
    """Tell where the network is no gain over what needs none.

    Args:
        usual: Rows of the table on slices as they are assumed.
        others: Those on slices of other kinds.

    Returns:
        A sentence for each way to do without a network that is as good somewhere: groups of images
        of the usual slices by name, of other kinds of slices their number.
    """
    told = []
    for way, name in BASELINES.items():
        missed = []
        for kind, rows, column in (('on', usual, 'group'), ('with', others, 'condition')):
            means = rows.groupby([column, 'group'], sort=False).mean(numeric_only=True)
            worse = sum(
                means[f'{m}_network'] <= means[f'{m}_{way}'] for m in ('psnr', 'ssim')
            ).astype(bool)
            for value, found in worse.groupby(level=0, sort=False):
                share = (
                    f' ({found.sum()} of {len(found)} kinds of images)' if kind == 'with' else ''
                )
                missed += [f'{kind} {value}{share}'] if found.any() else []
        if missed:
            told.append(f'{NO_BETTER} {name} (PSNR or SSIM) {"; ".join(missed)}.')
    return told


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description='Score a model on held-out subjects.')
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('--model', default=DEFAULT_MODEL)
    parser.add_argument('--conditions', nargs='+', choices=CONDITIONS, default=list(CONDITIONS))
    parser.add_argument('--slice-mm', type=float, help='distance of the slices')
    parser.add_argument('--no-bias-correction', action='store_true')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--write-card', action='store_true', help="into the model's folder")
    args = parser.parse_args(arguments)
    if args.write_card and (args.slice_mm or args.no_bias_correction):
        parser.error('--write-card: the card tells of the usual slices and the whole workflow')

    torch.set_num_threads(args.threads)
    model = load_model(args.model)
    rows: list[dict[str, float | str]] = []
    seen: set[str] = set()
    for cases in (simulated_cases(args.data / 'labels'), real_cases(args.data)):
        for case in cases:
            for condition in args.conditions:
                how = CONDITIONS[condition]
                own_axis = case.axis is not None and how.axis != CONDITIONS[PLAIN].axis
                known = f'{condition}, {case.group}' in seen or not case.masked
                if own_axis or (condition != PLAIN and known):
                    continue
                seen.add(f'{condition}, {case.group}')
                if args.slice_mm:
                    how = dataclasses.replace(how, distance=args.slice_mm)
                row = score(case, model, how, n4=not args.no_bias_correction)
                rows.append({'condition': condition, **row})
                told = {k: v if isinstance(v, str) else round(v, 3) for k, v in rows[-1].items()}
                print(told, flush=True)
    table = pd.DataFrame(rows)
    with pd.option_context('display.max_columns', None, 'display.width', 250):
        print(summarise(table).round(3).T.to_string())
    if args.write_card:
        usual = table['condition'] == PLAIN
        parts = table[usual], table[~usual]
        held_out, others = map(card_scores, parts)
        scores = {'held_out': held_out, OTHER_SLICES: others, 'note': NOTE}
        kept = tuple(text for text in model.card.limitations if not text.startswith(NO_BETTER))
        card: ModelCard = dataclasses.replace(
            model.card, scores=scores, limitations=(*no_better(*parts), *kept)
        )
        (model.path.parent / CARD_FILE).write_text(card.to_json(), encoding='utf-8')


if __name__ == '__main__':
    main()
