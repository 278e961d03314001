"""Whole runs of one scan at two commits: seconds, CPU seconds, memory, quality of the result.

    python benchmarks/compare_commits.py OLD [NEW] [--scans adult newborn] [--front predict app]
                                         [--model NAME]

The ICBM 152 T1w average is acquired with slices 3 mm apart, once as it is (to 1 mm) and once
shrunk to the size of a newborn's head (to 0.5 mm). Both commits run in the environment of the
Python that this is called with, one after the other; NEW is the working tree unless it is named.
--model is that of NEW; else both take their default: a head of a newborn's size gets the model of
newborns.
`predict` is `segsr predict` without a report, `app` the participant level with it. PSNR is that to
the image that the scan was made from, inside of the brain, Dice that of the cortex with the grey
matter of the average, which holds deep nuclei, too: it is there to be compared, not to be read.
The last line of each scan is NEW over OLD, or their difference, and how far both cortices agree.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from bids_segsr.imaging.measures.metrics import dice, psnr
from bids_segsr.imaging.resample import Grid, resample, resample_mask
from bids_segsr.imaging.volume import load_map, load_volume
from bids_segsr.simulation.demo_dataset import icbm_template, write_demo_dataset

ROOT = Path(__file__).resolve().parents[1]
SHRUNK = 0.65
"""Size of a newborn's head over that of an adult."""
BIAS_MM = 20.0
"""Standard deviation of the blur that leaves a bias field."""
SIZES = {'adult': (1.0, 1.0), 'newborn': (SHRUNK, 0.5)}
"""Size of the head, and mm of the fine grid."""


@dataclass(frozen=True)
class Subject:
    """What a scan is made from.

    Attributes:
        image: Fine image (i, j, k).
        grey: Grey matter, boolean.
        affine: Voxel to RAS+ mm (4 x 4).
        resolution: Of its voxels, mm.
    """

    image: np.ndarray
    grey: np.ndarray
    affine: np.ndarray
    resolution: float


@dataclass(frozen=True)
class Cost:
    """What a run took, and what came out.

    Attributes:
        seconds: From start to end.
        cpu: Seconds of all its processes.
        gigabytes: Most memory of the largest of its processes.
        psnr: dB inside the brain.
        dice: Of the cortex with the grey matter.
        cortex: Where it was found.
    """

    seconds: float
    cpu: float
    gigabytes: float
    psnr: float
    dice: float
    cortex: np.ndarray


def make_subject(size: float, resolution: float) -> Subject:
    """Return the average at a size, on a grid of some resolution."""
    from nilearn.datasets import load_mni152_gm_template

    image, affine = icbm_template()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        grey = np.asarray(load_mni152_gm_template(resolution=1).dataobj, dtype=np.float32)
    if size == 1:
        return Subject(image, grey > 0.5, affine, resolution)
    scaled = np.diag([size, size, size, 1]) @ affine
    i, j, k = (round(n * size / resolution) for n in image.shape)
    fine = scaled.copy()
    fine[:3, :3] = np.diag(np.sign(np.diag(scaled)[:3]) * resolution)
    grid = Grid((i, j, k), fine)
    found = np.maximum(resample(image, scaled, grid), 0)
    found[resample(image, scaled, grid, order=0) == 0] = 0
    return Subject(found, resample(grey, scaled, grid, order=1) > 0.5, fine, resolution)


def write_scan(subject: Subject, root: Path) -> Path:
    """Write the thick slices of a subject as a BIDS dataset; returns the scan."""
    write_demo_dataset(root, subject.image, subject.affine)
    (scan,) = root.glob('sub-*/anat/*_T1w.nii.gz')
    return scan


def check_out(commit: str | None, folder: Path) -> Path:
    """Put the package as of a commit, or of the working tree, into a folder of its own."""
    if commit is None:
        shutil.copytree(ROOT / 'bids_segsr', folder / 'bids_segsr')
        shutil.copytree(ROOT / 'workflows', folder / 'workflows')
    else:
        folder.mkdir()
        archive = subprocess.run(
            ['git', 'archive', commit, 'bids_segsr', 'workflows'],
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
        ).stdout
        subprocess.run(['tar', '-x', '-C', folder], input=archive, check=True)
    # as an installation has it
    (folder / 'workflows').rename(folder / 'bids_segsr' / 'workflows')
    return folder


def arguments_of(
    front: str, package: Path, scan: Path, out: Path, mm: float, threads: int
) -> list[str]:
    """Return module and arguments of a front door."""
    if front == 'predict':
        code = (package / 'bids_segsr' / 'cli').glob('*.py')
        drawn = any('--no-report' in path.read_text(encoding='utf-8') for path in code)
        command = ['bids_segsr.cli.segsr', 'predict', scan, out, '--resolution', mm]
        return [str(part) for part in (*command, *(['--no-report'] if drawn else []))]
    command = ['bids_segsr.cli.app', scan.parents[2], out, 'participant', '--modality', 'T1w']
    command += ['--resolution', mm, '-w', out.parent / 'work', '--skip-bids-validation']
    command += ['--nprocs', threads, '--omp-nthreads', threads]
    return [str(part) for part in command]


def run(
    package: Path, front: str, subject: Subject, scan: Path, threads: int, flags: Sequence[str]
) -> Cost:
    """Run one commit on a scan."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / 'out'
        asked = arguments_of(front, package, scan, out, subject.resolution, threads)
        command = [sys.executable, '-m', *asked, *flags]
        known = {'PYTHONPATH': str(package), 'OMP_NUM_THREADS': str(threads)}
        started = time.monotonic()
        with (Path(name) / 'log').open('w+', encoding='utf-8') as log:
            process = subprocess.Popen(
                command, env={**os.environ, **known}, stdout=log, stderr=log, cwd=name
            )
            _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        if status:
            told = (Path(name) / 'log').read_text(encoding='utf-8')
            raise SystemExit(f'{" ".join(command)}\n{told[-3000:]}')
        decibel, overlap, cortex = score(subject, scan, out)
    cpu = used.ru_utime + used.ru_stime
    return Cost(seconds, cpu, used.ru_maxrss / 1e6, decibel, overlap, cortex)


def without_bias(image: np.ndarray, reference: np.ndarray, resolution: float) -> np.ndarray:
    """Divide out what differs smoothly between two images, both 0 outside the brain: bias, scale.

    Args:
        image: (i, j, k).
        reference: The same shape.
        resolution: Of their voxels, mm.
    """
    smooth = [gaussian_filter(data, BIAS_MM / resolution) for data in (reference, image)]
    return image * smooth[0] / np.maximum(smooth[1], 1e-6)


def score(subject: Subject, scan: Path, out: Path) -> tuple[float, float, np.ndarray]:
    """Compare a result with what the scan was made from, on the grid of the result.

    What differs smoothly is the bias field that the run found: it is divided out first.
    """
    paths = sorted(out.rglob('*.nii.gz'))
    images = [p for p in paths if re.search('_res-.*_T1w.nii.gz|_superresolved.nii.gz', p.name)]
    cortices = [p for p in paths if re.search('_label-CGM_mask.nii.gz|_cortex.nii.gz', p.name)]
    result, cortex = load_volume(images[0]), load_map(cortices[0]).data > 0
    grid = Grid(result.data.shape, result.affine)
    acquired = load_volume(scan)
    mask = resample_mask(acquired.data > 0, acquired.affine, grid) & (result.data > 0)
    reference = np.where(mask, resample(subject.image, subject.affine, grid), 0)
    image = without_bias(np.where(mask, result.data, 0), reference, subject.resolution)
    grey = resample(subject.grey.astype(np.float32), subject.affine, grid, order=1) > 0.5
    return psnr(reference, image, mask), dice(cortex, grey), cortex


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('old')
    parser.add_argument('new', nargs='?')
    parser.add_argument('--scans', nargs='+', choices=SIZES, default=list(SIZES))
    parser.add_argument(
        '--front', nargs='+', choices=('predict', 'app'), default=['predict', 'app']
    )
    parser.add_argument('--model', help='that of NEW')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--repeats', type=int, default=1, help='the fastest run counts')
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        packages = {
            label: check_out(commit, Path(name) / label)
            for label, commit in (('old', arguments.old), ('new', arguments.new))
        }
        print(f'{"":26}{"s":>8}{"CPU s":>8}{"GB":>7}{"PSNR":>8}{"Dice":>8}')
        for scan_name in arguments.scans:
            subject = make_subject(*SIZES[scan_name])
            scan = write_scan(subject, Path(name) / scan_name)
            for front in arguments.front:
                flags = {'old': [], 'new': ['--model', arguments.model] if arguments.model else []}
                costs = {
                    label: [
                        run(package, front, subject, scan, arguments.threads, flags[label])
                        for _ in range(arguments.repeats)
                    ]
                    for label, package in packages.items()
                }
                print_rows(f'{scan_name}, {front}', costs)


def print_rows(title: str, costs: dict[str, list[Cost]]) -> None:
    """Print what both took, and how they compare."""
    best = {label: min(found, key=lambda cost: cost.seconds) for label, found in costs.items()}
    for label, cost in best.items():
        print(
            f'{title + ", " + label:26}{cost.seconds:8.1f}{cost.cpu:8.1f}{cost.gigabytes:7.2f}'
            f'{cost.psnr:8.3f}{cost.dice:8.4f}'
        )
    old, new = best['old'], best['new']
    agree = dice(old.cortex, new.cortex) if old.cortex.shape == new.cortex.shape else float('nan')
    print(
        f'{title + ", new / old":26}{new.seconds / old.seconds:8.2f}{new.cpu / old.cpu:8.2f}'
        f'{new.gigabytes / old.gigabytes:7.2f}{new.psnr - old.psnr:+8.3f}'
        f'{new.dice - old.dice:+8.4f}   agree {agree:.4f}',
        flush=True,
    )


if __name__ == '__main__':
    main()
