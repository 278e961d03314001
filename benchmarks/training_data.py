"""Does a trainer wait for its data? Patches per second, and the share of time spent waiting.

    python benchmarks/training_data.py [--data LIST.csv] [--label-maps DIR] [--workers 0 1 2]

Without data of your own, the ICBM 152 average that nilearn carries stands for the images (1 mm,
8.7 million voxels), and its grey and white matter for the label maps. The first table is about the
data alone: one process makes patches as fast as it can. The second one trains a generator for a
while, its data made by so many workers.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
import torch
from nilearn import datasets
from torch import nn
from torch.utils.data import DataLoader, Dataset

from bids_segsr.environment import use_large_pages
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.networks import create
from bids_segsr.training.data.label_patches import make_label_map_dataset
from bids_segsr.training.data.patches import Patch, make_dataset
from bids_segsr.training.data.subjects import Subject, read_csv
from bids_segsr.training.data_tables import Augmentation, Sampling
from bids_segsr.training.loop.losses import charbonnier
from bids_segsr.training.recipe import Network, Recipe, Schedule

WARM_UP = 100

PAPER = Augmentation(contrast_power=0.5, noise=0.03)
EVERYTHING = replace(
    PAPER,
    flips=True,
    affine=0.5,
    elastic=0.2,
    bias_field=0.5,
    motion=0.1,
    ghosting=0.1,
    spike=0.1,
)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--data', type=Path, help='CSV list of images, as segsr train takes it')
    parser.add_argument('--label-maps', type=Path, help='folder of label maps (FreeSurfer)')
    parser.add_argument('--workers', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--patch', type=int, default=64)
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--filters', type=int, default=8, help='of the generator')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--seconds', type=float, default=20.0, help='of each measurement')
    arguments = parser.parse_args()
    use_large_pages()
    device = torch.cuda.get_device_name() if arguments.device != 'cpu' else 'no GPU'
    print(f'{_processor()}, {os.cpu_count()} cores, {device}; {arguments.patch}^3 patches')
    with tempfile.TemporaryDirectory() as folder:
        sources = _datasets(arguments, Path(folder))
        _table_of_data(sources, arguments.seconds)
        _table_of_waiting(sources, arguments)


def _table_of_data(sources: dict[str, Dataset[Patch]], seconds: float) -> None:
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    print(f'\n{"data, one process, one thread":44}{"patches/s":>10}{"ms/patch":>10}{"of CPU":>10}')
    for name, dataset in sources.items():
        # the volumes that patches are drawn from are there, as after the first minutes
        for index in range(WARM_UP):
            dataset[index]
        count, start, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - start < seconds:
            dataset[WARM_UP + count]
            count += 1
        rate = count / (time.perf_counter() - start)
        cpu = (time.process_time() - cpu) / count
        print(f'{name:44}{rate:10.1f}{1000 / rate:10.1f}{1000 * cpu:10.1f}', flush=True)


def _table_of_waiting(sources: dict[str, Dataset[Patch]], arguments: argparse.Namespace) -> None:
    print(
        f'\n{f"training, batches of {arguments.batch}":34}{"workers":>10}{"steps/s":>10}'
        f'{"waiting":>10}'
    )
    for name, dataset in sources.items():
        for workers in arguments.workers:
            torch.set_num_threads(max((os.cpu_count() or 1) - workers, 1))
            step = _training_step(arguments.filters, arguments.device)
            order = iter(range(10**9))
            batches = iter(lambda order=order: list(islice(order, arguments.batch)), [])
            loader = DataLoader(
                dataset,
                batch_sampler=batches,
                num_workers=workers,
                worker_init_fn=_single_thread,
            )
            rate, waiting = _measure(iter(loader), step, arguments.seconds)
            print(f'{name:34}{workers:10}{rate:10.2f}{waiting:10.1%}', flush=True)


def _measure(
    batches: Iterator[dict[str, torch.Tensor]],
    step: Callable[[dict[str, torch.Tensor]], None],
    seconds: float,
) -> tuple[float, float]:
    """Return steps a second and the share of time until the next batch is there."""
    for _ in range(3):  # the workers start, memory is laid out
        step(next(batches))
    waited, steps, start = 0.0, 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        before = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - before
        step(batch)
        steps += 1
    elapsed = time.perf_counter() - start
    return steps / elapsed, waited / elapsed


def _training_step(filters: int, device: str) -> Callable[[dict[str, torch.Tensor]], None]:
    torch.manual_seed(0)
    network: nn.Module = create('segsrgan', base_filters=filters).to(device)
    optimiser = torch.optim.Adam(network.parameters(), 1e-4)

    def step(batch: dict[str, torch.Tensor]) -> None:
        image, target = (batch[key].to(device) for key in ('image', 'target'))
        optimiser.zero_grad()
        loss = charbonnier(network(image) - target)
        loss.backward()
        optimiser.step()
        loss.item()  # waits for a GPU, so that its time is not counted as waiting for data

    return step


def _datasets(arguments: argparse.Namespace, folder: Path) -> dict[str, Dataset[Patch]]:
    recipe = Recipe(
        'benchmark',
        Network('segsrgan'),
        Schedule(steps=1),
        forward=ForwardModel(factor=(3, 3)),
        sampling=Sampling(arguments.patch, patches_per_epoch=10_000, foreground=0.2),
    )
    varied = replace(recipe, forward=ForwardModel(factor=(2, 6), gap=(0, 0.3)))
    cache = folder / 'cache'
    subjects = read_csv(arguments.data) if arguments.data else [_average(folder)]
    maps = arguments.label_maps or _average_labels(folder / 'labels')

    def images(recipe: Recipe, augmentation: Augmentation) -> Dataset[Patch]:
        return make_dataset(
            replace(recipe, augmentation=augmentation), subjects, 'train', 0, cache
        )

    return {
        'images, fixed slices': images(recipe, Augmentation()),
        'images, random slices, as paper': images(varied, PAPER),
        'images, random slices, all changes': images(varied, EVERYTHING),
        'label maps': make_label_map_dataset(
            replace(recipe, forward=ForwardModel()), maps, 'train', 0, cache
        ),
    }


def _average(folder: Path) -> Subject:
    image, label = folder / 'image.nii.gz', folder / 'label.nii.gz'
    datasets.load_mni152_template(resolution=1).to_filename(image)
    grey = datasets.load_mni152_gm_template(resolution=1)
    cortex = (grey.get_fdata() > 0.5).astype(np.uint8)
    nib.Nifti1Image(cortex, grey.affine).to_filename(label)
    return Subject('average', image, label, 'train')


def _average_labels(folder: Path) -> Path:
    folder.mkdir()
    grey = datasets.load_mni152_gm_template(resolution=1)
    white = datasets.load_mni152_wm_template(resolution=1)
    labels = np.where(white.get_fdata() > 0.5, 2, np.where(grey.get_fdata() > 0.5, 3, 0))
    for name in ('one', 'two'):  # the second one is set aside for validation
        nib.Nifti1Image(labels.astype(np.int16), grey.affine).to_filename(
            folder / f'{name}.nii.gz'
        )
    return folder


def _single_thread(_: int) -> None:
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _processor() -> str:
    """Name of the processor, where Linux tells it."""
    info = Path('/proc/cpuinfo')
    if info.is_file():
        for line in info.read_text(encoding='utf-8').splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()


if __name__ == '__main__':
    main()
