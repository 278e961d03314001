"""The toolbox: what a person with one image, or with a network to look after, types."""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bids_segsr import __version__
from bids_segsr.cli import evaluate, models, simulate, train
from bids_segsr.cli.arguments import Parser
from bids_segsr.cli.parser import resolution_mm
from bids_segsr.cli.process import complain, passing_caches, run_command
from bids_segsr.exceptions import UserError
from bids_segsr.files import make_folder


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
    _add_predict(commands)
    models.add_parser(commands)
    train.add_parser(commands)
    evaluate.add_parser(commands)
    simulate.add_parser(commands)
    _add_demo(commands)
    return parser


def _add_predict(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        'predict',
        help='super-resolve and segment images that are not in a BIDS dataset',
        description='Bias field, brain mask, interpolation, network, segmentation and fidelity '
        'check of single images. A CSV file needs a column "image" and may have "mask" and '
        '"guide" (more of them: "guide_2", ...); relative paths in it are relative to the CSV '
        'file.',
    )
    parser.set_defaults(func=_predict)
    parser.add_argument(
        'image', nargs='+', type=Path, help='NIfTI file, folder of one DICOM series, or CSV list'
    )
    parser.add_argument('output', type=Path, help='folder for the results')
    parser.add_argument('--mask', type=Path, help='brain mask on the grid of the (one) image')
    parser.add_argument(
        '--guide',
        nargs='+',
        action='extend',
        type=Path,
        default=[],
        metavar='FILE',
        help='images of other contrasts for a model that needs them (see segsr models show), '
        'registered to the (one) image, on any grid, in the order of the training; write it after '
        'the output folder',
    )
    parser.add_argument('--model', help='name or path of the model (default: the packaged one)')
    parser.add_argument(
        '--resolution',
        type=resolution_mm,
        default=None,
        metavar='auto|MM',
        help='voxel size of the output; auto = finest in-plane spacing within 0.5-1.0 mm',
    )
    parser.add_argument(
        '--slice-thickness', type=float, metavar='MM', help='default: the distance of the slices'
    )
    parser.add_argument('--patch-size', type=int, help='voxels; 0 = whole volume (default: 96)')
    parser.add_argument('--step', type=int, help='voxels (default: two thirds of the patch)')
    parser.add_argument('--blending', choices=('gaussian', 'uniform'), default='gaussian')
    parser.add_argument('--threshold', type=float, default=0.5, help='default: 0.5')
    parser.add_argument('--keep-largest', action='store_true', help='drop smaller components')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument(
        '--skull-strip',
        choices=('auto', 'skip', 'force'),
        default='auto',
        help='look for the brain: when the image needs it, never, or always (default: auto); '
        '--mask comes first',
    )
    parser.add_argument(
        '--skull-strip-template',
        metavar='NAME[:cohort-N]',
        help='TemplateFlow template that is registered for that, in TEMPLATEFLOW_HOME (default: '
        'the network brain-mask)',
    )


def _predict(arguments: argparse.Namespace) -> int:
    with passing_caches():
        return _predict_all(arguments)


def _predict_all(arguments: argparse.Namespace) -> int:
    from bids_segsr.inference.predict import resolve_device
    from bids_segsr.inference.single import Options, predict_file
    from bids_segsr.inference.tiling import resolve_patches
    from bids_segsr.zoo.contract import check_restores
    from bids_segsr.zoo.find import DEFAULT_MODEL, load_model

    inputs = [item for path in arguments.image for item in _listed(path)]
    for flag, given in (('mask', arguments.mask), ('guide', arguments.guide)):
        if given and len(inputs) != 1:
            name = given if isinstance(given, Path) else given[0]
            raise UserError(f'{name}: --{flag} goes with one image; use a CSV list.')
    if arguments.mask is not None:
        inputs = [replace(inputs[0], mask=arguments.mask)]
    if arguments.guide:
        inputs = [replace(inputs[0], guides=tuple(arguments.guide))]
    _check_names([item.image for item in inputs])
    if arguments.output.exists() and not arguments.output.is_dir():
        raise UserError(f'{arguments.output}: not a folder; the last argument is the output.')
    make_folder(arguments.output)
    for flag in ('resolution', 'slice_thickness'):
        value = getattr(arguments, flag)
        if value is not None and not 0 < value < math.inf:
            raise UserError(f'--{flag.replace("_", "-")} {value:g}: give a positive number of mm.')
    if not 0 <= arguments.threshold <= 1:
        raise UserError(f'--threshold {arguments.threshold:g}: give 0 to 1.')
    resolve_patches(arguments.patch_size, arguments.step)
    resolve_device(arguments.device)
    model = load_model(arguments.model or DEFAULT_MODEL)
    check_restores(model.card)
    options = Options(
        resolution=arguments.resolution,
        slice_thickness=arguments.slice_thickness,
        patch_size=arguments.patch_size,
        step=arguments.step,
        blending=arguments.blending,
        threshold=arguments.threshold,
        keep_largest=arguments.keep_largest,
        device=arguments.device,
        skull_strip=arguments.skull_strip,
        skull_strip_template=arguments.skull_strip_template,
    )
    failed = False
    for item in inputs:
        image = item.image
        try:
            written = predict_file(
                image,
                arguments.output,
                model,
                options,
                mask=item.mask,
                guides=item.guides,
                tell=lambda line, name=image.name: complain('segsr', f'{name}: {line}'),  # type: ignore[misc]
                progress=sys.stderr.isatty(),
            )
        except UserError as error:
            text = str(error)
            complain('segsr', text if str(image) in text else f'{image}: {text}')
            failed = True
            continue
        for path in written:
            print(path)
    return int(failed)


@dataclass(frozen=True)
class _Input:
    """An image and what belongs to it."""

    image: Path
    mask: Path | None = None
    guides: tuple[Path, ...] = ()


def _check_names(images: Sequence[Path]) -> None:
    """Refuse images whose results would have the same names."""
    known: dict[str, Path] = {}
    for image in images:
        name = image.name.removesuffix('.gz').removesuffix('.nii')
        if name in known:
            raise UserError(
                f'{image}: its results would overwrite those of {known[name]}; '
                'give it another name, or another output folder.'
            )
        known[name] = image


def _listed(path: Path) -> list[_Input]:
    """Return the images, with their masks and guides, that an argument stands for."""
    if path.suffix.lower() != '.csv':
        return [_Input(path)]
    try:
        # Excel begins a file with a byte order mark, which is no part of the first column.
        with path.open(newline='', encoding='utf-8-sig') as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f'{path}: cannot be read ({error}).') from error
    if not rows or 'image' not in rows[0]:
        raise UserError(f'{path}: no column "image"; the first line must name the columns.')
    for number, row in enumerate(rows, start=1):
        if not row['image']:
            raise UserError(f'{path}: row {number} names no image; mend the list.')
    columns = [name for name in rows[0] if name == 'guide' or str(name).startswith('guide_')]
    return [
        _Input(
            path.parent / row['image'],
            path.parent / row['mask'] if row.get('mask') else None,
            tuple(path.parent / row[name] for name in columns if row[name]),
        )
        for row in rows
    ]


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
    parser.add_argument('--model', help='name or path of the model (default: the packaged one)')


def _demo(arguments: argparse.Namespace) -> int:
    from bids_segsr.cli.demo import run_demo

    return run_demo(arguments.output.absolute(), arguments.model)


if __name__ == '__main__':
    sys.exit(main())
