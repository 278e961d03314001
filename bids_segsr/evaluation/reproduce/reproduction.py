"""An article again: its images found, its networks trained, its tables beside its numbers."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bids_segsr.evaluation.reproduce.article import (
    LAST_WEIGHTS,
    Article,
    PublishedScore,
    needed_trainings,
    read_article,
    recipe_of,
)
from bids_segsr.evaluation.reproduce.datasets import Collection, find_collection
from bids_segsr.exceptions import UserError

if TYPE_CHECKING:
    import pandas as pd

    from bids_segsr.evaluation.reproduce.data import Lists
    from bids_segsr.training.data.data_summary import TrainingData
    from bids_segsr.training.loop.model_card import Outcome
    from bids_segsr.training.loop.training_run import Run, Sets
    from bids_segsr.training.recipe import Recipe
    from bids_segsr.zoo.store import TrainedModel

    Trainer = Callable[[Recipe, TrainingData, Sets, Path, Run], Outcome | None]

logger = logging.getLogger(__name__)

TABLES_FILE = 'tables.tsv'


@dataclass(frozen=True)
class Plan:
    """What of an article is done again.

    Attributes:
        article: The article.
        published: Its numbers in the tables that were asked for.
        trainings: Names of the networks that these need, in the order of their training.
        folders: Name of each dataset to what was downloaded.
        collections: The images that were found there.
    """

    article: Article
    published: Sequence[PublishedScore]
    trainings: Sequence[str]
    folders: Mapping[str, Path]
    collections: Mapping[str, Collection]

    @property
    def complete(self) -> bool:
        """Whether every image of the article was found."""
        return not any(collection.missing for collection in self.collections.values())


@dataclass(frozen=True)
class How:
    """How an article is done again.

    Attributes:
        out: Folder of data, runs and tables.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        workers: Processes that make training patches; None for a choice by the cores.
        parcellation: Network of the measures m_h and parcels, TorchScript or ONNX.
        rehearse: Take the least networks, patches and lengths of training.
        allow_missing: Go on without images that are missing.
        tell: Takes a line about what is done.
    """

    out: Path
    device: str = 'auto'
    workers: int | None = None
    parcellation: Path | None = None
    rehearse: bool = False
    allow_missing: bool = False
    tell: Callable[[str], None] = logger.info


@dataclass(frozen=True)
class Reproduction:
    """What came of it; `tables.tsv` and the paired tests lie in the folder.

    Attributes:
        text: The tables as they are printed.
        failures: Images that could not be scored, and why.
    """

    text: str
    failures: Sequence[str]


def plan_reproduction(
    name: str,
    data: Sequence[str],
    tables: Sequence[str] | None = None,
    trainings: Sequence[str] | None = None,
) -> Plan:
    """Find the images of an article and the trainings that its tables need.

    Args:
        name: See `article.article_names`.
        data: Folders of what was downloaded, as `NAME=DIR`; the name may be left out where the
            article has one dataset.
        tables: Names of tables, such as `8` or `Figure 5`; None for all with printed numbers.
        trainings: Measure only the rows of these; None for all.

    Returns:
        The plan; nothing is written.

    Raises:
        UserError: The article has no such table, training or dataset, or a folder is none.
    """
    article, published = read_article(name)
    published = _wanted(article, published, tables, trainings)
    needed = needed_trainings(article, published)
    folders = _folders(article, data)
    used = {article.trainings[training].data for training in needed}
    used |= {n.data.partition('-')[0] for n in published if n.system and n.asked}
    lacking = sorted(used - set(folders))
    if lacking:
        raise UserError(f'--data: {name} needs {" and ".join(lacking)}; add NAME=DIR.')
    collections = {
        dataset: find_collection(article.datasets[dataset].layout, folders[dataset])
        for dataset in article.datasets
        if dataset in used
    }
    return Plan(article, published, needed, folders, collections)


def reproduce(plan: Plan, how: How, train: Trainer) -> Reproduction | None:
    """Train, test and write the tables; what an earlier run has done is kept.

    Args:
        plan: From `plan_reproduction`.
        how: Folder, device and the rest.
        train: Trains a network: `training.loop.training_run.run_training`, or with a report.

    Returns:
        The tables; None if a training was stopped by a signal: the same call goes on from there.

    Raises:
        UserError: Images are missing, or device, data and folder do not fit each other.
    """
    from bids_segsr.evaluation.article_tables import TESTS_FILE, paired_tests
    from bids_segsr.evaluation.reproduce.comparison import as_frame, compare, printed
    from bids_segsr.evaluation.reproduce.data import write_lists
    from bids_segsr.files import write_text
    from bids_segsr.training.loop.engine import LAST
    from bids_segsr.zoo.find import load_model

    article, out = plan.article, how.out
    for name, collection in plan.collections.items():
        _check(collection, plan.folders[name], how)
    lists = {
        name: write_lists(name, article.datasets[name], collection, out, how.tell)
        for name, collection in plan.collections.items()
    }
    models = {}
    for name in plan.trainings:
        how.tell(f'{name}: training in {out / name}')
        model = _trained(name, article, lists, how, train)
        if model is None:
            how.tell(f'{name}: stopped; the same command goes on from there')
            return None
        models[name] = load_model(str(model))
        if any(f'{name}{LAST_WEIGHTS}' in number.weights for number in plan.published):
            models[f'{name}{LAST_WEIGHTS}'] = load_model(str(out / name / LAST))
    rows, failures = _score(how, article, plan.published, models, lists)
    compared = compare(plan.published, article, rows)
    tables = as_frame(compared).to_csv(sep='\t', index=False, na_rep='n/a')
    write_text(out / TABLES_FILE, tables)
    tests = paired_tests(rows).to_csv(sep='\t', index=False, float_format='%.10g', na_rep='n/a')
    write_text(out / TESTS_FILE, tests)
    return Reproduction(printed(compared, article), failures)


def _wanted(
    article: Article,
    published: Sequence[PublishedScore],
    tables: Sequence[str] | None,
    trainings: Sequence[str] | None,
) -> list[PublishedScore]:
    """Choose the numbers of the tables and trainings that were asked for."""
    if tables is None:
        tables = list(dict.fromkeys(n.table for n in published if n.mean is not None))
    for table in tables:
        if table not in article.tables:
            known = ', '.join(article.tables)
            raise UserError(f'--tables {table}: not of this article; give some of {known}.')
    chosen = [number for number in published if number.table in tables]
    if trainings is None:
        return chosen
    for name in trainings:
        if name not in article.trainings:
            known = ', '.join(article.trainings)
            raise UserError(f'--trainings {name}: not of this article; give some of {known}.')
    given = set(trainings)
    return [dataclasses.replace(n, asked=set(n.trainings) <= given) for n in chosen]


def _folders(article: Article, texts: Sequence[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for text in texts:
        name, equals, path = text.partition('=')
        if not equals or Path(text).exists():
            if len(article.datasets) > 1:
                known = ', '.join(article.datasets)
                raise UserError(f'--data {text}: write NAME=DIR; the names are {known}.')
            name, path = next(iter(article.datasets)), text
        if name not in article.datasets:
            known = ', '.join(article.datasets)
            raise UserError(f'--data {text}: the article has no {name}, but {known}.')
        found[name] = Path(path)
    return found


def _check(collection: Collection, folder: Path, how: How) -> None:
    if collection.missing and not how.allow_missing:
        raise UserError(
            f'{folder}: images are missing (listed above); get them, or go on without them with '
            '--allow-missing.'
        )
    for base in collection.wanted:
        if not any(member.base == base for member in collection.members):
            raise UserError(f'{folder}: none of the {base} images is there.')


def _score(
    how: How,
    article: Article,
    published: Sequence[PublishedScore],
    models: Mapping[str, TrainedModel],
    lists: Mapping[str, Lists],
) -> tuple[pd.DataFrame, list[str]]:
    """Score all systems, each on the test images of its tables."""
    import pandas as pd

    from bids_segsr.evaluation.reproduce.comparison import make_jobs, make_systems, metrics_of
    from bids_segsr.evaluation.result_rows import FIXED_COLUMNS, VALUE_COLUMNS
    from bids_segsr.evaluation.run import Settings, run_jobs
    from bids_segsr.inference.processing import Processing
    from bids_segsr.training.data.subjects import read_csv

    systems = make_systems(published, models)
    frames: list[pd.DataFrame] = []
    failures: list[str] = []
    for data in dict.fromkeys(number.data for number in published if number.system in systems):
        own = [number for number in published if number.data == data]
        test = next(item.tests[data] for item in lists.values() if data in item.tests)
        jobs = make_jobs(own, article, systems, how.device)
        settings = Settings(
            how.out,
            jobs[0].imaging,
            metrics=metrics_of(own, parcellation=how.parcellation is not None),
            processing=Processing(device=how.device),
            parcellation=how.parcellation,
            parcellation_spacing_mm=article.parcellation_spacing_mm,
            tell=how.tell,
        )
        rows = run_jobs({data: read_csv(test)}, jobs, settings)
        frames.append(rows.table)
        failures += rows.failures
    nothing = pd.DataFrame(columns=[*FIXED_COLUMNS, 'condition', *VALUE_COLUMNS])
    return (pd.concat(frames, ignore_index=True) if frames else nothing), failures


def _trained(
    name: str, article: Article, lists: Mapping[str, Lists], how: How, train: Trainer
) -> Path | None:
    """Train, or go on with a training.

    Returns:
        The folder of the model; None if the training was stopped by a signal.
    """
    from bids_segsr.evaluation.reproduce.rehearsal import rehearsed
    from bids_segsr.training.data.collection import data_of_subjects
    from bids_segsr.training.data.subjects import read_csv
    from bids_segsr.training.loop.run_folder import CACHE_FOLDER
    from bids_segsr.training.loop.training_run import Run, image_sets

    out = how.out
    training, recipe = article.trainings[name], recipe_of(article, name)
    if how.rehearse:
        recipe = rehearsed(recipe)
    first = recipe.task.super_resolved_by
    if first is not None:
        task = dataclasses.replace(recipe.task, super_resolved_by=str(out / first / 'model'))
        recipe = dataclasses.replace(recipe, task=task)
    source = lists[training.data].training
    subjects = read_csv(source)
    if training.subjects is not None:
        trained = [subject for subject in subjects if subject.split == 'train']
        left_out = trained[training.subjects :]
        subjects = [subject for subject in subjects if subject not in left_out]
    init = str(out / training.init / 'model') if training.init is not None else None
    run = Run(device=how.device, workers=how.workers, init=init, cache=out / CACHE_FOLDER)
    folder = out / name
    data = data_of_subjects(recipe, subjects, str(source))
    outcome = train(recipe, data, image_sets(subjects), folder, run)
    return None if outcome is None or outcome.stopped_by is not None else folder / 'model'
