"""segsr evaluate: the experiments of the articles on a person's own images and models."""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_segsr.cli import reproduce, scans_and_trainings
from bids_segsr.cli.arguments import patch_size, structure_numbers
from bids_segsr.environment import passing_caches
from bids_segsr.exceptions import UserError

if TYPE_CHECKING:
    from bids_segsr.evaluation.run import Settings
    from bids_segsr.imaging.degrade import ForwardModel

Subparsers = argparse._SubParsersAction
SLICE_DISTANCE_MM = 3.0
VARIED = {
    'steps': ('step',),
    'robustness': ('step', 'scan_noise'),
    'scales': ('slice_distance', 'slice_axis', 'profile', 'isotropic', 'k_space'),
}
"""Flags that make no sense with a protocol, since it varies what they fix."""
RESEARCH_USE = 'Research use only: not for diagnosis.'


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command `evaluate` and its protocols.

    Args:
        subparsers: Commands of the toolbox. Each parser sets `func`, which takes the arguments
            and returns the exit status.
    """
    parser = subparsers.add_parser(
        'evaluate',
        help='tables and figures of the articles for any set of models',
        description='Simulates scans of high-resolution test images, lets models restore and '
        'segment them, and compares with the truth; cubic spline, alone and with '
        'back-projection, is always among them. A second '
        f'run goes on where the first one stopped. {RESEARCH_USE}',
    )
    commands = parser.add_subparsers(title='protocols', required=True, metavar='PROTOCOL')

    def add(name: str, text: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = commands.add_parser(
            name, help=text, description=f'{text[0].upper()}{text[1:]}.'
        )
        added.set_defaults(func=_evaluate, protocol=name)
        _add_common_flags(added)
        return added

    add('compare', 'any models beside the baselines (SegSRGAN, Tables 8 to 10)')
    add('ablation', 'models trained with and without a part, e.g. the critic (SegSRGAN, Table 7)')
    sweep = add('steps', 'time and quality against the step of the patches (SegSRGAN, Figs 6-8)')
    robust = add('robustness', 'noise and contrast (SegSRGAN, Tables 2-5, Figures 9 to 12)')
    for added, default in ((sweep, '30 50 80 128'), (robust, '30 80 128')):
        added.set_defaults(patch_size=128)
        added.add_argument(
            '--steps',
            type=int,
            nargs='+',
            action='extend',
            metavar='VOXELS',
            help=f'default: {default}',
        )
    robust.add_argument(
        '--noise',
        type=_noise,
        default=(2.0, False),
        metavar='SD|PERCENT%',
        help='in units of the images, or of their maximum: 3%% (default: 2)',
    )
    robust.add_argument(
        '--powers',
        type=_positive,
        nargs='+',
        action='extend',
        help='contrast (default: 2 0.5)',
    )
    scales = add('scales', 'test scales against models trained at a scale (ReCNN, Table 1)')
    scales.add_argument(
        '--scales',
        type=_scale,
        nargs='+',
        action='extend',
        metavar='X,Y,Z',
        help='low- over high-resolution spacing (default: those of the article)',
    )
    add('transfer', 'models trained on one dataset, tested on another (ReCNN, Table 2)')
    blending = add('blends', 'blends of a PSNR and a GAN model (RRDG, Figure 5)')
    blending.add_argument(
        '--alphas',
        type=float,
        nargs='+',
        action='extend',
        metavar='A',
        help='default: 0 0.2 0.4 0.6 0.8 1',
    )
    add('cost', 'quality against time and parameters (mDCSRN, Table 2)')
    scans_and_trainings.add_scans_parser(commands)
    scans_and_trainings.add_trainings_parser(commands)
    reproduce.add_parser(commands)
    reproduce.add_data_parser(commands)


def _add_common_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--data',
        nargs='+',
        action='extend',
        required=True,
        metavar='[NAME=]CSV',
        help='lists of images as for training; rows with Base "Test" are used',
    )
    parser.add_argument(
        '--models',
        nargs='*',
        action='extend',
        default=[],
        metavar='[NAME=]MODEL',
        help='name, path or blend A:B:0.6 of a model; SR+SEGMENTER for a pipeline of two; '
        'nearest, bicubic: interpolations; lrtv: low-rank total variation',
    )
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='for the results')
    parser.add_argument(
        '--metrics', nargs='+', action='extend', metavar='NAME', help='default: of the article'
    )
    parser.add_argument(
        '--label',
        type=structure_numbers,
        nargs='+',
        action='extend',
        metavar='NAME=N,N',
        help='structures and their numbers in the label images (default: cortex=1)',
    )
    parser.add_argument(
        '--parcellation', type=Path, metavar='FILE', help='TorchScript or ONNX, for m_h'
    )
    parser.add_argument(
        '--parcellation-spacing',
        type=_positive,
        metavar='MM',
        help='what that network was trained for (default: that of the images)',
    )
    forward = parser.add_argument_group('simulated scan')
    forward.add_argument(
        '--recipe', metavar='NAME|FILE', help='take [forward] and labels of a training recipe'
    )
    forward.add_argument(
        '--slice-distance',
        type=_positive,
        metavar='MM',
        help=f'thick slices (default: {SLICE_DISTANCE_MM:g})',
    )
    forward.add_argument('--slice-axis', type=int, choices=(0, 1, 2), help='RAS (default: 2)')
    forward.add_argument('--profile', help='gaussian, box, or file of a measured slice profile')
    forward.add_argument('--isotropic', type=_factor, metavar='FACTOR', help='coarser all round')
    forward.add_argument('--k-space', type=_scale, metavar='X,Y,Z', help='truncation factors')
    forward.add_argument(
        '--scan-noise',
        type=_noise,
        metavar='SD|PERCENT%',
        help='noise of every scan (default: 0)',
    )
    forward.add_argument('--seed', type=_seed, default=0, help='0 or more (default: 0)')
    network = parser.add_argument_group('network')
    network.add_argument(
        '--patch-size', type=patch_size, metavar='N|XxYxZ', help='voxels; 0 = whole volume'
    )
    network.add_argument('--step', type=int, help='voxels')
    network.add_argument(
        '--blending',
        choices=('gaussian', 'uniform'),
        default='gaussian',
        help='uniform: padded and averaged as in SegSRGAN',
    )
    network.add_argument(
        '--margin',
        type=int,
        default=0,
        metavar='VOXELS',
        help='cut off every patch, the pieces side by side, as in mDCSRN and RRDG',
    )
    network.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')


def _evaluate(arguments: argparse.Namespace) -> int:
    with passing_caches():
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    for flag in VARIED.get(arguments.protocol, ()):
        if getattr(arguments, flag) is not None:
            name = flag.replace('_', '-')
            raise UserError(f'--{name}: {arguments.protocol} varies this; leave it out.')
    lists = _lists(arguments.data)
    # torch takes seconds: what is not there is told before
    from bids_segsr.api import run_experiment_with_page
    from bids_segsr.evaluation.protocol_output import tables_text

    result, written = run_experiment_with_page(
        arguments.protocol,
        arguments.models,
        lists,
        _settings(arguments),
        named=bool(arguments.label),
        varied=_varied(arguments),
    )
    print(f'{tables_text(result)}\n')
    for path in written:
        print(path)
    return int(bool(result.failures))


def _varied(arguments: argparse.Namespace) -> dict[str, Any]:
    """Arguments of the protocol's function beyond those that all have."""
    found: dict[str, Any] = {}
    for flag, name in (
        ('steps', 'distances'), ('scales', 'factors'), ('alphas', 'alphas'), ('powers', 'powers'),
    ):  # fmt: skip
        if getattr(arguments, flag, None) is not None:
            found[name] = tuple(getattr(arguments, flag))
    if arguments.protocol == 'robustness':
        found['noise'], found['relative_noise'] = arguments.noise
    return found


def _settings(arguments: argparse.Namespace) -> Settings:
    from bids_segsr.evaluation.cases import Imaging
    from bids_segsr.evaluation.run import Settings
    from bids_segsr.inference.processing import Processing

    forward, labels = _forward(arguments)
    noise, relative = arguments.scan_noise or (0.0, False)
    return Settings(
        out=arguments.out,
        imaging=Imaging(forward, noise, relative),
        processing=Processing(
            patch_size=arguments.patch_size,
            step=arguments.step,
            blending=arguments.blending,
            margin=arguments.margin,
            device=arguments.device,
        ),
        metrics=tuple(arguments.metrics) if arguments.metrics else None,
        labels=dict(arguments.label) if arguments.label else labels,
        parcellation=arguments.parcellation,
        parcellation_spacing_mm=arguments.parcellation_spacing,
        seed=arguments.seed,
        tell=lambda line: print(f'segsr: {line}', file=sys.stderr, flush=True),
    )


def _forward(arguments: argparse.Namespace) -> tuple[ForwardModel, Mapping[str, tuple[int, ...]]]:
    """Return the forward model and the labels that recipe and flags ask for."""
    from bids_segsr.imaging.degrade import ForwardModel

    kinds = ('slice_distance', 'isotropic', 'k_space')
    given = [f'--{k.replace("_", "-")}' for k in kinds if getattr(arguments, k) is not None]
    if len(given) > 1:
        raise UserError(f'{" and ".join(given)}: give one of them.')
    labels: Mapping[str, tuple[int, ...]] = {'cortex': (1,)}
    distance = SLICE_DISTANCE_MM
    forward = ForwardModel(spacing_mm=(distance, distance))
    if arguments.recipe is not None:
        from bids_segsr.training.recipe_file import read_recipe

        recipe = read_recipe(arguments.recipe)
        forward, labels = recipe.forward, recipe.task.labels
    if arguments.slice_distance is not None:
        distance = arguments.slice_distance
        forward = ForwardModel(spacing_mm=(distance, distance))
    elif arguments.isotropic is not None:
        forward = ForwardModel(kind='isotropic', factor=(arguments.isotropic,) * 2)
    elif arguments.k_space is not None:
        forward = ForwardModel(kind='k-space', factors=(arguments.k_space,))
    changes: dict[str, Any] = {}
    if arguments.slice_axis is not None:
        changes['axis'] = arguments.slice_axis
    if arguments.profile is not None:
        changes['profile'] = arguments.profile
    try:
        return dataclasses.replace(forward, **changes), labels
    except ValueError as error:
        raise UserError(f'simulated scan: {error}.') from None


def _lists(texts: list[str]) -> dict[str, Path]:
    """Return name and CSV file of the datasets; without a name, that of the file."""
    found: dict[str, Path] = {}
    for text in texts:
        name, equals, path = text.partition('=')
        if not equals or Path(text).exists():
            name, path = Path(text).stem, text
        if name in found:
            raise UserError(f'{text}: another list is called {name}; write NAME=CSV.')
        found[name] = Path(path)
        if not found[name].exists():
            raise UserError(f'{path}: no such file; give a CSV list')
    return found


def _noise(text: str) -> tuple[float, bool]:
    relative = text.endswith('%')
    value = float(text.rstrip('%')) / (100 if relative else 1)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f'{text}: give 0 or more')
    return value, relative


def _scale(text: str) -> tuple[float, float, float]:
    values = [float(part) for part in text.split(',')]
    if len(values) != 3 or not all(1 <= value < math.inf for value in values):
        raise argparse.ArgumentTypeError(f'{text}: give three factors from 1 on, such as 2,2,3')
    return values[0], values[1], values[2]


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f'{text}: give 0 or more')
    return value


def _factor(text: str) -> float:
    value = float(text)
    if not 1 <= value < math.inf:
        raise argparse.ArgumentTypeError(f'{text}: give 1 or more')
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f'{text}: give a positive number')
    return value
