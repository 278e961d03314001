"""The package from Python: an image, a training, an experiment.

These are the functions that `bids_segsr` itself offers; the command `segsr` calls what they call.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_segsr.bids.participants import postmenstrual
from bids_segsr.exceptions import UserError
from bids_segsr.execution.progress_line import ProgressLine
from bids_segsr.inference.in_memory import ImageLike, as_source
from bids_segsr.inference.one_image import Source, process_image
from bids_segsr.inference.processing import Processing
from bids_segsr.result import Result
from bids_segsr.zoo.find import AUTO_MODEL, load_model
from bids_segsr.zoo.store import TrainedModel

if TYPE_CHECKING:
    from bids_segsr.evaluation.cases import Imaging
    from bids_segsr.evaluation.protocols import Result as Experiment
    from bids_segsr.evaluation.run import Settings
    from bids_segsr.training.data.data_summary import TrainingData
    from bids_segsr.training.loop.model_card import Outcome
    from bids_segsr.training.loop.training_run import Run, Sets
    from bids_segsr.training.recipe import Recipe

__all__ = ['Result', 'evaluate', 'load_model', 'predict', 'train']

logger = logging.getLogger(__name__)

REPORT_FILE = 'report.html'


def predict(
    image: ImageLike,
    *,
    affine: np.ndarray | None = None,
    mask: ImageLike | None = None,
    guides: Sequence[ImageLike] = (),
    model: str | Path | TrainedModel = AUTO_MODEL,
    age_weeks: float | None = None,
    name: str | None = None,
    tell: Callable[[str], None] = logger.info,
    progress: bool = False,
    **choices: Any,
) -> Result:
    """Super-resolve and segment one image, as `segsr predict` does.

    Args:
        image: NIfTI file, folder of one DICOM series, image of nibabel, or array (X, Y, Z).
        affine: Voxel to RAS+ mm (4 x 4) of an array. Arrays among mask and guides lie on the grid
            of the image.
        mask: Brain mask on the grid of the image; above 0.5 is inside.
        guides: Images of other contrasts for a model that needs them, registered to the image.
        model: Name, path or blend (see `load_model`), or a loaded model; `auto` chooses a packaged
            one by contrast, age and size of the brain.
        age_weeks: Postmenstrual age at the scan, 40 at term; None where it is not known.
        name: What an image that is no file is called, in files and messages; where it ends with
            `_T2w` (`_T1w`, ...), that is its contrast. None for the name of its file, or `image`.
        tell: Takes what a person should know, one line each.
        progress: Show the step that runs, and how long the network will take.
        choices: Any of the fields of `bids_segsr.inference.processing.Processing`: `resolution`,
            `slice_thickness` (of a file, the JSON beside it tells it), `device`, `skull_strip`,
            `patch_size`, ...

    Returns:
        Image, tissues, probabilities and QC; nothing is written.

    Raises:
        UserError: Image, mask, guide, model or a choice cannot be used.
        TypeError: There is no such choice.
    """
    processing = Processing(**choices)
    trained = model if isinstance(model, TrainedModel) else str(model)
    age = None if age_weeks is None else postmenstrual(age_weeks)
    with tempfile.TemporaryDirectory() as folder:
        source = as_source(Path(folder), image, affine, mask, guides, name)
        line = ProgressLine([source.name], quiet=not progress)
        try:
            with line.moving():
                made = process_image(
                    source,
                    trained,
                    processing,
                    age=age,
                    tell=tell,
                    progress=partial(line.follow, source.name),
                )
        except UserError as error:
            raise type(error)(str(error).replace(f'{folder}/', '')) from None
    if source.image.is_relative_to(folder):
        made = replace(made, source=Source(Path(source.image.name)))
    return Result(made)


def train(
    recipe: str | Path | Recipe,
    out: str | Path,
    *,
    data: str | Path | None = None,
    label_maps: str | Path | None = None,
    derivatives: str | Path | None = None,
    label_desc: str | None = None,
    split_column: str | None = None,
    labels: Mapping[str, Sequence[int]] | None = None,
    init: str | Path | None = None,
    freeze: Sequence[str] = (),
    device: str = 'auto',
    devices: int | None = None,
    workers: int | None = None,
    cache: str | Path | None = None,
    **schedule: float,
) -> TrainedModel | None:
    """Train a network, as `segsr train` does; a run that was stopped is taken up where it was.

    Args:
        recipe: Name of a packaged recipe, a TOML file, or a recipe.
        out: Folder of the run; its model lies in `out/model`, its report in `out/report.html`.
        data: CSV list or BIDS dataset of high-resolution images; or give `label_maps`.
        label_maps: Folder of label maps that the training images are made from.
        derivatives: BIDS derivatives with the segmentations, for a BIDS dataset.
        label_desc: The desc entity of these, where there are several.
        split_column: Column of participants.tsv with the splits.
        labels: Channel to its numbers in the label images, instead of those of the recipe.
        init: Name or path of the model to start from.
        freeze: Glob patterns of parameters that are not trained.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        devices: GPUs, or processes on a CPU; None for one.
        workers: Processes that make samples; None for a choice by the number of cores.
        cache: Folder for decompressed volumes, which runs may share; None for one of the run.
        schedule: `epochs`, `steps`, `minutes` or `seed`, instead of those of the recipe.

    Returns:
        The trained model; None in all processes but the first.

    Raises:
        UserError: Recipe, data, device and folder do not fit each other.
        KeyboardInterrupt: It was stopped by a signal; the same call goes on from there.
    """
    from bids_segsr.training.loop.training_plan import plan_training
    from bids_segsr.training.loop.training_run import Run

    plan = plan_training(
        recipe,
        data=data,
        label_maps=label_maps,
        derivatives=derivatives,
        label_desc=label_desc,
        split_column=split_column,
        labels={name: tuple(numbers) for name, numbers in (labels or {}).items()},
        **schedule,
    )
    for facts in plan.labels.values():
        for warning in facts.warnings:
            logger.warning('%s', warning)
    run = Run(
        device,
        devices,
        workers,
        None if init is None else str(init),
        tuple(freeze),
        None if cache is None else Path(cache),
    )
    outcome = run_training_with_report(plan.recipe, plan.data, plan.sets, Path(out), run)
    if outcome is None:
        return None
    if outcome.stopped_by is not None:
        raise KeyboardInterrupt(f'stopped after step {outcome.progress.step}')
    return load_model(Path(out) / 'model')


def run_training_with_report(
    recipe: Recipe, data: TrainingData, sets: Sets, out: Path, run: Run
) -> Outcome | None:
    """Train, and write the report.

    Args:
        recipe: What is trained.
        data: Summary of the data.
        sets: Makes the patches.
        out: Folder of the run; taken up where it stands.
        run: Device and start.

    Returns:
        How it ended; None in all processes but the first.

    Raises:
        UserError: If recipe, data, device and folder do not fit each other.
    """
    from tqdm.contrib.logging import logging_redirect_tqdm

    from bids_segsr.reports.training import write_report
    from bids_segsr.training.loop.training_run import run_training

    with logging_redirect_tqdm():
        outcome = run_training(recipe, data, sets, out, run)
    if outcome is not None:
        write_report(out, out / REPORT_FILE)
    return outcome


def evaluate(
    models: Sequence[str | Path],
    data: str | Path | Mapping[str, str | Path],
    out: str | Path,
    *,
    protocol: str = 'compare',
    imaging: Imaging | None = None,
    metrics: Sequence[str] | None = None,
    labels: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
    tell: Callable[[str], None] = logger.info,
    varied: Mapping[str, Any] | None = None,
    **choices: Any,
) -> Experiment:
    """Compare models on images whose truth is known, as `segsr evaluate` does.

    Args:
        models: Names, paths, blends `A:B:0.6`, pipelines `SR+SEGMENTER`, each with `NAME=` before
            it where the table shall show another name. Baselines are always among them.
        data: CSV list whose rows with Base "Test" are used, or several by name.
        out: Folder of the results; what an earlier run measured there is kept.
        protocol: `compare`, `ablation`, `steps`, `robustness`, `scales`, `transfer`, `blends` or
            `cost`.
        imaging: How scans are simulated; None for slices of 3 mm.
        metrics: What is measured; None for what the article's tables show.
        labels: Structure to its numbers in the label images; None for cortex, 1.
        seed: Of noise and ranges.
        tell: Takes a line about each image.
        varied: What the protocol varies, by the name of the argument of its function in
            `bids_segsr.evaluation.protocols`.
        choices: Fields of `bids_segsr.inference.processing.Processing`.

    Returns:
        Rows, summary, tests, tables (pandas) and figures (matplotlib); all lie in the folder, too.

    Raises:
        UserError: Models, data and measures do not fit each other.
    """
    from bids_segsr.evaluation.cases import Imaging
    from bids_segsr.evaluation.run import Settings
    from bids_segsr.imaging.degrade import ForwardModel

    lists = dict(data) if isinstance(data, Mapping) else {Path(data).stem: data}
    numbers = {name: tuple(values) for name, values in (labels or {'cortex': (1,)}).items()}
    settings = Settings(
        out=Path(out),
        imaging=imaging or Imaging(ForwardModel(spacing_mm=(3.0, 3.0))),
        processing=Processing(**choices),
        metrics=None if metrics is None else tuple(metrics),
        labels=numbers,
        seed=seed,
        tell=tell,
    )
    result, _ = run_experiment_with_page(
        protocol,
        [str(model) for model in models],
        {name: Path(path) for name, path in lists.items()},
        settings,
        named=labels is not None,
        varied=varied or {},
    )
    return result


def run_experiment_with_page(
    protocol: str,
    models: Sequence[str],
    lists: Mapping[str, Path],
    settings: Settings,
    *,
    named: bool,
    varied: Mapping[str, Any],
) -> tuple[Experiment, list[Path]]:
    """Run a protocol and write its page.

    Args, returns and raises as `evaluation.experiment.run_experiment`; the page comes last.
    """
    from bids_segsr.evaluation.experiment import run_experiment
    from bids_segsr.reports.experiment_page import write_experiment_page

    result, written = run_experiment(protocol, models, lists, settings, named=named, varied=varied)
    return result, [*written, write_experiment_page(result, settings.out, protocol)]
