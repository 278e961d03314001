"""The command ``segsr evaluate reproduce``: the experiments of SegSRGAN (2020) on dHCP."""

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
    from bids_segsr.evaluation.reproduce.dhcp import Scan
    from bids_segsr.training.recipe import Recipe

TABLES_FILE = 'tables.tsv'


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those of ``segsr evaluate``.

    Args:
        commands: Where to.
    """
    parser = commands.add_parser(
        'reproduce',
        help='train and test on a dHCP release as SegSRGAN (2020) did, beside its numbers',
        description='Builds the training and test lists of appendix A.4 of Delannoy et al. 2020 '
        'from a release of the developing Human Connectome Project, trains the recipes, scores '
        'the test images and prints the tables of the article with its numbers beside ours. Run '
        'it again after an interruption: what is done is kept.',
    )
    parser.set_defaults(func=_reproduce)
    parser.add_argument(
        'recipe',
        nargs='+',
        help='segsrgan-2020, segsrgan-2020-augmented, segsrgan-2020-no-gan, recnn-20l-3mm, '
        'unet-hr, unet-sr, or the path of a recipe with one of these names; the U-Nets need '
        'recnn-20l-3mm. Only the rows of these are filled',
    )
    parser.add_argument('--dhcp', type=Path, required=True, help='release 1, 2 or 3 of dHCP')
    parser.add_argument('--out', type=Path, required=True, help='folder of data, runs and tables')
    parser.add_argument(
        '--dry-run', action='store_true', help='list the images that would be used, and stop'
    )
    parser.add_argument(
        '--allow-missing', action='store_true', help='go on without participants that are missing'
    )
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument(
        '--workers', type=int, default=None, help='processes that make training patches'
    )


def _reproduce(arguments: argparse.Namespace) -> int:
    with passing_caches():
        return _reproduce_all(arguments)


def _reproduce_all(arguments: argparse.Namespace) -> int:
    from bids_segsr.evaluation.reproduce.dhcp import find_scans
    from bids_segsr.evaluation.reproduce.published import published_subjects

    recipes = _read_recipes(arguments.recipe)
    bases = published_subjects()
    scans, missing = find_scans(arguments.dhcp, list(bases))
    _tell_scans(scans, missing, bases, every=arguments.dry_run)
    if arguments.dry_run:
        return int(bool(missing))
    if missing and not arguments.allow_missing:
        raise UserError(
            f'{arguments.dhcp}: {len(missing)} of the {len(bases)} participants are missing '
            '(listed above); get them, or go on without them with --allow-missing.'
        )
    for base in ('Train', 'Test'):
        if not any(bases[scan.participant] == base for scan in scans):
            raise UserError(f'{arguments.dhcp}: none of the {base} participants is there.')
    return _run(arguments, recipes, scans, bases)


def _read_recipes(texts: Sequence[str]) -> list[Recipe]:
    """Read recipes and order them so that each comes after those it needs."""
    from bids_segsr.evaluation.reproduce.published import SUPER_RESOLVER, trained_recipes
    from bids_segsr.training.recipe_file import read_recipe

    recipes = [read_recipe(text) for text in texts]
    names = [recipe.name for recipe in recipes]
    known = trained_recipes()
    for text, recipe in zip(texts, recipes, strict=True):
        if recipe.name not in known:
            raise UserError(
                f'{text}: no table of the article has a recipe named {recipe.name!r}; '
                f'give one of {", ".join(known)}.'
            )
        if names.count(recipe.name) > 1:
            raise UserError(f'{text}: given twice; name each recipe once.')
        if recipe.task.input != 'interpolated' and SUPER_RESOLVER not in names:
            raise UserError(
                f'{text}: segments what {SUPER_RESOLVER} super-resolves; name that one, too.'
            )
    return sorted(recipes, key=lambda recipe: known.index(recipe.name))


def _tell_scans(
    scans: Sequence[Scan], missing: Mapping[str, str], bases: Mapping[str, str], *, every: bool
) -> None:
    for base in ('Train', 'Test'):
        wanted = [name for name, own in bases.items() if own == base]
        found = [scan for scan in scans if bases[scan.participant] == base]
        print(f'{base}: {len(found)} of {len(wanted)} participants')
        for scan in found:
            if every or scan.other_sessions:
                others = ', '.join(scan.other_sessions)
                note = f' (not used: {others})' if others else ''
                print(f'  {scan.participant} {scan.session}{note}')
        for name in wanted:
            if name in missing:
                print(f'  {name} missing: {missing[name]}')


def _run(
    arguments: argparse.Namespace,
    recipes: Sequence[Recipe],
    scans: Sequence[Scan],
    bases: Mapping[str, str],
) -> int:
    from bids_segsr.evaluation.cases import Imaging
    from bids_segsr.evaluation.reproduce.comparison import (
        FORWARD,
        as_frame,
        compare,
        make_jobs,
        make_systems,
        printed,
    )
    from bids_segsr.evaluation.reproduce.data import write_data
    from bids_segsr.evaluation.reproduce.published import published_scores
    from bids_segsr.evaluation.run import Settings, run_jobs
    from bids_segsr.inference.processing import Processing
    from bids_segsr.training.data.subjects import read_csv
    from bids_segsr.zoo.find import load_model

    out: Path = arguments.out
    data, training = write_data(scans, bases, out, _complain)
    models = {}
    for recipe in recipes:
        _complain(f'{recipe.name}: training in {out / recipe.name}')
        model = _train(recipe, training, arguments)
        if model is None:
            _complain(f'{recipe.name}: stopped; the same command goes on from there')
            return 1
        models[recipe.name] = load_model(str(model))
    published = published_scores()
    settings = Settings(
        out,
        Imaging(FORWARD),
        metrics=tuple(dict.fromkeys(number.metric for number in published)),
        processing=Processing(device=arguments.device),
        tell=_complain,
    )
    jobs = make_jobs(published, make_systems(published, models), arguments.device)
    rows = run_jobs({'dHCP': read_csv(data)}, jobs, settings)
    compared = compare(published, rows.table)
    as_frame(compared).to_csv(out / TABLES_FILE, sep='\t', index=False, na_rep='n/a')
    print(printed(compared))
    for line in rows.failures:
        _complain(f'failed: {line}')
    return int(bool(rows.failures))


def _train(recipe: Recipe, training: Path, arguments: argparse.Namespace) -> Path | None:
    """Train a recipe, or go on with its training.

    Returns:
        The folder of the model; None if the training was stopped by a signal.
    """
    from bids_segsr.api import run_training_with_report
    from bids_segsr.cli.train import start_log
    from bids_segsr.evaluation.reproduce.published import SUPER_RESOLVER
    from bids_segsr.training.data.collection import data_of_subjects
    from bids_segsr.training.data.subjects import read_csv
    from bids_segsr.training.loop.training_run import Run, image_sets

    out: Path = arguments.out
    if recipe.task.super_resolved_by is not None:
        first = str(out / SUPER_RESOLVER / 'model')
        recipe = dataclasses.replace(
            recipe, task=dataclasses.replace(recipe.task, super_resolved_by=first)
        )
    run = Run(device=arguments.device, workers=arguments.workers)
    subjects, folder = read_csv(training), out / recipe.name
    data = data_of_subjects(recipe, subjects, str(training))
    start_log()
    outcome = run_training_with_report(recipe, data, image_sets(subjects), folder, run)
    return None if outcome is None or outcome.stopped_by is not None else folder / 'model'


def _complain(line: str) -> None:
    print(f'segsr: {line}', file=sys.stderr, flush=True)
