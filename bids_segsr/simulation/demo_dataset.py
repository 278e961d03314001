"""The data of the demonstrations: a scan whose truth is known, and two volumes to train on."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np

from bids_segsr.files import write_text
from bids_segsr.imaging.degrade import degrade, thick_slice_grid
from bids_segsr.imaging.volume import save_volume

SUBJECT = 'icbm152'
SLICE_THICKNESS_MM = 3.0
NOISE = 0.01
SEED = 152


def icbm_template() -> tuple[np.ndarray, np.ndarray]:
    """Return the stripped ICBM 152 T1w average at 1 mm (largest value 1000) and its affine."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        from nilearn.datasets import load_mni152_template

        template = load_mni152_template(resolution=1)
    data = np.asarray(template.dataobj, dtype=np.float32)
    return data * np.float32(1000 / data.max()), template.affine


def write_demo_dataset(root: Path, truth: np.ndarray, affine: np.ndarray) -> None:
    """Write a BIDS dataset of one scan with thick slices.

    Args:
        root: Of the dataset; made if missing.
        truth: Fine image (i, j, k), stripped.
        affine: Its affine.
    """
    grid = thick_slice_grid(truth.shape, affine, SLICE_THICKNESS_MM, axis=2)
    scan = degrade(truth, affine, grid)
    noise = np.random.default_rng(SEED).normal(0, NOISE * truth.max(), scan.shape)
    scan = np.where(scan > 0.02 * truth.max(), np.maximum(scan + noise, 0), 0)
    folder = root / f'sub-{SUBJECT}' / 'anat'
    folder.mkdir(parents=True, exist_ok=True)
    save_volume(folder / f'sub-{SUBJECT}_T1w.nii.gz', scan.astype(np.float32), grid.affine)
    for path, content in {
        folder / f'sub-{SUBJECT}_T1w.json': {
            'SliceThickness': SLICE_THICKNESS_MM,
            'Description': 'ICBM 152 2009 average, degraded by a Gaussian slice profile',
        },
        root / 'dataset_description.json': {
            'Name': 'ICBM 152 with thick slices',
            'BIDSVersion': '1.10.0',
            'DatasetType': 'raw',
        },
    }.items():
        write_text(path, json.dumps(content, indent=2) + '\n')
    write_text(
        root / 'README',
        'The ICBM 152 2009 nonlinear average (Fonov et al. 2011), as nilearn carries it, degraded '
        'to 1 x 1 x 3 mm with a Gaussian slice profile and 1 % noise for a demonstration.\n',
    )


def write_training_demo(folder: Path) -> Path:
    """Write the halves of the ICBM 152 average and their grey matter: one trains, one validates.

    Args:
        folder: Where to; made if missing.

    Returns:
        The list, as `segsr train` takes it.
    """
    image, affine = icbm_template()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        from nilearn.datasets import load_mni152_gm_template

        grey = np.asarray(load_mni152_gm_template(resolution=1).dataobj) > 0.5
    folder.mkdir(parents=True, exist_ok=True)
    rows = ['HR_image,Label_image,Base']
    middle = image.shape[0] // 2
    for side, base, start in (('left', 'Train', 0), ('right', 'Validation', middle)):
        half = slice(start, start + middle)
        placed = affine.copy()
        placed[:3, 3] += affine[:3, 0] * start
        save_volume(folder / f'{side}_T1w.nii.gz', image[half], placed)
        save_volume(folder / f'{side}_gray.nii.gz', grey[half], placed)
        rows.append(f'{side}_T1w.nii.gz,{side}_gray.nii.gz,{base}')
    return write_text(folder / 'training.csv', '\n'.join(rows) + '\n')
