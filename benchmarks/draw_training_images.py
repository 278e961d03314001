"""Picture sheet: simulated training images beside real scans.

    python benchmarks/draw_training_images.py --data DIR docs/images/training-images.png

DIR holds `labels` and `images` as the training of the default model took them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np

from bids_segsr.imaging.resample import isotropic_grid, resample
from bids_segsr.imaging.volume import load_volume
from bids_segsr.simulation.anatomy import read_anatomy
from bids_segsr.simulation.synthesis import Sample, Synthesis, make_sample
from bids_segsr.simulation.tables import CLASSES
from bids_segsr.training.recipe_file import read_recipe

SHAPE = (120, 120, 96)
LABEL_MAPS = (
    ('adult-head/training_seg_01.nii.gz', 'adult'),
    ('adult-brain/brain1_labels.nii.gz', 'adult'),
    ('fetal/GA30_operated_dseg.nii.gz', 'fetal'),
)
SCANS = (
    ('adult-clinical/patient20_T1W.nii.gz', 1.0),
    ('adult-clinical/patient01_T1W.nii.gz', 1.0),
    ('adult-clinical/patient01_T2W.nii.gz', 1.0),
    ('adult-clinical/patient01_FLAIR.nii.gz', 1.0),
    ('fetal-stacks/sub-01/anat/sub-01_run-1_T2w.nii.gz', 1.0),
    ('fetal/GA30_operated_T2w.nii.gz', 0.8),
)


def simulated(labels: Path) -> Iterator[tuple[str, Sample]]:
    """Two samples of each label map as the default model's recipe draws them, slice axis last."""
    settings = read_recipe('default-model').label_maps
    assert settings is not None  # noqa: S101 - narrows
    synthesis = Synthesis(settings.appearance, settings.acquisition, settings.deformation)
    for number, (name, labelling) in enumerate(LABEL_MAPS):
        anatomy = read_anatomy(labels / name, labelling)
        for seed in range(2):
            rng = np.random.default_rng([number, seed])
            yield Path(name).name.split('.')[0], make_sample(anatomy, SHAPE, synthesis, rng)


def main() -> None:
    """Draw the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('picture', type=Path)
    arguments = parser.parse_args()

    mpl.use('agg')
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(4, 6, figsize=(12, 8.4), facecolor='black', layout='constrained')
    for axis in axes.flat:
        axis.set_axis_off()

    def show(row: int, column: int, plane: np.ndarray, title: str, **options: object) -> None:
        shown = np.asarray(plane).T
        axes[row, column].imshow(shown, origin='lower', **({'cmap': 'gray'} | options))
        axes[row, column].set_title(title, color='white', fontsize=9)

    for column, (name, sample) in enumerate(simulated(arguments.data / 'labels')):
        middle = SHAPE[1] // 2
        show(0, column, sample.image[:, middle], f'{name}\nslices of {sample.ratio:.1f} voxels')
        show(1, column, sample.truth[:, middle], 'truth')
        classes = sample.tissues.argmax(0)[:, middle]
        show(2, column, classes, 'classes', cmap='tab10', vmin=0, vmax=len(CLASSES))
    for column, (name, spacing) in enumerate(SCANS):
        scan = load_volume(arguments.data / 'images' / name)
        grid = isotropic_grid(scan.data.shape, scan.affine, spacing)
        plane = resample(scan.data, scan.affine, grid)[grid.shape[0] // 2]
        show(3, column, plane, f'real: {Path(name).name.split(".")[0]}')
    arguments.picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.picture, dpi=70, metadata={'Software': None})


if __name__ == '__main__':
    main()
