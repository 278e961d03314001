"""Panels of a figure, each a cut through a volume, and their layout in one SVG file.

nireports' `plot_registration` and `compose_view` resample an oblique scan to world axes (its
slices are then no longer the acquired ones) and write random identifiers, so that the same input
does not give the same bytes. For a scan of 406 x 448 x 36 voxels they took 40 s and 2.9 MB, the
figure made here 1.2 s and 0.7 MB. The animation follows `compose_view`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_segsr.reports.drawing.display_volume import Canonical
from bids_segsr.reports.drawing.svg import finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes

VIEWS = ('Sagittal', 'Coronal', 'Axial')
"""Name of the cut across each canonical axis."""

WIDTH = 14.0
"""Width of every figure in inches of 72 SVG units."""

_SIDES = (('A', 'P', 'S', 'I'), ('R', 'L', 'S', 'I'), ('R', 'L', 'A', 'P'))
"""Letters at the left, right, top and bottom of each view."""

_GAP, _CAPTION, _HEADER, _LINE, _BAR, _TALLEST = 0.12, 0.32, 0.5, 0.32, 1.15, 4.9
_SCALE_MM = 20.0
_PIXELS_PER_INCH = 115
_TEXT, _FAINT = '#e6edf3', '#9aa5b1'
_STYLE = {
    'svg.fonttype': 'none',
    'svg.hashsalt': 'bids_segsr',
    'image.composite_image': False,
    'font.family': ['sans-serif'],
    'font.sans-serif': ['DejaVu Sans'],
    'axes.unicode_minus': True,
}


@dataclass
class Panel:
    """One cut of one view, with what is drawn on it.

    Attributes:
        volume: The volume whose geometry (and slice) is shown.
        axis: The canonical axis across which it is cut.
        index: The slice.
        box: The part of the volume that is shown.
        scale: Size against the other panels of its row (1 = same mm on paper).
        layers: Functions that draw on an axis; called in order.
    """

    volume: Canonical
    axis: int
    index: int
    box: tuple[slice, slice, slice]
    scale: float = 1.0
    layers: list[Callable[[Axes], None]] = field(default_factory=list)

    def plane(self, data: np.ndarray) -> np.ndarray:
        """Cut an array of the volume's shape: rows from the top, patient's right at the left."""
        ranges: list[Any] = list(self.box)
        ranges[self.axis] = self.index
        return data[tuple(ranges)][::-1, ::-1].T

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height of the cut in mm."""
        u, v = (a for a in range(3) if a != self.axis)
        widths = [(self.box[a].stop - self.box[a].start) * self.volume.spacing[a] for a in (u, v)]
        return widths[0], widths[1]

    @property
    def caption(self) -> str:
        """View and position of the centre of the cut along the axis it lies across, in mm."""
        centre = [(r.start + r.stop - 1) / 2 for r in self.box]
        centre[self.axis] = self.index
        position = round(float((self.volume.affine @ [*centre, 1.0])[self.axis]))
        number = f'{position:+d}'.replace('-', '\N{MINUS SIGN}') if position else '0'
        return f'{VIEWS[self.axis]} \N{MIDDLE DOT} {"xyz"[self.axis]} = {number} mm'

    def show(self, data: np.ndarray, cmap: Any, limits: tuple[float, float], gid: str) -> None:
        """Add a layer that shows an array of the volume's shape as an image."""
        self.layers.append(
            partial(_draw_image, panel=self, data=data, cmap=cmap, limits=limits, gid=gid)
        )

    def outline(
        self,
        data: np.ndarray,
        level: float,
        colour: str,
        gid: str,
        width: float = 1.2,
        label: int | None = None,
    ) -> None:
        """Add a layer with the contour of an array of the volume's shape at a level.

        Args:
            data: The array.
            level: Where its contour is drawn.
            colour: Of the line.
            gid: Identifier of the layer.
            width: Of the line, in points.
            label: Draws the contour of the voxels with this value instead.
        """
        self.layers.append(
            partial(
                _draw_outline,
                panel=self,
                data=data,
                level=level,
                colour=colour,
                gid=gid,
                width=width,
                label=label,
            )
        )


@dataclass(frozen=True)
class ColourBar:
    """The scale of the heat maps in one row.

    Attributes:
        row: The row that it stands beside.
        cmap: Colour map.
        limits: Values at its ends.
        label: What is measured, with its unit.
    """

    row: int
    cmap: Any
    limits: tuple[float, float]
    label: str


def write_svg(
    rows: Sequence[Sequence[Panel]],
    out_svg: str | Path,
    *,
    title: str,
    states: tuple[str, str] | None = None,
    bars: Sequence[ColourBar] = (),
    notice: str = '',
    legend: Sequence[tuple[str, str]] = (),
) -> Path:
    """Lay out panels in rows of equal width and write them as one self-contained SVG file.

    The file holds no date, no random identifier and no size, so that the same panels give the
    same bytes and a browser fits it to the page.

    Args:
        rows: Panels, row by row.
        out_svg: File to write.
        title: What the figure shows, for screen readers.
        states: Labels of the buttons that hide and show the layers whose id begins with
            `after-`; None for a still figure.
        bars: Colour bars at the right.
        notice: A sentence printed over the figure, for what could not be drawn.
        legend: Colour and text of the lines in the figure.

    Returns:
        The file.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    header = _HEADER if states or notice else 0.08
    header += _LINE if legend else 0.0
    right = _BAR if bars else 0.0
    places, height = _layout(rows, WIDTH - right, header)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, height), facecolor='black')
        FigureCanvasSVG(figure)
        for panel, (x, y, w, h) in zip((p for row in rows for p in row), places, strict=True):
            axes = figure.add_axes((x / WIDTH, 1 - (y + h) / height, w / WIDTH, h / height))
            for layer in panel.layers:
                layer(axes)
            _dress(axes, panel)
            if any(panel is row[0] for row in rows):
                _draw_scale(axes, panel)
            axes.set_xlim(0, panel.size_mm[0])
            axes.set_ylim(panel.size_mm[1], 0)
            figure.text(
                (x + w / 2) / WIDTH,
                1 - (y + h + 0.21) / height,
                panel.caption,
                color=_FAINT,
                size=12,
                ha='center',
            )
        first = 0
        for number, row in enumerate(rows):
            tops = [places[first + i] for i in range(len(row))]
            first += len(row)
            for bar in (b for b in bars if b.row == number):
                _draw_bar(figure, bar, min(p[1] for p in tops), max(p[3] for p in tops), height)
        x = 0.14
        for colour, text in legend:
            y = 1 - (header - 0.12) / height
            figure.text(x / WIDTH, y, f'\N{BLACK SQUARE} {text}', color=colour, size=12)
            x += 0.42 + 0.092 * len(text)
        if notice:
            figure.text(
                0.5,
                1 - 0.29 / height,
                notice,
                color='#ffb454',
                size=12,
                weight='bold',
                ha='center',
            )
        buffer = io.StringIO()
        figure.savefig(buffer, format='svg', facecolor='black', metadata={'Date': None})
    out_svg = Path(out_svg)
    out_svg.write_text(finish(buffer.getvalue(), title, states), encoding='utf-8')
    return out_svg


def _layout(
    rows: Sequence[Sequence[Panel]], width: float, top: float
) -> tuple[list[tuple[float, float, float, float]], float]:
    places = []
    for row in rows:
        sizes = [(p.size_mm[0] * p.scale, p.size_mm[1] * p.scale) for p in row]
        inches = min(
            (width - _GAP * (len(row) + 1)) / sum(w for w, _ in sizes),
            _TALLEST / max(h for _, h in sizes),
        )
        tallest = max(h for _, h in sizes) * inches
        used = sum(w for w, _ in sizes) * inches + _GAP * (len(row) - 1)
        x = (width - used) / 2
        for w, h in sizes:
            places.append((x, top + tallest - h * inches, w * inches, h * inches))
            x += w * inches + _GAP
        top += tallest + _CAPTION + _GAP
    return places, top


def _dress(axes: Axes, panel: Panel) -> None:
    axes.set_axis_off()
    places = ((0.01, 0.5, 'left', 'center'), (0.99, 0.5, 'right', 'center'),
              (0.5, 0.99, 'center', 'top'), (0.5, 0.01, 'center', 'bottom'))  # fmt: skip
    for letter, (x, y, side, height) in zip(_SIDES[panel.axis], places, strict=True):
        axes.text(
            x, y, letter, transform=axes.transAxes, color=_TEXT, size=12, weight='bold',
            ha=side, va=height, zorder=9,
            bbox={'facecolor': 'black', 'alpha': 0.55, 'edgecolor': 'none', 'pad': 1.5},
        )  # fmt: skip


def _draw_scale(axes: Axes, panel: Panel) -> None:
    width, height = panel.size_mm
    length = _SCALE_MM if width > 3 * _SCALE_MM else _SCALE_MM / 4
    x, y = 0.03 * width, 0.97 * height
    axes.plot([x, x + length], [y, y], color=_TEXT, linewidth=2.5, zorder=9)
    axes.text(
        x, 0.95 * height, f'{length:g} mm', color=_TEXT, size=11, ha='left', va='bottom', zorder=9,
        bbox={'facecolor': 'black', 'alpha': 0.55, 'edgecolor': 'none', 'pad': 1},
    )  # fmt: skip


def _draw_image(
    axes: Axes,
    *,
    panel: Panel,
    data: np.ndarray,
    cmap: Any,
    limits: tuple[float, float],
    gid: str,
) -> None:
    width, height = panel.size_mm
    image = axes.imshow(
        _shrunk(panel.plane(data), axes.get_position().width * WIDTH),
        cmap=cmap,
        vmin=limits[0],
        vmax=limits[1],
        extent=(0, width, height, 0),
        interpolation='none',
        aspect='auto',
    )
    image.set_gid(gid)


def _shrunk(plane: np.ndarray, inches: float) -> np.ndarray:
    from PIL import Image

    factor = plane.shape[1] / (inches * _PIXELS_PER_INCH)
    image = np.asarray(plane, dtype=np.float32)
    if factor <= 1:
        return image
    rows, columns = (max(round(n / factor), 1) for n in plane.shape)
    return np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.BOX))


def _draw_outline(
    axes: Axes,
    *,
    panel: Panel,
    data: np.ndarray,
    level: float,
    colour: str,
    gid: str,
    width: float,
    label: int | None,
) -> None:
    cut = panel.plane(data)
    small = _shrunk(cut if label is None else cut == label, axes.get_position().width * WIDTH)
    # the rim of background closes an outline that runs off the cut
    plane = np.pad(small, 1)
    if not (plane.max() > level > plane.min()):
        return
    columns, rows = (
        panel.size_mm[0] / (plane.shape[1] - 2),
        panel.size_mm[1] / (plane.shape[0] - 2),
    )
    x = (np.arange(plane.shape[1]) - 0.5) * columns
    y = (np.arange(plane.shape[0]) - 0.5) * rows
    lines = axes.contour(x, y, plane, levels=[level], colors=[colour], linewidths=width)
    lines.set_gid(gid)


def _draw_bar(figure: Any, bar: ColourBar, y: float, h: float, height: float) -> None:
    margin = 0.12 * h
    axes = figure.add_axes(
        (
            (WIDTH - _BAR + 0.12) / WIDTH,
            1 - (y + h - margin) / height,
            0.14 / WIDTH,
            (h - 2 * margin) / height,
        )
    )
    low, high = bar.limits
    axes.imshow(
        np.linspace(high, low, 128)[:, None],
        cmap=bar.cmap,
        extent=(0, 1, low, high),
        aspect='auto',
        interpolation='none',
    )
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position('right')
    axes.set_ylabel(bar.label, color=_TEXT, size=12)
    axes.tick_params(colors=_TEXT, labelsize=11, length=3)
    for spine in axes.spines.values():
        spine.set_color(_FAINT)
