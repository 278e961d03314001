"""A simulated scan and small models that several tests read."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluation_phantoms import write_head, write_model

from bids_segsr.evaluation.cases import Case, Imaging, load_reference, make_case
from bids_segsr.evaluation.reproduce import datasets
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.training.data.subjects import Subject


@pytest.fixture(scope='module')
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    subject = write_head(tmp_path_factory.mktemp('heads'), 'sub-1', 1)
    reference = load_reference(subject, {'cortex': (1,), 'core': (2,)})
    return make_case(reference, Imaging(ForwardModel(spacing_mm=(3.0, 3.0))), 0)


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('evaluation')
    for seed, name in enumerate(('one', 'two'), start=1):
        write_model(root, name, seed=seed)
    write_model(root, 'unet', architecture='unet', base_filters=2)
    return root


@pytest.fixture(scope='module')
def heads(root: Path) -> list[Subject]:
    return [write_head(root / 'heads', f'sub-{n}', n) for n in (1, 2)]


@pytest.fixture
def few_participants(monkeypatch):
    """Lists of two and one participants, as the appendix would be shorter."""
    subjects = {'sub-A': 'Train', 'sub-B': 'Train', 'sub-C': 'Test'}
    monkeypatch.setattr(datasets, 'dhcp_participants', lambda: dict(subjects))
    return list(subjects)
