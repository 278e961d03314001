"""Lists of training data and the cache of volumes."""

from __future__ import annotations

import multiprocessing
import os

import nibabel as nib
import numpy as np
import pytest
from geometry_phantoms import all_orientations, oblique_affine

from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.imaging.acquisition import acquire, draw_acquisition
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.training.data.data_summary import DataFile, changed_file
from bids_segsr.training.data.subjects import Subject, content_digest, read_csv
from bids_segsr.training.data.volumes import store_subject, store_volume

AFFINE = oblique_affine((0.8, 0.8, 0.8), (4, -3, 6))


def write(path, data, affine=AFFINE):
    nib.Nifti1Image(data, affine).to_filename(path)
    return path


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 900, (20, 22, 24)).astype(np.int16)
    image[:3] = 0
    for name in ('sub-01_T2w', 'sub-02_T2w', 'sub-01_FLAIR'):
        write(tmp_path / f'{name}.nii.gz', image)
    write(tmp_path / 'label.nii.gz', (image > 500).astype(np.uint8))
    return tmp_path


def listed(folder, text):
    path = folder / 'data.csv'
    path.write_text(text, encoding='utf-8-sig')
    return path


def test_columns_of_the_original_program(files):
    path = listed(
        files,
        'HR_image,Label_image,Base,Guide_image\n'
        'sub-01_T2w.nii.gz,label.nii.gz,Train,sub-01_FLAIR.nii.gz\n'
        f'{files / "sub-02_T2w.nii.gz"},label.nii.gz, TEST,sub-01_FLAIR.nii.gz\n',
    )
    first, second = read_csv(path)
    assert first == Subject(
        'sub-01',
        files / 'sub-01_T2w.nii.gz',
        files / 'label.nii.gz',
        'train',
        guides=(files / 'sub-01_FLAIR.nii.gz',),
    )
    assert (second.name, second.split, second.mask) == ('sub-02', 'test', None)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (
            'HR_image,Label_image\nsub-01_T2w.nii.gz,\n',
            r'no column Base; .* \(HR_image, Label_image found\)',
        ),
        ('HR_image,hr_image,Base\nx,y,Train\n', 'column HR_image is there twice'),
        (
            'HR_image,Base,Subject\nsub-01_T2w.nii.gz,Train,x\n./sub-01_T2w.nii.gz,Test,y\n',
            r'sub-01_T2w\.nii\.gz is in train \(subject x\) and in test \(subject y\)',
        ),
        ('HR_image,Base\n', 'names no image'),
        ('HR_image,Base\n,Train\n', 'line 2 names no HR_image'),
        ('HR_image,Base\nsub-01_T2w.nii.gz,Training\n', "Base 'training'"),
        ('HR_image,Base\nsub-09_T2w.nii.gz,Train\n', r'sub-09_T2w\.nii\.gz: no such file'),
        (
            'HR_image,Base\nsub-01_T2w.nii.gz,Train\nsub-01_FLAIR.nii.gz,Test\n',
            'sub-01 is in train and in test',
        ),
        (
            'HR_image,Base,Subject\nsub-01_T2w.nii.gz,Train,x\nsub-02_T2w.nii.gz,Test,x\n',
            'subject x is in train and in test',
        ),
        (
            'HR_image,Base,Guide_image\n'
            'sub-01_T2w.nii.gz,Train,sub-01_FLAIR.nii.gz\nsub-02_T2w.nii.gz,Train,\n',
            'sub-02 has 0 guide images',
        ),
    ],
)
def test_mistakes_in_the_list_are_told_in_one_line(files, text, message):
    with pytest.raises(UserError, match=message) as caught:
        read_csv(listed(files, text))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('change', ['shape', 'affine', 'text'])
def test_label_on_another_grid_names_both_files(files, change):
    data, affine = np.zeros((20, 22, 24), np.uint8), AFFINE.copy()
    if change == 'shape':
        data = data[:-1]
    affine[0, 3] += 0.5 * (change == 'affine')
    write(files / 'label.nii.gz', data, affine)
    expected = r'label\.nii\.gz: lies on another grid .* than .*sub-01_T2w\.nii\.gz'
    if change == 'text':
        (files / 'label.nii.gz').write_text('x', encoding='utf-8')
        expected = r'label\.nii\.gz: not readable'
    text = 'HR_image,Label_image,Base\nsub-01_T2w.nii.gz,label.nii.gz,Train\n'
    with pytest.raises(ImageError, match=expected):
        read_csv(listed(files, text))


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


def test_case_of_the_columns_does_not_matter_and_others_are_told(files, caplog):
    path = listed(
        files,
        'hr_image,LABEL_IMAGE ,base,guide_image,Mask\n'
        'sub-01_T2w.nii.gz,label.nii.gz,Train,sub-01_FLAIR.nii.gz,label.nii.gz\n',
    )
    (subject,) = read_csv(path, labelled=True)
    assert subject.label == files / 'label.nii.gz'
    assert subject.guides == (files / 'sub-01_FLAIR.nii.gz',)
    assert subject.mask is None
    assert 'columns that are not read: Mask;' in caplog.text
    path = listed(files, 'HR_image,Labels,Base\nsub-01_T2w.nii.gz,label.nii.gz,Train\n')
    with pytest.raises(UserError, match=r'no column Label_image; .*HR_image, Labels, Base found'):
        read_csv(path, labelled=True)


@pytest.mark.parametrize('name', ['a.nii.gz', 'a.nii'])
def test_content_is_told_wherever_a_file_lies(tmp_path, name):
    data = np.random.default_rng(0).integers(0, 900, (60, 60, 60)).astype(np.int16)
    digests = []
    for folder, value in (('here', 0), ('there', 0), ('other', 1)):
        (tmp_path / folder).mkdir()
        data[30, 30, 30] = value
        path = write(tmp_path / folder / name, data)
        assert path.stat().st_size > 3 * 2**16
        os.utime(path, (value, 5))
        digests.append(content_digest(path))
    assert digests[0] == digests[1] != digests[2]


def test_what_changed_in_the_data_is_told():
    a = DataFile('train', 'sub-1', 'image', 'a.nii', '1')
    b = DataFile('validation', 'sub-2', 'image', 'b.nii', '2')
    assert changed_file([list(a), list(b)], [a, b]) is None
    assert changed_file([a, b], [b, a]) == 'the files are in another order'
    assert changed_file([a, b], [a]) == ('image b.nii of sub-2 (validation) is not there any more')
    assert changed_file([a], [a, b]) == 'image b.nii of sub-2 (validation) is new'
    assert changed_file([a, b], [a._replace(digest='3'), b]) == (
        'image a.nii of sub-1 (train) has another content'
    )
