"""A training from its recipe and data to a model of the zoo, in a folder that it can go on in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from lightning_fabric import Fabric

from bids_segsr.environment import count_cores, set_threads
from bids_segsr.files import make_folder
from bids_segsr.imaging.patch_size import edges
from bids_segsr.inference.predict import resolve_device
from bids_segsr.networks import create
from bids_segsr.training.data.batches import PatchSource
from bids_segsr.training.data.data_summary import TrainingData
from bids_segsr.training.data.head_patches import make_head_dataset
from bids_segsr.training.data.label_patches import make_label_map_dataset
from bids_segsr.training.data.patches import make_dataset
from bids_segsr.training.data.subjects import Subject
from bids_segsr.training.data.volumes import ELSEWHERE
from bids_segsr.training.loop.checkpoint import load_checkpoint
from bids_segsr.training.loop.distributed import make_fabric
from bids_segsr.training.loop.engine import LAST, Trainer
from bids_segsr.training.loop.forward_pass import (
    blank_batch,
    check_networks,
    check_start,
    make_network,
    make_super_resolver,
)
from bids_segsr.training.loop.model_card import Outcome
from bids_segsr.training.loop.optimisers import freeze
from bids_segsr.training.loop.run_folder import (
    CACHE_FOLDER,
    check_out,
    check_same_run,
    is_first,
    locked,
)
from bids_segsr.training.recipe import Recipe
from bids_segsr.zoo.find import load_model

logger = logging.getLogger(__name__)

Sets = Callable[[Recipe, Path, torch.device], tuple[PatchSource, PatchSource]]
"""Makes training and validation patches; takes the folder for decompressed volumes, and where the
network is."""


@dataclass(frozen=True)
class Run:
    """How a training is run, whatever its recipe.

    Attributes:
        device: 'auto', 'cpu', 'cuda' or 'cuda:N'.
        devices: GPUs, or processes on a CPU; None for one, or for what torchrun started.
        workers: Processes that make samples, for each training process; None for a choice by the
            number of cores.
        init: Name or path of the model to start from.
        freeze: Glob patterns of parameter names that are not trained.
        cache: Folder for decompressed volumes, which other runs may share, also at the same time;
            None for one in the folder of the run.
    """

    device: str = 'auto'
    devices: int | None = None
    workers: int | None = None
    init: str | None = None
    freeze: tuple[str, ...] = ()
    cache: Path | None = None


def run_training(
    recipe: Recipe, data: TrainingData, sets: Sets, out: Path, run: Run
) -> Outcome | None:
    """Train; a run that was stopped or killed is taken up where it was.

    Args:
        recipe: What is trained.
        data: Summary of the data, for the card of the model.
        sets: Makes the patches, see `image_sets` and `label_map_sets`.
        out: Folder of the run; the model will lie in its folder `model`.
        run: Device and start.

    Returns:
        How it ended; None in all processes but the first.

    Raises:
        UserError: If recipe, data, device and folder do not fit each other.
    """
    check_out(out)
    make_folder(out)
    with locked(out):
        init = load_model(run.init) if run.init is not None else None
        if init is None and is_first() and _missed_start(recipe):
            logger.warning('random weights%s', _missed_start(recipe))
        fabric = make_fabric(run.device, run.devices, recipe.schedule.precision)
        fabric.launch()
        _share_threads(fabric)
        # The first process decompresses the volumes, the others find them.
        with fabric.rank_zero_first():
            cache = make_folder(run.cache or out / CACHE_FOLDER, ELSEWHERE)
            training, validation = sets(recipe, cache, fabric.device)
        workers = _workers(fabric.world_size) if run.workers is None else run.workers
        outcome = Trainer(
            recipe,
            training,
            validation,
            out,
            data,
            fabric,
            init=init,
            freeze=run.freeze,
            workers=0 if training.on_device else workers,
        ).fit()
    return outcome if fabric.is_global_zero else None


def describe_run(
    recipe: Recipe, data: TrainingData, run: Run, out: Path | None = None
) -> dict[str, str]:
    """Check what a training needs, and tell what it would be.

    Args:
        recipe: What would be trained.
        data: Summary of the data.
        run: Device and start.
        out: Folder that it would take, if any.

    Returns:
        Name of a fact to the fact.

    Raises:
        UserError: If recipe, start, device and folder do not fit each other.
    """
    if out is not None:
        check_out(out)
        before = load_checkpoint(out / LAST)
        if before is not None:
            check_same_run(out, before.state, recipe, data, run.freeze)
    init = load_model(run.init) if run.init is not None else None
    if init is not None:
        check_start(recipe, init)
    if recipe.task.super_resolved_by is not None:
        first = load_model(recipe.task.super_resolved_by)
        make_super_resolver(first, recipe, torch.device('cpu'))
    make_fabric(run.device, run.devices, recipe.schedule.precision)
    network, fresh = make_network(recipe.network, init)
    frozen = freeze(network, run.freeze)
    critic = None
    if recipe.adversarial and recipe.critic is not None:
        critic = create(recipe.critic.architecture, **recipe.critic.options)
    check_networks(recipe, blank_batch(recipe), network.eval(), critic)
    schedule = recipe.schedule
    limits = {'epochs': schedule.epochs, 'steps': schedule.steps, 'minutes': schedule.minutes}
    low, high = data.spacing_mm
    patch = 'x'.join(map(str, edges(recipe.sampling.patch_size)))
    return {
        'recipe': f'{recipe.name} ({recipe.reference or "no reference"})',
        'network': f'{recipe.network.architecture}, '
        f'{sum(p.numel() for p in network.parameters()):,} parameters',
        'critic': recipe.critic.architecture if critic and recipe.critic else 'none',
        'start': f'{run.init}, fresh: {", ".join(fresh) or "nothing"}'
        if init
        else f'random weights{_missed_start(recipe)}',
        'frozen': f'{len(frozen)} parameter tensors',
        'subjects': ', '.join(f'{count} {split}' for split, count in data.counts.items()),
        'images': f'{low:g} mm' if low == high else f'{low:g} to {high:g} mm',
        'patches': f'{patch} voxels, {schedule.batch_size} a batch',
        'length': ', '.join(f'{value:g} {name}' for name, value in limits.items() if value),
        'device': resolve_device(run.device),
    }


def image_sets(subjects: Sequence[Subject]) -> Sets:
    """Patches of images.

    Args:
        subjects: Training and validation subjects, checked by `subjects.check_subjects`.
    """

    def make(recipe: Recipe, cache: Path, _: torch.device) -> tuple[PatchSource, PatchSource]:
        training = make_dataset(recipe, subjects, 'train', recipe.seed, cache)
        return training, make_dataset(recipe, subjects, 'validation', recipe.seed + 1, cache)

    return make


def label_map_sets(folder: Path) -> Sets:
    """Patches of brains or heads that are made from label maps.

    Args:
        folder: Holds the label maps.
    """

    def make(recipe: Recipe, cache: Path, device: torch.device) -> tuple[PatchSource, PatchSource]:
        made: Callable[..., PatchSource] = (
            partial(make_label_map_dataset, device=device)
            if recipe.heads is None
            else make_head_dataset
        )
        training = made(recipe, folder, 'train', recipe.seed, cache)
        return training, made(recipe, folder, 'validation', recipe.seed + 1, cache)

    return make


def _missed_start(recipe: Recipe) -> str:
    first = recipe.network.starts_from
    return f'; the recipe goes on from a trained {first}: give it with --init' if first else ''


def _share_threads(fabric: Fabric) -> None:
    if fabric.world_size > 1 and fabric.device.type == 'cpu':
        set_threads(max(1, torch.get_num_threads() // fabric.world_size))


def _workers(processes: int) -> int:
    return max(1, min(8, count_cores() // processes - 1))
