"""Seconds, CPU seconds and memory of every step of an image.

    python benchmarks/steps.py [--scans adult newborn] [--model NAME|PATH] [--threads 2]

The scans are those of `compare_commits.py`. Memory is the highest resident size during a step.
Where other programs share the cores, read the CPU seconds, with one thread: threads that wait for
each other spin.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from compare_commits import SIZES, make_subject, write_scan

from bids_segsr.environment import use_large_pages
from bids_segsr.inference import one_image, predict, qc_numbers, steps
from bids_segsr.inference.processing import Processing
from bids_segsr.result import Result
from bids_segsr.zoo import feeding
from bids_segsr.zoo.find import DEFAULT_MODEL, load_model

STEPS: tuple[tuple[Any, str, str], ...] = (
    (steps, 'conform', 'read and check'),
    (steps, 'correct', 'bias field (N4)'),
    (steps, 'find_brain', 'brain mask'),
    (steps, 'interpolate', 'interpolation of image and mask'),
    (feeding, 'interpolated', 'input of the network'),
    (predict.Patches, 'run', 'network'),
    (feeding, 'projected_back', 'back-projection'),
    (steps, 'segment', 'segmentation and topology'),
    (steps, 'check', 'fidelity check'),
    (qc_numbers, 'quality', 'numbers of quality'),
    (one_image, 'write_result', 'images written'),
)
"""Where a function lies, its name, and what the table calls it; none runs inside another."""


class Meter(threading.Thread):
    """Watches the memory of this process."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.process = psutil.Process()
        self.peak = 0

    def run(self) -> None:
        """Look a hundred times a second."""
        while True:
            self.peak = max(self.peak, self.process.memory_info().rss)
            time.sleep(0.01)

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        """Print what a block takes."""
        self.peak = self.process.memory_info().rss
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f'  {name:34}{wall:8.1f}{cpu:8.1f}{self.peak / 1e6:8.0f}', flush=True)

    def wrapped(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Return a function that is measured whenever it is called."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.measured(name):
                return function(*args, **kwargs)

        return call


def main() -> None:
    """Print a table for each scan."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--scans', nargs='+', choices=SIZES, default=list(SIZES))
    parser.add_argument('--model', default=DEFAULT_MODEL)
    parser.add_argument('--threads', type=int, default=2)
    arguments = parser.parse_args()
    use_large_pages()
    torch.set_num_threads(arguments.threads)
    meter = Meter()
    meter.start()
    for module, function, name in STEPS:
        setattr(module, function, meter.wrapped(getattr(module, function), name))
    model = load_model(arguments.model)
    for scan_name in arguments.scans:
        print(f'{scan_name + ", " + model.card.name:36}{"s":>8}{"CPU s":>8}{"MB":>8}')
        size, resolution = SIZES[scan_name]
        with tempfile.TemporaryDirectory() as folder:
            scan = write_scan(make_subject(size, resolution), Path(folder) / 'bids')
            made = one_image.process_image(
                one_image.Source(scan),
                model,
                Processing(resolution=resolution, device='cpu'),
                tell=lambda _: None,
            )
            with meter.measured('images and report, all together'):
                Result(made).save(Path(folder) / 'out', report=True)


if __name__ == '__main__':
    main()
