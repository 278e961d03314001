"""What a training ends with: a model of the zoo and a summary of the run."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from bids_segsr import __version__
from bids_segsr.files import write_text
from bids_segsr.training.data.data_summary import TrainingData
from bids_segsr.training.loop.progress import Progress
from bids_segsr.training.recipe import Recipe
from bids_segsr.training.recipe_file import recipe_text
from bids_segsr.zoo.card import InputContract, ModelCard
from bids_segsr.zoo.store import save_model

SUMMARY_FILE = 'run.json'


SEEN = 'content_digests'
"""Key of a card's training: digests of the images and label maps that the training read."""

UNTRAINED = (
    'These are the weights that the training began with: none of its validations was better.'
)


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes:
        progress: Its counters.
        stopped_by: Number of the signal that stopped it early; None if it reached its end.
        kept_step: Step of the weights that are kept.
        scores: Of these, on the validation patches.
    """

    progress: Progress
    stopped_by: int | None
    kept_step: int = 0
    scores: dict[str, float] = field(default_factory=dict)

    def with_scores(self, rows: Sequence[Mapping[str, float]], step: int) -> Outcome:
        """Take over the scores of a step.

        Args:
            rows: Table of the run.
            step: Of the weights that are kept.

        Returns:
            The completed outcome.
        """
        best = [row for row in rows if row['step'] == step]
        names = ('psnr', 'ssim', 'gain', 'dice', 'interpolation', 'validation', 'score')
        scores = {
            name: value
            for name, value in (best[-1] if best else {}).items()
            if name.startswith(names) and math.isfinite(value)
        }
        return dataclasses.replace(self, kept_step=step, scores=scores)


def write_model(
    folder: Path, network: nn.Module, recipe: Recipe, data: TrainingData, outcome: Outcome
) -> Path:
    """Write the trained network as a model of the zoo.

    Args:
        folder: Where to.
        network: The weights that are kept.
        recipe: How it was trained.
        data: On what.
        outcome: How it ended.

    Returns:
        The folder.
    """
    channels = recipe.task.channels
    progress = outcome.progress
    what = 'Super-resolution' if recipe.loss.intensity != 'none' else 'Segmentation'
    if what == 'Super-resolution' and len(channels) > 1:
        what += ' and segmentation'
    card = ModelCard(
        name=recipe.name,
        version='1',
        description=f'{what} of {" and ".join(recipe.task.modalities)} images, trained with '
        f'segsr train on {data.counts.get("train", 0)} subjects. Research use only; not for '
        'diagnosis.',
        architecture=recipe.network.architecture,
        options=recipe.network.options,
        contract=InputContract(
            modalities=recipe.task.modalities,
            normalisation=recipe.sampling.normalisation,
            spacing_mm=data.spacing_mm,
            slice_thickness_mm=data.slice_thickness_mm,
            skull_stripped=recipe.task.skull_stripped,
            slice_axis_last=recipe.slice_axis_last,
            guides=recipe.network.options.get('guides', 0),
            mirrored=recipe.label_maps is not None,
            patch_size=recipe.sampling.patch_size,
            back_projection=recipe.task.back_projection,
            interpolation=recipe.forward.interpolation,
            back_projection_steps=recipe.task.back_projection_steps,
            input_back_projection_steps=recipe.task.input_back_projection_steps,
        ),
        channels=channels,
        labels={1: channels[1]} if 'cortex' in channels or len(channels) == 2 else {},
        training={
            'recipe': recipe.name,
            'reference': recipe.reference,
            'subjects': data.counts,
            'steps': progress.step,
            'best_step': progress.best_step,
            'kept_step': outcome.kept_step,
            'minutes': round(progress.seconds / 60, 1),
            'loss': dataclasses.asdict(recipe.loss),
            'bids_segsr': __version__,
            'recipe_file': recipe_text(recipe),
            SEEN: sorted({f.digest for f in data.files if f.role in ('image', 'label map')}),
        },
        scores={'validation patches': {k: round(v, 4) for k, v in outcome.scores.items()}},
        limitations=(
            'Judged on validation patches of its own training only; run segsr evaluate on '
            'held-out subjects before use.',
            *([UNTRAINED] if progress.step and not outcome.kept_step else []),
        ),
        licence='not told: it depends on the training data',
    )
    return save_model(folder, network, card)


def write_summary(
    out: Path,
    recipe: Recipe,
    data: TrainingData,
    outcome: Outcome,
    fabric: Fabric,
    details: Mapping[str, Any],
) -> Path:
    """Write what the report page and people want to know of a run.

    Args:
        out: Folder of the run.
        recipe: How it was trained.
        data: On what.
        outcome: How it ended.
        fabric: Where it ran.
        details: Further entries.

    Returns:
        The JSON file.
    """
    progress = outcome.progress
    content = {
        'recipe': recipe.name,
        'reference': recipe.reference,
        'source': data.source,
        'subjects': {split: list(names) for split, names in data.subjects.items()},
        'spacing_mm': data.spacing_mm,
        'slice_thickness_mm': data.slice_thickness_mm,
        'steps': progress.step,
        'critic_steps': progress.critic_step,
        'best_step': progress.best_step,
        'kept_step': outcome.kept_step,
        'minutes': progress.seconds / 60,
        'memory_gb': most_memory_gb(fabric.device),
        'wait_share': progress.all_waited / max(progress.all_trained, 1e-9),
        'scores': outcome.scores,
        'machine': machine(fabric),
        **details,
    }
    return write_text(out / SUMMARY_FILE, json.dumps(content, indent=2) + '\n')


def most_memory_gb(device: torch.device) -> float:
    """Return the most memory that this process ever had, GB; of the GPU where it has one."""
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def machine(fabric: Fabric) -> dict[str, str | int]:
    """Describe where a training runs."""
    device = fabric.device
    cuda = device.type == 'cuda'
    return {
        'device': torch.cuda.get_device_name(device) if cuda else processor_name(),
        'processes': fabric.world_size,
        'threads': torch.get_num_threads(),
        'cores': os.cpu_count() or 1,
        'torch': torch.__version__,
        'python': platform.python_version(),
        'system': platform.system(),
    }


def processor_name() -> str:
    """Return the model of the processor, or its architecture where it has no name."""
    try:
        for line in Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
