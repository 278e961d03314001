"""Training volumes from the thin axes of real scans."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from bids_segsr.exceptions import ImageError
from bids_segsr.networks.standardise import volume_scale
from bids_segsr.simulation.synthesis import Synthesis
from bids_segsr.simulation.tables import AcquisitionRanges, Appearance
from bids_segsr.simulation.thin_axes import make_thin_sample, read_thin_axes

PLAIN = Synthesis(
    Appearance(random_share=0, gamma=0),
    AcquisitionRanges(
        ratio=(3, 3), usual_share=0, gap=0, noise=(0, 0), in_plane_share=0, motion_share=0
    ),
)


def test_thin_axes_of_a_scan_become_samples(tmp_path):
    rng = np.random.default_rng(0)
    scan = rng.uniform(100, 200, (60, 60, 12)).astype(np.float32)
    path = tmp_path / 'thick.nii.gz'
    nib.Nifti1Image(scan, np.diag([1.0, 1, 5, 1])).to_filename(path)
    thin = read_thin_axes(path, 1.0)
    assert thin.image.shape == (60, 60, 60)
    assert thin.slice_axis == 2
    sample, again = (
        make_thin_sample(thin, (24, 24, 24), PLAIN, np.random.default_rng(1)) for _ in range(2)
    )
    np.testing.assert_array_equal(sample.image, again.image)
    assert sample.image.shape == sample.truth.shape == sample.tissues.shape[1:] == (24, 24, 24)
    assert not sample.tissues.any()

    def roughness(image, axis):
        return np.square(np.diff(image, axis=axis)).mean()

    # The axis that is fine in the truth, and only that one, is blurred.
    lost = [1 - roughness(sample.image, a) / roughness(sample.truth, a) for a in range(3)]
    assert lost[2] > 0.5
    assert max(lost[:2]) < lost[2]


def test_head_lies_as_it_does_and_short_axes_are_continued(tmp_path):
    _, j, k = np.meshgrid(np.arange(30), np.arange(40), np.arange(6), indexing='ij')
    scan = (100 + 10 * j + 20 * k).astype(np.float32)  # rises to the front and upwards
    nib.Nifti1Image(scan, np.diag([1.0, 1, 5, 1])).to_filename(tmp_path / 'thick.nii.gz')
    thin = read_thin_axes(tmp_path / 'thick.nii.gz', 1.0)
    orders = set()
    for seed in range(6):
        sample = make_thin_sample(thin, (24, 24, 36), PLAIN, np.random.default_rng(seed))
        rises = tuple(float(np.diff(sample.truth, axis=axis).mean()) > 1e-3 for axis in range(3))
        orders.add(rises)
    # right, up, front; or front, up, right (or left)
    assert orders == {(False, True, True), (True, True, False)}


def test_stripped_scan_stays_stripped(tmp_path):
    rng = np.random.default_rng(0)
    scan = np.zeros((48, 48, 12), np.float32)
    scan[8:40, 8:40, 3:9] = rng.uniform(100, 200, (32, 32, 6))
    nib.Nifti1Image(scan, np.diag([1.0, 1, 4, 1])).to_filename(tmp_path / 'thick.nii.gz')
    thin = read_thin_axes(tmp_path / 'thick.nii.gz', 1.0)
    assert thin.stripped
    noisy = Synthesis(
        Appearance(random_share=0, gamma=0), AcquisitionRanges(noise=(0.03, 0.03), motion_share=0)
    )
    sample = make_thin_sample(thin, (48, 48, 48), noisy, np.random.default_rng(1))
    assert 0.1 < sample.brain.float().mean() < 0.4
    assert not sample.image[~sample.brain].any()
    assert not sample.truth[~sample.brain].any()
    # as `predict` scales: the mean of the brain alone
    assert volume_scale(sample.image, 'volume-mean') == pytest.approx(
        float(sample.image[sample.brain].mean()), rel=0.01
    )


def test_empty_scan_is_refused(tmp_path):
    path = tmp_path / 'empty.nii.gz'
    nib.Nifti1Image(np.zeros((20, 20, 5), np.float32), np.diag([1, 1, 4, 1])).to_filename(path)
    with pytest.raises(ImageError, match=r'empty\.nii\.gz'):
        read_thin_axes(path, 1.0)
