"""How much memory a process may use."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

CGROUPS = Path('/sys/fs/cgroup')
OWN_CGROUPS = Path('/proc/self/cgroup')
MEMORY_INFO = Path('/proc/meminfo')


@dataclass(frozen=True)
class Limit:
    """An upper bound of memory.

    Attributes:
        gb: Gigabytes (1e9 bytes).
        source: Who sets it, for messages.
    """

    gb: float
    source: str


def memory_limit(asked_gb: float | None = None) -> Limit:
    """Find the lowest bound of the memory of this process.

    A container or a Slurm job is bounded by its control group (version 2 or 1), which is far
    below what `/proc/meminfo` tells of the machine; a shell may bound the address space.

    Args:
        asked_gb: What the user allows (`--mem`), GB; None for no bound.

    Returns:
        The lowest of these bounds.
    """
    bounds = [Limit(_machine_gb(), 'the memory of this machine')]
    bounds += [Limit(amount / 1e9, 'the limit of this container or job') for amount in _cgroups()]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        bounds.append(Limit(soft / 1e9, 'the limit of the address space (ulimit -v)'))
    if asked_gb is not None:
        bounds.append(Limit(asked_gb, '--mem'))
    return min(bounds, key=lambda bound: bound.gb)


def _machine_gb() -> float:
    for line in MEMORY_INFO.read_text(encoding='ascii').splitlines():
        if line.startswith('MemTotal:'):
            return int(line.split()[1]) * 1024 / 1e9
    return float('inf')


def _cgroups() -> list[int]:
    """Return the bounds in bytes of the control groups that hold this process."""
    try:
        lines = OWN_CGROUPS.read_text(encoding='utf-8').splitlines()
    except OSError:
        return []
    bounds = []
    for line in lines:
        _, controllers, own = line.split(':', 2)
        if controllers == '':
            root, name = CGROUPS, 'memory.max'
        elif 'memory' in controllers.split(','):
            root, name = CGROUPS / 'memory', 'memory.limit_in_bytes'
        else:
            continue
        folder = root / own.lstrip('/')
        # a container may see its own group as the root; the bounds of all groups above hold
        for group in (folder, *folder.parents):
            if not group.is_relative_to(root):
                break
            try:
                bounds.append(int((group / name).read_text(encoding='ascii')))
            except (OSError, ValueError):  # no such group here, or 'max'
                continue
    return bounds
