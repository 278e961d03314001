"""Several generators, the same budget: trained on label maps, tried on subjects set aside.

    python benchmarks/generators.py --data DIR --out DIR [--minutes 6] [--models NAME ...]

DIR holds `labels` and `images` as the training of the default model takes them. The networks are
those of the packaged recipes; data, optimiser and length are the same for all, so that the table
tells what each makes of a small budget, not what it can reach. Training and scores are those of
`segsr train` and `segsr evaluate compare`; a second run goes on where the first one stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from held_out import Case, real_cases, simulated_cases

from bids_segsr.training.recipe_file import read_recipe

EDGE = 84
"""Voxels of the cubes that are scored, around the middle of the brain."""

GENERATORS = {
    'SegSRGAN': 'segsrgan-2020',
    'SegSRGAN U-Net': 'segsrgan-2020',
    '10L-ReCNN': 'recnn-10l',
    'SRCNN3D': 'srcnn3d',
    'FSRCNN': 'fsrcnn',
    'SRResNet': 'srresnet',
    'mDCSRN b4u4': 'mdcsrn-b4u4',
}
"""Generator to the packaged recipe that its options come from."""

RECIPE = """
name = "{name}"
reference = "benchmarks/generators.py"

[network]
architecture = "{architecture}"
options = {options}
start_near_identity = {near}

[task]
channels = [{channels}]
modalities = ["T1w", "T2w"]

[sampling]
patch_size = 40
patches_per_epoch = 500
normalisation = "patch-standard"

[loss]
intensity = "charbonnier"
segmentation = "dice+cross-entropy"
segmentation_weight = 0.4

[optimiser]
learning_rate = 1e-3
clip = 1.0
head_rate = {head_rate}

[rates]
warmup = 50

[schedule]
minutes = {minutes}
batch_size = 2
ema = 0.99
precision = "bf16"

[validation]
every_steps = 100
score = "psnr"
patches = 8
pictures = 1

[label_maps]
hold_out = ["training_seg_1[789]*", "training_seg_20*", "brain5*", "GA28*", "GA33*"]
validation = ["training_seg_16*", "brain4*", "GA26*", "GA32*"]
appearance = {{ skull_share = 0.0 }}

[[label_maps.sources]]
pattern = "adult-head/*.nii.gz"
labelling = "adult"
share = 0.5

[[label_maps.sources]]
pattern = "adult-brain/*.nii.gz"
labelling = "adult"
share = 0.15

[[label_maps.sources]]
pattern = "fetal/*.nii.gz"
labelling = "fetal"
share = 0.35
"""


def write_recipe(name: str, source: str, minutes: float, folder: Path) -> Path:
    """Write the recipe of a generator: a packaged network, the training of this comparison."""
    network = read_recipe(source).network
    segments = network.architecture.startswith('segsrgan')
    unet = name.endswith('U-Net')
    options = {'base_filters': 16} if unet else network.options
    short = name.lower().replace(' ', '-')
    text = RECIPE.format(
        name=short,
        architecture='segsrgan-unet' if unet else network.architecture,
        options='{ ' + ', '.join(f'{k} = {json.dumps(v)}' for k, v in options.items()) + ' }',
        near=json.dumps(segments),
        channels='"intensity", "cortex"' if segments else '"intensity"',
        head_rate=0.05 if segments else 1.0,
        minutes=minutes,
    )
    path = folder / f'{short}.toml'
    path.write_text(text, encoding='utf-8')
    return path


def cubes(data: Path) -> Iterator[tuple[str, Case]]:
    """Test images: simulated from label maps set aside, and real ones; not both of one subject."""
    for case in simulated_cases(data / 'labels'):
        if 'adult-T1w' not in case.group and case.name != 'GA33_operated_dseg':
            yield 'simulated', case
    for case in real_cases(data):
        if case.tissues is not None:
            yield 'real', case


def write_images(data: Path, folder: Path) -> dict[str, Path]:
    """Write the cubes as NIfTI with their lists; return the lists."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[dict[str, str]]] = {}
    for kind, case in cubes(data):
        middle = np.rint(np.argwhere(case.brain).mean(0)).astype(int)
        low = np.clip(middle - EDGE // 2, 0, np.array(case.image.shape) - EDGE)
        cube = tuple(slice(a, a + EDGE) for a in low)
        affine = np.diag([case.spacing] * 3 + [1.0])
        stem = f'{kind}-{case.name}'
        assert case.tissues is not None  # noqa: S101
        parts = {
            'HR_image': case.image.astype(np.float32),
            'Label_image': (case.tissues == 1).astype(np.uint8),
            'Mask_image': case.brain.astype(np.uint8),
        }
        row = {'Base': 'Test', 'Subject': case.name}
        for column, array in parts.items():
            row[column] = f'{stem}_{column}.nii.gz'
            nib.save(nib.Nifti1Image(array[cube], affine), folder / row[column])
        rows.setdefault(kind, []).append(row)
    lists = {}
    for kind, entries in rows.items():
        lists[kind] = folder / f'{kind}.csv'
        with lists[kind].open('w', newline='', encoding='utf-8') as file:
            writer = csv.DictWriter(file, list(entries[0]))
            writer.writeheader()
            writer.writerows(entries)
    return lists


def segsr(*words: object) -> float:
    """Run the toolbox on one thread; return its CPU minutes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, '-m', 'bids_segsr.cli.segsr', *map(str, words)]
    subprocess.run(command, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 60


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is not yet trained, then compare."""
    parser = argparse.ArgumentParser(description='Several generators, the same budget.')
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--minutes', type=float, default=6.0, help='of each training')
    parser.add_argument('--models', nargs='+', choices=list(GENERATORS), default=[*GENERATORS])
    parser.add_argument('--train-only', action='store_true')
    args = parser.parse_args(arguments)

    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.models:
        recipe = write_recipe(name, GENERATORS[name], args.minutes, args.out)
        run = args.out / recipe.stem
        if not (run / 'model').is_dir():
            words = ('train', recipe, '--label-maps', args.data / 'labels', '--out', run)
            spent = segsr(*words, '--device', 'cpu', '--workers', 0)
            (run / 'cpu_minutes').write_text(f'{spent:.1f}\n')
    if args.train_only:
        return
    lists = write_images(args.data, args.out / 'images')
    models = [
        f'{name}={args.out / name.lower().replace(" ", "-") / "model"}' for name in args.models
    ]
    for kind, path in lists.items():
        segsr(
            *('evaluate', 'compare', '--data', f'{kind}={path}', '--models', *models),
            *('--out', args.out / f'compare-{kind}', '--scan-noise', '1%', '--device', 'cpu'),
        )
    for name in args.models:
        run = args.out / name.lower().replace(' ', '-')
        print(f'{name}: trained for {(run / "cpu_minutes").read_text().strip()} CPU minutes')


if __name__ == '__main__':
    main()
