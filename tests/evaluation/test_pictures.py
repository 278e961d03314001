"""Slices of results, kept for the figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bids_segsr.evaluation.cases import Case
from bids_segsr.evaluation.pictures import load_picture, save_picture
from bids_segsr.evaluation.systems import Output
from bids_segsr.imaging.components import bounding_box


def test_the_middle_slice_comes_back_with_its_outline(case: Case, tmp_path: Path) -> None:
    cortex = case.reference.structures['cortex']
    index = np.indices(cortex.shape).astype(np.float32)
    code = index[0] + 100 * index[1] + 10_000 * index[2]
    save_picture(tmp_path, 'k', case, Output(code, {'cortex': ~cortex}, 1.0, 1.0, 'cpu'))
    picture = load_picture(tmp_path, 'k')
    assert picture is not None
    box = bounding_box(case.inside)
    u, v = (axis for axis in range(3) if axis != case.across)

    def voxel_of(value: float) -> tuple[float, ...]:
        return value % 100, value // 100 % 100, value // 10_000

    middle = (box[case.across].start + box[case.across].stop) // 2
    # from the top: the second axis runs up, the first to the right
    lower_left, upper_right = voxel_of(picture.image[-1, 0]), voxel_of(picture.image[0, -1])
    assert (lower_left[u], lower_left[v]) == (box[u].start, box[v].start)
    assert (upper_right[u], upper_right[v]) == (box[u].stop - 1, box[v].stop - 1)
    assert lower_left[case.across] == middle
    np.testing.assert_array_equal(picture.outline, ~picture.true_outline)
    assert picture.mask is not None
    assert picture.true_mask is not None
    np.testing.assert_array_equal(picture.true_mask, cortex[box])
    np.testing.assert_array_equal(picture.mask, ~cortex[box])
    np.testing.assert_allclose(picture.spacing, (1, 1, 1))


def test_what_does_not_segment_has_the_outline_of_the_truth_alone(
    case: Case, tmp_path: Path
) -> None:
    save_picture(tmp_path, 'k', case, Output(case.interpolated, {}, 1.0, 1.0, 'cpu'))
    picture = load_picture(tmp_path, 'k')
    assert picture is not None
    assert not picture.outline.any()
    assert picture.true_outline.any()
    assert picture.mask is None
    assert load_picture(tmp_path, 'other') is None
