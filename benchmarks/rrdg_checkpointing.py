"""Memory and time of an RRDG training step, with and without checkpointed dense blocks.

    python benchmarks/rrdg_checkpointing.py [--patch 64 40 64] [--device cuda]

Each form runs in a process of its own. Memory is the peak of the step above what the process held
before it: allocated by torch on a GPU, resident set on a CPU.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import torch

from bids_segsr.networks import create


def resident_bytes() -> int:
    """Peak resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def train_step(
    network: torch.nn.Module, optimiser: torch.optim.Optimizer, x: torch.Tensor
) -> None:
    """One step of L1 training, as in the article."""
    optimiser.zero_grad()
    torch.nn.functional.l1_loss(network(x), x).backward()
    optimiser.step()


def measure(checkpointed: bool, patch: list[int], batch: int, device: str) -> dict[str, float]:
    """Peak memory (MiB) and seconds of one training step.

    Args:
        checkpointed: Option of the network.
        patch: Voxels along each axis.
        batch: Patches.
        device: Torch device.

    Returns:
        ``mib`` and ``seconds``.
    """
    torch.manual_seed(0)
    network = create('rrdg', checkpointed=checkpointed).to(device).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)
    # A small step first: optimiser state and libraries are there before the measurement.
    train_step(network, optimiser, torch.rand(1, 1, 8, 8, 8, device=device))
    x = torch.rand(batch, 1, *patch, device=device)
    if device.startswith('cuda'):
        train_step(network, optimiser, x)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        before = resident_bytes()
    start = time.perf_counter()
    train_step(network, optimiser, x)
    if device.startswith('cuda'):
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated() if device.startswith('cuda') else resident_bytes()
    return {'mib': (peak - before) / 2**20, 'seconds': seconds}


def main() -> None:
    """Measure both forms and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--patch', type=int, nargs=3, default=[64, 40, 64])
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--only', choices=['plain', 'checkpointed'], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        result = measure(args.only == 'checkpointed', args.patch, args.batch, args.device)
        print(json.dumps(result))
        return
    print(f'patch {args.patch}, batch {args.batch}, {args.device}, torch {torch.__version__}')
    for form in ('plain', 'checkpointed'):
        command = [sys.executable, __file__, *sys.argv[1:], '--only', form]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        result = json.loads(output)
        print(f'{form:13} {result["mib"]:8.0f} MiB {result["seconds"]:8.2f} s')


if __name__ == '__main__':
    main()
