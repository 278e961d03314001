"""Threads, caches and seeds of this process, all of which libraries keep outside of our reach."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

THREAD_VARIABLES = (
    'OMP_NUM_THREADS',
    'OPENBLAS_NUM_THREADS',
    'MKL_NUM_THREADS',
    'ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS',
)

PR_SET_PDEATHSIG = 1
"""Option of prctl(2): the signal that a process gets when its parent ends, however it ends."""


def count_cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def bound_threads(number: int) -> None:
    """Bound the threads of libraries that are not imported yet, and of processes started later."""
    for name in THREAD_VARIABLES:
        os.environ[name] = str(number)


def use_large_pages() -> None:
    """Let torch, which has allocated nothing yet, ask Linux for pages of 2 MB.

    Maps of a network and simulated volumes come and go: the kernel clears ten thousands of pages
    of 4 kB a patch.
    """
    os.environ.setdefault('THP_MEM_ALLOC_ENABLE', '1')


def spare_cores() -> None:
    """Let NumPy, which is not imported yet, multiply matrices on one core.

    Else each of the processes that make samples does it on all of them.
    """
    os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')


def set_torch_threads(number: int) -> None:
    """Bound the threads of torch alone."""
    import torch

    torch.set_num_threads(number)


def set_threads(number: int) -> None:
    """Bound the threads of torch and SimpleITK, which are imported."""
    import SimpleITK as sitk

    set_torch_threads(number)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(number)


def end_with(parent: int) -> None:
    """Let this process end with the one that forked it, even where that is killed.

    Args:
        parent: Its number.
    """
    import psutil

    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        ended = psutil.Process(parent).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        ended = True
    if ended:  # before that was set
        os._exit(1)


@contextmanager
def passing_caches() -> Iterator[None]:
    """Let matplotlib, which MONAI and ANTs import, cache its fonts elsewhere than at home."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ.setdefault('MPLCONFIGDIR', cache)
        yield


def keep_caches_in(folder: Path) -> None:
    """Let Nipype, matplotlib and TemplateFlow write below a folder, and send nothing.

    The home folder may be read-only in a container. An archive of templates that is there is used.

    Args:
        folder: Made when they need it.
    """
    os.environ['NO_ET'] = os.environ['NIPYPE_NO_ET'] = '1'
    os.environ.setdefault('NIPYPE_CONFIG_DIR', str(folder / 'nipype'))
    os.environ.setdefault('MPLCONFIGDIR', str(folder / 'matplotlib'))
    if not (Path.home() / '.cache' / 'templateflow').is_dir():
        os.environ.setdefault('TEMPLATEFLOW_HOME', str(folder / 'templateflow'))


def seed_all(*numbers: int) -> None:
    """Seed all global sources of random numbers, so that none has a state worth keeping.

    Args:
        numbers: What the seeds follow from.
    """
    import numpy as np
    import torch

    words = np.random.SeedSequence(numbers).generate_state(3)
    torch.manual_seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002 - layers of others may draw from it
    random.seed(int(words[2]))


@contextmanager
def itk_threads(number: int) -> Iterator[None]:
    """Let SimpleITK's global default be some threads for a while.

    Filters divide their sums by it, whatever number they are given and whatever cores there are:
    the last digits follow from it.
    """
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(number)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


@contextmanager
def seeded(rng: np.random.Generator) -> Iterator[None]:
    """Seed torch's global source for a while; one thread, for their number changes the last bits.

    Args:
        rng: What the seed is drawn from.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with itk_threads(1), torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**63 - 1)))
            yield
    finally:
        torch.set_num_threads(threads)
