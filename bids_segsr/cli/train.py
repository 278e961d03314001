"""segsr train: train a network of a recipe on own images, or on label maps alone."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bids_segsr.bids.files import make_folder
from bids_segsr.cli.run_folder import CACHE_FOLDER, check_out, is_first, locked
from bids_segsr.exceptions import UserError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from bids_segsr.training.data.batches import PatchSource
    from bids_segsr.training.data.subjects import Subject
    from bids_segsr.training.loop.model_card import Outcome, TrainingData
    from bids_segsr.training.recipe import Recipe

logger = logging.getLogger(__name__)

REPORT_FILE = 'report.html'

Sets = Callable[['Recipe', Path], 'tuple[PatchSource, PatchSource]']
"""Makes training and validation patches; takes the folder for decompressed volumes."""


@dataclasses.dataclass(frozen=True)
class Run:
    """How a training is run, whatever its recipe.

    Attributes:
        device: 'auto', 'cpu', 'cuda' or 'cuda:N'.
        devices: GPUs, or processes on a CPU; None for one, or for what torchrun started.
        workers: Processes that make samples, for each training process; None for a choice by the
            number of cores.
        init: Name or path of the model to start from.
        freeze: Glob patterns of parameter names that are not trained.
    """

    device: str = 'auto'
    devices: int | None = None
    workers: int | None = None
    init: str | None = None
    freeze: tuple[str, ...] = ()


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
    parser.add_argument('recipe', help='name of a packaged recipe, or TOML file')
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
    for limit, kind in (('epochs', int), ('steps', int), ('minutes', float)):
        parser.add_argument(
            f'--{limit}', type=kind, metavar='N', help=f'instead of the {limit} of the recipe'
        )
    parser.add_argument('--seed', type=int, metavar='N', help='instead of the seed of the recipe')
    parser.add_argument(
        '--dry-run', action='store_true', help='check recipe and data, train and write nothing'
    )


def _train(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as cache:
        # MONAI imports matplotlib, which else caches its fonts under the home folder.
        os.environ.setdefault('MPLCONFIGDIR', cache)
        # Else each of the processes that make samples multiplies matrices on all cores; read when
        # NumPy is imported, which is later.
        os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
        return _train_all(arguments)


def _train_all(arguments: argparse.Namespace) -> int:
    from bids_segsr.cli.training_data import (
        data_of_label_maps,
        data_of_subjects,
        find_subjects,
        with_validation,
    )
    from bids_segsr.training.recipe_file import read_recipe

    _start_log()
    if arguments.derivatives and (arguments.data is None or not arguments.data.is_dir()):
        raise UserError(
            f'{arguments.derivatives}: --derivatives goes with a BIDS dataset (--data)'
        )
    recipe = _overridden(read_recipe(arguments.recipe), arguments)
    run = Run(
        arguments.device,
        arguments.devices,
        arguments.workers,
        arguments.init,
        tuple(arguments.freeze),
    )
    if arguments.label_maps is not None:
        data = data_of_label_maps(recipe, arguments.label_maps)
        sets = _label_map_sets(arguments.label_maps)
    elif recipe.heads is not None:
        raise UserError(
            f'{arguments.recipe}: has a table [heads]; give label maps (--label-maps) to make '
            'them from'
        )
    else:
        subjects = with_validation(
            find_subjects(
                arguments.data,
                arguments.derivatives,
                recipe,
                arguments.label_desc,
                arguments.split_column,
            ),
            recipe.seed,
            arguments.data,
        )
        data = data_of_subjects(recipe, subjects, str(arguments.data))
        sets = _image_sets(subjects)
    if arguments.dry_run:
        check_out(arguments.out)
        _print_plan(recipe, data, run)
        return 0
    outcome = _fit(recipe, data, sets, arguments.out, run)
    if outcome is None:
        return 0
    if outcome.stopped_by is not None:
        _say(f'stopped after step {outcome.progress.step}; the same command goes on from there')
        return 128 + outcome.stopped_by
    print(arguments.out / 'model')
    return 0


def train_recipe(
    recipe: Recipe, subjects: Sequence[Subject], out: Path, source: str, run: Run
) -> Path | None:
    """Train a recipe on a list of subjects; taken up where the folder says.

    Args:
        recipe: What is trained.
        subjects: Training and validation subjects, checked by `check_subjects`.
        out: Folder of the run.
        source: Where the list comes from, for messages and the card.
        run: Device and start.

    Returns:
        The folder of the model; None if the training was stopped by a signal.

    Raises:
        UserError: If recipe, subjects, device and folder do not fit each other.
    """
    from bids_segsr.cli.training_data import data_of_subjects

    _start_log()
    data = data_of_subjects(recipe, subjects, source)
    outcome = _fit(recipe, data, _image_sets(subjects), out, run)
    return None if outcome is None or outcome.stopped_by is not None else out / 'model'


def _fit(recipe: Recipe, data: TrainingData, sets: Sets, out: Path, run: Run) -> Outcome | None:
    """Train; the outcome is None in all processes but the first."""
    check_out(out)
    make_folder(out)
    with locked(out):
        return _fit_alone(recipe, data, sets, out, run)


def _fit_alone(
    recipe: Recipe, data: TrainingData, sets: Sets, out: Path, run: Run
) -> Outcome | None:
    from tqdm.contrib.logging import logging_redirect_tqdm

    from bids_segsr.training.loop.distributed import make_fabric
    from bids_segsr.training.loop.engine import Trainer
    from bids_segsr.zoo.find import load_model

    init = load_model(run.init) if run.init is not None else None
    fabric = make_fabric(run.device, run.devices, recipe.schedule.precision)
    fabric.launch()
    _share_threads(fabric)
    workers = _workers(fabric.world_size) if run.workers is None else run.workers
    # The first process decompresses the volumes, the others find them.
    with fabric.rank_zero_first():
        training, validation = sets(recipe, out / CACHE_FOLDER)
    trainer = Trainer(
        recipe,
        training,
        validation,
        out,
        data,
        fabric,
        init=init,
        freeze=run.freeze,
        workers=workers,
    )
    with logging_redirect_tqdm():
        outcome = trainer.fit()
    if not fabric.is_global_zero:
        return None
    from bids_segsr.reports.training import write_report

    write_report(out, out / REPORT_FILE)
    return outcome


def _image_sets(subjects: Sequence[Subject]) -> Sets:
    def make(recipe: Recipe, cache: Path) -> tuple[PatchSource, PatchSource]:
        from bids_segsr.training.data.patches import make_dataset

        training = make_dataset(recipe, subjects, 'train', recipe.seed, cache)
        return training, make_dataset(recipe, subjects, 'validation', recipe.seed + 1, cache)

    return make


def _label_map_sets(folder: Path) -> Sets:
    def make(recipe: Recipe, cache: Path) -> tuple[PatchSource, PatchSource]:
        from bids_segsr.training.data.head_patches import make_head_dataset
        from bids_segsr.training.data.label_patches import make_label_map_dataset

        made: Callable[..., PatchSource] = (
            make_label_map_dataset if recipe.heads is None else make_head_dataset
        )
        training = made(recipe, folder, 'train', recipe.seed, cache)
        return training, made(recipe, folder, 'validation', recipe.seed + 1, cache)

    return make


def _overridden(recipe: Recipe, arguments: argparse.Namespace) -> Recipe:
    given = {
        key: getattr(arguments, key)
        for key in ('epochs', 'steps', 'minutes')
        if getattr(arguments, key) is not None
    }
    try:
        schedule = dataclasses.replace(recipe.schedule, **given)
    except ValueError as error:
        raise UserError(f'--{error}') from None
    seed = recipe.seed if arguments.seed is None else arguments.seed
    if seed < 0:
        raise UserError(f'--seed {seed}: give 0 or more')
    return dataclasses.replace(recipe, schedule=schedule, seed=seed)


def _start_log() -> None:
    logging.basicConfig(
        level=logging.WARNING,
        format='%(asctime)s %(message)s',
        datefmt='%H:%M:%S',
        stream=sys.stderr,
    )
    logging.getLogger('bids_segsr').setLevel(logging.INFO if is_first() else logging.ERROR)
    logging.getLogger('lightning_fabric').setLevel(logging.WARNING)


def _share_threads(fabric: Fabric) -> None:
    import torch

    if fabric.world_size > 1 and fabric.device.type == 'cpu':
        torch.set_num_threads(max(1, torch.get_num_threads() // fabric.world_size))


def _workers(processes: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    return max(1, min(8, (cores or 1) // processes - 1))


def _print_plan(recipe: Recipe, data: TrainingData, run: Run) -> None:
    from bids_segsr.inference.predict import resolve_device
    from bids_segsr.training.loop.distributed import make_fabric
    from bids_segsr.training.loop.forward_pass import check_start, make_network
    from bids_segsr.training.loop.optimisers import freeze
    from bids_segsr.zoo.find import load_model

    init = load_model(run.init) if run.init is not None else None
    if init is not None:
        check_start(recipe, init)
    if recipe.task.super_resolved_by is not None:
        load_model(recipe.task.super_resolved_by)
    make_fabric(run.device, run.devices, recipe.schedule.precision)
    network, fresh = make_network(recipe.network, init)
    frozen = freeze(network, run.freeze)
    schedule = recipe.schedule
    limits = {'epochs': schedule.epochs, 'steps': schedule.steps, 'minutes': schedule.minutes}
    low, high = data.spacing_mm
    rows = {
        'recipe': f'{recipe.name} ({recipe.reference or "no reference"})',
        'network': f'{recipe.network.architecture}, '
        f'{sum(p.numel() for p in network.parameters()):,} parameters',
        'critic': recipe.critic.architecture if recipe.adversarial and recipe.critic else 'none',
        'start': f'{run.init}, fresh: {", ".join(fresh) or "nothing"}'
        if init
        else 'random weights',
        'frozen': f'{len(frozen)} parameter tensors',
        'subjects': ', '.join(f'{count} {split}' for split, count in data.counts.items()),
        'images': f'{low:g} mm' if low == high else f'{low:g} to {high:g} mm',
        'patches': f'{recipe.sampling.patch_size} voxels an edge, {schedule.batch_size} a batch',
        'length': ', '.join(f'{value:g} {name}' for name, value in limits.items() if value),
        'device': resolve_device(run.device),
    }
    for name, value in rows.items():
        print(f'{name:9} {value}')
    print('Nothing was written.')


def _say(line: str) -> None:
    print(f'segsr: {line}', file=sys.stderr, flush=True)
