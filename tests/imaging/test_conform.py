"""Axes and affines of scans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation

from bids_segsr.imaging.conform import acquired_axis, as_stored, slice_axis, to_canonical
from bids_segsr.imaging.volume import load_map, save_volume


@pytest.mark.parametrize('seed', range(8))
def test_an_affine_is_read_as_it_was_written(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(random_state=rng).as_matrix() * rng.uniform(0.4, 5, 3)
    affine[:3, 3] = rng.uniform(-150, 150, 3)
    stored = as_stored(affine)
    np.testing.assert_allclose(stored, affine, atol=1e-5)
    path = save_volume(tmp_path / 'image.nii.gz', rng.random((4, 5, 6)), stored)
    np.testing.assert_array_equal(load_map(path).affine, stored)


def test_canonical_axes_keep_every_voxel_in_its_place() -> None:
    affine = np.array([[0, 0, 4.0, -50], [-1, 0, 0, 60], [0, -1.5, 0, 70], [0, 0, 0, 1]])
    data = np.zeros((3, 4, 5))
    data[2, 1, 3] = 1
    found, placed = to_canonical(data, affine)
    assert found.shape == (5, 3, 4)
    (where,) = np.argwhere(found)
    np.testing.assert_allclose(apply_affine(placed, where), apply_affine(affine, (2, 1, 3)))
    assert (np.diag(placed)[:3] > 0).all()


def test_the_slice_axis_is_the_coarsest_in_space() -> None:
    sagittal = np.array([[0, 0, 4.0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    assert slice_axis((1.0, 1.0, 4.0)) == 2
    assert acquired_axis(sagittal, np.eye(4)) == 0
