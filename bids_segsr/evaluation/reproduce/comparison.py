"""The tables of SegSRGAN (2020) with what was measured here beside what is printed there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bids_segsr.evaluation.cases import Imaging
from bids_segsr.evaluation.reproduce.published import SPLINE, TITLES, PublishedScore
from bids_segsr.evaluation.run import Job
from bids_segsr.evaluation.scores import METRICS
from bids_segsr.evaluation.systems import System
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.inference.processing import Processing
from bids_segsr.zoo.store import TrainedModel

FORWARD = ForwardModel(kind='thick-slices', spacing_mm=(3.0, 3.0))
"""Section 4.1.2: slices of 3 mm, Gaussian profile of that width."""
NOISE = 2.0
"""Section 4.4.2, in the units of the images."""
PATCH = 128
"""Section 4.4."""
STRUCTURE = 'cortex'


@dataclass(frozen=True)
class Compared:
    """A published number and ours.

    Attributes:
        published: What the article has.
        mean: Over the test images here; None where the system was not trained.
        sd: Standard deviation over the test images; None likewise.
        images: Number of test images.
    """

    published: PublishedScore
    mean: float | None
    sd: float | None
    images: int


def make_systems(
    published: Iterable[PublishedScore], models: Mapping[str, TrainedModel]
) -> dict[str, System]:
    """Put together what the tables compare and the models at hand can make.

    Args:
        published: Numbers of the article.
        models: Recipe to the model that it trained.

    Returns:
        Name in the column ``system`` to the system: cubic spline, single models, pipelines.
    """
    systems = {SPLINE: System(SPLINE)}
    for name in dict.fromkeys(number.system for number in published if number.system):
        parts = name.split('+')
        if all(part in models for part in parts):
            systems[name] = System(name, tuple(models[part] for part in parts))
    return systems


def make_jobs(
    published: Iterable[PublishedScore], systems: Mapping[str, System], device: str = 'auto'
) -> list[Job]:
    """List what has to be run for the tables.

    Args:
        published: Numbers of the article.
        systems: Name in the tables' column ``system`` to what was trained.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Returns:
        One job for every system, step and kind of image that a table has.
    """
    wanted = dict.fromkeys((p.system, p.step, p.image) for p in published if p.system in systems)
    return [
        Job(
            system=systems[name],
            imaging=Imaging(FORWARD, noise=NOISE if image == 'noisy' else 0.0),
            processing=Processing(patch_size=PATCH, step=step, blending='uniform', device=device),
            varied={'step': step, 'image': image},
        )
        for name, step, image in wanted
    ]


def compare(published: Sequence[PublishedScore], rows: pd.DataFrame) -> list[Compared]:
    """Put the means over the test images beside the published ones.

    Args:
        published: Numbers of the article.
        rows: Of `run_jobs`, for the jobs of `make_jobs`.

    Returns:
        One entry a published number, in the same order.
    """
    return [_compared(number, rows) for number in published]


def _compared(number: PublishedScore, rows: pd.DataFrame) -> Compared:
    if not len(rows):
        return Compared(number, None, None, 0)
    found = rows[
        (rows['system'] == number.system)
        & (rows['step'] == number.step)
        & (rows['image'] == number.image)
        & (rows['metric'] == number.metric)
        & rows['structure'].isin(('', STRUCTURE))
    ]
    values = found['value'].to_numpy(dtype=float)
    if not len(values):
        return Compared(number, None, None, 0)
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Compared(number, float(np.mean(values)), spread, len(values))


def as_frame(compared: Iterable[Compared]) -> pd.DataFrame:
    """Return the comparison as a table, for a file."""
    return pd.DataFrame(
        [
            {
                'table': c.published.table,
                'row': c.published.row,
                'system': c.published.system or 'n/a',
                'metric': c.published.metric,
                'step': c.published.step,
                'image': c.published.image,
                'paper_mean': c.published.mean,
                'paper_sd': c.published.sd,
                'mean': c.mean,
                'sd': c.sd,
                'images': c.images,
            }
            for c in compared
        ]
    )


def printed(compared: Iterable[Compared]) -> str:
    """Return the tables as text: paper and here, mean and standard deviation.

    Args:
        compared: As `compare` gives them.

    Returns:
        One block a table of the article that has at least one number of ours.
    """
    blocks = []
    by_table: dict[str, list[Compared]] = {}
    for entry in compared:
        by_table.setdefault(entry.published.table, []).append(entry)
    for table, entries in by_table.items():
        if any(entry.mean is not None for entry in entries):
            lines = [_line(entry) for entry in entries]
            widths = [max(len(line[i]) for line in [_HEAD, *lines]) for i in range(len(_HEAD))]
            text = (
                '  '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
                for line in [_HEAD, *lines]
            )
            blocks.append(
                '\n'.join([f'Table {table}. {TITLES[table]}', *(t.rstrip() for t in text)])
            )
    return '\n\n'.join(blocks)


_HEAD = ('', 'measure', 'image', 'step', 'paper', 'here')


def _line(entry: Compared) -> tuple[str, ...]:
    number = entry.published
    metric = METRICS[number.metric]
    if entry.mean is not None:
        here = f'{entry.mean:.{metric.digits}f}'
        here += f' ± {entry.sd:.{metric.digits}f}' if entry.sd is not None else ''
    else:
        here = 'not trained' if number.system else 'not part of this package'
    step = str(number.step)
    return number.row, metric.label, number.image, step, number.printed, here
