"""Threads, caches and seeds: bounded, elsewhere than at home, and put back."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from bids_segsr import environment


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, 'environ', {'HOME': str(tmp_path)})


def test_threads_are_bounded_before_libraries_are_imported() -> None:
    environment.bound_threads(2)
    assert os.environ['OMP_NUM_THREADS'] == '2'
    assert os.environ['ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS'] == '2'
    environment.spare_cores()
    assert os.environ['OPENBLAS_NUM_THREADS'] == '2'  # what somebody chose stays


@pytest.mark.parametrize(('chosen', 'expected'), [(None, '1'), ('0', '0')])
def test_large_pages_are_asked_for_unless_somebody_chose(
    chosen: str | None, expected: str
) -> None:
    if chosen is not None:
        os.environ['THP_MEM_ALLOC_ENABLE'] = chosen
    environment.use_large_pages()
    assert os.environ['THP_MEM_ALLOC_ENABLE'] == expected


def test_caches_lie_in_the_folder_unless_somebody_chose(tmp_path: Path) -> None:
    os.environ['MPLCONFIGDIR'] = '/mpl'
    environment.keep_caches_in(tmp_path / 'work')
    assert os.environ['NIPYPE_NO_ET'] == '1'
    assert os.environ['MPLCONFIGDIR'] == '/mpl'
    assert os.environ['TEMPLATEFLOW_HOME'] == str(tmp_path / 'work' / 'templateflow')


def test_an_archive_of_templates_at_home_is_used(tmp_path: Path) -> None:
    (tmp_path / '.cache' / 'templateflow').mkdir(parents=True)
    environment.keep_caches_in(tmp_path / 'work')
    assert 'TEMPLATEFLOW_HOME' not in os.environ


def test_a_cache_that_passes_is_removed() -> None:
    with environment.passing_caches():
        cache = Path(os.environ['MPLCONFIGDIR'])
        assert cache.is_dir()
    assert not cache.exists()


def test_all_sources_follow_from_the_numbers() -> None:
    drawn = []
    for numbers in ((1, 2), (1, 2), (1, 3)):
        environment.seed_all(*numbers)
        drawn.append((torch.rand(1).item(), np.random.rand(), random.random()))  # noqa: NPY002
    assert drawn[0] == drawn[1]
    assert not set(drawn[0]) & set(drawn[2])


def test_seed_and_threads_are_put_back() -> None:
    def state() -> tuple[int, int, int]:
        known = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
        return torch.get_num_threads(), known, hash(torch.get_rng_state().numpy().tobytes())

    environment.set_threads(2)
    before = state()
    drawn = []
    for _ in range(2):
        with environment.seeded(np.random.default_rng(3)):
            assert torch.get_num_threads() == 1
            drawn.append(torch.rand(1).item())
    assert drawn[0] == drawn[1]
    assert state() == before
    environment.set_threads(1)
