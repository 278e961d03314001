"""The flags of how an image is processed, the same for both front doors."""

from __future__ import annotations

import argparse
from typing import get_args

from bids_segsr.cli.arguments import patch_size
from bids_segsr.inference.processing import BiasCorrection, Blending, SkullStrip, SkullStripTool


def add_processing_flags(
    parser: argparse.ArgumentParser, mask: str, *, patches: bool = True
) -> None:
    """Add a flag for every field of `Processing`; one that is not given leaves nothing behind.

    Args:
        parser: Where to.
        mask: How a brain mask is given to this command.
        patches: Leave out size and step of the patches, which the command varies, where False.
    """
    group = parser.add_argument_group('Processing of an image', argument_default=argparse.SUPPRESS)
    group.add_argument(
        '--bias-correction',
        choices=get_args(BiasCorrection),
        help='whether the bias field is corrected (default: n4)',
    )
    group.add_argument(
        '--skull-strip',
        choices=get_args(SkullStrip),
        help='brain extraction: when the image needs it, never, or always (default: auto); '
        f'{mask} comes first',
    )
    group.add_argument(
        '--skull-strip-tool',
        choices=get_args(SkullStripTool),
        help='what looks for the brain: the packaged network, or HD-BET or SynthStrip where they '
        'are installed (default: builtin)',
    )
    group.add_argument(
        '--skull-strip-template',
        metavar='NAME[:cohort-N]',
        help='TemplateFlow template whose brain mask is carried over by registration, such as '
        'MNIInfant:cohort-1 (default: none, the network brain-mask finds the brain); it must '
        'lie in TEMPLATEFLOW_HOME, nothing is downloaded',
    )
    group.add_argument(
        '--resolution',
        type=resolution_mm,
        metavar='auto|MM',
        help='voxel size of the output grid in mm (default: auto, the finest in-plane spacing '
        'kept within 0.5-1.0 mm)',
    )
    group.add_argument(
        '--slice-thickness',
        type=float,
        metavar='MM',
        help='thickness of a slice (default: SliceThickness of the sidecar or of DICOM, else the '
        'distance of the slices)',
    )
    group.add_argument(
        '--device',
        metavar='auto|cpu|cuda|cuda:N',
        help='where the network runs (default: auto, the GPU when there is one)',
    )
    if patches:
        group.add_argument(
            '--patch-size',
            type=patch_size,
            metavar='N|XxYxZ',
            help='edge or edges of a patch in voxels, multiples of 4 (with --margin, any); 0: the '
            'whole volume (default: 96)',
        )
        group.add_argument(
            '--step',
            type=int,
            metavar='VOXELS',
            help='distance of neighbouring patches (default: five sixths of a patch)',
        )
    group.add_argument(
        '--blending',
        choices=get_args(Blending),
        help='weights of overlapping patches; uniform: the image is padded, tiled and averaged as '
        'in SegSRGAN (default: gaussian)',
    )
    group.add_argument(
        '--margin',
        type=int,
        metavar='VOXELS',
        help='cut off at every side of a patch, the pieces put side by side as in mDCSRN and RRDG '
        '(default: 0, patches overlap)',
    )
    group.add_argument(
        '--threshold',
        type=float,
        metavar='P',
        help='probability above which a voxel is cortex (default: 0.5); of no effect for a model '
        'that tells tissues apart, whose cortex is where it is the likeliest tissue',
    )
    group.add_argument(
        '--keep-largest',
        action=argparse.BooleanOptionalAction,
        help='keep only the largest connected component of the cortex (default: no)',
    )


def resolution_mm(text: str) -> float | None:
    """Convert 'auto' to None and any other text to mm; `argparse` calls it.

    Raises:
        ArgumentTypeError: If the text is neither.
    """
    if text == 'auto':
        return None
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is neither auto nor a number of mm') from None
