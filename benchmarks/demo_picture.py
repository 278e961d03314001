"""The picture of the README, drawn from the outputs of `segsr demo`.

segsr demo demo && python benchmarks/demo_picture.py demo docs/images/demo.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np

from bids_segsr.imaging.resample import Grid, resample, resample_mask
from bids_segsr.imaging.volume import load_map, load_volume
from bids_segsr.simulation.demo_dataset import SUBJECT, icbm_template
from bids_segsr.zoo.find import DEFAULT_MODEL, find_card

CUT_MM = {'sagittal': -12.0, 'coronal': -20.0}


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('demo', type=Path, help='folder of the demonstration')
    parser.add_argument('picture', type=Path)
    arguments = parser.parse_args()

    from bids_segsr.bids.names import model_label

    folder = arguments.demo / 'derivatives' / f'sub-{SUBJECT}' / 'anat'
    name = model_label(find_card(DEFAULT_MODEL).name)
    result = load_volume(folder / f'sub-{SUBJECT}_res-1mm_desc-{name}_T1w.nii.gz')
    cortex = load_map(folder / f'sub-{SUBJECT}_res-1mm_label-CGM_mask.nii.gz').data
    scan = load_volume(folder / f'sub-{SUBJECT}_desc-preproc_T1w.nii.gz')
    brain = load_map(folder / f'sub-{SUBJECT}_desc-brain_mask.nii.gz')
    grid = Grid(result.data.shape, result.affine)
    mask = resample_mask(brain.data > 0, brain.affine, grid)
    truth, affine = icbm_template()
    columns = {
        '3 mm slices': np.where(mask, resample(scan.data, scan.affine, grid, order=0), 0),
        'cubic spline': np.where(mask, resample(scan.data, scan.affine, grid), 0),
        'super-resolved': result.data,
        'truth': np.where(mask, resample(truth, affine, grid), 0),
        'cortex': result.data,
    }
    draw(columns, cortex, grid, arguments.picture)


def draw(columns: dict[str, np.ndarray], cortex: np.ndarray, grid: Grid, picture: Path) -> None:
    """Draw a sagittal and a coronal cut of each image (X, Y, Z)."""
    mpl.use('agg')
    from matplotlib import pyplot as plt

    index = np.linalg.inv(grid.affine) @ [CUT_MM['sagittal'], CUT_MM['coronal'], 0, 1]
    i, j = (round(float(value)) for value in index[:2])
    figure, axes = plt.subplots(
        2, len(columns), figsize=(3 * len(columns), 5.2), facecolor='black', layout='constrained'
    )
    top = np.percentile(columns['truth'], 99.8)
    for column, (title, image) in enumerate(columns.items()):
        for row, plane in enumerate((image[i].T, image[:, j].T)):
            axis = axes[row, column]
            axis.imshow(plane, cmap='gray', origin='lower', vmin=0, vmax=top)
            if title == 'cortex':
                outline = (cortex[i].T, cortex[:, j].T)[row]
                axis.contour(outline, [0.5], colors='#00bfff', linewidths=0.7)
            axis.set_axis_off()
        axes[0, column].set_title(title, color='white', fontsize=15)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=80, metadata={'Software': None})


if __name__ == '__main__':
    main()
