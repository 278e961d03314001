"""The scan of the demonstrations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bids_segsr.bids.query import collect_scans, open_layout
from bids_segsr.imaging.volume import load_volume
from bids_segsr.simulation.demo_dataset import write_demo_dataset

AFFINE = np.array([[1.0, 0, 0, -20], [0, 1, 0, -18], [0, 0, 1, -15], [0, 0, 0, 1]])


@pytest.fixture
def truth() -> np.ndarray:
    """A ball of intensity 1000, radius 14 mm, around 0 0 0 mm."""
    place = np.indices((41, 37, 31)).T + AFFINE[:3, 3]
    return np.where(np.linalg.norm(place, axis=-1).T < 14, 1000, 0).astype(np.float32)


def test_a_ball_becomes_a_dataset_of_one_scan_with_thick_slices(
    truth: np.ndarray, tmp_path: Path
) -> None:
    write_demo_dataset(tmp_path, truth, AFFINE)
    (scan,), unusable = collect_scans(open_layout(tmp_path), modality='T1w')
    assert not unusable
    assert (scan.subject, scan.path.name) == ('icbm152', 'sub-icbm152_T1w.nii.gz')
    about = json.loads((scan.path.parent / 'sub-icbm152_T1w.json').read_text(encoding='utf-8'))
    assert about['SliceThickness'] == 3

    low = load_volume(scan.path)
    np.testing.assert_allclose(low.spacing, (1, 1, 3), rtol=1e-6)
    voxels = np.argwhere(low.data > 500)
    middle = low.affine[:3, :3] @ voxels.mean(0) + low.affine[:3, 3]
    np.testing.assert_allclose(middle, 0, atol=0.05)
    assert 3 * len(voxels) == pytest.approx(4 / 3 * np.pi * 14**3, rel=0.03)
    assert low.data[0].max() == 0
    inside = low.data[18:23, 16:21, 4:7]
    assert inside.mean() == pytest.approx(1000, rel=0.005)
    assert inside.std() == pytest.approx(10, rel=0.3)


def test_the_same_bytes_are_written_again(truth: np.ndarray, tmp_path: Path) -> None:
    for name in 'ab':
        write_demo_dataset(tmp_path / name, truth, AFFINE)
    first, second = (
        [path.read_bytes() for path in sorted((tmp_path / name).rglob('*')) if path.is_file()]
        for name in 'ab'
    )
    assert first == second
    assert len(first) == 4
