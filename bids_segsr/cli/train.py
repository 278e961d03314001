"""segsr train: train a network of a recipe on own images, or on label maps alone."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from bids_segsr.cli.arguments import structure_numbers
from bids_segsr.cli.recipes import ListRecipes
from bids_segsr.environment import passing_caches, spare_cores
from bids_segsr.exceptions import UserError
from bids_segsr.zoo.find import find_card


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `train`.

    Args:
        commands: Commands of the toolbox.
    """
    parser = commands.add_parser(
        'train',
        help='train a network of a recipe on own images, or on label maps',
        description='Trains the network of a recipe; the low-resolution images are simulated. '
        'The same command takes up a run that was stopped or killed, exactly where it was. '
        'Several GPUs: --devices N, or torchrun --nproc-per-node=N $(command -v segsr) train ... '
        'Research use only: not for diagnosis.',
    )
    parser.set_defaults(func=_train)
    parser.add_argument('recipe', help='name of a packaged recipe (--list), or TOML file')
    parser.add_argument('--list', action=ListRecipes, nargs=0, help='list the recipes and stop')
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument(
        '--data',
        type=Path,
        metavar='CSV|BIDS_DIR',
        help='list with the columns HR_image, Label_image, Base (Train, Validation, Test) and '
        'optionally Mask_image, Subject, Guide_image; or a BIDS dataset of high-resolution images',
    )
    data.add_argument(
        '--label-maps', type=Path, metavar='DIR', help='make the training images from label maps'
    )
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder of the run')
    parser.add_argument(
        '--derivatives', type=Path, metavar='DIR', help='BIDS derivatives with the segmentations'
    )
    parser.add_argument(
        '--label-desc', metavar='LABEL', help='desc entity of these, where there are several'
    )
    parser.add_argument(
        '--label',
        type=structure_numbers,
        nargs='+',
        action='extend',
        metavar='NAME=N,N',
        help='channels and their numbers in the label images, instead of those of the recipe',
    )
    parser.add_argument(
        '--split-column',
        metavar='NAME',
        help='column of participants.tsv with train, validation or test (default: split; without '
        'that column, or without validation rows in a CSV list, a tenth of the subjects is drawn '
        'with the seed)',
    )
    parser.add_argument('--init', metavar='MODEL', help='name or path of a model to start from')
    parser.add_argument(
        '--freeze',
        nargs='+',
        default=[],
        metavar='PATTERN',
        help='parameters that are not trained, e.g. "conv1.*" "blocks.*"',
    )
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument(
        '--devices', type=int, metavar='N', help='GPUs, or processes on a CPU (default: 1)'
    )
    parser.add_argument(
        '--workers', type=int, metavar='N', help='processes that make samples, for each device'
    )
    parser.add_argument(
        '--cache',
        type=Path,
        metavar='DIR',
        help='for decompressed volumes, 52 MB an image of 240^3; several runs may share it '
        '(default: a folder of the run)',
    )
    for limit, kind in (('epochs', int), ('steps', int), ('minutes', float)):
        parser.add_argument(
            f'--{limit}', type=kind, metavar='N', help=f'instead of the {limit} of the recipe'
        )
    parser.add_argument('--seed', type=int, metavar='N', help='instead of the seed of the recipe')
    parser.add_argument(
        '--dry-run', action='store_true', help='check recipe and data, train and write nothing'
    )


def _train(arguments: argparse.Namespace) -> int:
    with passing_caches():
        spare_cores()
        return _train_all(arguments)


def _train_all(arguments: argparse.Namespace) -> int:
    from bids_segsr.training.recipe_file import read_recipe

    # torch takes seconds: names that are none are told before
    recipe = read_recipe(arguments.recipe)
    if arguments.init is not None:
        find_card(arguments.init)
    for path in (arguments.data, arguments.label_maps):
        if path is not None and not path.exists():
            raise UserError(f'{path}: no such file or folder; check the path')
    from bids_segsr.api import run_training_with_report
    from bids_segsr.training.loop.training_plan import plan_training
    from bids_segsr.training.loop.training_run import Run, describe_run

    start_log()
    plan = plan_training(
        recipe,
        data=arguments.data,
        label_maps=arguments.label_maps,
        derivatives=arguments.derivatives,
        label_desc=arguments.label_desc,
        split_column=arguments.split_column,
        labels=dict(arguments.label or ()),
        epochs=arguments.epochs,
        steps=arguments.steps,
        minutes=arguments.minutes,
        seed=arguments.seed,
    )
    run = Run(
        arguments.device,
        arguments.devices,
        arguments.workers,
        arguments.init,
        tuple(arguments.freeze),
        arguments.cache,
    )
    for facts in plan.labels.values():
        for warning in facts.warnings:
            _say(f'WARNING: {warning}')
    if arguments.dry_run:
        for name, value in describe_run(plan.recipe, plan.data, run, arguments.out).items():
            print(f'{name:9} {value}')
        for name, facts in plan.labels.items():
            print(f'{name:9} {facts.text}')
        print('Nothing was written.')
        return 0
    outcome = run_training_with_report(plan.recipe, plan.data, plan.sets, arguments.out, run)
    if outcome is None:
        return 0
    if outcome.stopped_by is not None:
        _say(f'stopped after step {outcome.progress.step}; the same command goes on from there')
        return 128 + outcome.stopped_by
    print(arguments.out / 'model')
    return 0


def start_log() -> None:
    """Show what a training tells on the terminal, from its first process alone."""
    from bids_segsr.training.loop.run_folder import is_first

    logging.basicConfig(
        level=logging.WARNING,
        format='%(asctime)s %(message)s',
        datefmt='%H:%M:%S',
        stream=sys.stderr,
    )
    logging.getLogger('bids_segsr').setLevel(logging.INFO if is_first() else logging.ERROR)
    logging.getLogger('lightning_fabric').setLevel(logging.WARNING)


def _say(line: str) -> None:
    print(f'segsr: {line}', file=sys.stderr, flush=True)
