"""Distances between surfaces, from all pairs of their voxels and on spheres."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from bids_segsr.evaluation.surface_distance import average_surface_distance, hausdorff95

SPACING = (0.5, 0.8, 3.0)


def ball(radius: float, centre: tuple[float, float, float], n: int = 40) -> np.ndarray:
    points = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing='ij'), -1) - np.array(centre)
    return np.linalg.norm(points, axis=-1) <= radius


def blobs(seed: int) -> np.ndarray:
    return gaussian_filter(np.random.default_rng(seed).normal(size=(24, 26, 12)), 2) > 0.03


def test_surface_distances_are_those_of_all_pairs_of_surface_voxels() -> None:
    first, second = blobs(3), blobs(4)
    contours = [
        sitk.GetArrayFromImage(sitk.LabelContour(sitk.GetImageFromArray(m.astype(np.uint8)))) > 0
        for m in (np.pad(first, 1), np.pad(second, 1))
    ]
    points = [np.argwhere(c) * SPACING for c in contours]
    pairs = cdist(*points)
    there, back = pairs.min(axis=1), pairs.min(axis=0)
    expected = max(np.percentile(there, 95), np.percentile(back, 95))
    assert hausdorff95(first, second, SPACING) == pytest.approx(expected, rel=1e-6)
    mean = np.concatenate([there, back]).mean()
    assert average_surface_distance(first, second, SPACING) == pytest.approx(mean, rel=1e-6)


def test_surface_distances_of_spheres() -> None:
    inner, outer = ball(9, (20, 20, 20)), ball(14, (20, 20, 20))
    spacing = (0.7, 0.7, 0.7)
    # concentric: 5 voxels everywhere, within a voxel of the grid
    assert average_surface_distance(inner, outer, spacing) == pytest.approx(3.5, abs=0.35)
    assert hausdorff95(inner, outer, spacing) == pytest.approx(3.5, abs=0.7)
    assert hausdorff95(inner, inner, spacing) == 0
    # shifted by four voxels along the second axis: no point is further away than the shift
    shifted = ball(9, (20, 24, 20))
    assert 0.75 * 4 * 0.8 <= hausdorff95(inner, shifted, SPACING) <= 4 * 0.8 + 1e-6


def test_surface_distance_where_a_segmentation_is_empty() -> None:
    found, nothing = blobs(1), np.zeros((24, 26, 12), dtype=bool)
    for distance in (hausdorff95, average_surface_distance):
        assert distance(nothing, nothing, SPACING) == 0
        assert distance(found, nothing, SPACING) == distance(nothing, found, SPACING) == np.inf
