"""The bias field of an image depends on its voxels and their size alone."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from geometry_phantoms import oblique_affine

from bids_segsr.imaging.bias_field import bias_field, shrink_factors

SPACING = (1.0, 1.1, 3.0)


def phantom() -> np.ndarray:
    place = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in (40, 44, 16)), indexing='ij'))
    texture = 400 + 150 * np.sin(9 * place[0]) * np.cos(7 * place[1])
    return np.where((place**2).sum(0) < 0.75**2, texture, 0).round()


@pytest.mark.parametrize('other', ['moved', 'turned', 'in single precision'])
def test_place_and_digits_of_the_affine_do_not_matter(other: str) -> None:
    data = phantom()
    affine = oblique_affine(SPACING, (7, -4, 11))
    changed = {
        'moved': np.vstack([np.c_[affine[:3, :3], [17.3, -40, 8]], affine[3:]]),
        'turned': oblique_affine(SPACING, (31, 8, -60)),
        'in single precision': affine.astype(np.float32).astype(float),
    }
    np.testing.assert_array_equal(bias_field(data, affine), bias_field(data, changed[other]))


def test_threads_of_the_machine_do_not_matter() -> None:
    default = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    affine, found = oblique_affine(SPACING, (7, -4, 11)), []
    try:
        for number in (1, 2, 5):
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(number)
            found.append(bias_field(phantom(), affine))
            assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == number
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(default)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize(
    ('shape', 'spacing', 'expected'),
    [
        ((197, 233, 63), (1, 1, 3), [4, 4, 1]),
        ((406, 36, 448), (0.51, 4, 0.51), [6, 1, 6]),
        ((290, 290, 34), (0.3, 0.8, 3), [10, 4, 1]),
        ((40, 12, 16), (0.5, 0.5, 3), [5, 1, 1]),
    ],
)
def test_fine_voxels_are_shrunk_to_three_millimetres(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], expected: list[int]
) -> None:
    assert shrink_factors(shape, spacing) == expected


def test_a_known_field_is_taken_out_of_voxels_of_half_a_millimetre() -> None:
    shape, affine = (120, 140, 16), np.diag([0.5, 0.5, 3.0, 1.0])
    place = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing='ij'))
    head = (place**2).sum(0) < 0.9**2
    tissue = np.where(np.sin(9 * place[0]) * np.cos(7 * place[1]) > 0, 550.0, 400.0)
    known = 1 + 0.2 * place[0] + 0.15 * place[1] * place[2]
    left = (bias_field(tissue * known * head, affine) / known)[head]
    assert (known[head] / known[head].mean()).std() > 0.08
    assert left.std() / left.mean() < 0.03
