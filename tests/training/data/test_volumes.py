"""The cache of volumes."""

from __future__ import annotations

import multiprocessing
import os

import nibabel as nib
import numpy as np
import pytest
from geometry_phantoms import all_orientations
from training_phantoms import AFFINE, write

from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.imaging.acquisition import acquire, draw_acquisition
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.training.data.subjects import Subject
from bids_segsr.training.data.volumes import store_subject, store_volume


def test_every_stored_orientation_gives_the_same_volume(files):
    image = nib.load(files / 'sub-01_T2w.nii.gz')
    data = np.asarray(image.dataobj)
    for number, (_, affine) in enumerate(all_orientations(data.shape, AFFINE)[::7]):
        turn = nib.orientations.ornt_transform(
            nib.io_orientation(AFFINE), nib.io_orientation(affine)
        )
        turned = nib.apply_orientation(data, turn)
        path = write(files / f'turned{number}.nii.gz', turned, affine)
        stored = store_volume(path, files / 'cache', 'image')
        np.testing.assert_array_equal(stored.open(), data)
        np.testing.assert_allclose(stored.affine, AFFINE, atol=1e-4)


def test_volume_is_stored_once_and_anew_when_the_file_changes(files):
    path, cache = files / 'sub-01_T2w.nii.gz', files / 'cache'
    stored = store_volume(path, cache, 'image')
    assert isinstance(stored.open(), np.memmap)
    assert stored.open().dtype == np.int16
    assert stored.foreground[0] == slice(3, 20)
    assert stored.maximum == nib.load(path).get_fdata().max()
    before = stored.path.stat().st_mtime_ns
    assert store_volume(path, cache, 'image').path == stored.path
    assert stored.path.stat().st_mtime_ns == before
    write(path, np.asarray(nib.load(path).dataobj) * np.int16(2))
    os.utime(path, ns=(1, 1))
    changed = store_volume(path, cache, 'image')
    assert changed.path != stored.path
    assert changed.maximum == 2 * stored.maximum
    assert not list(cache.glob('.part-*'))


def test_an_offset_is_taken_off_as_from_a_scan(files, caplog):
    path, cache = files / 'sub-01_T2w.nii.gz', files / 'cache'
    stored = store_volume(path, cache, 'image')
    image = nib.load(path)
    moved = write(files / 'moved.nii.gz', np.asarray(image.dataobj) - np.int16(300), image.affine)
    shifted = store_volume(moved, cache, 'image')
    np.testing.assert_array_equal(shifted.open(), stored.open())
    assert shifted.foreground == stored.foreground
    assert 'moved.nii.gz: 43% of the intensities are below 0' in caplog.text


def test_cache_is_as_large_as_the_images(files):
    store_volume(files / 'sub-01_T2w.nii.gz', files / 'cache', 'image')
    size = sum(path.stat().st_size for path in (files / 'cache').iterdir())
    assert size < 20 * 22 * 24 * 2 + 2000


def test_several_processes_may_store_at_once(files):
    path, cache = files / 'sub-01_T2w.nii.gz', files / 'cache'
    context = multiprocessing.get_context('fork')
    with context.Pool(3) as pool:
        found = pool.starmap(store_volume, [(path, cache, 'image')] * 6)
    assert len({stored.path for stored in found}) == 1
    expected = np.asarray(nib.load(path).dataobj)
    for stored in found:
        np.testing.assert_array_equal(stored.open(), expected)


def test_reading_beyond_the_border_repeats_the_outermost_voxels(files):
    stored = store_volume(files / 'sub-01_T2w.nii.gz', files / 'cache', 'image')
    part = stored.read((-2, 3, 20), (4, 8, 27))
    assert part.shape == (6, 5, 7)
    assert part.dtype == np.float32
    whole = np.pad(np.asarray(stored.open(), np.float32), 4, mode='edge')
    np.testing.assert_array_equal(part, whole[2:8, 7:12, 24:31])


def test_scale_is_the_maximum_of_the_low_resolution_image(files):
    forward = ForwardModel(spacing_mm=(2.0, 3.0))
    subject = Subject('a', files / 'sub-01_T2w.nii.gz', None, 'train')
    volumes = store_subject(subject, files / 'cache', forward)
    data = np.asarray(volumes.image.open(), np.float32)
    acquisition = draw_acquisition(forward, volumes.image.spacing, None)
    assert acquisition.resolution == 2.5
    assert volumes.scale == acquire(data, volumes.image.affine, acquisition)[0].max()
    assert store_subject(subject, files / 'cache', None).scale == data.max()
    # kept, not computed again
    assert store_subject(subject, files / 'cache', forward) is not volumes
    # of the image, and of its maximum with and without a forward model
    assert len(list((files / 'cache').glob('*.json'))) == 3


def test_label_map_must_hold_whole_numbers(files):
    path = write(files / 'soft.nii.gz', np.linspace(0, 1, 1000).reshape(10, 10, 10))
    with pytest.raises(ImageError, match=r'soft\.nii\.gz: not a label map'):
        store_volume(path, files / 'cache', 'label')


def test_image_without_signal_is_refused(files):
    subject = Subject(
        'a',
        files / 'sub-01_T2w.nii.gz',
        None,
        'train',
        mask=write(files / 'mask.nii.gz', np.zeros((20, 22, 24), np.uint8)),
    )
    with pytest.raises(ImageError, match=r'mask\.nii\.gz: no voxel is above 0'):
        store_subject(subject, files / 'cache', None)


def test_forward_model_finer_than_the_image_names_it(files):
    subject = Subject('a', files / 'sub-01_T2w.nii.gz', None, 'train')
    with pytest.raises(UserError, match=r'sub-01_T2w\.nii\.gz: forward model: 0\.5 mm'):
        store_subject(subject, files / 'cache', ForwardModel(spacing_mm=(0.5, 0.5)))
