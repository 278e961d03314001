"""Time and peak memory of the network over a volume, beside the memory that is declared.

    python benchmarks/inference.py [--shape 140 180 140] [--patch-size 96 64 0]

Each row runs in a process of its own. "used" is the peak resident memory minus that before the
network was applied. Times are ratios to the first row, measured in the same run.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import resource
import time

import numpy as np


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--shape', nargs=3, type=int, default=(140, 180, 140))
    parser.add_argument('--patch-size', nargs='+', type=int, default=(96, 64, 32))
    parser.add_argument('--model')
    parser.add_argument('--threads', type=int, default=2)
    arguments = parser.parse_args()
    print(f'{platform.processor() or platform.machine()}, {arguments.threads} threads')
    print(f'{"patch":>6}{"step":>6}{"time":>9}{"ratio":>7}{"used GB":>9}{"declared GB":>13}')
    base = 0.0
    context = multiprocessing.get_context('spawn')
    for patch_size in arguments.patch_size:
        with context.Pool(1) as pool:
            step, seconds, used, declared = pool.apply(
                measure,
                (tuple(arguments.shape), patch_size, arguments.model, arguments.threads),
            )
        base = base or seconds
        timing = f'{seconds:8.1f}s{seconds / base:7.2f}'
        print(f'{patch_size:6}{step:6}{timing}{used:9.2f}{declared:13.2f}', flush=True)


def measure(
    shape: tuple[int, int, int], patch_size: int, name: str | None, threads: int
) -> tuple[int, float, float, float]:
    """Run the network over noise; return step, seconds, GB used and GB declared."""
    import torch

    from bids_segsr.imaging.back_projection import Slices
    from bids_segsr.inference.predict import predict
    from bids_segsr.inference.processing import Processing
    from bids_segsr.inference.tiling import (
        full_resolution_filters,
        peak_memory_gb,
        resolve_patches,
    )
    from bids_segsr.zoo.find import DEFAULT_MODEL, load_model

    torch.set_num_threads(threads)
    model = load_model(name or DEFAULT_MODEL)
    image = np.random.default_rng(0).normal(500, 100, shape).astype(np.float32)
    mask = np.ones(shape, dtype=bool)
    small = image[:16, :16, :16]
    scan = Slices(image[:, :, 1::3], np.diag([1.0, 1, 3, 1]), np.eye(4))
    how = Processing(patch_size=patch_size, device='cpu')
    predict(model, small, scan, processing=how)  # what torch allocates once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    predict(model, image, scan, mask=mask, processing=how)
    seconds = time.perf_counter() - start
    used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e9
    size, step = resolve_patches(patch_size, None)
    filters = full_resolution_filters(model.card.architecture, model.card.options)
    declared = peak_memory_gb(shape, size, filters, len(model.card.channels))
    return step, seconds, used, declared


if __name__ == '__main__':
    main()
