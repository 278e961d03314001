"""Images that several tests of the training data share."""

from __future__ import annotations

import numpy as np
import pytest
from training_phantoms import write, write_folded_ball


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 900, (20, 22, 24)).astype(np.int16)
    image[:3] = 0
    for name in ('sub-01_T2w', 'sub-02_T2w', 'sub-01_FLAIR'):
        write(tmp_path / f'{name}.nii.gz', image)
    write(tmp_path / 'label.nii.gz', (image > 500).astype(np.uint8))
    return tmp_path


@pytest.fixture(scope='module')
def map_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('maps')
    for name in ('a1', 'a2', 'a3', 'held1'):
        write_folded_ball(root / 'adult' / f'{name}.nii.gz')
    write_folded_ball(root / 'own' / 'b1.nii', 30, 20)
    write_folded_ball(root / 'own' / 'b2.nii', 30, 20)
    return root
