"""Phantoms and datasets that several tests share."""

from __future__ import annotations

import ctypes
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from geometry_phantoms import SHARED

CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2

os.environ.setdefault('MPLBACKEND', 'agg')
os.environ.setdefault('NO_ET', '1')
os.environ.setdefault('NIPYPE_NO_ET', '1')
# drawn here, so that all processes of a run have the same
os.environ.setdefault('HOSTILE_SEED', str(secrets.randbelow(2**31)))


def pytest_report_header() -> str:
    return f'hostile inputs: again with HOSTILE_SEED={os.environ["HOSTILE_SEED"]}'


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if SHARED.is_dir():
        return
    skip = pytest.mark.skip(reason='no ../shared beside this checkout')
    for item in items:
        if 'shared' in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def shared() -> Path:
    return SHARED


@contextmanager
def _no_right_to_everything() -> Iterator[None]:
    """Take from root, in this thread, the capabilities that ignore the rights of files."""
    libc = ctypes.CDLL(None, use_errno=True)
    # capget(2): version 3, this thread; effective, permitted and inheritable, 32 bits each, twice
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    rights = (ctypes.c_uint32 * 6)()
    libc.capget(header, rights)
    before = rights[0]
    rights[0] = before & ~(1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH)
    libc.capset(header, rights)
    try:
        yield
    finally:
        rights[0] = before
        libc.capset(header, rights)


@pytest.fixture
def closed() -> Iterator[Callable[[Path], Path]]:
    """Takes the rights of a file or folder away until the test is over."""
    paths: list[Path] = []

    def close(path: Path) -> Path:
        path.chmod(0)
        paths.append(path)
        if os.access(path, os.R_OK, effective_ids=True):
            pytest.skip('root may read everything')
        return path

    with _no_right_to_everything():
        yield close
        for path in reversed(paths):
            path.chmod(0o700)


@pytest.fixture
def brain_mask_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An untrained model called brain-mask where models are found by name."""
    import torch

    from bids_segsr.networks import create
    from bids_segsr.zoo.card import InputContract, ModelCard
    from bids_segsr.zoo.find import BRAIN_MASK_MODEL, FOLDER_VARIABLE
    from bids_segsr.zoo.store import save_model

    options = {'base_filters': 2, 'classes': 2, 'intensity': False}
    torch.manual_seed(0)
    card = ModelCard(
        name=BRAIN_MASK_MODEL,
        version='1',
        description='untrained',
        architecture='tissue-unet',
        options=options,
        contract=InputContract(('T2w',), 'patch-standard', (2.0, 2.0), (2.0, 6.0)),
        channels=('intensity', 'brain'),
        labels={1: 'brain'},
    )
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / 'models'))
    folder = tmp_path / 'models' / BRAIN_MASK_MODEL
    return save_model(folder, create(card.architecture, **options), card)


@pytest.fixture(scope='session')
def head_maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of label maps of balls: a is a brain alone, b and c lie in a head."""
    from simulation_phantoms import write_balls

    folder = tmp_path_factory.mktemp('maps')
    for name, whole in (('a', False), ('b', True), ('c', True)):
        write_balls(folder / f'{name}.nii.gz', whole)
    return folder
