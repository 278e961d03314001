"""What a scan costs, and what breaks first in a large dataset.

    python benchmarks/scale.py scan FOLDER [--scan NIFTI] [--threads N] [--cores N]
    python benchmarks/scale.py throughput FOLDER [--scans N] [--flags='FLAGS OF THE APP']
    python benchmarks/scale.py cohort FOLDER [--subjects N]

`scan` runs the App on one stripped head (by default the ICBM 152 average with 3 mm slices, as in
`segsr demo`) and prints CPU time, memory, disk and files; then, by arithmetic, what cohorts take
on a cluster. `throughput` runs the App with its defaults over stripped heads of newborns' size
(0.5 x 0.5 x 3 mm to 0.5 mm) and prints images an hour and how busy the cores were. `cohort` makes
a dataset of many participants with images of a few voxels, runs what grows with their number, and
prints time and memory of each. Tables are Markdown. Memory is the largest sum over all processes,
sampled every second, which takes a few percent of a core.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from bids_segsr.imaging.degrade import degrade, thick_slice_grid, with_noise
from bids_segsr.imaging.resample import Grid, resample
from bids_segsr.imaging.volume import save_volume
from bids_segsr.inference.qc import QUANTITIES
from bids_segsr.simulation.demo_dataset import icbm_template, write_demo_dataset

APP = [sys.executable, '-m', 'bids_segsr.cli.app']
COHORTS = (1_500, 100_000)
TEMPLATE_ML = 1972.0
NEWBORN_ML = 450.0
NEWBORN_MM = 0.5
SLICE_MM = 3.0
AIR = 8


@dataclass(frozen=True)
class Cost:
    """What one command took: wall and CPU seconds, largest memory in GB, its exit status.

    `process` is the memory of the largest of its processes, `elsewhere` the CPU seconds that other
    programs took meanwhile.
    """

    wall: float
    cpu: float
    memory: float
    process: float
    elsewhere: float
    status: int


def measure(command: Sequence[str | Path]) -> Cost:
    """Run a command and watch the memory of its processes."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    machine = _busy()
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    watched, most, largest = psutil.Process(process.pid), 0, 0
    while process.poll() is None:
        own = _memory(watched)
        most, largest = max(most, sum(own)), max(largest, *own)
        time.sleep(1)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(
        wall=time.monotonic() - start,
        cpu=cpu,
        memory=most / 1e9,
        process=largest / 1e9,
        elsewhere=_busy() - machine - cpu,
        status=process.returncode,
    )


def _busy() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def _memory(process: psutil.Process) -> list[int]:
    try:
        # proportional: pages that forked workers share count once
        own = (process, *process.children(recursive=True))
        return [one.memory_full_info().pss for one in own]
    except psutil.Error:  # one of them ended meanwhile
        return [0]


def usage(folder: Path) -> tuple[float, int]:
    """Return size in GB and the number of files and folders."""
    paths = list(folder.rglob('*'))
    return sum(path.lstat().st_blocks * 512 for path in paths) / 1e9, len(paths)


def scan(folder: Path, image: Path | None, threads: int, cores: int) -> None:
    """Print the cost of one scan, and of cohorts."""
    raw, out, work = (folder / name for name in ('bids', 'out', 'work'))
    modality = 'T1w' if image is None else 'T2w'
    if image is None:
        write_demo_dataset(raw, *icbm_template())
    else:
        target = raw / 'sub-01' / 'anat' / f'sub-01_T2w{"".join(image.suffixes[-2:])}'
        target.parent.mkdir(parents=True)
        target.write_bytes(image.read_bytes())
        _describe(raw)
    flags = ['--modality', modality, '--skip-bids-validation', '-w', work]
    flags += ['--nprocs', str(threads), '--omp-nthreads', str(threads)]
    cost = measure([*APP, raw, out, 'participant', *flags])
    if cost.status:
        sys.exit(f'the App ended with status {cost.status}')
    disk, files = usage(work)
    kept, kept_files = usage(out)
    print(_machine(), f'{threads} threads, no GPU\n')
    print('| of one scan | |\n|---|--:|')
    for name, value in (
        ('wall time', f'{cost.wall / 60:.1f} min'),
        ('CPU time', f'{cost.cpu / 60:.1f} core-minutes'),
        ('memory', f'{cost.memory:.1f} GB'),
        ('work directory', f'{disk * 1000:.0f} MB in {files} files and folders'),
        ('derivatives', f'{kept * 1000:.0f} MB in {kept_files} files and folders'),
    ):
        print(f'| {name} | {value} |')
    tasks = cores // threads
    print(f'\n| scans | core-hours | on {cores} cores, all busy | derivatives | files kept '
          f'| work directories of {tasks} tasks |')  # fmt: skip
    print('|--:|--:|--:|--:|--:|--:|')
    for count in COHORTS:
        hours = count * cost.cpu / 3600
        print(f'| {count} | {hours:.0f} | {hours / cores:.1f} h '
              f'| {count * kept / 1000:.2f} TB | {count * kept_files} '
              f'| {tasks * disk:.1f} GB, {tasks * files} files |')  # fmt: skip


def throughput(folder: Path, scans: int, flags: Sequence[str]) -> None:
    """Print how many newborns the App does in an hour, and how busy the cores are."""
    raw, out = folder / 'bids', folder / 'out'
    _describe(raw)
    for number in range(1, scans + 1):
        _write_newborn(raw, number)
    asked = ['--skip-bids-validation', '--resolution', str(NEWBORN_MM), '-w', folder / 'work']
    cost = measure([*APP, raw, out, 'participant', 'group', *asked, *flags])
    if cost.status:
        sys.exit(f'the App ended with status {cost.status}')
    cores = len(os.sched_getaffinity(0))
    print(_machine(), 'no GPU; flags:', ' '.join(flags) or 'none', '\n')
    print(f'| {scans} newborns, participant and group level | |\n|---|--:|')
    for name, value in (
        ('images an hour', f'{3600 * scans / cost.wall:.0f}'),
        ('wall time an image', f'{cost.wall / scans:.0f} s'),
        ('CPU time an image', f'{cost.cpu / scans:.0f} core-seconds'),
        ('cores busy with it', f'{100 * cost.cpu / cost.wall / cores:.0f} %'),
        ('cores busy with other programs', f'{100 * cost.elsewhere / cost.wall / cores:.0f} %'),
        ('memory of the largest process', f'{cost.process:.1f} GB'),
        ('memory of all processes', f'{cost.memory:.1f} GB'),
        ('work directory of an image', f'{1000 * usage(folder / "work")[0] / scans:.0f} MB'),
        ('derivatives of an image', f'{1000 * usage(out)[0] / scans:.0f} MB'),
    ):
        print(f'| {name} | {value} |')


def _write_newborn(raw: Path, number: int) -> None:
    """Write thick slices of the ICBM 152 average, small and with the contrast turned round."""
    generator = np.random.default_rng(number)
    truth, affine = icbm_template()
    size = (NEWBORN_ML * generator.normal(1, 0.05) / TEMPLATE_ML) ** (1 / 3)
    affine = affine @ np.diag([size, size, size, 1])
    # air on either side, without which a stripped brain counts as a head that is cut
    turned = np.pad(np.where(truth > 0, 1.1 * truth.max() - truth, 0), AIR)
    affine[:3, 3] -= AIR * affine[:3, :3].sum(axis=1)
    grid = thick_slice_grid(turned.shape, affine, SLICE_MM, axis=2)
    slices = degrade(turned, affine, grid)
    i, j, k = grid.shape
    fine = grid.affine @ np.diag([NEWBORN_MM / size, NEWBORN_MM / size, 1, 1])
    shape = (round(i * size / NEWBORN_MM), round(j * size / NEWBORN_MM), k)
    scan = resample(slices, grid.affine, Grid(shape, fine), order=1)
    noisy = np.maximum(with_noise(scan, 0.01 * float(truth.max()), generator), 1)
    inside = scan > 0.05 * float(truth.max())
    path = raw / f'sub-{number:02d}' / 'anat' / f'sub-{number:02d}_T2w.nii.gz'
    path.parent.mkdir(parents=True)
    save_volume(path, np.where(inside, noisy, 0).astype(np.float32), fine)


def cohort(folder: Path, subjects: int) -> None:
    """Print time and memory of what grows with the number of participants."""
    raw, out, index = (folder / name for name in ('bids', 'out', 'index'))
    _make_cohort(raw, out, subjects)
    work = ['-w', folder / 'work', '--skip-bids-validation']
    dry = [*APP, raw, out, 'participant', '--dry-run', '--skull-strip', 'skip', *work]
    steps = {
        'dry run of one participant, no index': [*dry, '--participant-label', '0001'],
        'dry run of all, index written': [*dry, '--bids-database-dir', index],
        'dry run of all, index reused': [*dry, '--bids-database-dir', index],
        'dry run of one participant, index reused': [
            *dry, '--bids-database-dir', index, '--participant-label', '0001',
        ],
        'group level': [*APP, raw, out, 'group', *work],
    }  # fmt: skip
    print(_machine(), f'{subjects} participants, two files each\n')
    print('| step | wall time | CPU time | memory |\n|---|--:|--:|--:|')
    for name, command in steps.items():
        cost = measure(command)
        if cost.status:
            sys.exit(f'{name}: the App ended with status {cost.status}')
        print(
            f'| {name} | {cost.wall:.0f} s | {cost.cpu:.0f} s | {cost.memory:.2f} GB |', flush=True
        )
    size = {name: (out / f'group_T2w.{name}').stat().st_size / 1e6 for name in ('tsv', 'html')}
    print(f'\nindex {usage(index)[0] * 1000:.0f} MB, group table {size["tsv"]:.1f} MB, '
          f'group page {size["html"]:.1f} MB')  # fmt: skip


def _make_cohort(raw: Path, out: Path, subjects: int) -> None:
    """Write images of a few voxels, and QC files as the participant level leaves them."""
    generator = np.random.default_rng(0)
    _describe(raw)
    data = generator.random((8, 8, 4)).astype(np.float32)
    image = save_volume(raw / 'image.nii.gz', data, np.diag([1.0, 1.0, 3.0, 1.0]))
    content = image.read_bytes()
    image.unlink()
    for number in range(1, subjects + 1):
        name = f'sub-{number:04d}'
        folder = raw / name / 'anat'
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f'{name}_T2w.nii.gz').write_bytes(content)
        (folder / f'{name}_T2w.json').write_text('{"SliceThickness": 3}')
        qc: dict[str, object] = {'bids_name': f'{name}_T2w', 'model': 'x', 'warnings': []}
        qc |= {q.key: round(float(generator.normal(10, 1)), 4) for q in QUANTITIES}
        folder = out / name / 'anat'
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f'{name}_qc.json').write_text(json.dumps(qc))
        run = out / name / 'log' / '20260101-000000_x'
        run.mkdir(parents=True, exist_ok=True)
        (run / 'bids_segsr.toml').touch()
        (out / f'{name}.html').touch()


def _describe(raw: Path) -> None:
    raw.mkdir(parents=True, exist_ok=True)
    text = json.dumps({'Name': 'scale', 'BIDSVersion': '1.10.0'})
    (raw / 'dataset_description.json').write_text(text)


def _machine() -> str:
    cores, memory = len(os.sched_getaffinity(0)), psutil.virtual_memory().total / 1e9
    return f'{platform.machine()}, {cores} cores, {memory:.0f} GB, Python 3.{sys.version_info[1]};'


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    commands = parser.add_subparsers(dest='command', required=True)
    one = commands.add_parser('scan', help='cost of one scan, and of cohorts')
    one.add_argument('folder', type=Path)
    one.add_argument('--scan', type=Path, help='a stripped T2w image to take instead')
    one.add_argument('--threads', type=int, default=len(os.sched_getaffinity(0)))
    one.add_argument('--cores', type=int, default=256, help='cores of the cluster')
    some = commands.add_parser('throughput', help='images an hour')
    some.add_argument('folder', type=Path)
    some.add_argument('--scans', type=int, default=6)
    some.add_argument('--flags', type=shlex.split, default=[], help='of the App')
    many = commands.add_parser('cohort', help='indexing, dry run and group level')
    many.add_argument('folder', type=Path)
    many.add_argument('--subjects', type=int, default=5000)
    given = parser.parse_args()
    if given.folder.exists() and any(given.folder.iterdir()):
        parser.error(f'{given.folder} is not empty')
    if given.command == 'scan':
        scan(given.folder, given.scan, given.threads, given.cores)
    elif given.command == 'throughput':
        throughput(given.folder, given.scans, given.flags)
    else:
        cohort(given.folder, given.subjects)


if __name__ == '__main__':
    main()
