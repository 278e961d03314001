"""Figures in the form of the articles."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from bids_segsr.evaluation.pictures import Picture
from bids_segsr.evaluation.scores import METRICS
from bids_segsr.evaluation.systems import BICUBIC, IBP, LRTV, NEAREST, SPLINE, TRUTH, UNTRAINED
from bids_segsr.files import complete

COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000', '#F0E442')
UNTRAINED_COLOURS = {
    SPLINE: '#888888', IBP: '#444444', NEAREST: '#cccccc', BICUBIC: '#aaaaaa', LRTV: '#666666',
    TRUTH: '#000000',
}  # fmt: skip
DASHES = ('-', '--', ':', '-.')
PANEL = 3.2
WIDEST = 5
PICTURE = 2.1


def save_figure(figure: Figure, out: Path, name: str) -> list[Path]:
    """Write a figure as PNG and SVG, the same bytes for the same figure.

    Args:
        figure: The figure.
        out: Folder.
        name: File name without its end.

    Returns:
        Both files.
    """
    png, svg = out / f'{name}.png', out / f'{name}.svg'
    with complete(png) as part:
        figure.savefig(part, dpi=130, metadata={'Software': None})
    with (
        complete(svg) as part,
        matplotlib.rc_context({'svg.hashsalt': name, 'svg.fonttype': 'none'}),
    ):
        figure.savefig(part, metadata={'Date': None, 'Creator': None})
    return [png, svg]


def draw_steps(rows: pd.DataFrame, metrics: Sequence[str]) -> Figure:
    """Time and quality against the step (SegSRGAN 2020, Figures 6 to 8).

    The time has the line through it that is affine in step^-3, as the article finds.
    """
    names = ['seconds', *metrics]
    figure, axes = _panels(len(names))
    for metric, ax in zip(names, axes, strict=True):
        draw_curves(ax, rows, metric, 'step')
        if metric == 'seconds':
            _draw_time_fits(ax, rows)
    _finish(figure, axes, 'Step (voxels)')
    return figure


def draw_against(rows: pd.DataFrame, metrics: Sequence[str], x: str, label: str) -> Figure:
    """Quality against whatever is varied, mean and standard deviation of each system."""
    figure, axes = _panels(len(metrics))
    for metric, ax in zip(metrics, axes, strict=True):
        draw_curves(ax, rows, metric, x)
    _finish(figure, axes, label)
    return figure


def draw_robustness(rows: pd.DataFrame, metrics: Sequence[str]) -> Figure:
    """What each variant costs (Figure 9), and what the last model gains on the first (10 to 12).

    First row: original minus variant. Second row, with two models or more: last model minus
    first. Paired by subject.
    """
    models = [name for name in rows['system'].unique() if name not in UNTRAINED]
    variants = [str(name) for name in rows['variant'].unique()]
    figure, axes = _panels(len(metrics), 2 if len(models) > 1 else 1)
    colours = dict(zip(variants, itertools.cycle(COLOURS), strict=False))
    for metric, ax in zip(metrics, axes, strict=False):
        for model, dash in zip(models, itertools.cycle(DASHES), strict=False):
            base = _wide(rows, metric, model, variants[0])
            for variant in variants[1:]:
                other = _wide(rows, metric, model, variant)
                _line(ax, base - other, f'{model}, {variant}', colours[variant], dash)
        ax.set_title(f'{METRICS[metric].label}: {variants[0]} - variant', fontsize=9)
    if len(models) > 1:
        for metric, ax in zip(metrics, axes[len(metrics) :], strict=True):
            for variant in variants:
                first, last = (_wide(rows, metric, models[n], variant) for n in (0, -1))
                _line(ax, last - first, f'gain, {variant}', colours[variant], '-')
            ax.set_title(f'{METRICS[metric].label}: {models[-1]} - {models[0]}', fontsize=9)
    for ax in axes:
        ax.axhline(0, color='k', linewidth=0.5)
    _finish(figure, axes, 'Step (voxels)')
    return figure


def draw_trainings(
    runs: Mapping[str, Sequence[Mapping[str, float]]], against: str = 'epoch'
) -> Figure:
    """Dice and PSNR of several trainings against their epochs (SegSRGAN 2020, Figure 14).

    Args:
        runs: Name to the rows of its table (`training.loop.run_log.read_log`).
        against: Column of the table: 'epoch', 'minutes' or 'step'.

    Returns:
        One plot: PSNR in red on the left, Dice in blue on the right, a line style a training.
    """
    figure = Figure(figsize=(7.5, 4.2), layout='constrained')
    left = figure.subplots()
    right = left.twinx()
    for (name, rows), dash in zip(runs.items(), itertools.cycle(DASHES), strict=False):
        for ax, key, label, colour in (
            (left, 'psnr', 'PSNR', COLOURS[1]), (right, 'dice', 'Dice', COLOURS[0]),
        ):  # fmt: skip
            known = [(row[against], row[key]) for row in rows if np.isfinite(row.get(key, np.nan))]
            if known:
                ax.plot(*zip(*known, strict=True), color=colour, ls=dash, label=f'{label}, {name}')
    left.set(ylabel=METRICS['psnr'].label)
    right.set(ylabel='Dice', ylim=(0, 1))
    _finish(figure, [left, right], against.capitalize(), columns=2)
    return figure


def draw_distributions(rows: pd.DataFrame, metrics: Sequence[str]) -> Figure:
    """Every subject under every system, joined by a line; mean and standard deviation beside."""
    present = [m for m in metrics if (rows['metric'] == m).any()]
    figure, axes = _panels(len(present))
    for metric, ax in zip(present, axes, strict=True):
        chosen = first_structure(rows, metric)
        wide = chosen.pivot_table('value', ['dataset', 'subject'], 'system', sort=False)
        wide = wide[[name for name in rows['system'].unique() if name in wide]]
        places = np.arange(wide.shape[1])
        for values in wide.to_numpy():
            ax.plot(places, values, color='0.75', linewidth=0.8, marker='.', markersize=4)
        for place, name in enumerate(map(str, wide)):
            values = _finite(wide[name].to_numpy())
            spread = values.std(ddof=1) if len(values) > 1 else 0
            colour = _colour(name, list(rows['system'].unique()))
            ax.errorbar(
                place + 0.12, values.mean() if len(values) else np.nan, spread,
                fmt='o', color=colour, capsize=3,
            )  # fmt: skip
        ax.set_xticks(places, list(wide), rotation=25, ha='right', fontsize=8)
        ax.set_xlim(-0.5, len(places) - 0.5)
        _title(ax, metric, chosen)
    return figure


def draw_matrix(rows: pd.DataFrame, metric: str, index: str) -> Figure:
    """Means of a measure: what is varied against the systems (ReCNN, Table 1)."""
    chosen = first_structure(rows, metric)
    lines, systems = list(chosen[index].unique()), list(chosen['system'].unique())
    means = chosen.pivot_table('value', index, 'system', sort=False).loc[lines, systems]
    figure = Figure(
        figsize=(2.2 + 1.3 * len(systems), 1.4 + 0.5 * len(lines)), layout='constrained'
    )
    ax = figure.add_subplot()
    values = means.to_numpy()
    shown = ax.imshow(values, cmap='viridis', aspect='auto')
    low, high = np.nanmin(values), np.nanmax(values)
    for (row, column), value in np.ndenumerate(values):
        light = (value - low) > 0.6 * (high - low)
        text = f'{value:.{METRICS[metric].digits}f}'
        ax.text(column, row, text, ha='center', va='center', color='k' if light else 'w')
    ax.set_xticks(range(len(systems)), systems, rotation=20, ha='right')
    ax.set_yticks(range(len(lines)), [str(line) for line in lines])
    ax.set_ylabel(f'Test {index}')
    figure.colorbar(shown, label=METRICS[metric].label)
    return figure


def draw_cost(rows: pd.DataFrame, metric: str) -> Figure:
    """Quality against time and against parameters (mDCSRN, Table 2)."""
    figure, axes = _panels(2)
    systems = [name for name in rows['system'].unique() if name != TRUTH]
    means = rows.pivot_table('value', 'system', 'metric', aggfunc='mean', sort=False)
    for ax, cost in zip(axes, ('seconds', 'parameters'), strict=True):
        for name in systems:
            if name in UNTRAINED:
                ax.axhline(means.loc[name, metric], color=_colour(name, systems), linestyle='--')
                continue
            colour = _colour(name, systems)
            x, y = means.loc[name, cost], means.loc[name, metric]
            ax.plot(x, y, 'o', color=colour)
            below = systems.index(name) % 2
            ax.annotate(
                name, (x, y), (0, -12 if below else 6), textcoords='offset points',
                ha='center', fontsize=8, color=colour,
            )  # fmt: skip
        ax.xaxis.set_major_formatter(EngFormatter())
        ax.margins(x=0.15, y=0.15)
        ax.set_xlim(left=0)
        ax.set_xlabel(METRICS[cost].label)
        ax.set_ylabel(METRICS[metric].label)
    axes[0].set_title('dashed: cubic spline; darker: with back-projection', fontsize=8)
    return figure


def draw_pictures(pictures: Sequence[tuple[str, Picture]]) -> Figure:
    """The same slice of every result, the truth last (RRDG, Figure 5; SegSRGAN, Figure 15).

    Second row: the upper left quarter, enlarged. A segmentation is an outline in the first.
    """
    truth, true_outline = pictures[-1][1].truth, pictures[-1][1].true_outline
    shown = [(name, one.image, one.outline) for name, one in pictures]
    shown.append(('truth', truth, true_outline))
    rows, columns = truth.shape
    height = 2 * PICTURE * rows / columns + 0.4
    figure = Figure(figsize=(PICTURE * len(shown), height), layout='constrained')
    axes = figure.subplots(2, len(shown), squeeze=False)
    quarter = (slice(rows // 2), slice(columns // 2))
    peak = float(np.percentile(truth, 99.8)) or 1.0
    for place, (name, image, outline) in enumerate(shown):
        for line, part in enumerate((image, image[quarter])):
            ax = axes[line, place]
            ax.imshow(part, cmap='gray', vmin=0, vmax=peak, interpolation='nearest')
            ax.set_axis_off()
        axes[0, place].set_title(name, fontsize=8)
        if outline.any():
            axes[0, place].contour(outline, levels=[0.5], colors='#D55E00', linewidths=0.5)
    return figure


def draw_curves(ax: Any, rows: pd.DataFrame, metric: str, x: str) -> None:
    """Draw mean and standard deviation of each system against a varied column into axes.

    A system for which nothing is varied, such as cubic spline against the step, is a line across.
    """
    chosen = first_structure(rows, metric)
    systems = list(rows['system'].unique())
    for name in chosen['system'].unique():
        own = chosen[chosen['system'] == name]
        colour = _colour(name, systems)
        if own[x].isna().all():
            if metric != 'seconds':
                ax.axhline(own['value'].mean(), color=colour, linestyle='--', label=name)
            continue
        grouped = own.groupby(x)['value']
        ax.errorbar(
            grouped.mean().index, grouped.mean(), grouped.std().fillna(0),
            color=colour, marker='o', markersize=4, capsize=3, label=name,
            linestyle='none' if metric == 'seconds' else '-',
        )  # fmt: skip
    _title(ax, metric, chosen)


def first_structure(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Rows of a measure, for a segmentation those of the first structure."""
    chosen = rows[rows['metric'] == metric]
    return chosen[chosen['structure'] == chosen['structure'].iloc[0]] if len(chosen) else chosen


def _draw_time_fits(ax: Any, rows: pd.DataFrame) -> None:
    chosen = rows[(rows['metric'] == 'seconds') & rows['step'].notna()]
    systems = list(rows['system'].unique())
    for name in chosen['system'].unique():
        means = chosen[chosen['system'] == name].groupby('step')['value'].mean()
        if len(means) < 3:
            continue
        slope, offset = np.polyfit(means.index.to_numpy(dtype=float) ** -3, means, 1)
        steps = np.linspace(means.index.min(), means.index.max(), 200)
        ax.plot(steps, offset + slope * steps**-3, color=_colour(name, systems), linewidth=0.7)


def _wide(rows: pd.DataFrame, metric: str, system: str, variant: str) -> pd.DataFrame:
    """Values (subject by step) of a system under a variant."""
    chosen = first_structure(rows, metric)
    chosen = chosen[(chosen['system'] == system) & (chosen['variant'] == variant)]
    return chosen.pivot_table('value', ['dataset', 'subject'], 'step')


def _line(ax: Any, differences: pd.DataFrame, label: str, colour: str, dash: str) -> None:
    ax.plot(
        differences.columns, differences.mean(),
        color=colour, linestyle=dash, marker='o', markersize=4, label=label,
    )  # fmt: skip


def _panels(number: int, lines: int = 1) -> tuple[Figure, list[Any]]:
    rows = lines if lines > 1 else int(np.ceil(number / WIDEST))
    columns = number if lines > 1 else int(np.ceil(number / rows))
    figure = Figure(figsize=(PANEL * columns, 2.9 * rows), layout='constrained')
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for ax in axes[number * lines :]:
        ax.set_axis_off()
    return figure, axes[: number * lines]


def _finish(figure: Figure, axes: Sequence[Any], label: str, columns: int = 4) -> None:
    entries: dict[str, Any] = {}
    for ax in axes:
        ax.set_xlabel(label)
        handles, names = ax.get_legend_handles_labels()
        entries |= dict(zip(names, handles, strict=True))
    figure.legend(
        list(entries.values()),
        list(entries),
        loc='outside lower center',
        ncols=columns,
        fontsize=8,
    )


def _title(ax: Any, metric: str, chosen: pd.DataFrame) -> None:
    structure = chosen['structure'].iloc[0] if len(chosen) else ''
    ax.set_title(METRICS[metric].label + (f', {structure}' if structure else ''), fontsize=9)


def _colour(name: str, systems: Sequence[str]) -> str:
    if name in UNTRAINED:
        return UNTRAINED_COLOURS[name]
    models = [system for system in systems if system not in UNTRAINED]
    return COLOURS[models.index(name) % len(COLOURS)]


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]
