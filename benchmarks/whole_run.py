"""Time and memory of `segsr predict`, all steps included, beside plain interpolation.

    python benchmarks/whole_run.py [--model NAME|PATH]

Two stripped phantoms: an adult head of 180 x 220 x 180 mm with slices of 0.9 x 0.9 x 3 mm,
restored to 1 mm, and a newborn one of 120 x 140 x 100 mm with slices of 0.45 x 0.45 x 3 mm, to
0.5 mm. The brain fills the ellipsoid in that box. The baseline is cubic spline interpolation of
the same scan in a process of its own, start included as for the program.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from bids_segsr.zoo.find import DEFAULT_MODEL

CASES = {
    'adult, 1 mm': ((180, 220, 180), (0.9, 0.9, 3.0), 1.0),
    'newborn, 0.5 mm': ((120, 140, 100), (0.45, 0.45, 3.0), 0.5),
}
"""Box of the brain and spacing of the scan in mm, spacing of the output in mm."""

INTERPOLATE = """
import sys, nibabel, nibabel.processing
scan = nibabel.load(sys.argv[1])
nibabel.save(nibabel.processing.resample_to_output(scan, float(sys.argv[3]), order=3), sys.argv[2])
"""


def phantom(size_mm: Sequence[float], spacing: Sequence[float]) -> nib.Nifti1Image:
    """Paint folded layers in an ellipsoid, with a margin of empty planes around it."""
    shape = [round(s / v) + 4 for s, v in zip(size_mm, spacing, strict=True)]
    axes = [
        ((np.arange(n) - (n - 1) / 2) * v / (s / 2)).astype(np.float32)
        for n, s, v in zip(shape, size_mm, spacing, strict=True)
    ]
    x, y, z = np.meshgrid(*axes, indexing='ij')
    radius = np.sqrt(x**2 + y**2 + z**2)
    folded = radius + 0.03 * np.sin(30 * x) * np.sin(30 * y) * np.sin(20 * z)
    tissue = np.select([folded < 0.25, folded < 0.8, folded < 0.9], [1000.0, 700.0, 450.0], 900.0)
    image = np.where(radius < 0.98, tissue, 0)
    image += (radius < 0.98) * np.random.default_rng(0).normal(0, 15, image.shape)
    return nib.Nifti1Image(image.astype(np.float32), np.diag([*spacing, 1.0]))


def measure(command: Sequence[str | Path], threads: int) -> tuple[float, float, float]:
    """Run a command; returns seconds, CPU seconds and the highest peak of any child yet, GB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    environment = {**os.environ, 'OMP_NUM_THREADS': str(threads)}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used, after.ru_maxrss / 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--model', default=DEFAULT_MODEL)
    parser.add_argument('--threads', type=int, default=2)
    arguments = parser.parse_args()
    print(f'{platform.processor() or platform.machine()}, {arguments.threads} threads')
    print(f'{"":18}{"spline":>9}{"predict":>10}{"CPU":>9}{"ratio":>7}{"peak GB":>9}')
    for name, (size, spacing, resolution) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            image = Path(folder) / 'scan.nii.gz'
            nib.save(phantom(size, spacing), image)
            plain, _, _ = measure(
                [sys.executable, '-c', INTERPOLATE, image, f'{folder}/a.nii.gz', str(resolution)],
                arguments.threads,
            )
            seconds, used, peak = measure(
                [
                    Path(sys.executable).with_name('segsr'),
                    'predict',
                    image,
                    f'{folder}/out',
                    '--resolution',
                    str(resolution),
                    '--model',
                    arguments.model,
                ],
                arguments.threads,
            )
        ratio = seconds / plain
        print(
            f'{name:18}{plain:8.1f}s{seconds:9.1f}s{used:8.1f}s{ratio:7.1f}{peak:9.2f}', flush=True
        )


if __name__ == '__main__':
    main()
