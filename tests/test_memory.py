"""The lowest bound of the memory counts, whoever sets it."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from bids_segsr import memory
from bids_segsr.memory import memory_limit


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 16 GiB without bounds; the folder of its control groups."""
    for name, path, text in (
        ('MEMORY_INFO', 'meminfo', 'MemFree: 1 kB\nMemTotal:       16777216 kB\n'),
        ('OWN_CGROUPS', 'self', '0::/\n'),
    ):
        (tmp_path / path).write_text(text, encoding='ascii')
        monkeypatch.setattr(memory, name, tmp_path / path)
    groups = tmp_path / 'cgroup'
    monkeypatch.setattr(memory, 'CGROUPS', groups)
    unlimited = resource.RLIM_INFINITY
    monkeypatch.setattr(memory.resource, 'getrlimit', lambda _: (unlimited, unlimited))
    return groups


def bound(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding='ascii')


def test_the_machine_or_what_the_user_allows(machine: Path) -> None:
    assert memory_limit().gb == pytest.approx(2**34 / 1e9)
    assert memory_limit().source == 'the memory of this machine'
    assert memory_limit(3.5) == memory.Limit(3.5, '--mem')
    assert memory_limit(99.0).source == 'the memory of this machine'


def test_a_group_above_bounds_those_below_it(machine: Path) -> None:
    memory.OWN_CGROUPS.write_text('0::/job/step\n', encoding='ascii')
    bound(machine / 'job', 'memory.max', '4000000000\n')
    bound(machine / 'job' / 'step', 'memory.max', 'max\n')
    assert memory_limit() == memory.Limit(4.0, 'the limit of this container or job')
    bound(machine / 'job' / 'step', 'memory.max', '3000000000\n')
    assert memory_limit().gb == 3.0


def test_control_groups_of_version_1(machine: Path) -> None:
    text = '5:cpu,cpuacct:/a\n4:memory:/slurm/job_1\n'
    memory.OWN_CGROUPS.write_text(text, encoding='ascii')
    bound(machine / 'memory' / 'slurm', 'memory.limit_in_bytes', '2000000000\n')
    assert memory_limit().gb == 2.0


def test_a_shell_may_bound_the_address_space(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory.resource, 'getrlimit', lambda _: (1_500_000_000, -1))
    assert memory_limit(2.0) == memory.Limit(1.5, 'the limit of the address space (ulimit -v)')
