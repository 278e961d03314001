"""What a user could take instead: time, memory and quality on the same scan.

    python benchmarks/side_by_side.py [--threads 1] [--other NAME=COMMAND ...]

The scan is the adult of `compare_commits.py`. Its rows: cubic spline, the same with five half
steps of back-projection ("ibp", which knows that the scan is stripped), the whole of `segsr
predict` (bias field, network, segmentation, checks, files), and other programs, in environments
of their own: in COMMAND, {scan} stands for the scan and {out} for a folder, in which the largest
image is scored. The truth has no bias field: what N4 takes out counts as an error, so that the
row without it compares with the others.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from compare_commits import SIZES, Subject, make_subject, without_bias, write_scan

from bids_segsr.imaging.back_projection import Slices, back_projection_alone
from bids_segsr.imaging.conform import spacing_of
from bids_segsr.imaging.measures.metrics import psnr, ssim
from bids_segsr.imaging.resample import Grid, isotropic_grid, resample, resample_mask
from bids_segsr.imaging.volume import Volume, load_volume, save_volume

PREDICT = f'{sys.executable} -m bids_segsr.cli.segsr predict {{scan}} {{out}} --no-report'
OWN = ('segsr predict', 'segsr predict --bias-correction none')


def interpolate(scan: Volume, out: Path) -> None:
    """Write the cubic spline."""
    grid = isotropic_grid(scan.data.shape, scan.affine, 1.0)
    save_volume(out / 'spline.nii.gz', resample(scan.data, scan.affine, grid), grid.affine)


def back_project(scan: Volume, out: Path) -> None:
    """Write the cubic spline with back-projection."""
    grid = isotropic_grid(scan.data.shape, scan.affine, 1.0)
    slices = Slices(scan.data, scan.affine, grid.affine, max(spacing_of(scan.affine)))
    mask = resample_mask(scan.data > 0, scan.affine, grid)
    save_volume(out / 'ibp.nii.gz', back_projection_alone(slices, mask), grid.affine)


def timed(way: Callable[[], None] | Sequence[str], threads: int) -> tuple[float, float]:
    """Return CPU seconds and most memory, in GB, of a function or a command in its own process."""
    if callable(way):
        child = os.fork()
        if child == 0:
            way()
            os._exit(0)
    else:
        many = {name: str(threads) for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS')}
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(way, env={**os.environ, **many}, stdout=quiet, stderr=quiet)
        child = process.pid
    _, status, used = os.wait4(child, 0)
    if status:
        raise SystemExit(f'{way}: ended with {status}')
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6


def score(subject: Subject, scan: Volume, image: Volume) -> tuple[float, float]:
    """Compare an image with what the scan was made from; returns PSNR in dB and SSIM.

    On the grid of the truth, inside the brain, what differs smoothly (bias field, scale) divided
    out first.
    """
    grid = Grid(subject.image.shape, subject.affine)
    mask = resample_mask(scan.data > 0, scan.affine, grid) & (subject.image > 0)
    reference = np.where(mask, subject.image, 0)
    found = np.where(mask, resample(image.data, image.affine, grid), 0)
    found = without_bias(found, reference, subject.resolution)
    return psnr(reference, found, mask), ssim(reference, found, mask)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--other', nargs='+', default=[], metavar='NAME=COMMAND')
    parser.add_argument('--threads', type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        subject = make_subject(*SIZES['adult'])
        path = write_scan(subject, Path(name) / 'bids')
        scan = load_volume(path)
        commands = {way: f'{PREDICT} {way.removeprefix("segsr predict")}' for way in OWN}
        commands |= dict(other.split('=', 1) for other in arguments.other)
        out = {way: Path(name) / str(n) for n, way in enumerate(('spline', 'ibp', *commands))}
        ways: dict[str, Callable[[], None] | Sequence[str]] = {
            'spline': lambda: interpolate(scan, out['spline']),
            'ibp': lambda: back_project(scan, out['ibp']),
            **{
                way: [part.format(scan=path, out=out[way]) for part in shlex.split(command)]
                for way, command in commands.items()
            },
        }
        print('| | CPU s | memory, GB | PSNR, dB | SSIM |\n|---|--:|--:|--:|--:|')
        for way, run in ways.items():
            out[way].mkdir()
            started = time.monotonic()
            cpu, memory = timed(run, arguments.threads)
            made = sorted(out[way].rglob('*.nii*'), key=lambda file: file.stat().st_size)
            named = [file for file in made if fnmatch(file.name, '*_res-*_desc-*_T1w.nii.gz')]
            decibel, similarity = score(subject, scan, load_volume((named or made)[-1]))
            print(f'| {way} | {cpu:.1f} | {memory:.2f} | {decibel:.2f} | {similarity:.4f} |')
            print(f'{way}: {time.monotonic() - started:.0f} s', file=sys.stderr, flush=True)


if __name__ == '__main__':
    main()
