"""The figures of the report: volumes in, one SVG file out.

Every figure keeps the voxels as they were acquired (axes reordered to the closest canonical
ones, nothing resampled) and shows them as a radiologist reads them: the patient's right at the
left of axial and coronal cuts, anterior at the left of sagittal cuts, equal millimetres in both
directions. Positions are RAS+ coordinates in mm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bids_segsr.bids.description import structure
from bids_segsr.reports.drawing.display_volume import (
    Canonical,
    Source,
    box_around,
    foreground,
    read,
    sampled,
    spread_cuts,
    window,
)
from bids_segsr.reports.drawing.slice_panels import ColourBar, Panel, write_svg

MASK_COLOUR = '#ff8c42'
LABEL_COLOURS = ('#35c4ff', '#ffd166', '#8be36b', '#ff6fa8', '#c59bff', '#ff8c42')
PROBABILITY_THRESHOLD = 0.5

_THICK = 1.5


def plot_before_after(
    before: Source,
    after: Source,
    out_svg: str | Path,
    *,
    before_label: str,
    after_label: str,
    slice_axis: int | None = None,
    mask: Source | None = None,
) -> Path:
    """Show two images of one grid in turn, in one grey window.

    On an isotropic grid the two views that hold the through-plane axis are large, since that is
    where a super-resolved image differs; on a grid of thick slices the in-plane view is.

    Args:
        before: The image shown first.
        after: The image it is compared with, on the same grid.
        out_svg: File to write.
        before_label: Its button, e.g. 'Cubic spline'.
        after_label: Likewise, e.g. 'Super-resolved'.
        slice_axis: Axis of the arrays that was through-plane in the scan; None takes the coarsest.
        mask: Where the cuts should go; by default where the images are bright.

    Returns:
        The file.

    Raises:
        ValueError: The images differ in shape.
    """
    first, second = read(before, slice_axis), read(after, slice_axis)
    where = _region(first, mask, second)
    limits = window(where, first.data, second.data)
    box = box_around(where, first.spacing)
    across = first.slice_axis
    through = [axis for axis in (1, 0, 2) if axis != across]
    in_plane = spread_cuts(where, across, 4)
    if first.spacing[across] > _THICK * min(first.spacing):
        places = [[(across, cut, 1.0) for cut in in_plane]]
        places.append(
            [(axis, cut, 1.0) for axis in through for cut in spread_cuts(where, axis, 2)]
        )
    else:
        pairs = [spread_cuts(where, axis, 2) for axis in through]
        places = [
            [
                *(
                    (axis, pair[min(row, len(pair) - 1)], 1.0)
                    for axis, pair in zip(through, pairs, strict=True)
                ),
                (across, in_plane[min(1 + row, len(in_plane) - 1)], 0.6),
            ]
            for row in range(2)
        ]
    rows = [[Panel(first, axis, cut, box, scale) for axis, cut, scale in row] for row in places]
    for number, panel in enumerate(p for row in rows for p in row):
        panel.show(first.data, 'gray', limits, f'before-{number}')
        panel.show(second.data, 'gray', limits, f'after-{number}')
    return write_svg(
        rows,
        out_svg,
        title=f'{before_label} and {after_label} in turn',
        states=(before_label, after_label),
    )


def plot_mask_contours(
    image: Source, mask: Source, out_svg: str | Path, slice_axis: int | None = None
) -> Path:
    """Show the outline of a brain mask on the in-plane cuts of the scan's own grid.

    Args:
        image: The scan.
        mask: Its mask, on the same grid.
        out_svg: File to write.
        slice_axis: Through-plane axis of the arrays; None takes the coarsest.

    Returns:
        The file. An empty mask is told in the figure.

    Raises:
        ValueError: Image and mask differ in shape.
    """
    scan = read(image, slice_axis)
    inside = _matching(scan, mask) > PROBABILITY_THRESHOLD
    bright = foreground(scan.data)
    shown = inside if inside.any() else bright
    limits = window(bright, scan.data)
    box = box_around(shown, scan.spacing, margin_mm=20)
    present = np.flatnonzero(shown.any(axis=tuple(a for a in range(3) if a != scan.slice_axis)))
    # the first and last slice of the mask are where a mask is most often wrong
    cuts = sorted({int(c) for c in np.linspace(present[0], present[-1], 12).round()})
    panels = [Panel(scan, scan.slice_axis, cut, box) for cut in cuts]
    for number, panel in enumerate(panels):
        panel.show(scan.data, 'gray', limits, f'scan-{number}')
        panel.outline(inside, 0.5, MASK_COLOUR, f'after-{number}')
    notice = '' if inside.any() else 'The brain mask is empty: there is no outline to draw.'
    return write_svg(
        _wrapped(panels, 6),
        out_svg,
        title='Outline of the brain mask on the scan',
        states=('Scan', 'With mask') if inside.any() else None,
        notice=notice,
        legend=[(MASK_COLOUR, 'Brain mask')] if inside.any() else [],
    )


def plot_segmentation(
    image: Source,
    probability_or_label: Source,
    out_svg: str | Path,
    *,
    names: Mapping[int, str] | None = None,
    slice_axis: int | None = None,
) -> Path:
    """Show the outlines of a segmentation over the super-resolved image, in three views.

    Args:
        image: Super-resolved image.
        probability_or_label: On the same grid: cortex probabilities (0 to 1, outlined at 0.5) or
            whole-numbered labels (each outlined in its colour).
        out_svg: File to write.
        names: What the labels are called; by default 'Cortex' for a single one.
        slice_axis: Through-plane axis of the arrays; None takes the coarsest.

    Returns:
        The file. An empty segmentation is told in the figure.

    Raises:
        ValueError: Image and segmentation differ in shape.
    """
    fine = read(image, slice_axis)
    segmentation = _matching(fine, probability_or_label)
    outlines = _outlines(segmentation, names or {})
    where = foreground(fine.data)
    limits = window(where, fine.data)
    box = box_around(where, fine.spacing)
    # labels begin at 1
    target = segmentation > PROBABILITY_THRESHOLD if outlines else where
    rows = [
        [Panel(fine, axis, cut, box) for cut in spread_cuts(target, axis, 4)] for axis in (2, 1, 0)
    ]
    for number, panel in enumerate(p for row in rows for p in row):
        panel.show(fine.data, 'gray', limits, f'image-{number}')
        for layer, (colour, _, label) in enumerate(outlines):
            panel.outline(
                segmentation, PROBABILITY_THRESHOLD, colour, f'after-{number}-{layer}', 1.0, label
            )
    return write_svg(
        rows,
        out_svg,
        title='Outline of the segmentation on the super-resolved image',
        states=('Image', 'With segmentation') if outlines else None,
        notice='' if outlines else 'The segmentation is empty: there is no outline to draw.',
        legend=[(colour, name) for colour, name, _ in outlines],
    )


def plot_fidelity(
    residual: Source,
    image: Source,
    out_svg: str | Path,
    *,
    mask: Source | None = None,
    slice_axis: int | None = None,
) -> Path:
    """Show where the super-resolved image, put back through the forward model, leaves the scan.

    Args:
        residual: Re-degraded image minus scan, in the scan's intensities, on the scan's grid.
        image: The scan.
        out_svg: File to write.
        mask: Where the two were compared; by default where the residual is not 0.
        slice_axis: Through-plane axis of the arrays; None takes the coarsest.

    Returns:
        The file. The colour bar is in percent of the scan's robust range (2nd to 98th percentile
        inside the mask).

    Raises:
        ValueError: The images differ in shape.
    """
    scan = read(image, slice_axis)
    difference = _matching(scan, residual)
    where = _matching(scan, mask) > 0.5 if mask is not None else difference != 0
    region = where if where.any() else foreground(scan.data)
    low, high = np.percentile(scan.data[region], (2, 98))
    percent = 100 * difference / max(float(high - low), 1e-6)
    extreme = _rounded_up(float(np.percentile(np.abs(percent[region]), 99.5)))
    box = box_around(region, scan.spacing)
    cuts = spread_cuts(region, scan.slice_axis, 5)
    rows = [[Panel(scan, scan.slice_axis, cut, box) for cut in cuts] for _ in range(2)]
    limits = window(region, scan.data)
    for number, (above, below) in enumerate(zip(*rows, strict=True)):
        above.show(scan.data, 'gray', limits, f'scan-{number}')
        below.show(percent, _diverging(), (-extreme, extreme), f'residual-{number}')
        below.outline(region, 0.5, '#6b7683', f'edge-{number}', 0.7)
    return write_svg(
        rows,
        out_svg,
        title='Residual of the fidelity check beside the scan',
        bars=[
            ColourBar(0, 'gray', limits, 'Scan (a.u.)'),
            ColourBar(1, _diverging(), (-extreme, extreme), 'Residual (% of robust range)'),
        ],
        notice='' if difference.any() else 'The residual is 0 everywhere.',
    )


def plot_uncertainty(
    entropy: Source,
    disagreement: Source,
    image: Source,
    out_svg: str | Path,
    *,
    slice_axis: int | None = None,
) -> Path:
    """Show where the network is unsure of the segmentation.

    Args:
        entropy: Entropy of the class probabilities at each voxel, in bits.
        disagreement: Standard deviation of the probability over the overlapping patches; not
            shown where it is 0 everywhere, as it is of a single patch.
        image: Super-resolved image; all three lie on one grid.
        out_svg: File to write.
        slice_axis: Through-plane axis of the arrays; None takes the coarsest.

    Returns:
        The file.

    Raises:
        ValueError: The images differ in shape.
    """
    fine = read(image, slice_axis)
    maps = [('entropy', 'Entropy (bits)', _matching(fine, entropy))]
    second = _matching(fine, disagreement)
    if second.any():
        maps.append(('disagreement', 'Disagreement (SD)', second))
    where = foreground(fine.data)
    limits = window(where, fine.data)
    box = box_around(where, fine.spacing)
    places = [(axis, cut) for axis in (2, 1, 0) for cut in spread_cuts(where, axis, 2)]
    rows = [[Panel(fine, axis, cut, box) for axis, cut in places] for _ in range(1 + len(maps))]
    bars = [ColourBar(0, 'gray', limits, 'Image (a.u.)')]
    for number, panel in enumerate(rows[0]):
        panel.show(fine.data, 'gray', limits, f'image-{number}')
    for row, (name, label, data) in enumerate(maps, start=1):
        scale = (0.0, _rounded_up(float(np.percentile(sampled(data[where]), 99.8))))
        bars.append(ColourBar(row, 'inferno', scale, label))
        for number, panel in enumerate(rows[row]):
            panel.show(data, 'inferno', scale, f'{name}-{number}')
    return write_svg(
        rows,
        out_svg,
        title='Uncertainty of the segmentation below the super-resolved image',
        bars=bars,
    )


def label_legend(labels: Sequence[int], names: Mapping[int, str]) -> list[tuple[str, str]]:
    """Return colour and name of each label; a structure that is known has its own colour.

    Args:
        labels: The values that occur, in increasing order.
        names: What they are called.
    """
    unnamed = 'Cortex' if len(labels) == 1 else 'Label {}'
    legend = []
    for number, label in enumerate(labels):
        name, _, colour, _ = structure(names.get(label, unnamed.format(label)))
        if colour == 'n/a':
            colour = LABEL_COLOURS[number % len(LABEL_COLOURS)]
        legend.append((colour, name))
    return legend


def _matching(reference: Canonical, source: Source) -> np.ndarray:
    data = read(source).data
    if data.shape != reference.data.shape:
        raise ValueError(f'shapes differ: {data.shape} and {reference.data.shape}')
    return data


def _region(first: Canonical, mask: Source | None, second: Canonical) -> np.ndarray:
    if second.data.shape != first.data.shape:
        raise ValueError(f'shapes differ: {first.data.shape} and {second.data.shape}')
    bright = foreground(first.data)
    if mask is None:
        return bright
    inside = _matching(first, mask) > 0.5
    return inside if inside.any() else bright


def _outlines(
    segmentation: np.ndarray, names: Mapping[int, str]
) -> list[tuple[str, str, int | None]]:
    """Return colour, name and label of what is outlined; probabilities have no label."""
    whole = np.issubdtype(segmentation.dtype, np.integer)
    if not whole and (segmentation != np.round(segmentation)).any():
        if not (segmentation > PROBABILITY_THRESHOLD).any():
            return []
        return [(LABEL_COLOURS[0], names.get(1, 'Cortex'), None)]
    labels = [int(value) for value in np.unique(segmentation) if value > 0]
    return [
        (colour, name, label)
        for label, (colour, name) in zip(labels, label_legend(labels, names), strict=True)
    ]


def _wrapped(panels: list[Panel], columns: int) -> list[list[Panel]]:
    rows = -(-len(panels) // columns)
    width = -(-len(panels) // rows)
    return [panels[start : start + width] for start in range(0, len(panels), width)]


def _rounded_up(value: float) -> float:
    if value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= value * 0.999))


def _diverging() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list(
        'residual', ['#8fe3ff', '#2d8fd6', '#000000', '#d9622b', '#ffd9a0']
    )
