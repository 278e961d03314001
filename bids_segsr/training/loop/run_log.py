"""What a run leaves behind to be read: its table, its TensorBoard log, its pictures."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bids_segsr.files import complete
from bids_segsr.training.recipe import Recipe

TABLE = 'log.csv'
PICTURES = 'samples'
TENSORBOARD = 'tensorboard'
PANELS = ('input', 'output', 'target', 'error', 'segmentation', 'true segmentation')
_GAP = 4
_CAPTION = 14
_SMALLEST_PANEL = 128
_COLOURS = np.array(
    [
        (0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178),
        (213, 94, 0), (204, 121, 167), (160, 160, 160),
    ],
    dtype=np.uint8,
)  # fmt: skip
"""Background and regions; Okabe and Ito's colours, which most colour-blind people tell apart."""


class RunLog:
    """Table of a run, a row a validation, and the same numbers for TensorBoard.

    Args:
        folder: Folder of the run.
        step: Last step that is kept: a killed run is taken up at its last checkpoint, later rows
            are dropped; None begins anew.
    """

    def __init__(self, folder: Path, step: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / TABLE
        self.pictures = folder / PICTURES
        last = -1 if step is None else step
        self.rows = [row for row in read_log(self.path) if row['step'] <= last]
        self._write_all()
        for path in self.pictures.glob('step-*.png'):
            if int(path.name.split('-')[1]) > last:
                path.unlink()
        self.writer = SummaryWriter(str(folder / TENSORBOARD), purge_step=last + 1)

    def add(self, row: Mapping[str, float]) -> None:
        """Add a row.

        Args:
            row: Numbers by name, 'step' among them.
        """
        known = list(self.rows[0]) if self.rows else []
        new = [name for name in row if name not in known]
        for other in self.rows:
            other.update(dict.fromkeys(new, math.nan))
        self.rows.append({name: row.get(name, math.nan) for name in [*known, *new]})
        if new:
            self._write_all()
        else:
            with self.path.open('a', newline='', encoding='utf-8') as file:
                csv.writer(file, lineterminator='\n').writerow(map(_text, self.rows[-1].values()))
        for name, value in row.items():
            if name != 'step' and math.isfinite(value):
                group = 'loss' if 'loss' in name else 'score'
                self.writer.add_scalar(f'{group}/{name}', value, int(row['step']))
        self.writer.flush()

    def picture(self, number: int, step: int, pixels: np.ndarray) -> None:
        """Save the picture of a validation patch.

        Args:
            number: Which patch.
            step: Generator updates so far.
            pixels: (height, width, 3) uint8.
        """
        from PIL import Image

        with complete(self.pictures / f'step-{step:08d}-{number}.png') as part:
            Image.fromarray(pixels).save(part)
        self.writer.add_image(f'sample {number}', pixels, step, dataformats='HWC')

    def close(self) -> None:
        """Close the TensorBoard log."""
        self.writer.close()

    def _write_all(self) -> None:
        with complete(self.path) as part, part.open('w', newline='', encoding='utf-8') as file:
            writer = csv.writer(file, lineterminator='\n')
            if self.rows:
                writer.writerow(self.rows[0])
            writer.writerows(map(_text, row.values()) for row in self.rows)


def read_log(path: Path) -> list[dict[str, float]]:
    """Read the table of a run.

    Args:
        path: The CSV file; it may be missing.

    Returns:
        A dictionary a row; NaN where a cell is empty.
    """
    if not path.is_file():
        return []
    with path.open(newline='', encoding='utf-8') as file:
        return [
            {name: float(text) if text else math.nan for name, text in row.items()}
            for row in csv.DictReader(file)
            if None not in row.values()  # a kill may leave half a line
        ]


def _text(value: float) -> str:
    return '' if math.isnan(value) else f'{value:.8g}'


def draw_sample(
    image: np.ndarray, output: np.ndarray, target: np.ndarray, recipe: Recipe
) -> np.ndarray:
    """Draw the middle slice of a patch, through-plane axis downwards.

    Args:
        image: Input of the network (X, Y, Z).
        output: What it gives, (C, X, Y, Z).
        target: What it should give, same shape.
        recipe: Names the channels.

    Returns:
        Pixels (height, width, 3) uint8: input, output, target, error (grey where there is none,
        brighter where the output is too bright), segmentations; captions above. The true
        segmentation is outlined in the target.
    """
    from PIL import Image, ImageDraw

    from bids_segsr.training.loop.validation_scores import scored_channels, segment

    def plane(volume: np.ndarray) -> np.ndarray:
        return volume[volume.shape[0] // 2].T[::-1]

    low, high = (float(v) for v in np.percentile(target[0], (0.5, 99.5)))
    span = max(high - low, 1e-6)
    greys = [(plane(v) - low) / span for v in (image, output[0], target[0])]
    greys.append(0.5 + (plane(output[0]) - plane(target[0])) / span)
    panels = [
        np.repeat((255 * np.clip(g, 0, 1)).astype(np.uint8)[..., None], 3, axis=2) for g in greys
    ]
    channels = recipe.task.channels
    if len(channels) > 1:
        for maps in (output, target):
            regions = np.zeros(maps.shape[1:], dtype=int)
            masks = segment(maps, channels)
            for number, name in enumerate(scored_channels(recipe), start=1):
                regions[masks[name] & (regions == 0)] = number
            panels.append(_COLOURS[plane(regions) % len(_COLOURS)])
    scale = max(1, -(-_SMALLEST_PANEL // max(panels[0].shape[:2])))
    panels = [p.repeat(scale, axis=0).repeat(scale, axis=1) for p in panels]
    if len(channels) > 1:
        _outline(panels[PANELS.index('target')], panels[PANELS.index('true segmentation')])
    height, width = panels[0].shape[:2]
    sheet = Image.new('RGB', ((width + _GAP) * len(panels) - _GAP, height + _CAPTION), 'white')
    pen = ImageDraw.Draw(sheet)
    for number, panel in enumerate(panels):
        left = number * (width + _GAP)
        sheet.paste(Image.fromarray(np.ascontiguousarray(panel)), (left, _CAPTION))
        pen.text((left + 1, 1), PANELS[number], fill='black')
    return np.asarray(sheet)


def _outline(panel: np.ndarray, regions: np.ndarray) -> None:
    """Draw the inner border of coloured regions, a pixel wide; both (height, width, 3) uint8."""
    padded = np.pad(regions, ((1, 1), (1, 1), (0, 0)), mode='edge')
    middle = slice(1, -1)
    border = np.zeros(regions.shape[:2], dtype=bool)
    for along in (slice(2, None), slice(None, -2)):
        border |= (padded[along, middle] != regions).any(axis=2)
        border |= (padded[middle, along] != regions).any(axis=2)
    border &= regions.any(axis=2)
    panel[border] = regions[border]
