"""The command ``segsr evaluate reproduce``: the experiments of an article on its data."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bids_segsr.cli.process import passing_caches
from bids_segsr.exceptions import UserError

if TYPE_CHECKING:
    import pandas as pd

    from bids_segsr.evaluation.reproduce.article import Article, PublishedScore
    from bids_segsr.evaluation.reproduce.data import Lists
    from bids_segsr.evaluation.reproduce.datasets import Collection
    from bids_segsr.zoo.store import TrainedModel

TABLES_FILE = 'tables.tsv'
ARTICLES = 'segsrgan-2020, segsrgan-2019, recnn, mdcsrn or rrdg'
REHEARSAL = 'A rehearsal: networks of no size that learnt nothing; the numbers mean nothing.'


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those of ``segsr evaluate``.

    Args:
        commands: Where to.
    """
    parser = commands.add_parser(
        'reproduce',
        help='train and test as an article did, on its data, beside its numbers',
        description='Finds the images of an article, trains the networks that its tables compare, '
        'scores the test images and prints the tables with the numbers of the article beside '
        'ours. Run it again after an interruption: what is done is kept.',
    )
    parser.set_defaults(func=_reproduce)
    parser.add_argument('article', help=ARTICLES)
    parser.add_argument(
        '--data',
        nargs='+',
        action='extend',
        required=True,
        metavar='[NAME=]DIR',
        help='what was downloaded: dhcp, kirby and namic, or hcp; the name may be left out where '
        'the article has one collection',
    )
    parser.add_argument('--out', type=Path, required=True, help='folder of data, runs and tables')
    parser.add_argument(
        '--tables',
        nargs='+',
        action='extend',
        metavar='N',
        help='such as 2 8 "Figure 5" (default: all tables with printed numbers)',
    )
    parser.add_argument(
        '--trainings',
        nargs='+',
        action='extend',
        metavar='NAME',
        help='only the rows of these, and those without a network (default: all that the tables '
        'need); a pipeline needs both of its parts',
    )
    parser.add_argument(
        '--dry-run', action='store_true', help='list images and trainings, and stop'
    )
    parser.add_argument(
        '--allow-missing', action='store_true', help='go on without images that are missing'
    )
    parser.add_argument(
        '--rehearse',
        action='store_true',
        help='go through all of it in minutes: the same, with the least networks, patches and '
        'lengths of training; the numbers mean nothing',
    )
    parser.add_argument(
        '--parcellation',
        type=Path,
        metavar='FILE',
        help='TorchScript or ONNX, for m_h and parcels',
    )
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument(
        '--workers', type=int, default=None, help='processes that make training patches'
    )


def add_data_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``data`` to those of ``segsr evaluate``.

    Args:
        commands: Where to.
    """
    parser = commands.add_parser(
        'data',
        help='check whether what was downloaded has the images of an article',
        description='Lists the images of a collection that the articles use, what each is for, '
        'and what is missing; writes nothing. The exit status is 1 where something is missing.',
    )
    parser.set_defaults(func=_check_data)
    parser.add_argument('collection', help='dhcp, dhcp-2019, kirby, namic or hcp')
    parser.add_argument('folder', type=Path, help='what was downloaded')


def _check_data(arguments: argparse.Namespace) -> int:
    from bids_segsr.evaluation.reproduce.datasets import describe, find_collection

    collection = find_collection(arguments.collection, arguments.folder)
    print('\n'.join(describe(collection, every=True)))
    return int(bool(collection.missing))


def _reproduce(arguments: argparse.Namespace) -> int:
    with passing_caches():
        return _reproduce_all(arguments)


def _reproduce_all(arguments: argparse.Namespace) -> int:
    from bids_segsr.evaluation.reproduce.article import needed_trainings, read_article
    from bids_segsr.evaluation.reproduce.datasets import describe, find_collection

    article, published = read_article(arguments.article)
    published = _wanted(article, published, arguments)
    trainings = needed_trainings(article, published)
    folders = _folders(article, arguments.data)
    used = {article.trainings[name].data for name in trainings}
    used |= {number.data.partition('-')[0] for number in published if number.system}
    lacking = sorted(used - set(folders))
    if lacking:
        raise UserError(
            f'--data: {arguments.article} needs {" and ".join(lacking)}; add NAME=DIR.'
        )
    collections = {
        name: find_collection(article.datasets[name].layout, folders[name])
        for name in article.datasets
        if name in used
    }
    for name, collection in collections.items():
        print(f'{name}: {folders[name]}')
        print('\n'.join(describe(collection, every=arguments.dry_run)))
    if arguments.dry_run:
        print(f'trainings: {", ".join(trainings)}')
        return int(any(collection.missing for collection in collections.values()))
    for name, collection in collections.items():
        _check(collection, folders[name], arguments)
    return _run(arguments, article, published, trainings, collections)


def _wanted(
    article: Article, published: Sequence[PublishedScore], arguments: argparse.Namespace
) -> list[PublishedScore]:
    """Choose the numbers of the tables and trainings that were asked for."""
    tables = arguments.tables
    if tables is None:
        tables = dict.fromkeys(n.table for n in published if n.mean is not None)
    for table in tables:
        if table not in article.tables:
            known = ', '.join(article.tables)
            raise UserError(f'--tables {table}: not of this article; give some of {known}.')
    chosen = [number for number in published if number.table in tables]
    if arguments.trainings is None:
        return chosen
    for name in arguments.trainings:
        if name not in article.trainings:
            known = ', '.join(article.trainings)
            raise UserError(f'--trainings {name}: not of this article; give some of {known}.')
    given = set(arguments.trainings)
    return [
        number if set(number.trainings) <= given else dataclasses.replace(number, system='')
        for number in chosen
    ]


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


def _check(collection: Collection, folder: Path, arguments: argparse.Namespace) -> None:
    if collection.missing and not arguments.allow_missing:
        raise UserError(
            f'{folder}: images are missing (listed above); get them, or go on without them with '
            '--allow-missing.'
        )
    for base in collection.wanted:
        if not any(member.base == base for member in collection.members):
            raise UserError(f'{folder}: none of the {base} images is there.')


def _run(
    arguments: argparse.Namespace,
    article: Article,
    published: Sequence[PublishedScore],
    trainings: Sequence[str],
    collections: Mapping[str, Collection],
) -> int:
    from bids_segsr.evaluation.article_tables import TESTS_FILE, paired_tests
    from bids_segsr.evaluation.reproduce.comparison import as_frame, compare, printed
    from bids_segsr.evaluation.reproduce.data import write_lists
    from bids_segsr.files import write_text
    from bids_segsr.zoo.find import load_model

    out: Path = arguments.out
    lists = {
        name: write_lists(name, article.datasets[name], collection, out, _complain)
        for name, collection in collections.items()
    }
    models = {}
    for name in trainings:
        _complain(f'{name}: training in {out / name}')
        model = _train(name, article, lists, arguments)
        if model is None:
            _complain(f'{name}: stopped; the same command goes on from there')
            return 1
        models[name] = load_model(str(model))
    rows, failures = _score(arguments, article, published, models, lists)
    compared = compare(published, article, rows)
    tables = as_frame(compared).to_csv(sep='\t', index=False, na_rep='n/a')
    write_text(out / TABLES_FILE, tables)
    tests = paired_tests(rows).to_csv(sep='\t', index=False, float_format='%.10g', na_rep='n/a')
    write_text(out / TESTS_FILE, tests)
    print(f'{article.reference}\n')
    if arguments.rehearse:
        print(f'{REHEARSAL}\n')
    print(printed(compared, article))
    for line in failures:
        _complain(f'failed: {line}')
    return int(bool(failures))


def _score(
    arguments: argparse.Namespace,
    article: Article,
    published: Sequence[PublishedScore],
    models: Mapping[str, TrainedModel],
    lists: Mapping[str, Lists],
) -> tuple[pd.DataFrame, list[str]]:
    """Score all systems, each on the test images of its tables."""
    import pandas as pd

    from bids_segsr.evaluation.reproduce.comparison import make_jobs, make_systems, metrics_of
    from bids_segsr.evaluation.run import Settings, run_jobs
    from bids_segsr.inference.processing import Processing
    from bids_segsr.training.data.subjects import read_csv

    systems = make_systems(published, models)
    frames: list[pd.DataFrame] = []
    failures: list[str] = []
    for data in dict.fromkeys(number.data for number in published if number.system in systems):
        own = [number for number in published if number.data == data]
        test = next(item.tests[data] for item in lists.values() if data in item.tests)
        jobs = make_jobs(own, article, systems, arguments.device)
        settings = Settings(
            arguments.out,
            jobs[0].imaging,
            metrics=metrics_of(own, parcellation=arguments.parcellation is not None),
            processing=Processing(device=arguments.device),
            parcellation=arguments.parcellation,
            parcellation_spacing_mm=article.parcellation_spacing_mm,
            tell=_complain,
        )
        rows = run_jobs({data: read_csv(test)}, jobs, settings)
        frames.append(rows.table)
        failures += rows.failures
    return (pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()), failures


def _train(
    name: str, article: Article, lists: Mapping[str, Lists], arguments: argparse.Namespace
) -> Path | None:
    """Train, or go on with a training.

    Returns:
        The folder of the model; None if the training was stopped by a signal.
    """
    from bids_segsr.api import run_training_with_report
    from bids_segsr.cli.train import start_log
    from bids_segsr.evaluation.reproduce.article import recipe_of
    from bids_segsr.evaluation.reproduce.rehearsal import rehearsed
    from bids_segsr.training.data.collection import data_of_subjects
    from bids_segsr.training.data.subjects import read_csv
    from bids_segsr.training.loop.run_folder import CACHE_FOLDER
    from bids_segsr.training.loop.training_run import Run, image_sets

    out: Path = arguments.out
    training, recipe = article.trainings[name], recipe_of(article, name)
    if arguments.rehearse:
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
    run = Run(
        device=arguments.device, workers=arguments.workers, init=init, cache=out / CACHE_FOLDER
    )
    folder = out / name
    data = data_of_subjects(recipe, subjects, str(source))
    start_log()
    outcome = run_training_with_report(recipe, data, image_sets(subjects), folder, run)
    return None if outcome is None or outcome.stopped_by is not None else folder / 'model'


def _complain(line: str) -> None:
    print(f'segsr: {line}', file=sys.stderr, flush=True)
