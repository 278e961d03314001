"""Simulated scans: aligned with their truth, the same for every model, scored where they see."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from evaluation_phantoms import SHAPE, write_head

from bids_segsr.evaluation.cases import Imaging, load_reference, make_case
from bids_segsr.exceptions import ImageError
from bids_segsr.imaging.acquisition import acquire, draw_acquisition, interpolate
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.imaging.volume import load_fine, save_volume
from bids_segsr.training.data.subjects import Subject

CORTEX = {'cortex': (1,), 'everything': (1, 2)}
SLICES = ForwardModel(spacing_mm=(4.0, 4.0))


@pytest.fixture(scope='module')
def head(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return write_head(tmp_path_factory.mktemp('heads'), 'sub-1', 1)


def test_case_is_what_the_forward_model_gives(head: Subject) -> None:
    reference = load_reference(head, CORTEX)
    case = make_case(reference, Imaging(SLICES), seed=0)
    acquisition = draw_acquisition(SLICES, (1, 1, 1), None)
    scan, _ = acquire(reference.image, reference.affine, acquisition)
    expected = interpolate(scan, SHAPE, reference.affine, acquisition)
    np.testing.assert_array_equal(case.interpolated[case.seen], expected[case.seen])
    assert not case.interpolated[~case.seen].any()
    assert (case.acquisition.axis, case.resolution, case.across) == (2, 4.0, 0)
    assert set(reference.structures) == set(CORTEX)
    np.testing.assert_array_equal(reference.structures['everything'], reference.brain)


def test_an_offset_of_the_truth_is_taken_off_as_from_a_scan(
    head: Subject, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = load_fine(head.image)
    path = save_volume(tmp_path / 'shifted.nii', image.data - 500, image.affine)
    shifted = load_reference(dataclasses.replace(head, image=path), CORTEX)
    known = load_reference(head, CORTEX).image
    np.testing.assert_allclose(shifted.image, known - known.min(), atol=1e-3)
    assert 'shifted.nii: ' in caplog.text


def test_only_what_the_slices_cover_is_scored(head: Subject) -> None:
    # seven slices of 4 mm in 30 voxels of 1 mm: the outermost voxel of each end is not covered
    reference = load_reference(head, {})
    everywhere = dataclasses.replace(reference, brain=np.ones(SHAPE, dtype=bool))
    inside = make_case(everywhere, Imaging(SLICES), seed=0).inside
    assert not inside[:, :, [0, 29]].any()
    assert inside[:, :, 1:29].all()


def test_storage_order_does_not_matter(head: Subject, tmp_path: Path) -> None:
    turned = {}
    for kind in ('image', 'label', 'mask'):
        image = nib.load(getattr(head, kind)).as_reoriented(
            nib.orientations.axcodes2ornt(('P', 'S', 'R'))
        )
        turned[kind] = save_volume(
            tmp_path / f'{kind}.nii.gz', np.asarray(image.dataobj), image.affine
        )
    one, other = (
        make_case(load_reference(subject, CORTEX), Imaging(SLICES), 0)
        for subject in (head, dataclasses.replace(head, **turned))
    )
    np.testing.assert_array_equal(one.interpolated, other.interpolated)
    np.testing.assert_array_equal(one.inside, other.inside)
    np.testing.assert_array_equal(
        one.reference.structures['cortex'], other.reference.structures['cortex']
    )


def test_noise_is_that_of_the_seed_and_scales(head: Subject) -> None:
    reference = load_reference(head, {})
    clean, weak, again, strong, share, other = (
        make_case(reference, Imaging(SLICES, noise, relative), seed).interpolated
        for noise, relative, seed in (
            (0, False, 0), (2, False, 0), (2, False, 0), (4, False, 0), (0.02, True, 0),
            (2, False, 1),
        )
    )  # fmt: skip
    np.testing.assert_array_equal(weak, again)
    np.testing.assert_allclose(strong - clean, 2 * (weak - clean), atol=1e-3)
    scan, _ = acquire(reference.image, reference.affine, draw_acquisition(SLICES, (1, 1, 1), None))
    np.testing.assert_allclose(
        share - clean, 0.01 * scan.max() * (weak - clean), rtol=1e-3, atol=1e-3
    )
    assert np.abs(other - weak).max() > 1


def test_contrast_keeps_the_maximum_and_changes_the_truth(head: Subject) -> None:
    reference = load_reference(head, {})
    image = make_case(reference, Imaging(SLICES, contrast=2.0), 0).reference.image
    peak = float(np.abs(reference.image).max())
    assert image.max() == pytest.approx(peak)
    np.testing.assert_allclose(
        image, np.sign(reference.image) * reference.image**2 / peak, rtol=1e-4, atol=1e-4
    )


def test_slices_that_show_the_lost_axes(head: Subject) -> None:
    reference = load_reference(head, {})
    for forward, across in (
        (ForwardModel(kind='k-space', factors=((2.0, 2.0, 1.0),)), 2),
        (ForwardModel(kind='k-space', factors=((2.0, 1.0, 2.0),)), 1),
        (ForwardModel(spacing_mm=(3.0, 3.0), axis=0), 1),
    ):
        assert make_case(reference, Imaging(forward), 0).across == across


def test_without_a_mask_the_brain_is_above_zero(tmp_path: Path) -> None:
    image = np.zeros((12, 12, 12), dtype=np.float32)
    image[2:10, 2:10, 2:10] = 50
    image[5, 5, 5] = 0
    path = save_volume(tmp_path / 'brain.nii.gz', image, np.eye(4))
    reference = load_reference(Subject('sub-1', path, None, 'test'), CORTEX)
    assert reference.brain.sum() == 8**3
    assert reference.structures == {}


def test_labels_on_another_grid(head: Subject, tmp_path: Path) -> None:
    moved = save_volume(tmp_path / 'moved.nii.gz', np.ones(SHAPE), np.diag([1, 1, 1, 1.0]))
    with pytest.raises(ImageError, match=r'moved\.nii\.gz.*another grid'):
        load_reference(dataclasses.replace(head, label=moved), CORTEX)
    affine = nib.load(head.label).affine.copy()
    affine[0, 3] += 0.05
    close = save_volume(tmp_path / 'close.nii.gz', np.ones(SHAPE), affine)
    # what the list of the images lets through
    assert load_reference(dataclasses.replace(head, label=close), CORTEX).structures
    with pytest.raises(ImageError, match='no high-resolution image'):
        load_reference(dataclasses.replace(head, image=None), CORTEX)
