"""What an article trained and tested and what it reports, read from files beside this one.

``articles/NAME.toml`` holds the data, the trainings and the conditions of the tests;
``articles/NAME.tsv`` the printed numbers, a line each.
"""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal

from bids_segsr.evaluation.cases import Imaging
from bids_segsr.evaluation.systems import IBP, UNTRAINED
from bids_segsr.exceptions import UserError
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.imaging.patch_size import PatchSize
from bids_segsr.inference.processing import Blending, Processing
from bids_segsr.strict_toml import parse, read_dataclass
from bids_segsr.training.recipe import Recipe
from bids_segsr.training.recipe_file import changed_recipe, merged, read_recipe
from bids_segsr.zoo.find import split_blend

_PACKAGE = 'bids_segsr.evaluation.reproduce'
_FOLDER = 'articles'

LAST_WEIGHTS = '@last'
"""Behind a training: the weights of its last step, whatever its recipe keeps."""


@dataclass(frozen=True)
class Dataset:
    """Images of an article.

    Attributes:
        layout: Key of `datasets.LAYOUTS`: how the files of this collection lie.
        follow: Images that follow a training: those the article sets aside for it, or those that
            it tests on.
        spacing_mm: Isotropic spacing that the images are brought to first; None leaves them.
    """

    layout: str
    follow: Literal['Validation', 'Test'] = 'Validation'
    spacing_mm: float | None = None


@dataclass(frozen=True)
class Training:
    """A training of an article.

    Attributes:
        recipe: Name of the packaged recipe.
        data: Dataset whose training images it has.
        changes: Values that it has otherwise than the recipe, in the tables of a recipe.
        subjects: How many training subjects it has, the first ones; None for all.
        init: Training whose weights it starts from.
    """

    recipe: str
    data: str
    changes: dict[str, Any] = field(default_factory=dict)
    subjects: int | None = None
    init: str | None = None


@dataclass(frozen=True)
class Condition:
    """How test images are degraded, and how networks are put over them.

    Attributes:
        forward: The forward model.
        noise: Standard deviation in the units of the images.
        patch_size: Edge of the patches in voxels, or all three; 0 for the whole image.
        step: Distance of the patches.
        blending: How patches are put together, see `inference.tiling.Tiling`.
        margin: Voxels cut off every patch.
    """

    forward: ForwardModel
    noise: float = 0.0
    patch_size: PatchSize | None = None
    step: int | None = None
    blending: Blending = 'gaussian'
    margin: int = 0

    @property
    def imaging(self) -> Imaging:
        """How scans are made."""
        return Imaging(self.forward, self.noise)

    def processing(self, device: str) -> Processing:
        """How networks are put over them."""
        return Processing(
            patch_size=self.patch_size,
            step=self.step,
            blending=self.blending,
            margin=self.margin,
            device=device,
        )


@dataclass(frozen=True)
class Sweep:
    """A figure for which one thing is varied; the article draws its numbers, and prints none.

    Attributes:
        base: Training that is varied.
        points: Label to the changes of the recipe; ``subjects = N`` takes so many of them. The
            point without any is the base itself.
        condition: Of the test.
        data: Test images.
        metric: What is measured.
    """

    base: str
    points: dict[str, dict[str, Any]]
    condition: str
    data: str
    metric: str = 'psnr'


@dataclass(frozen=True)
class PublishedScore:
    """One number of a table.

    Attributes:
        table: Its table or figure in the article.
        row: Label of its row.
        system: What makes it: a training, ``TRAINING@last`` for its last weights, several joined
            by ``+`` (a pipeline), a blend ``A:B:0.6``, or a system without a network; empty where
            `Article.missing` tells of its row or table.
        metric: Key of `evaluation.scores.METRICS`, or of `Article.missing`.
        data: Test images.
        condition: Key of `Article.conditions`.
        mean: Over the test images; None where the article only draws it, and of back-projection
            without a network, which no article has: a baseline of ours.
        sd: Standard deviation; None where the article has none.
        printed: Both as the article prints them.
        asked: Whether its trainings are among those that were asked for.
    """

    table: str
    row: str
    system: str
    metric: str
    data: str
    condition: str
    mean: float | None
    sd: float | None
    printed: str
    asked: bool = True

    @property
    def trainings(self) -> tuple[str, ...]:
        """Trainings that the system is made of."""
        return tuple(name.removesuffix(LAST_WEIGHTS) for name in self.weights)

    @property
    def weights(self) -> tuple[str, ...]:
        """The same, with LAST_WEIGHTS behind those of which the last weights are meant."""
        if self.system in ('', *UNTRAINED):
            return ()
        blend = split_blend(self.system)
        return blend[:2] if blend else tuple(self.system.split('+'))


@dataclass(frozen=True)
class Article:
    """An article, but for its numbers.

    Attributes:
        reference: Authors and year.
        datasets: Name to its images.
        tables: Table or figure to its caption.
        trainings: Name to training.
        conditions: Name to condition of a test.
        sweeps: Figure to what it varies.
        missing: What of the article is not measured here, and why: a measure, a row, a table, or
            words for something else.
        parcellation_spacing_mm: Spacing that images are brought to before a parcellation network
            sees them; None leaves them.
    """

    reference: str
    datasets: dict[str, Dataset]
    tables: dict[str, str]
    trainings: dict[str, Training]
    conditions: dict[str, Condition]
    sweeps: dict[str, Sweep] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    parcellation_spacing_mm: float | None = None


def article_names() -> list[str]:
    """Names of the articles that can be reproduced, sorted."""
    files = (resources.files(_PACKAGE) / _FOLDER).iterdir()
    return sorted(f.name.removesuffix('.toml') for f in files if f.name.endswith('.toml'))


def read_article(name: str) -> tuple[Article, list[PublishedScore]]:
    """Read an article and its numbers.

    Args:
        name: One of `article_names`.

    Returns:
        The article, the points of its sweeps among its trainings, and its numbers in their order;
        those of sweeps last.

    Raises:
        UserError: There is no such article.
    """
    if name not in article_names():
        raise UserError(f'{name}: no such article; give one of {", ".join(article_names())}.')
    article = read_dataclass(Article, parse(_text(f'{name}.toml'), name), name)
    lines = csv.DictReader(_text(f'{name}.tsv').splitlines(), delimiter='\t')
    scores = [_score(line) for line in lines]
    for figure, sweep in article.sweeps.items():
        for label, point in sweep.points.items():
            training = sweep.base
            if point:
                training = re.sub(r'[^a-z0-9]+', '-', f'{figure} {label}'.lower()).strip('-')
                base = article.trainings[sweep.base]
                changes = {key: value for key, value in point.items() if key != 'subjects'}
                article.trainings[training] = dataclasses.replace(
                    base,
                    changes=merged(base.changes, changes),
                    subjects=point.get('subjects', base.subjects),
                )
            scores.append(
                PublishedScore(
                    figure, label, training, sweep.metric, sweep.data, sweep.condition,
                    None, None, 'drawn',
                )
            )  # fmt: skip
    return article, scores


def recipe_of(article: Article, training: str) -> Recipe:
    """Return the recipe of a training of an article."""
    own = article.trainings[training]
    return changed_recipe(read_recipe(own.recipe), own.changes, training)


def needed_trainings(article: Article, scores: Sequence[PublishedScore]) -> list[str]:
    """Name the trainings that numbers need, each after those that it needs itself."""
    ordered: dict[str, None] = {}

    def need(name: str) -> None:
        own = article.trainings[name]
        for first in (own.init, recipe_of(article, name).task.super_resolved_by):
            if first is not None:
                need(first)
        ordered.setdefault(name)

    for score in scores:
        for name in score.trainings if score.asked else ():
            need(name)
    return list(ordered)


def _score(line: Mapping[str, str]) -> PublishedScore:
    mean, sd = line['mean'], line['sd']
    unprinted = 'none' if line['system'] == IBP else 'drawn'
    return PublishedScore(
        table=line['table'],
        row=line['row'],
        system=line['system'],
        metric=line['metric'],
        data=line['data'],
        condition=line['condition'],
        mean=float(mean) if mean else None,
        sd=float(sd) if sd else None,
        printed=(f'{mean} ± {sd}' if sd else mean) or unprinted,
    )


def _text(name: str) -> str:
    return (resources.files(_PACKAGE) / _FOLDER / name).read_text(encoding='utf-8')
