"""A look at each image before any work is done."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bids_segsr.bids.names import derivative_name, model_label, resolution_label
from bids_segsr.bids.query import Scan
from bids_segsr.exceptions import UserError
from bids_segsr.execution.settings import Settings
from bids_segsr.files import write_text
from bids_segsr.reports.run_errors import Problem, one_line

if TYPE_CHECKING:
    import numpy as np

    from bids_segsr.bids.participants import Age
    from bids_segsr.imaging.volume import Volume
    from bids_segsr.inference.model_choice import Choice
    from bids_segsr.zoo.card import ModelCard


def preflight(
    scans: Sequence[Scan], mem_gb: float | None = None
) -> tuple[list[Scan], list[Problem]]:
    """Read every image and its mask once.

    Args:
        scans: The scans that were chosen.
        mem_gb: Memory that may be used, GB; None for what the machine or container allows.

    Returns:
        Those that can be processed, and why the others cannot.
    """
    problems = [problem for scan in scans if (problem := _trouble(scan, mem_gb))]
    refused = {problem.image for problem in problems}
    return [scan for scan in scans if scan.label not in refused], problems


def check_suitable(card: ModelCard) -> None:
    """Make sure that a model restores images, and needs nothing but the scan.

    Args:
        card: Card of the model.

    Raises:
        UserError: If it finds the brain alone, or needs registered images of other contrasts.
    """
    from bids_segsr.zoo.contract import check_restores

    check_restores(card)
    if card.contract.guides:
        raise UserError(
            f'--model {card.name}: needs guide images (other contrasts, registered to each scan), '
            'which the App does not make; use segsr predict --guide, or another model'
        )


def check_modality(scans: Sequence[Scan], root: Path) -> None:
    """Make sure that no other modality's results have the names of these scans.

    Args:
        scans: The scans that were chosen.
        root: Root of the derivatives.

    Raises:
        UserError: If a scan of another modality has been processed into this folder.
    """
    from bids_segsr.inference.qc import check_same_image

    for scan in scans:
        check_same_image(
            root / derivative_name(scan.entities, suffix='qc', extension='.json'), scan.label
        )


def write_errors(folder: Path, problems: Sequence[Problem]) -> Path:
    """Write `errors.json` for the report of a participant.

    Args:
        folder: Log folder of the participant and run.
        problems: What went wrong with images of this participant and has no crash file.

    Returns:
        Path of the file.
    """
    entries = [{'image': problem.image, 'message': problem.message} for problem in problems]
    return write_text(folder / 'errors.json', json.dumps(entries, indent=2) + '\n')


def model_for_scan(settings: Settings, scan: Scan, volume: Volume) -> tuple[Choice, Age | None]:
    """Choose the model of a scan, unless one was given.

    Args:
        settings: The settings of the run, with the model named.
        scan: A scan that can be read.
        volume: Its voxels.

    Returns:
        The model and why, and the age of the person in the scanner.

    Raises:
        ImageError: The brain mask that was given cannot be read.
    """
    from bids_segsr.bids.participants import find_age
    from bids_segsr.imaging.volume import load_mask
    from bids_segsr.inference.model_choice import choose_model, known_brain_ml

    age = find_age(settings.bids_dir, scan.subject, scan.entities.get('session'))

    def brain_ml() -> float | None:
        mask = load_mask(scan.brain_mask, volume) if scan.brain_mask is not None else None
        return known_brain_ml(volume, mask, look=settings.processing.skull_strip != 'force')

    choice = choose_model(str(settings.model), scan.entities['suffix'], age, brain_ml)
    return choice, age


def describe(scan: Scan, settings: Settings) -> str:
    """Return what would be done with a scan, for --dry-run.

    Args:
        scan: A scan that can be read.
        settings: The settings of the run, with the model named.

    Returns:
        A few lines: image, model, grid, source of the mask and name of the super-resolved image.
    """
    from bids_segsr.imaging.resample import auto_resolution, isotropic_grid
    from bids_segsr.imaging.volume import load_scan
    from bids_segsr.zoo.find import find_card

    volume = load_scan(scan.path)
    choice, _ = model_for_scan(settings, scan, volume)
    model = find_card(choice.model)
    reason = f' ({choice.reason})' if choice.reason else ''
    resolution = settings.processing.resolution or auto_resolution(volume.spacing)
    grid = isotropic_grid(volume.data.shape, volume.affine, resolution)
    output = derivative_name(
        scan.entities,
        suffix=scan.entities['suffix'],
        res=resolution_label(resolution),
        desc=model_label(model.name),
    )
    return '\n'.join(
        (
            scan.label,
            f'  image:  {scan.path} ({_times(volume.data.shape)} voxels of '
            f'{_times(volume.spacing)} mm)',
            f'  model:  {model.name} {model.version}{reason}',
            f'  grid:   {_times(grid.shape)} voxels of {resolution:g} mm',
            f'  mask:   {_mask_source(scan, volume.data, settings)}',
            f'  output: {settings.derivatives_root / output}',
        )
    )


def _mask_source(scan: Scan, data: np.ndarray, settings: Settings) -> str:
    """Return where the brain mask of a scan would come from, or why it cannot."""
    from bids_segsr.imaging.brain_mask import find_template, is_skull_stripped
    from bids_segsr.inference.skull_strip_tools import check_tool
    from bids_segsr.zoo.find import BRAIN_MASK_MODEL, find_card

    if scan.brain_mask is not None:
        return str(scan.brain_mask)
    if settings.processing.skull_strip == 'skip':
        return 'none (--skull-strip skip)'
    if settings.processing.skull_strip == 'auto' and is_skull_stripped(data):
        return 'the image is stripped already'
    if settings.processing.skull_strip_tool != 'builtin':
        return check_tool(settings.processing.skull_strip_tool)
    if settings.processing.skull_strip_template is None:
        card = find_card(BRAIN_MASK_MODEL)
        return f'network {card.name} {card.version}'
    suffix = 'T1w' if scan.entities['suffix'] == 'T1w' else 'T2w'
    try:
        return (
            f'registration of {find_template(settings.processing.skull_strip_template, suffix)[0]}'
        )
    except UserError as error:
        return f'none: {error}'


def _trouble(scan: Scan, mem_gb: float | None) -> Problem | None:
    """Return why a scan cannot be processed, or None."""
    from bids_segsr.imaging.volume import load_mask, load_scan

    try:
        volume = load_scan(scan.path, mem_gb)
        if scan.brain_mask is not None:
            load_mask(scan.brain_mask, volume)
    except UserError as error:
        return Problem(scan.label, str(error))
    except Exception as error:  # whatever is wrong with a file is that image's failure
        return Problem(scan.label, f'{scan.path}: {one_line(error)}')
    return None


def _times(values: Sequence[float]) -> str:
    return ' x '.join(f'{value:.4g}' for value in values)
