"""The tables of an article with what was measured here beside what is printed there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bids_segsr.evaluation.reproduce.article import Article, PublishedScore
from bids_segsr.evaluation.run import Job
from bids_segsr.evaluation.scores import ANATOMICAL, COST, METRICS
from bids_segsr.evaluation.systems import UNTRAINED, System
from bids_segsr.zoo.blend import blend_models
from bids_segsr.zoo.find import split_blend
from bids_segsr.zoo.store import TrainedModel

STRUCTURE = 'cortex'


@dataclass(frozen=True)
class Compared:
    """A published number and ours.

    Attributes:
        published: What the article has.
        mean: Over the test images here; None where nothing was measured.
        sd: Standard deviation over the test images; None likewise.
        images: Number of test images.
        reason: Why nothing was measured, or nothing.
    """

    published: PublishedScore
    mean: float | None
    sd: float | None
    images: int
    reason: str = ''


def make_systems(
    published: Iterable[PublishedScore], models: Mapping[str, TrainedModel]
) -> dict[str, System]:
    """Put together what the tables compare and the models at hand can make.

    Args:
        published: Numbers of the article.
        models: Training to the model that came of it, or with LAST_WEIGHTS to its last weights.

    Returns:
        Name in the column ``system`` to the system: what needs no training, single models, blends
        and pipelines.
    """
    systems = {}
    for number in published:
        name = number.system
        if name in UNTRAINED:
            systems[name] = System(name)
        elif (
            name
            and number.asked
            and name not in systems
            and all(part in models for part in number.weights)
        ):
            own = tuple(models[part] for part in number.weights)
            blend = split_blend(name)
            if blend:
                own = (blend_models(own[0], own[1], blend[2]),)
            systems[name] = System(name, own)
    return systems


def metrics_of(published: Iterable[PublishedScore], *, parcellation: bool) -> tuple[str, ...]:
    """Name the measures that numbers need and that can be had; cost is always noted."""
    wanted = dict.fromkeys(number.metric for number in published)
    return tuple(
        metric
        for metric in wanted
        if metric in METRICS and metric not in COST and (parcellation or metric not in ANATOMICAL)
    )


def make_jobs(
    published: Iterable[PublishedScore],
    article: Article,
    systems: Mapping[str, System],
    device: str = 'auto',
) -> list[Job]:
    """List what has to be run for numbers.

    Args:
        published: Numbers of one set of test images.
        article: Its conditions.
        systems: Name in the tables' column ``system`` to the system.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Returns:
        One job for every system and condition.
    """
    wanted = dict.fromkeys((p.system, p.condition) for p in published if p.system in systems)
    return [
        Job(
            system=systems[name],
            imaging=article.conditions[condition].imaging,
            processing=article.conditions[condition].processing(device),
            varied={'condition': condition},
        )
        for name, condition in wanted
    ]


def compare(
    published: Sequence[PublishedScore], article: Article, rows: pd.DataFrame
) -> list[Compared]:
    """Put the means over the test images beside the published ones.

    Args:
        published: Numbers of the article.
        article: The article.
        rows: Of `run_jobs`, for the jobs of `make_jobs`, all test sets together.

    Returns:
        One entry a published number, in the same order.
    """
    return [_compared(number, article, rows) for number in published]


def _compared(number: PublishedScore, article: Article, rows: pd.DataFrame) -> Compared:
    for what in (number.metric, number.row, number.table):
        if what in article.missing:
            return Compared(number, None, None, 0, article.missing[what])
    if not len(rows):
        return Compared(number, None, None, 0, 'not trained')
    own = rows[
        (rows['system'] == number.system)
        & (rows['condition'] == number.condition)
        & (rows['dataset'] == number.data)
    ]
    found = own[(own['metric'] == number.metric) & own['structure'].isin(('', STRUCTURE))]
    values = found['value'].to_numpy(dtype=float)
    values = values[~np.isnan(values)]
    if not len(values):
        needs = number.metric in ANATOMICAL and len(own)
        reason = 'needs --parcellation' if needs else 'not measured' if len(own) else 'not trained'
        return Compared(number, None, None, 0, reason)
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
                'data': c.published.data,
                'condition': c.published.condition,
                'paper_mean': c.published.mean,
                'paper_sd': c.published.sd,
                'mean': c.mean,
                'sd': c.sd,
                'images': c.images,
                'reason': c.reason or 'n/a',
            }
            for c in compared
        ]
    )


def printed(compared: Iterable[Compared], article: Article) -> str:
    """Return the tables as text: paper and here, mean and standard deviation.

    Args:
        compared: As `compare` gives them.
        article: The article.

    Returns:
        One block a table of the article that has at least one number of ours, and one of what the
        article has beyond these tables.
    """
    blocks = []
    by_table: dict[str, list[Compared]] = {}
    shown: set[str] = set()
    for entry in compared:
        by_table.setdefault(entry.published.table, []).append(entry)
    for table, entries in by_table.items():
        if any(entry.mean is not None for entry in entries):
            shown |= {name for e in entries for name in (e.published.row, e.published.metric)}
            lines = [_line(entry) for entry in entries]
            widths = [max(len(line[i]) for line in [_HEAD, *lines]) for i in range(len(_HEAD))]
            text = (
                '  '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
                for line in [_HEAD, *lines]
            )
            blocks.append(
                '\n'.join(
                    [f'{_title(table)}. {article.tables[table]}', *(t.rstrip() for t in text)]
                )
            )
    rest = {_title(what): why for what, why in article.missing.items() if what not in shown}
    if rest:
        blocks.append(
            '\n'.join(['Not measured', *(f'{what}: {why}' for what, why in rest.items())])
        )
    return '\n\n'.join(blocks)


_HEAD = ('', 'measure', 'images', 'condition', 'paper', 'here')


def _title(table: str) -> str:
    return f'Table {table}' if table.isdigit() else table


def _line(entry: Compared) -> tuple[str, ...]:
    number, here = entry.published, entry.reason
    metric = METRICS.get(number.metric)
    if entry.mean is not None and metric is not None:
        here = f'{entry.mean:.{metric.digits}f}'
        if entry.sd is not None and number.metric != 'parameters':
            here += f' ± {entry.sd:.{metric.digits}f}'
    label = metric.label if metric is not None else number.metric
    return number.row, label, number.data, number.condition, number.printed, here
