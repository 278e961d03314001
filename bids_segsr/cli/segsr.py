"""The toolbox: what a person with one image, or with a network to look after, types."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bids_segsr import __version__
from bids_segsr.cli import completion, evaluate, models, predict_images, recipes, simulate, train
from bids_segsr.cli.arguments import Parser
from bids_segsr.cli.process import run_command
from bids_segsr.environment import use_large_pages
from bids_segsr.exceptions import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command of the toolbox.

    Args:
        argv: Arguments without the program's name; None for those of the process.

    Returns:
        Exit status: 0 fine, 1 a mistake of the user or an image that failed, 130 interrupted,
        143 terminated.
    """

    def command() -> int:
        arguments = build_parser().parse_args(argv)
        use_large_pages()
        status: int = arguments.func(arguments)
        return status

    return run_command('segsr', command)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser: argparse.ArgumentParser = Parser(
        prog='segsr',
        description='Isotropic super-resolution and cortex segmentation of thick-slice brain MRI. '
        'Research use only: not for diagnosis.',
    )
    parser.add_argument('--version', action='version', version=f'bids_segsr {__version__}')
    commands = parser.add_subparsers(title='commands', required=True, metavar='COMMAND')
    predict_images.add_parser(commands)
    models.add_parser(commands)
    train.add_parser(commands)
    recipes.add_parser(commands)
    evaluate.add_parser(commands)
    simulate.add_parser(commands)
    _add_demo(commands)
    completion.add_parser(commands, build_parser)
    return parser


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        'demo',
        help='degrade the ICBM 152 template to thick slices and run the App on it',
        description='Everything on one image whose truth is known: the ICBM 152 T1w average that '
        'nilearn carries, degraded to 1 x 1 x 3 mm, through the participant and group level. '
        'Prints how close cubic spline, back-projection and network come to the truth.',
    )
    parser.set_defaults(func=_demo)
    parser.add_argument('output', type=Path, nargs='?', default=Path('demo'), help='folder')
    parser.add_argument(
        '--train',
        action='store_true',
        help='train the network of SegSRGAN (2020) on two small volumes instead, some minutes, up '
        'to its report',
    )
    parser.add_argument('--model', help='name or path of the model (default: the packaged one)')


def _demo(arguments: argparse.Namespace) -> int:
    from bids_segsr.cli.demo import run_demo, run_training_demo

    if arguments.train:
        if arguments.model:
            raise UserError('--train --model: the first trains, the second runs; give one.')
        return run_training_demo(arguments.output.absolute())
    return run_demo(arguments.output.absolute(), arguments.model)


if __name__ == '__main__':
    sys.exit(main())
