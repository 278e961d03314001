"""``segsr evaluate scans`` and ``trainings``: what needs no simulated scan."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_segsr.cli.arguments import patch_size
from bids_segsr.cli.processing_flags import add_processing_flags
from bids_segsr.environment import passing_caches
from bids_segsr.exceptions import UserError

if TYPE_CHECKING:
    from bids_segsr.imaging.patch_size import PatchSize

VARIED = ('patch_size', 'step')
"""Choices of the processing of which a list is taken here."""


def add_scans_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``scans`` to those of ``segsr evaluate``.

    Args:
        commands: Where to.
    """
    parser = commands.add_parser(
        'scans',
        help='acquired scans without any truth: pieces of the cortex for models, patches and '
        'steps (SegSRGAN, Table 6, Figure 13), naturalness (mDCSRN, Table 4)',
        description='Runs models over acquired scans as segsr predict does, with every patch size '
        'and step, and measures what needs no truth: pieces and Euler number of the cortex, PIQE, '
        'NIQE, time. Draws the surface of the cortex in the first scan. Run it again after an '
        'interruption: what is done is kept.',
    )
    parser.set_defaults(func=_scans)
    parser.add_argument(
        '--data',
        nargs='+',
        type=Path,
        required=True,
        metavar='IMAGE',
        help='scans as segsr predict takes them: NIfTI files, folders, or CSV lists',
    )
    parser.add_argument(
        '--models', nargs='+', required=True, metavar='[NAME=]MODEL', help='names or paths'
    )
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='for the results')
    parser.add_argument(
        '--patch-size',
        type=_patch_sizes,
        default=(None,),
        metavar='N,N|XxYxZ',
        help='voxels, several with commas between them (default: that of segsr predict)',
    )
    parser.add_argument(
        '--steps',
        type=int,
        nargs='+',
        default=[None],
        metavar='VOXELS',
        help='such as 30 50 80 128, those of the article (default: that of segsr predict)',
    )
    parser.add_argument(
        '--pristine',
        type=Path,
        nargs='+',
        default=[],
        metavar='IMAGE',
        help='fine, skull-stripped images of other persons that NIQE learns from',
    )
    add_processing_flags(parser, 'a mask in a list', patches=False)


def add_trainings_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``trainings`` to those of ``segsr evaluate``.

    Args:
        commands: Where to.
    """
    parser = commands.add_parser(
        'trainings',
        help='curves of several trainings in one plot (SegSRGAN, Figure 14)',
        description='Draws PSNR and Dice of several runs of segsr train.',
    )
    parser.set_defaults(func=_trainings)
    parser.add_argument('runs', nargs='+', metavar='[NAME=]DIR', help='folders of segsr train')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='for the figure')
    parser.add_argument(
        '--against', choices=('epoch', 'minutes', 'step'), default='epoch', help='(default: epoch)'
    )


def _scans(arguments: argparse.Namespace) -> int:
    with passing_caches():
        return _run_scans(arguments)


def _run_scans(arguments: argparse.Namespace) -> int:
    from bids_segsr.evaluation.protocol_output import (
        SETTINGS_FILE,
        open_folder,
        tables_text,
        write_result,
    )
    from bids_segsr.evaluation.real_scans import ScanSettings, evaluate_scans
    from bids_segsr.evaluation.systems import read_system
    from bids_segsr.files import write_text
    from bids_segsr.inference.image_lists import listed_images
    from bids_segsr.inference.predict import resolve_device
    from bids_segsr.inference.processing import CHOICES, Processing
    from bids_segsr.inference.tiling import resolve_patches
    from bids_segsr.reports.experiment_page import write_experiment_page

    scans = [source for path in arguments.data for source in listed_images(path)]
    for size in arguments.patch_size:
        for step in arguments.steps:
            resolve_patches(size, step, vars(arguments).get('margin', 0))
    systems = [read_system(text) for text in arguments.models]
    given: dict[str, Any] = vars(arguments)
    choices = {name: given[name] for name in CHOICES if name in given and name not in VARIED}
    processing = Processing(**choices)
    resolve_device(processing.device)
    settings = ScanSettings(
        arguments.out,
        processing,
        arguments.patch_size,
        tuple(arguments.steps),
        tuple(arguments.pristine),
        lambda line: print(f'segsr: {line}', file=sys.stderr, flush=True),
    )
    open_folder(arguments.out, 'scans')
    content = {
        'protocol': 'scans',
        'scans': [str(source.image) for source in scans],
        'models': {system.name: system.identity for system in systems},
        **{name: value for name, value in dataclasses.asdict(settings).items() if name != 'tell'},
    }
    text = json.dumps(content, indent=2, default=str) + '\n'
    write_text(arguments.out / SETTINGS_FILE, text)
    result = evaluate_scans(scans, systems, settings)
    written = write_result(result, arguments.out)
    print(f'{tables_text(result)}\n')
    for path in [*written, write_experiment_page(result, arguments.out, 'scans')]:
        print(path)
    return int(bool(result.failures))


def _trainings(arguments: argparse.Namespace) -> int:
    from bids_segsr.evaluation.article_figures import draw_trainings, save_figure
    from bids_segsr.files import make_folder
    from bids_segsr.training.loop.run_log import TABLE, read_log

    runs = {}
    for name, folder in _named(arguments.runs):
        rows = read_log(folder / TABLE)
        if not rows:
            raise UserError(f'{folder}: holds no run of segsr train; give its folder.')
        runs[name] = rows
    figure = draw_trainings(runs, arguments.against)
    for path in save_figure(figure, make_folder(arguments.out), 'trainings'):
        print(path)
    return 0


def _named(texts: Sequence[str]) -> list[tuple[str, Path]]:
    found: dict[str, Path] = {}
    for text in texts:
        name, equals, path = text.partition('=')
        if not equals or Path(text).exists():
            name, path = Path(text).resolve().name, text
        if name in found:
            raise UserError(f'{text}: another run is called {name}; write NAME=DIR.')
        found[name] = Path(path)
    return list(found.items())


def _patch_sizes(text: str) -> tuple[PatchSize, ...]:
    return tuple(patch_size(part) for part in text.split(','))
