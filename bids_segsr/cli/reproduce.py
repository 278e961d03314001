"""The command ``segsr evaluate reproduce``: the experiments of an article on its data."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from bids_segsr.cli.process import complain
from bids_segsr.environment import passing_caches

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
    from bids_segsr.evaluation.reproduce.datasets import describe
    from bids_segsr.evaluation.reproduce.reproduction import How, plan_reproduction, reproduce

    plan = plan_reproduction(
        arguments.article, arguments.data, arguments.tables, arguments.trainings
    )
    for name, collection in plan.collections.items():
        print(f'{name}: {plan.folders[name]}')
        print('\n'.join(describe(collection, every=arguments.dry_run)))
    if arguments.dry_run:
        print(f'trainings: {", ".join(plan.trainings) or "none"}')
        return int(not plan.complete)
    from bids_segsr.api import run_training_with_report
    from bids_segsr.cli.train import start_log

    start_log()
    tell = partial(complain, 'segsr')
    how = How(
        arguments.out,
        arguments.device,
        arguments.workers,
        arguments.parcellation,
        arguments.rehearse,
        arguments.allow_missing,
        tell,
    )
    made = reproduce(plan, how, run_training_with_report)
    if made is None:
        return 1
    print(f'{plan.article.reference}\n')
    if arguments.rehearse:
        print(f'{REHEARSAL}\n')
    print(made.text)
    for line in made.failures:
        tell(f'failed: {line}')
    return int(bool(made.failures))
