"""segsr simulate: what a coarser acquisition would have made of fine images."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_segsr.bids.filters import MODALITIES
from bids_segsr.bids.names import bids_uri
from bids_segsr.exceptions import UserError
from bids_segsr.simulation.simulated_dataset import (
    AXES,
    FineImage,
    check_output,
    dataset_links,
    name_of,
    settings_of,
    simulate_image,
    write_root,
)

if TYPE_CHECKING:
    from bids_segsr.imaging.degrade import ForwardModel

MODEL_FLAGS = ('kind', 'spacing', 'thickness', 'factor', 'in_plane', 'profile', 'sigma', 'axis')
Subparsers = argparse._SubParsersAction


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command `simulate`.

    Args:
        subparsers: Commands of the toolbox. The parser sets `func`, which takes the arguments and
            returns the exit status.
    """
    parser = subparsers.add_parser(
        'simulate',
        help='degrade fine images with a forward model into a BIDS dataset',
        description='Acquires fine images again, coarser: thick slices, isotropic blur or '
        'truncated k-space, and noise. The result is a BIDS dataset whose sidecars say how each '
        'image was made; images have canonical axes (RAS). A range of two numbers is drawn from '
        'for every image.',
    )
    parser.set_defaults(func=simulate)
    parser.add_argument(
        'input', nargs='+', type=Path, help='BIDS dataset, or NIfTI files of fine images'
    )
    parser.add_argument('output', type=Path, help='folder of the new BIDS dataset')
    parser.add_argument(
        '--kind', choices=('thick-slices', 'isotropic', 'k-space'), help='default: thick-slices'
    )
    parser.add_argument(
        '--spacing', nargs='+', type=float, metavar='MM', help='distance of the slices (or range)'
    )
    parser.add_argument(
        '--thickness',
        type=float,
        metavar='MM',
        help='slice thickness, full width at half maximum (default: the distance of the slices)',
    )
    parser.add_argument(
        '--factor',
        nargs='+',
        type=float,
        metavar='F',
        help='coarser by this factor (or range of two, or three factors, one an axis)',
    )
    parser.add_argument(
        '--in-plane', nargs='+', type=float, metavar='MM', help='in-plane spacing (or range)'
    )
    parser.add_argument(
        '--profile', help="slice profile: gaussian, box, or a text file 'mm weight'"
    )
    parser.add_argument(
        '--sigma', type=float, help='isotropic: standard deviation of the blur in fine voxels'
    )
    parser.add_argument(
        '--axis',
        choices=tuple(AXES),
        help='orientation of the slices (k-space: of the readout; default: axial)',
    )
    parser.add_argument(
        '--recipe', help='take forward model and noise from a training recipe (name or file)'
    )
    parser.add_argument(
        '--noise',
        type=float,
        metavar='SHARE',
        help='standard deviation of Gaussian noise over the image maximum (default: 0)',
    )
    parser.add_argument('--seed', type=_seed, default=0, help='of noise and ranges (default: 0)')
    parser.add_argument(
        '--modality', choices=MODALITIES, default='T2w', metavar='SUFFIX', help='default: T2w'
    )
    parser.add_argument(
        '--participant-label',
        nargs='+',
        action='extend',
        default=[],
        metavar='LABEL',
        help='without sub-',
    )


def simulate(arguments: argparse.Namespace) -> int:
    """Degrade all images.

    Args:
        arguments: Of the command line, see `add_parser`.

    Returns:
        Exit status: 1 if an image failed.

    Raises:
        UserError: A mistake that concerns all images.
    """
    model, noise = _forward_model(arguments)
    images = _collect(arguments)
    root = arguments.output
    settings = settings_of(model, noise, arguments.seed)
    check_output(root, images, settings)
    failed = 0
    for image in images:
        if _succeeds(image, root, model, settings):
            # at once, so that a run that is cut off leaves a dataset, too
            write_root(root, arguments.input)
        else:
            failed += 1
    return int(failed > 0)


def _succeeds(
    image: FineImage, root: Path, model: ForwardModel, settings: Mapping[str, Any]
) -> bool:
    """Degrade one image; a failure is told in one line."""
    try:
        print(simulate_image(image, root, model, settings))
    except UserError as error:
        text = str(error)
        text = text if str(image.path) in text else f'{image.path}: {text}'
        print(f'segsr: {text}', file=sys.stderr, flush=True)
        return False
    return True


def _forward_model(arguments: argparse.Namespace) -> tuple[ForwardModel, float]:
    from bids_segsr.imaging.degrade import ForwardModel

    given = [flag for flag in MODEL_FLAGS if getattr(arguments, flag) is not None]
    if arguments.recipe is not None:
        if given:
            raise UserError(
                f'--recipe and --{given[0].replace("_", "-")}: give one or the other; '
                'the recipe holds the forward model.'
            )
        from bids_segsr.training.recipe_file import read_recipe

        recipe = read_recipe(arguments.recipe)
        noise = recipe.augmentation.noise if arguments.noise is None else arguments.noise
        return recipe.forward, _checked_noise(noise)
    fields: dict[str, Any] = {
        'kind': arguments.kind or 'thick-slices',
        'profile': arguments.profile or 'gaussian',
        'sigma': arguments.sigma,
        'axis': None if arguments.axis is None else AXES[arguments.axis],
        'spacing_mm': _range('--spacing', arguments.spacing),
        'in_plane_mm': _range('--in-plane', arguments.in_plane),
    }
    if arguments.factor is not None and len(arguments.factor) == 3:
        _check_positive('--factor', arguments.factor)
        fields['factors'] = (tuple(arguments.factor),)
    else:
        fields['factor'] = _range('--factor', arguments.factor)
    if arguments.thickness is not None:
        fields['gap'] = _gap(arguments)
    try:
        model = ForwardModel(**fields)
    except ValueError as error:
        raise UserError(f'forward model: {error}') from None
    return model, _checked_noise(arguments.noise or 0.0)


def _range(flag: str, values: Sequence[float] | None) -> tuple[float, float] | None:
    if values is None:
        return None
    if len(values) > 2:
        raise UserError(f'{flag}: give one number, or the two ends of a range.')
    _check_positive(flag, values)
    return values[0], values[-1]


def _check_positive(flag: str, values: Sequence[float]) -> None:
    for value in values:
        if not 0 < value < math.inf:
            raise UserError(f'{flag} {value:g}: give positive numbers.')


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f'{text}: give 0 or more')
    return value


def _gap(arguments: argparse.Namespace) -> tuple[float, float]:
    spacing = arguments.spacing or [0.0]
    if len(spacing) != 1 or not 0 < arguments.thickness <= spacing[0]:
        raise UserError(
            f'--thickness {arguments.thickness:g}: give it with one --spacing, '
            'and not thicker than that.'
        )
    gap = 1 - arguments.thickness / spacing[0]
    return gap, gap


def _checked_noise(noise: float) -> float:
    if not 0 <= noise < 1:
        raise UserError(f'--noise {noise:g}: give a share of the image maximum, 0 to below 1.')
    return noise


def _collect(arguments: argparse.Namespace) -> list[FineImage]:
    images: list[FineImage] = []
    for path in arguments.input:
        images += _of_dataset(path, arguments) if path.is_dir() else [_of_file(path, arguments)]
    known: dict[str, Path] = {}
    for image in images:
        name = str(name_of(image, '.nii.gz'))
        if name in known:
            raise UserError(
                f'{image.path}: would have the same name ({name}) as {known[name]}; '
                'give them one after the other, to two outputs.'
            )
        known[name] = image.path
    return images


def _of_dataset(root: Path, arguments: argparse.Namespace) -> list[FineImage]:
    from bids_segsr.bids.query import collect_scans, open_layout, select_participants

    participants = select_participants(root, arguments.participant_label)
    layout = open_layout(root, participants=participants)
    links = {uri: name for name, uri in dataset_links(arguments.output, arguments.input).items()}
    scans, unusable = collect_scans(layout, participants=participants, modality=arguments.modality)
    if unusable:
        raise UserError(unusable[0].message)
    return [
        FineImage(
            scan.path,
            scan.entities,
            scan.metadata,
            bids_uri(
                links[root.resolve().as_uri()], scan.path.resolve().relative_to(root.resolve())
            ),
        )
        for scan in scans
    ]


def _of_file(path: Path, arguments: argparse.Namespace) -> FineImage:
    from bids.layout import parse_file_entities

    from bids_segsr.imaging.nifti import image_stem

    entities = {key: str(value) for key, value in parse_file_entities(str(path.name)).items()}
    if 'subject' not in entities or entities.get('suffix') not in MODALITIES:
        stem = image_stem(path)
        label = ''.join(letter for letter in stem if letter.isascii() and letter.isalnum())
        entities = {'subject': label or 'image', 'suffix': arguments.modality}
    return FineImage(path, entities, {}, path.resolve().as_uri())
