"""The participant level looks at every image before any work, and a dry run writes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bids_segsr.app.outcome import Outcome
from bids_segsr.app.participant_level import run_participants
from bids_segsr.execution.settings import Settings
from bids_segsr.imaging.volume import save_volume
from bids_segsr.inference.processing import Processing


def test_a_dry_run_tells_what_would_be_made_and_what_cannot_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = tmp_path / 'raw'
    paths = [raw / f'sub-{n}' / 'anat' / f'sub-{n}_T2w.nii.gz' for n in ('01', '02')]
    for path in paths:
        path.parent.mkdir(parents=True)
    data = np.random.default_rng(0).uniform(1, 100, (20, 20, 8)).astype(np.float32)
    save_volume(paths[0], data, np.diag([1.0, 1.0, 3.0, 1.0]))
    paths[1].write_bytes(b'no image')
    settings = Settings(
        bids_dir=raw,
        output_dir=tmp_path / 'out',
        work_dir=tmp_path / 'work',
        model='tissue-unet',
        processing=Processing(device='cpu', skull_strip='skip', resolution=1.0),
        skip_bids_validation=True,
        dry_run=True,
    )

    outcome = run_participants(settings)

    assert isinstance(outcome, Outcome)
    (told,) = outcome.shown
    assert told.startswith('sub-01_T2w\n')
    assert '20 x 20 x 24 voxels of 1 mm' in told
    assert str(tmp_path / 'out' / 'sub-01' / 'anat' / 'sub-01_res-1mm_desc-') in told
    assert not outcome.fine
    assert 'sub-02_T2w is left out' in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ['raw']
