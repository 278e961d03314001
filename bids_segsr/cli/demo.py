"""The demonstrations: a scan whose truth is known, and a training, each up to its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bids_segsr.cli import app
from bids_segsr.exceptions import UserError
from bids_segsr.simulation.demo_dataset import (
    SUBJECT,
    icbm_template,
    write_demo_dataset,
    write_training_demo,
)

TRAINED = 'segsrgan-2020'
SHORT: dict[str, Any] = {
    'critic': {'options': {'patch_size': 32}},
    'task': {'modalities': ['T1w']},
    'sampling': {'mode': 'random', 'patch_size': 32, 'patches_per_epoch': 32, 'foreground': 0.3},
    'critic_schedule': {'updates': 1},
    'optimiser': {'learning_rate': 1e-3},
    'schedule': {'epochs': 10, 'minutes': 5.0, 'batch_size': 4},
    'validation': {'patches': 8},
}
"""What makes minutes of the article's weeks: patches, batches, updates of the critic, length."""


def run_demo(output: Path, model: str | None = None) -> int:
    """Make the dataset, run both levels of the App, print scores and the report's path.

    Args:
        output: Folder for dataset, derivatives and work directory.
        model: Name or path of the model; None for the packaged one.

    Returns:
        Exit status of the App.

    Raises:
        UserError: The folder holds something else.
    """
    bids_dir, derivatives = output / 'bids', output / 'derivatives'
    if output.exists() and any(output.iterdir()) and not bids_dir.is_dir():
        raise UserError(f'{output}: not empty; give a new folder for the demonstration.')
    print('1/3 the ICBM 152 T1w average, acquired with 1 x 1 x 3 mm slices')
    truth, affine = icbm_template()
    write_demo_dataset(bids_dir, truth, affine)
    print('2/3 bids_segsr, participant and group level (a few minutes)', flush=True)
    arguments = [str(bids_dir), str(derivatives), 'participant', 'group', '--modality', 'T1w']
    arguments += ['-w', str(output / 'work'), '--skip-bids-validation']
    arguments += ['--model', model] if model else []
    status = app.main(arguments)
    if status:
        return status
    from bids_segsr.zoo.find import DEFAULT_MODEL, find_card

    print('3/3 against the truth, inside the brain:')
    for line in _scores(
        bids_dir, derivatives, truth, affine, find_card(model or DEFAULT_MODEL).name
    ):
        print(line)
    print('(slices of the profile that back-projection assumes; for others see docs/models.md)')
    print(f'Report: {derivatives / f"sub-{SUBJECT}.html"}')
    return 0


def run_training_demo(output: Path) -> int:
    """Train the network of SegSRGAN (2020) for minutes on two small volumes, up to its report.

    Args:
        output: Folder for the data and the run; a run that was stopped is taken up.

    Returns:
        0.

    Raises:
        UserError: The folder holds something else.
    """
    from bids_segsr.api import run_training_with_report
    from bids_segsr.cli.train import start_log
    from bids_segsr.training.loop.training_plan import plan_training
    from bids_segsr.training.loop.training_run import Run
    from bids_segsr.training.recipe_file import changed_recipe, read_recipe

    data, run = output / 'data', output / 'run'
    if output.exists() and any(output.iterdir()) and not data.is_dir():
        raise UserError(f'{output}: not empty; give a new folder for the demonstration.')
    print('1/2 the halves of the ICBM 152 T1w average, and their grey matter')
    listed = write_training_demo(data)
    print(f'2/2 {TRAINED}, some minutes instead of weeks: it only begins to learn', flush=True)
    recipe = changed_recipe(read_recipe(TRAINED), SHORT, 'demo')
    plan = plan_training(recipe, data=listed)
    start_log()
    outcome = run_training_with_report(plan.recipe, plan.data, plan.sets, run, Run())
    if outcome is not None and outcome.stopped_by is not None:
        return 128 + outcome.stopped_by
    print(f'Report: {run / "report.html"}')
    return 0


def _scores(
    bids_dir: Path, derivatives: Path, truth: np.ndarray, affine: np.ndarray, model: str
) -> list[str]:
    """Compare the baselines and the network with the truth on the grid of the result.

    All were corrected for a bias field that the truth does not have: it is divided by the same.
    """
    from bids_segsr.bids.names import model_label
    from bids_segsr.imaging.back_projection import Slices, back_projection_alone
    from bids_segsr.imaging.measures.metrics import psnr, ssim
    from bids_segsr.imaging.resample import Grid, resample, resample_mask
    from bids_segsr.imaging.volume import load_map, load_volume

    folder = derivatives / f'sub-{SUBJECT}' / 'anat'
    (found,) = folder.glob(f'*_res-*_desc-{model_label(model)}_T1w.nii.gz')
    result = load_volume(found)
    grid = Grid(result.data.shape, result.affine)
    scan = load_volume(next(folder.glob('*_desc-preproc_T1w.nii.gz')))
    brain = load_map(next(folder.glob('*_desc-brain_mask.nii.gz')))
    mask = resample_mask(brain.data > 0, brain.affine, grid)
    acquired = load_volume(bids_dir / f'sub-{SUBJECT}' / 'anat' / f'sub-{SUBJECT}_T1w.nii.gz').data
    seen = acquired > 0
    correction = np.ones_like(acquired)
    correction[seen] = scan.data[seen] / acquired[seen]
    correction = resample(correction, scan.affine, grid, order=1)
    reference = np.where(mask, resample(truth, affine, grid) * correction, 0)
    lines = [f'  {"":34}{"PSNR (dB)":>10}{"SSIM":>8}']
    slices = Slices(scan.data, scan.affine, grid.affine)
    for name, whole in (
        ('cubic spline', resample(scan.data, scan.affine, grid)),
        ('cubic spline and back-projection', back_projection_alone(slices, mask)),
        ('network', result.data),
    ):
        image = np.where(mask, whole, 0)
        lines.append(
            f'  {name:34}{psnr(reference, image, mask):10.2f}{ssim(reference, image, mask):8.4f}'
        )
    return lines
