"""The page of a training: curves as in SegSRGAN (2020, Figures 5 and 14), pictures, recipe."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_segsr.exceptions import UserError
from bids_segsr.files import write_text
from bids_segsr.reports.drawing.svg import finish
from bids_segsr.reports.page import plain_page
from bids_segsr.training.loop.run_log import PICTURES, TABLE, read_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, float]

_RED, _BLUE, _GREY = '#b3261e', '#2f6fb5', '#5b6776'
_COLOURS = ('#2f6fb5', '#b4540a', '#1d6b38', '#8a3d8f', '#5b6776', '#a08a00')
_WEAK_BASELINE = (
    '<p class="reading">The input is what the network is shown: the interpolated image, '
    'back-projected where the recipe says so. Of slices, back-projection restores more than plain '
    'interpolation, without any network: <code>segsr evaluate compare</code> has both.</p>'
)
_STYLE = {
    'svg.fonttype': 'none',
    'svg.hashsalt': 'bids_segsr',
    'font.family': ['sans-serif'],
    'font.sans-serif': ['DejaVu Sans'],
    'font.size': 9,
    'axes.spines.right': False,
    'axes.spines.top': False,
    'axes.grid': True,
    'grid.color': '#dfe4ea',
    'axes.edgecolor': _GREY,
    'legend.frameon': False,
}
_SHOWN_TIMES = 5
"""Validations of which the pictures are shown, evenly over the training."""


@dataclass(frozen=True)
class _Line:
    """One curve: column of the table, what the legend says, how it is drawn."""

    column: str
    name: str
    colour: str
    dashed: bool = False
    right: bool = False


def write_report(run: Path, path: Path) -> Path:
    """Write the page of a training.

    Args:
        run: Folder of the run, with its table, recipe, pictures and summary.
        path: The HTML file; it holds all it shows.

    Returns:
        The HTML file.

    Raises:
        UserError: If the folder holds no run, or the file cannot be written.
    """
    rows = read_log(run / TABLE)
    try:
        summary = json.loads((run / 'run.json').read_text(encoding='utf-8'))
        recipe = (run / 'recipe.toml').read_text(encoding='utf-8')
    except (OSError, ValueError):
        raise UserError(f'{run}: holds no run of segsr train') from None
    if not rows:
        raise UserError(f'{run}: the table {TABLE} is empty; train for longer')
    sections = {
        'Outcome': _outcome(rows, summary),
        'Scores': _scores(rows, summary),
        'Losses': _losses(rows),
        'Learning rate and waiting': _rates(rows),
        'Validation patches': _pictures(run / PICTURES),
        'Data and machine': _machine(summary),
        'Recipe': f'<pre tabindex="0">{escape(recipe)}</pre>',
    }
    return write_text(path, plain_page(f'Training of {summary["recipe"]}', sections))


def _outcome(rows: Sequence[Row], summary: Mapping[str, Any]) -> str:
    kept = summary['kept_step']
    best = next((row for row in rows if row['step'] == kept), rows[-1])
    table = []
    for name, key, unit, digits in (
        ('PSNR', 'psnr', 'dB', 2),
        ('SSIM', 'ssim', '', 4),
        *((f'Dice, {_words(key[5:])}', key, '', 3) for key in best if key.startswith('dice_')),
    ):
        value, other = best.get(key, math.nan), best.get(f'interpolation_{key}', math.nan)
        if math.isfinite(value):
            table.append(
                f'<tr><th scope="row">{escape(name)}</th>'
                f'<td class="number">{_number(rows[0].get(key, math.nan), digits)}</td>'
                f'<td class="number">{_number(value, digits)}</td>'
                f'<td class="number">{_number(other, digits)}</td>'
                f'<td>{_verdict(value, other, digits, unit)}</td></tr>'
            )
    reason = 'which had the best score' if kept == summary['best_step'] else 'the last ones'
    if summary['steps'] and not kept:
        reason = 'with which the training began, and which nothing later surpassed'
    epochs = f'{summary["epochs"]:.3g} epochs, {summary["steps"]:,} generator updates'
    if summary['critic_steps']:
        epochs += f', {summary["critic_steps"]:,} critic updates'
    return (
        f'<p class="reading">{epochs} in {_duration(summary["minutes"])}. The weights of step '
        f'{kept:,} (epoch {best["epoch"]:.3g}), {reason}, are the model: score '
        f'{best["score"]:.4g}. Scores: patches of the validation '
        f'subjects ({len(summary["subjects"]["validation"])}), low resolution simulated.</p>'
        '<div class="scroller" tabindex="0" role="region" aria-label="Scores">'
        '<table class="table table-sm glance"><thead><tr><td></td>'
        '<th scope="col" class="number">at the start</th>'
        '<th scope="col" class="number">the model</th>'
        '<th scope="col" class="number">its input</th>'
        '<th scope="col">model against its input</th></tr></thead>'
        f'<tbody>{"".join(table)}</tbody></table></div>'
        f'{_WEAK_BASELINE if "interpolation_psnr" in best else ""}'
    )


def _verdict(value: float, other: float, digits: int, unit: str) -> str:
    if not math.isfinite(other):
        return ''
    gain = round(value - other, digits)
    kind = 'above' if gain > 0 else 'below' if gain < 0 else 'equal'
    text = f'{gain:+.{digits}f} {unit}'.strip()
    return f'<span class="verdict {kind}">{text}</span>'


def _scores(rows: Sequence[Row], summary: Mapping[str, Any]) -> str:
    channels = [key for key in rows[-1] if key.startswith('dice_')]
    left = [
        _Line('psnr', 'PSNR', _RED),
        _Line('interpolation_psnr', 'PSNR, input', _RED, True),
    ]
    shades = (_BLUE, '#6fa3dc', '#123d6b', '#8fb8e6', '#35506e')
    right = [
        _Line(key, f'Dice, {_words(key[5:])}', shades[i % len(shades)], right=True)
        for i, key in enumerate(channels)
    ]
    main = _chart(
        rows, [*left, *right], ('PSNR (dB)', 'Dice'), 'PSNR and Dice', summary['best_step']
    )
    ssim = [
        _Line('ssim', 'SSIM', _COLOURS[2]),
        _Line('interpolation_ssim', 'SSIM, input', _COLOURS[2], True),
        _Line('score', 'score that decides', _GREY, right=True),
    ]
    other = _chart(rows, ssim, ('SSIM', 'score'), 'SSIM and deciding score', summary['best_step'])
    reading = (
        'On the validation patches, after every validation; dashed: the input. The '
        'vertical line marks the weights that were kept. As Figures 5 and 14 of SegSRGAN (2020).'
    )
    return f'<p class="reading">{reading}</p>{main}{other}'


def _losses(rows: Sequence[Row]) -> str:
    charts = []
    for title, prefix, validation in (
        ('Loss of the generator', 'loss_', 'validation_loss'),
        ('Loss of the critic', 'critic_loss_', ''),
    ):
        keys = [key for key in rows[-1] if key.startswith(prefix)]
        lines = [
            _Line(key, _words(key.removeprefix(prefix)), _COLOURS[i % len(_COLOURS)])
            for i, key in enumerate(keys)
        ]
        if validation:
            lines += [
                _Line(
                    _validation_column(line.column), f'{line.name}, validation', line.colour, True
                )
                for line in lines
                if _validation_column(line.column) in rows[-1]
            ]
        if lines:
            charts.append(_chart(rows, lines, (title, ''), title))
    reading = (
        'Terms without their weights, and their weighted sum (total); means since the validation '
        'before. Dashed: validation patches.'
    )
    return f'<p class="reading">{reading}</p>{"".join(charts)}'


def _validation_column(column: str) -> str:
    return 'validation_loss' if column == 'loss_total' else f'validation_{column}'


def _rates(rows: Sequence[Row]) -> str:
    lines = [
        _Line('learning_rate', 'learning rate, generator', _COLOURS[0]),
        _Line('critic_learning_rate', 'learning rate, critic', _COLOURS[1], True),
        _Line('wait_share', 'share of time waiting for samples', _GREY, right=True),
    ]
    return _chart(rows, lines, ('learning rate', 'share of time'), 'Learning rate and waiting')


def _chart(
    rows: Sequence[Row],
    lines: Sequence[_Line],
    labels: tuple[str, str],
    title: str,
    best_step: int | None = None,
) -> str:
    """Draw curves against epochs, minutes above; the right axis has its own scale."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    epochs = np.array([row['epoch'] for row in rows])
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 3.4))
        axes = figure.add_axes((0.09, 0.15, 0.64, 0.69))
        other = axes.twinx() if any(line.right for line in lines) else None
        drawn = []
        for line in lines:
            values = np.array([row.get(line.column, math.nan) for row in rows])
            known = np.isfinite(values)
            if not known.any():
                continue
            target = other if line.right and other is not None else axes
            drawn += target.plot(
                epochs[known],
                values[known],
                color=line.colour,
                linestyle='--' if line.dashed else '-',
                marker='o' if known.sum() < 30 and not line.dashed else None,
                markersize=3,
                linewidth=1.4,
                label=line.name,
            )
        if not drawn:
            return ''
        if other is not None and all(line.column == 'wait_share' for line in lines if line.right):
            other.set_ylim(bottom=0)
        _label(axes, other, labels, [row['minutes'] for row in rows], epochs)
        if best_step is not None:
            at = next((row['epoch'] for row in rows if row['step'] == best_step), None)
            if at is not None:
                axes.axvline(at, color=_GREY, linewidth=0.8, linestyle=':')
        figure.legend(handles=drawn, loc='upper left', bbox_to_anchor=(0.785, 0.88))
        buffer = io.StringIO()
        figure.savefig(buffer, format='svg', metadata={'Date': None})
    return f'<figure class="curves" tabindex="0">{finish(buffer.getvalue(), title)}</figure>'


def _label(
    axes: Axes,
    other: Axes | None,
    labels: tuple[str, str],
    minutes: Sequence[float],
    epochs: np.ndarray,
) -> None:
    axes.set_xlabel('epoch')
    axes.set_ylabel(labels[0])
    # Fixed decimals of a small number would push the label out of the page.
    axes.yaxis.set_major_formatter(lambda value, _: f'{value:.5g}'.replace('-', '\u2212'))
    axes.margins(x=0.02)
    if other is not None:
        other.set_ylabel(labels[1])
        other.spines['right'].set_visible(True)
        other.grid(visible=False)
    if len(epochs) > 1 and epochs[-1] > epochs[0] and minutes[-1] > minutes[0]:
        above = axes.secondary_xaxis('top', functions=_between(epochs, np.array(minutes)))
        above.set_xlabel('minutes')


def _between(
    epochs: np.ndarray, minutes: np.ndarray
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the maps from epochs to minutes and back, straight on beyond both ends."""
    minutes = np.maximum.accumulate(minutes + 1e-9 * np.arange(len(minutes)))

    def along(x: Any, known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        x = np.asarray(x, dtype=float)
        slope = (wanted[-1] - wanted[0]) / (known[-1] - known[0])
        beyond = np.minimum(x - known[0], 0) + np.maximum(x - known[-1], 0)
        inside: np.ndarray = np.interp(x, known, wanted) + slope * beyond
        return inside

    return (lambda x: along(x, epochs, minutes)), (lambda x: along(x, minutes, epochs))


def _pictures(folder: Path) -> str:
    steps = sorted({int(path.name.split('-')[1]) for path in folder.glob('step-*-*.png')})
    if not steps:
        return '<p class="reading">None were drawn ([validation] pictures is 0).</p>'
    places = np.linspace(0, len(steps) - 1, min(_SHOWN_TIMES, len(steps)))
    parts = [
        '<p class="reading">Middle slices across the first axis, acquired slices lying flat. '
        'Error: grey where there is none, brighter where the output is too bright. Outlines in '
        'the target: true segmentation.</p>'
    ]
    for step in dict.fromkeys(steps[round(place)] for place in places):
        parts.append(f'<h3>Step {step:,}</h3>')
        for path in sorted(folder.glob(f'step-{step:08d}-*.png')):
            data = base64.b64encode(path.read_bytes()).decode()
            parts.append(
                f'<figure tabindex="0"><img src="data:image/png;base64,{data}" '
                'alt="Input, output, target, error and segmentations of a validation patch at '
                f'step {step}" /></figure>'
            )
    return '\n'.join(parts)


def _machine(summary: Mapping[str, Any]) -> str:
    machine, subjects = summary['machine'], summary['subjects']
    low, high = summary['spacing_mm']
    thin, thick = summary['slice_thickness_mm']
    entries = {
        'Data': summary['source'],
        'Subjects': ', '.join(
            f'{len(names)} {split}' for split, names in subjects.items() if names
        ),
        'Spacing': f'{low:g} to {high:g} mm' if low != high else f'{low:g} mm',
        'Slices': f'{thin:g} to {thick:g} mm' if thin != thick else f'{thin:g} mm',
        'Patches': f'{summary["patches_per_epoch"]:,} an epoch',
        'Parameters': f'{summary["parameters"]:,}'
        + (f' ({summary["frozen"]} tensors frozen)' if summary['frozen'] else ''),
        'Reference': summary['reference'] or 'none',
        'Device': f'{machine["device"]}, {machine["processes"]} process(es), '
        f'{machine["threads"]} thread(s) each',
        'Software': f'torch {machine["torch"]}, Python {machine["python"]}, {machine["system"]}',
        'Time': _duration(summary['minutes']),
        'Memory': f'{summary["memory_gb"]:.2f} GB at most'
        if 'memory_gb' in summary
        else 'not recorded',
        'Waiting for samples': f'{summary["wait_share"]:.1%} of the time of training',
    }
    listed = ''.join(f'<dt>{k}</dt><dd>{escape(str(v))}</dd>' for k, v in entries.items())
    return f'<dl>{listed}</dl>'


def _words(key: str) -> str:
    return key.replace('_', ' ')


def _number(value: float, digits: int) -> str:
    return f'{value:.{digits}f}' if math.isfinite(value) else ''


def _duration(minutes: float) -> str:
    return f'{minutes:.1f} minutes' if minutes < 120 else f'{minutes / 60:.1f} hours'
