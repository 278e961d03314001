from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from bids_segsr.exceptions import ImageError
from bids_segsr.imaging.dicom import read_series, same_locale
from bids_segsr.imaging.volume import load_scan

SHAPE = (44, 40, 12)
DISTANCE = 4.0


def data():
    return np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)


def write(folder, slices=range(SHAPE[2]), *, change=None, uid='1.2.3.4.1', start=0):
    """Write slices as DICOM; `change` gives tags of a slice that differ."""
    folder.mkdir(exist_ok=True)
    voxels = data()
    for number, k in enumerate(slices, start=start):
        part = sitk.GetImageFromArray(voxels[:, :, k : k + 1].T)
        tags = {
            '0008|0060': 'MR',
            '0020|000e': uid,
            '0020|000d': '1.2.3.4',
            '0008|0018': f'{uid}.5.{number}',
            '0008|0016': '1.2.840.10008.5.1.4.1.1.4',
            '0020|0037': '1\\0\\0\\0\\1\\0',
            '0020|0032': f'-10\\-12\\{DISTANCE * k}',
            '0028|0030': '1\\1',
            '0018|0050': '3',
            '0020|0013': str(number + 1),
            **(change(k) if change else {}),
        }
        in_plane = [float(x) for x in tags['0028|0030'].split('\\')]
        # the writer makes SpacingBetweenSlices of it
        part.SetSpacing([*in_plane, float(tags.get('0018|0088', DISTANCE))])
        for key, value in tags.items():
            part.SetMetaData(key, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f'IM{number:04d}.dcm'))
        with same_locale():
            writer.Execute(part)
    return folder


def refused(folder, *words):
    with pytest.raises(ImageError) as error:
        load_scan(folder)
    text = str(error.value)
    assert text.startswith(str(folder))
    assert '\n' not in text
    assert all(word in text for word in words), text


def test_a_sound_series_and_its_thickness(tmp_path):
    scan = load_scan(write(tmp_path / 'series'))
    np.testing.assert_array_equal(scan.data, data())
    np.testing.assert_allclose(
        scan.affine, [[-1, 0, 0, 10], [0, -1, 0, 12], [0, 0, DISTANCE, 0], [0, 0, 0, 1]]
    )
    assert scan.slice_thickness == 3
    assert scan.warnings == ()


@pytest.mark.parametrize(('lost', 'count'), [([5], 1), ([5, 6, 7], 3), ([1], 1)])
def test_a_missing_slice_is_named(tmp_path, lost, count):
    folder = write(tmp_path / 'series', [k for k in range(SHAPE[2]) if k not in lost])
    refused(folder, f'{count} missing', f'{DISTANCE * lost[0]:g} mm')


def test_slices_that_lie_at_uneven_places(tmp_path):
    shifted = write(
        tmp_path / 'gap', change=lambda k: {'0020|0032': f'-10\\-12\\{4 * k + (k > 5)}'}
    )
    refused(shifted, '5 mm')
    tilted = write(tmp_path / 'tilt', change=lambda k: {'0020|0032': f'-10\\{k - 12}\\{4 * k}'})
    refused(tilted, 'tilted')


@pytest.mark.parametrize(
    ('tags', 'words'),
    [
        ({'0018|0081': '80', '0018|0086': '2'}, 'echo time'),
        ({'0020|0012': '2'}, 'acquisition number'),
        ({'0020|0037': '0\\1\\0\\0\\0\\-1'}, 'orientation'),
        ({'0028|0030': '2\\2'}, 'pixel spacing'),
        ({'0008|0008': 'ORIGINAL\\PRIMARY\\P'}, 'phases'),
        ({'0008|0008': 'DERIVED\\SECONDARY\\ADC'}, 'type'),
        ({'0018|0050': '5'}, 'slice thickness'),
        ({'0010|0020': 'B'}, 'several patients'),
        ({}, 'same place'),
    ],
)
def test_several_images_in_one_series(tmp_path, tags, words):
    base = {
        '0018|0081': '20', '0018|0086': '1', '0020|0012': '1',
        '0008|0008': 'ORIGINAL\\PRIMARY\\M',
    }  # fmt: skip
    folder = write(tmp_path / 'series', change=lambda _: base)
    write(folder, change=lambda _: {**base, **tags}, start=SHAPE[2])
    refused(folder, words)


def test_mosaics_are_refused(tmp_path):
    tags = {'0008|0008': 'ORIGINAL\\PRIMARY\\M\\MOSAIC'}
    refused(write(tmp_path / 'series', change=lambda _: tags), 'mosaics')


@pytest.mark.parametrize('size', [0, 900])
def test_a_damaged_slice_at_the_end_is_named(tmp_path, size):
    folder = write(tmp_path / 'series')
    last = folder / f'IM{SHAPE[2] - 1:04d}.dcm'
    last.write_bytes(last.read_bytes()[:size])
    refused(folder, last.name)


def test_other_files_beside_the_slices_do_no_harm(tmp_path):
    folder = write(tmp_path / 'series')
    (folder / 'notes.txt').write_text('x')
    (folder / 'DICOMDIR').write_bytes(bytes(128) + b'DICM')
    write(folder / 'inner', uid='1.2.9')
    np.testing.assert_array_equal(load_scan(folder).data, data())


def test_two_series_in_one_folder(tmp_path):
    folder = write(tmp_path / 'series')
    write(folder, uid='1.2.3.4.2', start=SHAPE[2])
    refused(folder, '2 DICOM series')


def test_what_the_header_contradicts_is_told(tmp_path):
    tags = {'0018|0088': '5', '0020|1002': '14', '0008|0060': 'CT'}
    series = read_series(write(tmp_path / 'series', change=lambda _: tags))
    told = ' '.join(series.warnings)
    assert 'SpacingBetweenSlices is 5 mm' in told
    assert '14 images' in told
    assert 'CT' in told


def test_phases_alone_and_no_place(tmp_path):
    phases = write(tmp_path / 'phase', change=lambda _: {'0008|0008': 'ORIGINAL\\PRIMARY\\P\\ND'})
    refused(phases, 'phases')
    assert not any(tmp_path.joinpath('phase').glob('*.nii'))


@pytest.mark.parametrize('name', ['IM0003.dcm', '.'])
def test_what_may_not_be_read_is_told(tmp_path, closed, name):
    folder = write(tmp_path / 'series')
    path = closed(folder / name)
    refused(folder, f'{path}: may not be accessed')
