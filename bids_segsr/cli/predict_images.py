"""The command ``segsr predict``: the App on images that are in no BIDS dataset."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bids_segsr.bids.participants import postmenstrual
from bids_segsr.cli.arguments import gigabytes
from bids_segsr.cli.process import complain
from bids_segsr.cli.processing_flags import add_processing_flags
from bids_segsr.environment import passing_caches
from bids_segsr.exceptions import UserError
from bids_segsr.execution.progress_line import ProgressLine, summary
from bids_segsr.files import make_folder, writable
from bids_segsr.inference.processing import CHOICES, Processing
from bids_segsr.reports.run_errors import one_line

if TYPE_CHECKING:
    from bids_segsr.inference.one_image import Source
    from bids_segsr.result import Result
    from bids_segsr.zoo.card import ModelCard
    from bids_segsr.zoo.store import TrainedModel


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the toolbox.

    Args:
        commands: Where to. The parser sets `func`, which takes the arguments and returns the exit
            status.
    """
    parser = commands.add_parser(
        'predict',
        help='super-resolve and segment images that are not in a BIDS dataset',
        description='Bias field, brain mask, interpolation, network, segmentation, fidelity check '
        'and report of single images, as the App does them. A CSV file without a header lists '
        'images in its first column; one with a header needs a column "image" and may have '
        '"mask" and "guide" (more of them: "guide_2", ...). Relative paths in it are relative to '
        'the CSV file.',
    )
    parser.set_defaults(func=predict)
    parser.add_argument(
        'image',
        nargs='+',
        type=Path,
        help='NIfTI file, folder of NIfTI files, folder of one DICOM series, or CSV list',
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
    parser.add_argument(
        '--model',
        metavar='NAME|PATH|auto',
        help='trained model (default: auto, the packaged one for the contrast that the name ends '
        'with and, by --age or size of the brain, for newborns)',
    )
    parser.add_argument(
        '--age',
        type=postmenstrual,
        metavar='WEEKS',
        help='postmenstrual age at the scan in weeks, 40 at term (92 for one year)',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace what an earlier run wrote'
    )
    parser.add_argument('--no-report', action='store_true', help='leave the HTML report out')
    parser.add_argument(
        '-q', '--quiet', action='store_true', help='tell nothing but warnings and what failed'
    )
    parser.add_argument(
        '--mem',
        dest='mem_gb',
        type=gigabytes,
        metavar='MEMORY',
        help='refuse an image that needs more memory than this, with unit (16GB, 500M); a plain '
        'number is MB (default: the memory of the machine, container or job)',
    )
    add_processing_flags(parser, '--mask')


def predict(arguments: argparse.Namespace) -> int:
    """Run the command; see `add_parser`."""
    with passing_caches():
        return _predict_all(arguments)


def _predict_all(arguments: argparse.Namespace) -> int:
    from bids_segsr.zoo.find import AUTO_MODEL, candidates, find_card

    # torch takes seconds: what is not there is told before
    named = arguments.model or AUTO_MODEL
    find_card(candidates(named)[0])
    for path in arguments.image:
        if len(arguments.image) == 1 and not path.exists():
            raise UserError(f'{path}: no such file or folder; check the path.')
    from bids_segsr.inference.image_lists import result_folders
    from bids_segsr.inference.predict import resolve_device
    from bids_segsr.inference.skull_strip_tools import check_tool
    from bids_segsr.zoo.contract import check_restores
    from bids_segsr.zoo.find import load_model

    sources = _sources(arguments)
    chosen = vars(arguments)
    processing = Processing(**{name: chosen[name] for name in CHOICES if name in chosen})
    resolve_device(processing.device)
    check_tool(processing.skull_strip_tool)
    model: TrainedModel | str = named
    if named != AUTO_MODEL:
        model = load_model(named)
        check_restores(model.card)
    folders = result_folders(sources, arguments.output)
    for folder in dict.fromkeys(folders):
        _check_writable(folder)
    line = ProgressLine([source.name for source in sources], quiet=arguments.quiet)
    failed: list[str] = []
    warned: list[str] = []
    with line.moving():
        for source, folder in zip(sources, folders, strict=True):
            made = _predict_or_tell(source, folder, model, processing, arguments, line)
            if made is None:
                failed.append(source.name)
            elif made.qc['warnings'] or made.verdict.reasons:
                warned.append(source.name)
    if not arguments.quiet:
        complain('segsr', summary(len(sources), warned, failed))
    return int(bool(failed))


def _predict_or_tell(
    source: Source,
    folder: Path,
    model: TrainedModel | str,
    processing: Processing,
    arguments: argparse.Namespace,
    line: ProgressLine,
) -> Result | None:
    """Process one image; whatever is wrong with it is told in a line."""
    try:
        return _predict_one(source, folder, model, processing, arguments, line)
    except UserError as error:
        text = str(error)
        line.say(f'segsr: {text if str(source.image) in text else f"{source.image}: {text}"}')
    except Exception as error:  # the others go on
        line.say(f'segsr: {source.image}: {one_line(error)}')
    return None


def _predict_one(
    source: Source,
    folder: Path,
    model: TrainedModel | str,
    processing: Processing,
    arguments: argparse.Namespace,
    line: ProgressLine,
) -> Result:
    from bids_segsr.inference.one_image import process_image
    from bids_segsr.result import Result

    def free(settled: Processing, card: ModelCard) -> None:
        """Refuse to overwrite before any work."""
        source.check_free(
            folder, settled.resolution or 0.0, card.name, overwrite=arguments.overwrite
        )

    made = Result(
        process_image(
            source,
            model,
            processing,
            age=arguments.age,
            mem_gb=arguments.mem_gb,
            free=free,
            tell=lambda text: line.say(f'segsr: {source.name}: {text}'),
            progress=partial(line.follow, source.name),
        )
    )
    if not arguments.no_report:
        line.begin(source.name, 'report')
    for path in made.save(folder, report=not arguments.no_report, overwrite=True).values():
        line.say(str(path), sys.stdout)
    return made


def _sources(arguments: argparse.Namespace) -> list[Source]:
    """Return all images of the command line, with masks and guides."""
    from bids_segsr.inference.image_lists import listed_images

    sources = [item for path in arguments.image for item in listed_images(path)]
    for name, given in (('mask', arguments.mask), ('guide', arguments.guide)):
        if given and len(sources) != 1:
            first = given if isinstance(given, Path) else given[0]
            raise UserError(f'{first}: --{name} goes with one image; use a CSV list.')
    if arguments.mask is not None:
        sources = [replace(sources[0], mask=arguments.mask)]
    if arguments.guide:
        sources = [replace(sources[0], guides=tuple(arguments.guide))]
    return sources


def _check_writable(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f'{folder}: not a folder; the last argument is the output.')
    if not writable(make_folder(folder)):
        raise UserError(f'{folder}: cannot be written; choose another output folder.')
