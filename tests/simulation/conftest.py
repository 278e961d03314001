"""A brain that several tests of the simulation share."""

from __future__ import annotations

import pytest
from simulation_phantoms import write_labels

from bids_segsr.simulation.anatomy import (
    read_anatomy,
)


@pytest.fixture(scope='session')
def anatomy(tmp_path_factory):
    return read_anatomy(write_labels(tmp_path_factory.mktemp('labels') / 'ball.nii.gz'), 'adult')
