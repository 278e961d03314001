"""A newborn's volume through the default model, then a training, on one device.

    python benchmarks/gpu.py [--device cuda] [--seconds 240]

First a table of ways to run the network: seconds (the transfers included), the most memory of the
device, and how the results differ from the first row: largest difference of the image as a share
of its maximum, Dice of the first structure. Then the share of time that the device is busy, as
nvidia-smi tells it, while the recipe of the default model is trained on made-up label maps.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from unittest.mock import MagicMock

import nibabel as nib
import numpy as np
import torch
from torch import Tensor, nn

from bids_segsr.imaging.back_projection import Slices
from bids_segsr.imaging.components import bounding_box
from bids_segsr.inference.predict import MARGIN_VOXELS, Patches, predict
from bids_segsr.inference.processing import Processing
from bids_segsr.inference.tiling import Tiling
from bids_segsr.zoo import feeding
from bids_segsr.zoo.find import DEFAULT_MODEL, load_model

NEWBORN = (290, 290, 203)
"""Voxels of 0.5 mm, as the developing Human Connectome Project has them."""
SMALL = (72, 72, 51)
LABELS = {'cortex': 3, 'white': 2, 'csf': 24, 'ventricles': 4, 'deep grey': 10}


@dataclasses.dataclass(frozen=True)
class Way:
    """How the network is run.

    Attributes:
        name: For the table.
        precision: Of the convolutions.
        batch: Patches at once.
        channels_last: Order of the weights in memory.
        tf32: Whether convolutions in single precision may be rounded to TF32.
        step: Of the patches.
    """

    name: str
    precision: torch.dtype = torch.float32
    batch: int = 1
    channels_last: bool = False
    tf32: bool = True
    step: int = 64


def ways(device: str) -> list[Way]:
    """Return what is compared."""
    half = torch.bfloat16
    found = [
        Way('fp32, batch of 1', tf32=False),
        Way('TF32, batch of 1'),
        Way('TF32, batch of 4', batch=4),
        Way('bf16, batch of 1', half),
        Way('bf16, batch of 4', half, 4),
        Way('bf16, batch of 12', half, 12),
        Way('bf16, batch of 4, channels last', half, 4, channels_last=True),
        Way('bf16, batch of 4, step 96', half, 4, step=96),
        Way('fp16, batch of 4', torch.float16, 4),
    ]
    # half precision other than bf16 is emulated on a CPU
    return found[:-1] if device == 'cpu' else found


def newborn(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, Slices]:
    """Make an image, the mask of its brain, and its slices 2.5 mm apart."""
    labels, radius = folded(shape, 0.75)
    rng = np.random.default_rng(0)
    values = np.zeros(max(LABELS.values()) + 1, np.float32)
    values[list(LABELS.values())] = 350, 600, 900, 950, 400
    image = values[labels] + rng.normal(0, 10, shape).astype(np.float32)
    mask = radius < 1
    image[~mask] = 0
    fine = np.diag([0.5, 0.5, 0.5, 1])
    scan = Slices(image[:, :, 2::5], np.diag([0.5, 0.5, 2.5, 1]), fine)
    return image, mask, scan


def folded(shape: tuple[int, int, int], share: float) -> tuple[np.ndarray, np.ndarray]:
    """Make label numbers of a folded shell that takes a share of each axis, and its radius."""
    axes = [np.linspace(-1 / share, 1 / share, n, dtype=np.float32) for n in shape]
    x, y, z = np.meshgrid(*axes, indexing='ij', sparse=True)
    radius = np.sqrt(x**2 + y**2 + z**2)
    bent = radius + 0.05 * np.sin(14 * x) * np.sin(14 * y) * np.sin(14 * z)
    edges = [
        (1.0, 'csf'), (0.93, 'cortex'), (0.8, 'white'), (0.35, 'deep grey'), (0.2, 'ventricles'),
    ]  # fmt: skip
    labels = np.zeros(shape, np.int16)
    for edge, name in edges:
        labels[bent < edge] = LABELS[name]
    return labels, radius


def time_network(device: str, shape: tuple[int, int, int], until: float) -> None:
    """Print the table of the ways."""
    model = load_model(DEFAULT_MODEL)
    image, mask, scan = newborn(shape)
    box = bounding_box(mask, MARGIN_VOXELS)
    _, mirror_axis = feeding.axes(model.card, scan)
    stack = np.stack([np.where(mask, image, 0)[box], mask[box].astype(np.float32)])
    voxels = torch.from_numpy(np.ascontiguousarray(stack))[None]
    feed = partial(
        feeding.feed,
        model.network,
        model.card,
        scales=feeding.scales(model.card, (image,), mask),
        resolution=feeding.resolution(scan),
        mirror_axis=mirror_axis,
    )
    size = ' x '.join(map(str, shape))
    print(
        f'{size} voxels, {" x ".join(map(str, stack.shape[1:]))} around the brain, {DEFAULT_MODEL}'
    )
    print(f'{"":36}{"s":>8}{"GB":>7}{"image":>9}{"Dice":>9}')
    first: Tensor | None = None
    for way in ways(device):
        if time.monotonic() > until:
            print('(no time left for the other ways)')
            break
        found, seconds, memory = run_network(way, model.network, feed, voxels, device)
        first = found if first is None else first
        differs = float((found[0] - first[0]).abs().max() / first[0].max())
        ours, theirs = found[1] > 0.5, first[1] > 0.5
        dice = float(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()))
        print(f'{way.name:36}{seconds:8.2f}{memory:7.2f}{differs:9.5f}{dice:9.5f}')
    model = load_model(DEFAULT_MODEL)
    for _ in range(2):
        started = time.perf_counter()
        predict(model, image, scan, mask=mask, processing=Processing(device=device))
        seconds = time.perf_counter() - started
    print(f'predict(), all maps and back-projection: {seconds:.2f} s')


def run_network(
    way: Way,
    network: nn.Module,
    feed: Callable[[Tensor], Tensor],
    voxels: Tensor,
    device: str,
) -> tuple[Tensor, float, float]:
    """Run it once to warm up, on a corner, and once for the time; return result, s and GB."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = way.tf32
    half = way.precision != torch.float32

    def forward(patches: Tensor) -> Tensor:
        with torch.autocast(patches.device.type, way.precision) if half else nullcontext():
            return feed(patches).float()

    patches = Patches(Tiling(96, way.step), batch=way.batch, channels_last=way.channels_last)
    edge = 96 + 64
    on_cuda = device.startswith('cuda')
    patches.run(network, forward, voxels[..., :edge, :edge, :edge], device)
    if on_cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    found = patches.run(network, forward, voxels, device)
    seconds = time.perf_counter() - started
    return found, seconds, torch.cuda.max_memory_allocated() / 1e9 if on_cuda else 0.0


class Busy(threading.Thread):
    """Notes what nvidia-smi says, four times a second, beside the step of a training."""

    def __init__(self, step: Callable[[], int]) -> None:
        super().__init__(daemon=True)
        self.step = step
        self.seen: list[tuple[float, int, int]] = []
        self.process: subprocess.Popen[str] | None = None
        if shutil.which('nvidia-smi'):
            query = ['--query-gpu=utilization.gpu', '--format=csv,noheader,nounits', '-lms', '250']
            self.process = subprocess.Popen(
                ['nvidia-smi', '-i', '0', *query], stdout=subprocess.PIPE, text=True
            )

    def run(self) -> None:
        """Read until the process ends."""
        if self.process is None or self.process.stdout is None:
            return
        for line in self.process.stdout:
            if line.strip().isdigit():
                self.seen.append((time.monotonic(), self.step(), int(line)))

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()


def write_label_maps(folder: Path, edge: int) -> None:
    """Write three subjects' label maps of 1 mm."""
    for subject, share in (('first', 0.8), ('second', 0.85), ('last', 0.8)):
        labels, _ = folded((edge + 32,) * 3, share)
        nib.Nifti1Image(labels, np.eye(4)).to_filename(folder / f'{subject}.nii.gz')


def time_training(device: str, seconds: float, folder: Path, edge: int, precision: str) -> None:
    """Train on the label maps of a folder; print how busy the device was after the first steps."""
    from bids_segsr.training.data.collection import data_of_label_maps
    from bids_segsr.training.data_tables import LabelSource
    from bids_segsr.training.loop.distributed import make_fabric
    from bids_segsr.training.loop.engine import Trainer
    from bids_segsr.training.loop.training_run import label_map_sets
    from bids_segsr.training.recipe_file import read_recipe

    # the curves of a training are not what is measured
    sys.modules.setdefault('torch.utils.tensorboard', MagicMock())
    recipe = read_recipe('default-model')
    maps = dataclasses.replace(
        recipe.label_maps, sources=(LabelSource('*.nii.gz'),), hold_out=(), validation=('last*',)
    )
    schedule = dataclasses.replace(
        recipe.schedule, minutes=seconds / 60, precision=precision, checkpoint_minutes=100.0
    )
    sampling = dataclasses.replace(recipe.sampling, patch_size=edge)
    recipe = dataclasses.replace(recipe, label_maps=maps, schedule=schedule, sampling=sampling)
    fabric = make_fabric(device, None, recipe.schedule.precision)
    fabric.launch()
    training, validation = label_map_sets(folder)(recipe, folder / 'cache', fabric.device)
    data = data_of_label_maps(recipe, folder)
    trainer = Trainer(recipe, training, validation, folder / precision, data, fabric)
    busy = Busy(lambda: trainer.progress.step)
    busy.start()
    trainer.fit()
    busy.stop()
    progress = trainer.progress
    batch = recipe.schedule.batch_size
    print(
        f'training: {recipe.name} in {precision}, batches of {batch} x {edge}^3: {progress.step} '
        f'steps in {progress.seconds:.1f} s (validations included), '
        f'{progress.step * batch / max(progress.seconds, 1e-9):.1f} patches a second'
    )
    report_busy(busy.seen, progress.step)


def report_busy(seen: list[tuple[float, int, int]], last: int) -> None:
    """Print the mean of the samples between the first steps and the last one."""
    shares = [share for _, step, share in seen if 5 <= step < last]
    if not shares:
        print('training: nvidia-smi told nothing about how busy the device was')
        return
    print(
        f'training: device busy {np.mean(shares):.0f} % of the time '
        f'(median {np.median(shares):.0f} %, {len(shares)} samples)'
    )


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--seconds', type=float, default=240)
    arguments = parser.parse_args()
    device, seconds = arguments.device, arguments.seconds
    tiny = device == 'cpu'
    name = 'CPU' if tiny else torch.cuda.get_device_name(device)
    print(f'{name}, torch {torch.__version__}')
    started = time.monotonic()
    time_network(device, SMALL if tiny else NEWBORN, started + 0.3 * seconds)
    left = seconds - (time.monotonic() - started)
    edge = 24 if tiny else 96
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_label_maps(folder, edge)
        for precision in ('fp32', 'bf16'):
            time_training(device, max(5.0, 0.35 * left), folder, edge, precision)


if __name__ == '__main__':
    main()
