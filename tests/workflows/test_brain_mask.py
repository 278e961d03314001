"""The brain mask step of the graph: what it is given, and what it makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bids_segsr.workflows import base
from bids_segsr.workflows.base import init_single_image_wf
from test_brain_extraction import ball
from test_card import make_card

from bids_segsr.bids.query import Scan
from bids_segsr.execution.settings import Settings
from bids_segsr.imaging.volume import save_volume
from bids_segsr.inference.processing import Processing
from bids_segsr.inference.step_memory import LIBRARIES_GB
from bids_segsr.zoo.find import find_card

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


@pytest.fixture
def scan(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A bright ball of 24 mm in noise, and where it is."""
    inside = ball((36, 36, 24), AFFINE, np.array([35.0, 35, 34]), 24)
    data = 500 * inside + np.random.default_rng(0).uniform(1, 30, inside.shape)
    path = tmp_path / 'raw' / 'sub-01' / 'anat' / 'sub-01_T2w.nii.gz'
    path.parent.mkdir(parents=True)
    return save_volume(path, data.astype(np.float32), AFFINE), inside


@pytest.mark.parametrize('template', [None, 'MNIInfant:cohort-1'])
def test_node_gets_the_template_that_was_named(tmp_path, scan, template, monkeypatch):
    monkeypatch.setattr(
        base, 'find_card', lambda name: make_card() if name == 'toy' else find_card(name)
    )
    settings = Settings(
        bids_dir=tmp_path / 'raw',
        output_dir=tmp_path / 'out',
        analysis_level=('participant',),
        work_dir=tmp_path / 'work',
        model='toy',
        processing=Processing(skull_strip_template=template),
        omp_nthreads=2,
    )
    entities = {'subject': '01', 'suffix': 'T2w', 'datatype': 'anat', 'extension': '.nii.gz'}
    workflow = init_single_image_wf(settings, Scan(scan[0], entities, {}, None))
    node = workflow.get_node('image.brain_mask')
    given = {
        'skull_strip': 'auto',
        'skull_strip_tool': 'builtin',
        'skull_strip_template': template,
    }
    assert node.inputs.processing == given
    assert node.inputs.modality == 'T2w'
    assert node.n_procs == node.inputs.num_threads == 2
    assert LIBRARIES_GB < node.mem_gb < 2
