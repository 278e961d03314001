from __future__ import annotations

import gzip
import struct

import nibabel as nib
import numpy as np
import pytest

from bids_segsr.exceptions import ImageError, MissingContentError
from bids_segsr.imaging.nifti import read_header, read_image

SHAPE = (24, 20, 8)
AFFINE = np.diag([1.0, 1.0, 4.0, 1.0])


@pytest.fixture
def image():
    data = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)
    image = nib.Nifti1Image(data, AFFINE)
    image.set_qform(AFFINE, 1)
    image.header.set_xyzt_units('mm')
    return image


def stored(image, tmp_path, **fields):
    """Bytes of a .nii with fields of its header overwritten: (offset, format, values)."""
    content = bytearray(image.to_bytes())
    for offset, form, *values in fields.values():
        struct.pack_into(form, content, offset, *values)
    path = tmp_path / 'sub-01_T2w.nii'
    path.write_bytes(content)
    return path


def refused(path, words, **options):
    with pytest.raises(ImageError) as error:
        read_image(path, **options)
    text = str(error.value)
    assert text.startswith(str(path))
    assert '\n' not in text
    assert words in text
    return text


def test_every_flipped_bit_of_a_gz_is_found(image, tmp_path):
    sound = gzip.compress(image.to_bytes(), mtime=0)
    path = tmp_path / 'sub-01_T2w.nii.gz'
    path.write_bytes(sound)
    np.testing.assert_array_equal(read_image(path)[0], np.asarray(image.dataobj))
    # beyond the ten bytes of the gzip header, whose time and system are no content
    for position in range(10, len(sound), len(sound) // 60):
        damaged = bytearray(sound)
        damaged[position] ^= 8
        path.write_bytes(damaged)
        refused(path, '')


@pytest.mark.parametrize('kind', ['cut', 'cut before the checksum', 'garbage', 'second image'])
def test_a_gz_that_ends_elsewhere_is_refused(image, tmp_path, kind):
    sound = gzip.compress(image.to_bytes())
    path = tmp_path / 'sub-01_T2w.nii.gz'
    path.write_bytes(
        {
            'cut': sound[: len(sound) // 2],
            'cut before the checksum': sound[:-6],
            'garbage': sound + b'garbage',
            'second image': sound + sound,
        }[kind]
    )
    refused(path, 'damaged')


def test_blocks_and_padding_of_a_gz_are_no_damage(image, tmp_path):
    content = image.to_bytes()
    path = tmp_path / 'sub-01_T2w.nii.gz'
    half = len(content) // 2
    for packed in (
        gzip.compress(content[:half]) + gzip.compress(content[half:]),
        gzip.compress(content) + bytes(512),
        gzip.compress(content + bytes(512)),
    ):
        path.write_bytes(packed)
        np.testing.assert_array_equal(read_image(path)[0], np.asarray(image.dataobj))


@pytest.mark.parametrize(
    ('fields', 'words'),
    [
        ({'vox_offset': (108, '<f', np.inf)}, 'inf'),
        ({'vox_offset': (108, '<f', np.nan)}, 'nan'),
        ({'vox_offset': (108, '<f', -352.0)}, 'too low'),
        ({'vox_offset': (108, '<f', 0.0)}, 'begin'),
        ({'vox_offset': (108, '<f', 352.5)}, 'begin'),
        ({'vox_offset': (108, '<f', 1e30)}, 'truncated'),
        ({'vox_offset': (108, '<f', 2.0**63)}, 'truncated'),
        ({'vox_offset': (108, '<f', 368.0)}, 'truncated'),
        ({'datatype': (70, '<h', 999)}, 'header is damaged'),
        ({'datatype': (70, '<h', 64)}, 'truncated'),
        ({'datatype': (70, '<h', 2), 'bitpix': (72, '<h', 8)}, 'more bytes'),
        ({'datatype': (70, '<h', 128)}, 'not intensities'),
        ({'dim0': (40, '<h', 0)}, 'dimensions'),
        ({'dim0': (40, '<h', 2)}, '2 dimensions'),
        ({'dim': (42, '<h', -24)}, 'dimensions'),
        ({'dim': (42, '<h', 0)}, 'dimensions'),
        ({'dim': (42, '<h', 12)}, 'more bytes'),
        ({'dim': (42, '<h', 25)}, 'truncated'),
        ({'magic': (344, '<4s', b'ni1\0')}, 'no such header'),
        ({'slope': (112, '<ff', 2.0, np.nan)}, 'shifted'),
        ({'codes': (252, '<hh', 0, 0), 'pixdim': (80, '<f', np.nan)}, 'no affine'),
    ],
    ids=str,
)
def test_damaged_headers(image, tmp_path, fields, words):
    refused(stored(image, tmp_path, **fields), words)


def test_a_file_shorter_than_its_header_promises(image, tmp_path):
    path = stored(image, tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    refused(path, 'truncated')


@pytest.mark.parametrize(('slope', 'inter'), [(0, 5), (1, 0), (2, -3), (-1, 0), (np.nan, 0)])
def test_scaling_follows_the_standard(image, tmp_path, slope, inter):
    path = stored(image, tmp_path, scaling=(112, '<ff', slope, inter))
    data, placement = read_image(path)
    raw = np.asarray(image.dataobj, dtype=np.float32)
    # a slope of 0 means that nothing is scaled (nifti1.h)
    expected = raw if slope == 0 or np.isnan(slope) else raw * slope + inter
    np.testing.assert_allclose(data, expected)
    assert len(placement.notes) == int(np.isnan(slope))


@pytest.mark.parametrize('dtype', ['>i2', '<f8', '<u4', '<f4', '|u1', '>f4'])
@pytest.mark.parametrize('kind', [nib.Nifti1Image, nib.Nifti2Image])
def test_as_nibabel_reads_it(tmp_path, dtype, kind):
    data = np.random.default_rng(1).integers(0, 200, SHAPE).astype(dtype)
    header = kind.header_class(endianness=dtype[0] if dtype[0] in '<>' else '<')
    header.set_data_dtype(dtype)
    image = kind(data, AFFINE, header)
    image.header.set_slope_inter(0.5, 3)
    path = tmp_path / 'sub-01_T2w.nii.gz'
    nib.save(image, path)
    read, placement = read_image(path)
    reference = nib.load(path)
    np.testing.assert_array_equal(read, np.asarray(reference.dataobj, dtype=np.float32))
    np.testing.assert_allclose(placement.affine, reference.affine)


def test_what_does_not_fit_the_memory_is_refused_before_it_is_read(tmp_path):
    header = nib.Nifti1Header()
    header.set_data_shape((1000, 1000, 1000))
    header.set_data_dtype(np.uint8)
    header.set_sform(np.diag([0.2, 0.2, 0.2, 1]), 1)
    header['vox_offset'] = 352
    path = tmp_path / 'bomb.nii.gz'
    with gzip.open(path, 'wb') as stream:
        stream.write(header.binaryblock + bytes(4))
        for _ in range(100):  # a tenth of what is promised, packed a thousandfold
            stream.write(bytes(1_000_000))
        stream.write(np.random.default_rng(0).bytes(1_000_000))
    assert read_header(path).memory_gb == pytest.approx(33, abs=0.1)
    text = refused(path, '--mem', mem_gb=8)
    assert '8 GB' in text


@pytest.mark.parametrize('kind', ['link', 'pointer'])
def test_content_that_was_not_fetched(tmp_path, kind):
    path = tmp_path / 'sub-01_T2w.nii.gz'
    if kind == 'link':
        path.symlink_to('../.git/annex/objects/xx/absent.nii.gz')
    else:
        path.write_bytes(b'/annex/objects/MD5E-s123--abc.nii.gz\n')
    with pytest.raises(MissingContentError, match='datalad get'):
        read_image(path)


def test_a_name_that_tells_another_kind(image, tmp_path):
    path = tmp_path / 'sub-01_T2w.nii.gz'
    path.write_bytes(image.to_bytes())
    refused(path, 'rename it to .nii')
    path = tmp_path / 'sub-01_T2w.nii'
    path.write_bytes(gzip.compress(image.to_bytes()))
    refused(path, 'rename it to .nii.gz')


def test_a_file_that_may_not_be_read_is_not_called_damaged(image, tmp_path, closed):
    told = refused(closed(stored(image, tmp_path)), 'may not be accessed')
    assert 'damaged' not in told


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize(
    ('at', 'value', 'told'),
    [
        (176, 1e300, 'scaled by 1e+300'),
        (176, -1e39, 'scaled by -1e+39'),
        (184, 1e300, 'shifted by 1e+300'),
        (184, float('nan'), 'shifted by nan'),
    ],
)
def test_scaling_beyond_every_intensity(tmp_path, at, value, told):
    image = nib.Nifti2Image(np.ones(SHAPE, np.int16), AFFINE)
    image.header.set_xyzt_units('mm')
    refused(stored(image, tmp_path, slope=(176, '<d', 2.0), field=(at, '<d', value)), told)
