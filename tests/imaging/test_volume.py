from __future__ import annotations

import gzip
import locale

import nibabel as nib
import numpy as np
import pytest
from geometry_phantoms import all_orientations, oblique_affine
from nibabel.affines import apply_affine

from bids_segsr.exceptions import ImageError
from bids_segsr.imaging.conform import (
    acquired_axis,
    axis_along,
    left_right_axis,
    mend_affine,
    slice_axis,
    to_canonical,
)
from bids_segsr.imaging.dicom import same_locale
from bids_segsr.imaging.volume import Volume, load_mask, load_volume, save_volume

SHAPE = (12, 14, 6)


def write(path, data=None, affine=None, **codes):
    data = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE) if data is None else data
    image = nib.Nifti1Image(data, np.diag([1.0, 1.0, 3.0, 1.0]) if affine is None else affine)
    nib.save(image, path)
    return path


def one_line(error):
    text = str(error.value)
    assert '\n' not in text
    return text


def test_a_sound_file_is_read_as_it_is(tmp_path):
    affine = oblique_affine((0.5, 0.5, 3.0), (4, 8, -3))
    volume = load_volume(write(tmp_path / 'scan.nii.gz', affine=affine))
    np.testing.assert_allclose(volume.affine, affine, atol=1e-5)
    assert volume.notes == ()
    assert volume.spacing == pytest.approx((0.5, 0.5, 3.0), abs=1e-5)


def test_scaling_of_the_header_is_applied_and_a_trailing_axis_dropped(tmp_path):
    image = nib.Nifti1Image(np.arange(96, dtype=np.int16).reshape(4, 4, 6, 1), np.eye(4))
    image.header.set_slope_inter(2.0, -5.0)
    nib.save(image, tmp_path / 'scan.nii')
    volume = load_volume(tmp_path / 'scan.nii')
    assert volume.data.shape == (4, 4, 6)
    stored = np.asarray(nib.load(tmp_path / 'scan.nii').dataobj)[..., 0]
    np.testing.assert_array_equal(volume.data, stored)


def make_bad(kind, path):
    data = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    if kind == 'missing':
        return
    if kind == 'empty':
        path.write_bytes(b'')
    elif kind == 'text':
        path.write_bytes(gzip.compress(b'this is not an image' * 40))
    elif kind == 'not gzip':
        path.write_bytes(b'this is not an image' * 40)
    elif kind == 'truncated':
        write(path, data)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == '4-D':
        write(path, np.stack([data, data], -1))
    elif kind == '2-D':
        write(path, data[..., 0])
    elif kind == 'single slice':
        write(path, data[..., :1])
    elif kind == 'NaN':
        data[3, 4, 5] = np.nan
        write(path, data)
    elif kind == 'constant':
        write(path, np.full(SHAPE, 3.0, dtype=np.float32))
    elif kind in ('zero affine', 'flat affine'):
        image = nib.Nifti1Image(data, np.eye(4))
        affine = np.diag([0.0, 0, 0, 1] if kind == 'zero affine' else [1.0, 1.0, 0.0, 1.0])
        image.header.set_sform(affine, code=1)
        image.header['qform_code'] = 0
        image.header['pixdim'][1:4] = 0
        nib.save(image, path)
        raw = bytearray(gzip.decompress(path.read_bytes()))
        raw[252:254] = (0).to_bytes(2, 'little')  # qform_code
        raw[254:256] = (1).to_bytes(2, 'little')  # sform_code
        rows = affine[:3].astype('<f4').tobytes()
        raw[280:328] = rows
        path.write_bytes(gzip.compress(bytes(raw)))
    elif kind == 'complex':
        write(path, data.astype(np.complex64))


@pytest.mark.parametrize(
    ('kind', 'words'),
    [
        ('missing', 'no such file'),
        ('empty', 'empty'),
        ('text', 'not readable as NIfTI'),
        ('not gzip', 'not readable as NIfTI'),
        ('truncated', 'truncated'),
        ('4-D', '4 dimensions'),
        ('2-D', '2 dimensions'),
        ('single slice', 'single slice'),
        ('NaN', 'NaN'),
        ('constant', 'every voxel'),
        ('zero affine', 'affine'),
        ('flat affine', 'affine'),
        ('complex', 'complex64'),
    ],
)
def test_bad_input_is_told_in_one_line_with_the_file(tmp_path, kind, words):
    path = tmp_path / 'sub-01_T2w.nii.gz'
    make_bad(kind, path)
    with pytest.raises(ImageError) as error:
        load_volume(path)
    text = one_line(error)
    assert text.startswith(str(path))
    assert words in text


def test_other_file_names_are_refused(tmp_path):
    with pytest.raises(ImageError, match='not a NIfTI file name'):
        load_volume(tmp_path / 'scan.mha')


def test_mask_on_another_grid(tmp_path):
    scan = load_volume(write(tmp_path / 'scan.nii.gz'))
    data = np.zeros(SHAPE, dtype=np.uint8)
    data[3:8, 3:8, 2:4] = 1
    moved = np.diag([1.0, 1.0, 3.0, 1.0])
    moved[0, 3] = 0.5
    write(tmp_path / 'moved.nii.gz', data, moved)
    write(tmp_path / 'smaller.nii.gz', data[:-1])
    write(tmp_path / 'empty.nii.gz', np.zeros_like(data))
    for name, words in (('moved', 'another grid'), ('smaller', 'another'), ('empty', 'empty')):
        path = tmp_path / f'{name}.nii.gz'
        with pytest.raises(ImageError, match=words) as error:
            load_mask(path, scan)
        assert one_line(error).startswith(str(path))
    write(tmp_path / 'mask.nii.gz', data)
    assert load_mask(tmp_path / 'mask.nii.gz', scan).sum() == data.sum()


def test_a_mask_may_be_stored_in_any_of_the_48_orientations(tmp_path):
    affine = oblique_affine((0.8, 0.8, 3.0), (9, -14, 21))
    scan = Volume(np.ones(SHAPE, np.float32), affine)
    expected = np.random.default_rng(0).uniform(size=SHAPE) > 0.5
    image = nib.Nifti1Image(expected.astype(np.uint8), affine)
    orientations = all_orientations(SHAPE, affine)
    assert len(orientations) == 48
    for number, (shape, turned) in enumerate(orientations):
        turn = nib.orientations.ornt_transform(
            nib.io_orientation(affine), nib.io_orientation(turned)
        )
        stored = np.asarray(image.as_reoriented(turn).dataobj)
        assert stored.shape == tuple(shape)
        path = write(tmp_path / f'{number}.nii.gz', stored, turned)
        np.testing.assert_array_equal(load_mask(path, scan), expected)
        moved = turned.copy()
        moved[:3, 3] += 0.3
        with pytest.raises(ImageError, match='another grid'):
            load_mask(write(tmp_path / f'moved{number}.nii.gz', stored, moved), scan)


def header_with(sform, qform, sform_code=1, qform_code=1):
    header = nib.Nifti1Header()
    header.set_data_shape(SHAPE)
    if qform is not None:
        header.set_qform(qform, code=qform_code)
    if sform is not None:
        header.set_sform(sform, code=sform_code)
    return header


def test_sheared_sform_gives_way_to_the_qform():
    affine = oblique_affine((1.0, 1.0, 3.0), (5, 0, 10))
    sheared = affine.copy()
    sheared[:3, 2] += 0.2 * sheared[:3, 0]
    placement = mend_affine(header_with(sheared, affine), SHAPE)
    mended, notes = placement.affine, placement.notes
    np.testing.assert_allclose(mended, affine, atol=1e-5)
    assert len(notes) == 1
    assert 'sheared' in notes[0]


def test_a_large_shear_is_a_warning():
    sheared = oblique_affine((1.0, 1.0, 3.0))
    sheared[:3, 2] += 0.2 * sheared[:3, 0]
    placement = mend_affine(header_with(sheared, None), SHAPE)
    assert 'sheared' in placement.warnings[-1]


def test_sheared_sform_alone_is_made_orthogonal_about_the_centre():
    affine = oblique_affine((1.0, 1.0, 3.0), (5, 0, 10))
    sheared = affine.copy()
    sheared[:3, 2] += 0.02 * sheared[:3, 0]
    placement = mend_affine(header_with(sheared, None), SHAPE)
    mended, notes = placement.affine, placement.notes
    axes = mended[:3, :3] / np.linalg.norm(mended[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    centre = (np.array(SHAPE) - 1) / 2
    np.testing.assert_allclose(
        apply_affine(mended, centre), apply_affine(sheared, centre), atol=1e-4
    )
    assert 'orthogonal' in notes[0]


def test_disagreement_and_missing_orientation_are_reported():
    affine = oblique_affine((1.0, 1.0, 3.0))
    moved = affine.copy()
    moved[:3, 3] += 4
    placement = mend_affine(header_with(affine, moved), SHAPE)
    np.testing.assert_allclose(placement.affine, affine, atol=1e-5)
    assert 'disagree by up to 6.93 mm' in placement.notes[0]
    placement = mend_affine(header_with(affine, moved, sform_code=0, qform_code=0), SHAPE)
    assert 'no orientation' in placement.warnings[0]
    placement = mend_affine(header_with(affine, moved, sform_code=0), SHAPE)
    np.testing.assert_allclose(placement.affine, moved, atol=1e-5)
    assert (placement.notes, placement.warnings) == ((), ())


def test_saved_images_carry_affine_codes_units_and_types(tmp_path):
    affine = oblique_affine((0.5, 0.5, 0.5), (14, -9, 33))
    cases = {
        'image': (np.random.default_rng(0).normal(size=SHAPE), np.float32),
        'mask': (np.ones(SHAPE, dtype=bool), np.uint8),
        'labels': (np.ones(SHAPE, dtype=np.int16), np.int16),
    }
    for name, (data, dtype) in cases.items():
        path = save_volume(tmp_path / f'{name}.nii.gz', data, affine)
        image = nib.load(path)
        assert image.get_data_dtype() == dtype
        assert int(image.header['sform_code']) == int(image.header['qform_code']) == 1
        assert image.header.get_xyzt_units()[0] == 'mm'
        for saved in (image.get_sform(), image.get_qform()):
            corners = apply_affine(saved, [[0, 0, 0], [11, 13, 5]])
            expected = apply_affine(affine, [[0, 0, 0], [11, 13, 5]])
            np.testing.assert_allclose(corners, expected, atol=1e-3)
        again = save_volume(tmp_path / f'{name}2.nii.gz', data, affine)
        assert path.read_bytes() == again.read_bytes()


def test_slice_axis_and_canonical_order():
    assert slice_axis((3.3, 1.1, 1.1)) == 0
    assert slice_axis((0.5, 3.0, 0.5)) == 1
    assert slice_axis((1.0, 1.0, 1.0)) == 2
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    data = np.random.default_rng(0).normal(size=SHAPE)
    for shape, turned in all_orientations(SHAPE, affine):
        index = np.argwhere(np.ones(shape)).astype(float)
        original = np.rint(apply_affine(np.linalg.inv(affine) @ turned, index)).astype(int)
        stored = data[tuple(original.T)].reshape(shape)
        canonical, canonical_affine = to_canonical(stored, turned)
        np.testing.assert_array_equal(canonical, data)
        np.testing.assert_allclose(canonical_affine, affine, atol=1e-9)


def test_dicom_series(tmp_path):
    sitk = pytest.importorskip('SimpleITK')
    from bids_segsr.imaging.resample import to_sitk

    affine = oblique_affine((0.9, 0.9, 3.3), (0, 0, 15))
    data = np.random.default_rng(0).integers(0, 900, (20, 18, 7)).astype(np.int16)
    image = to_sitk(data, affine)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(data.shape[2]):
        part = image[:, :, k : k + 1]
        position = image.TransformIndexToPhysicalPoint((0, 0, k))
        direction = image.GetDirection()
        tags = {
            '0008|0060': 'MR',
            '0020|000e': '1.2.826.0.1.3680043.2.1125.1',
            '0020|000d': '1.2.826.0.1.3680043.2.1125.2',
            '0008|0018': f'1.2.826.0.1.3680043.2.1125.3.{k}',
            '0020|0032': '\\'.join(f'{x:.8f}' for x in position),
            '0020|0037': '\\'.join(f'{direction[i]:.10f}' for i in (0, 3, 6, 1, 4, 7)),
            '0020|0013': str(k),
        }
        for key, value in tags.items():
            part.SetMetaData(key, value)
        writer.SetFileName(str(tmp_path / f'{k:03d}.dcm'))
        with same_locale():
            writer.Execute(part)
    before = locale.setlocale(locale.LC_ALL)
    volume = load_volume(tmp_path)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-3)
    np.testing.assert_array_equal(volume.data, data)
    assert locale.setlocale(locale.LC_ALL) == before


def test_through_plane_axis_is_found_on_another_grid():
    scan = oblique_affine((1, 1, 3), (0, 90, 0))  # slices run along left-right
    assert acquired_axis(scan, np.eye(4)) == 0
    assert axis_along(oblique_affine((1, 1, 1), (10, 20, 5)), np.array([0, 1, 0])) == 1


@pytest.mark.parametrize('left_right', [0, 1, 2])
@pytest.mark.parametrize('sign', [-1, 1])
def test_left_and_right_are_told_by_the_affine(left_right, sign):
    axes = np.roll(np.eye(3), left_right, axis=1) * sign
    affine = np.eye(4)
    affine[:3, :3] = oblique_affine((1, 1, 1), (10, 20, 5))[:3, :3] @ axes * [0.5, 3, 1]
    assert left_right_axis(affine) == left_right


@pytest.mark.parametrize('kind', ['unknown datatype', 'huge'])
def test_damaged_headers_are_told_in_one_line(tmp_path, kind):
    path = tmp_path / 'sub-01_T2w.nii.gz'
    write(path)
    raw = bytearray(gzip.decompress(path.read_bytes()))
    if kind == 'unknown datatype':
        raw[70:72] = (999).to_bytes(2, 'little')
    else:
        raw[42:48] = (32767).to_bytes(2, 'little') * 3
    path.write_bytes(gzip.compress(bytes(raw)))
    with pytest.raises(ImageError) as error:
        load_volume(path)
    assert one_line(error).startswith(str(path))


@pytest.mark.filterwarnings('error')
def test_a_mask_without_any_number(tmp_path):
    scan = load_volume(write(tmp_path / 'scan.nii.gz'))
    mask = save_volume(tmp_path / 'mask.nii.gz', np.full(scan.data.shape, np.nan), scan.affine)
    with pytest.raises(ImageError, match='all are NaN'):
        load_mask(mask, scan)
