"""What a scan as acquired must be, and what is settled before anything else happens."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from bids_segsr.exceptions import ImageError
from bids_segsr.imaging.brain_mask import foreground_mask, is_skull_stripped
from bids_segsr.imaging.volume import load_scan

SHAPE = (48, 48, 10)
SPACING = (1.0, 1.0, 4.0)
AFFINE = np.diag([*SPACING, 1.0])
AFFINE[:3, 3] = (-23.5, -23.5, -18)


def phantom():
    """A stripped brain: rim 600, inside 300, 0 outside."""
    at = (np.stack(np.indices(SHAPE), -1) - (np.array(SHAPE) - 1) / 2) * SPACING
    r = np.sqrt(((at / (np.array(SHAPE) * SPACING * 0.4)) ** 2).sum(-1))
    noise = np.random.default_rng(0).normal(0, 10, SHAPE)
    return np.where(r < 1, np.where(r < 0.85, 300, 600) + noise, 0).astype(np.float32)


def head():
    """A whole head: noise around it."""
    return np.maximum(phantom(), np.random.default_rng(1).rayleigh(8, SHAPE)).astype(np.float32)


def write(path, data=None, sform=AFFINE, qform=AFFINE, codes=(1, 1), unit=2):
    image = nib.Nifti1Image(phantom() if data is None else data, AFFINE)
    image.set_sform(sform, codes[0])
    image.set_qform(qform, codes[1])
    image.header['xyzt_units'] = unit
    nib.save(image, path)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'sub-01_T2w.nii.gz'


@pytest.mark.parametrize(('unit', 'factor'), [(1, 1e-3), (3, 1e3), (2, 1), (0, 1), (5, 1)])
def test_the_unit_of_the_header_is_honoured(path, unit, factor):
    affine = np.diag([factor, factor, factor, 1]) @ AFFINE
    scan = load_scan(write(path, sform=affine, qform=affine, unit=unit))
    np.testing.assert_allclose(scan.affine, AFFINE, atol=1e-3)
    assert bool(scan.notes) == (unit in (1, 3, 5))


@pytest.mark.parametrize(
    ('factor', 'unit', 'words'),
    [
        (1, 1, 'voxels outside'),
        (1e-3, 2, 'voxels outside'),
        (30, 2, 'voxels outside'),
        (0.2, 2, 'field of view'),
        (0.5, 2, ''),
    ],
)
def test_sizes_that_no_head_has(path, factor, unit, words):
    affine = np.diag([factor, factor, factor, 1]) @ AFFINE
    write(path, sform=affine, qform=affine, unit=unit)
    if words:
        with pytest.raises(ImageError, match=words) as error:
            load_scan(path)
        assert str(error.value).startswith(str(path))
        assert 'xyzt_units' in str(error.value)
    else:
        assert 'too small for any whole brain' in load_scan(path).warnings[0]


def test_two_slices_are_refused_and_three_are_not(path):
    write(path, phantom()[..., 4:6])
    with pytest.raises(ImageError, match='at least 3'):
        load_scan(path)
    assert load_scan(write(path, phantom()[..., 4:7])).warnings == ()


def scaled(factor):
    return np.diag([factor, factor, factor, 1]) @ AFFINE


@pytest.mark.parametrize('code', [1, 2, 4])
@pytest.mark.parametrize('sform', [scaled(1.3), np.eye(4), scaled(0.7)])
def test_an_sform_of_another_voxel_size_gives_way_to_the_qform(path, sform, code):
    scan = load_scan(write(path, sform=sform, codes=(code, 1)))
    np.testing.assert_allclose(scan.affine, AFFINE, atol=1e-3)
    (warning,) = scan.warnings
    assert '1 x 1 x 4 by the header: the qform was used' in warning


def overwritten(path, sizes, sform, codes=(1, 0)):
    """An image whose pixdim tells something else than its sform."""
    write(path.with_suffix(''), sform=sform, codes=codes)
    content = bytearray(path.with_suffix('').read_bytes())
    content[80:92] = np.array(sizes, '<f4').tobytes()
    path.with_suffix('').write_bytes(content)
    return path.with_suffix('')


def test_without_a_qform_what_was_never_filled_in_gives_way(path):
    scan = load_scan(overwritten(path, SPACING, np.eye(4)))
    assert scan.spacing == pytest.approx(SPACING)
    assert 'sizes of the header were used' in scan.warnings[0]
    scan = load_scan(overwritten(path, (1, 1, 1), AFFINE))
    np.testing.assert_allclose(scan.affine, AFFINE)
    assert 'never filled in' in scan.warnings[0]
    with pytest.raises(ImageError, match='no qform tells which is right'):
        load_scan(overwritten(path, SPACING, scaled(1.3)))


def test_a_mirrored_sform_is_taken_with_a_warning(path):
    mirrored = np.diag([-1.0, 1, 1, 1]) @ AFFINE
    scan = load_scan(write(path, sform=mirrored))
    np.testing.assert_allclose(scan.affine, mirrored, atol=1e-3)
    (warning,) = scan.warnings
    assert 'left and right may be swapped' in warning
    turned = AFFINE[[1, 0, 2, 3]] @ np.diag([1, -1, 1, 1])
    assert 'directions may be wrong' in load_scan(write(path, sform=turned)).warnings[0]


def test_one_form_alone_is_no_contradiction(path):
    for codes in ((0, 1), (1, 0)):
        scan = load_scan(write(path, codes=codes))
        np.testing.assert_allclose(scan.affine, AFFINE, atol=1e-3)
        assert (scan.notes, scan.warnings) == ((), ())
    scan = load_scan(write(path, codes=(0, 0)))
    assert scan.spacing == pytest.approx(SPACING)
    assert 'left and right may be wrong' in scan.warnings[0]


def test_a_header_that_was_never_filled_in_is_told(path):
    scan = load_scan(write(path, sform=np.eye(4), qform=np.eye(4)))
    assert 'never filled in' in scan.warnings[-1]


def test_a_place_beyond_the_precision_of_a_header(path):
    far = AFFINE.copy()
    far[0, 3] = 1e6
    with pytest.raises(ImageError, match='origin'):
        load_scan(write(path, sform=far, qform=far))


@pytest.mark.parametrize('offset', [-1000, -100, 100, 1000])
def test_an_offset_of_a_stripped_scan_is_taken_off(path, offset):
    scan = load_scan(write(path, phantom() + offset))
    np.testing.assert_allclose(scan.data, phantom(), atol=1e-3)
    assert is_skull_stripped(scan.data)
    assert f'background is {offset}' in scan.warnings[0]


def test_a_filling_below_the_brain_is_no_offset(path):
    scan = load_scan(write(path, np.where(phantom() > 0, phantom(), -1000)))
    np.testing.assert_array_equal(scan.data, phantom())
    assert 'background is -1000, a filling' in scan.warnings[0]


@pytest.mark.parametrize('image', [phantom, head])
def test_inverted_intensities_are_refused(path, image):
    with pytest.raises(ImageError, match='inverted'):
        load_scan(write(path, -image()))


@pytest.mark.parametrize('levels', [1, 5])
def test_a_mask_or_labels_given_as_a_scan_are_told(path, levels):
    labels = np.rint(levels * phantom() / phantom().max())
    assert 'a mask or labels' in load_scan(write(path, labels)).warnings[0]


def test_an_offset_of_a_whole_head_is_taken_off(path):
    scan = load_scan(write(path, head() - 1000))
    np.testing.assert_allclose(scan.data, head() - head().min(), atol=1e-3)
    assert 'below 0' in scan.warnings[0]


@pytest.mark.parametrize('background', [0, -1, 5, 4000])
def test_a_background_that_is_not_the_lowest(path, background):
    brain = phantom() > 0
    scores = np.where(brain, (phantom() - 350) / 150, background)
    scan = load_scan(write(path, scores.astype(np.float32)))
    assert is_skull_stripped(scan.data)
    assert scan.data.min() == 0
    assert np.all(scan.data[~brain] == 0)
    inside = scan.data[brain]
    np.testing.assert_allclose(np.ptp(inside), np.ptp(scores[brain]), rtol=1e-5)


def test_swings_below_0_are_no_offset(path):
    data = head()
    data[10, 10, 5] = -40
    scan = load_scan(write(path, data))
    assert scan.warnings == ()
    assert scan.data[10, 10, 5] == 0
    np.testing.assert_array_equal(np.delete(scan.data, 10, 0), np.delete(data, 10, 0))


@pytest.mark.parametrize('value', [3e38, -3e38, 1e7])
@pytest.mark.parametrize('scan', [phantom, head])
def test_a_voxel_that_is_no_signal_is_clipped(path, value, scan):
    data = scan()
    data[20, 20, 5] = value
    read = load_scan(write(path, data))
    assert 'no signal' in read.warnings[0]
    assert read.data.max() < 1500
    rest = np.ones(SHAPE, bool)
    rest[20, 20, 5] = False
    if value > 0:
        np.testing.assert_allclose(read.data[rest], data[rest], atol=1e-3)


@pytest.mark.parametrize('times', [10, 100, 900])
@pytest.mark.parametrize('count', [1, 3])
@pytest.mark.parametrize('scan', [phantom, head])
def test_single_voxels_far_brighter_than_all_others_are_clipped(path, times, count, scan):
    data = scan()
    brightest = data.max()
    at = (20, slice(20, 20 + count), 5)
    data[at] = times * brightest
    read = load_scan(write(path, data))
    assert len(read.warnings) == 1
    assert f'{count} of ' in read.warnings[0]
    assert f'up to {float(data.max()):.3g}, are {times} times' in read.warnings[0]
    assert read.data.max() == pytest.approx(brightest)
    rest = np.ones(SHAPE, bool)
    rest[at] = False
    np.testing.assert_allclose(read.data[rest], data[rest], atol=1e-3)


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_voxels_without_a_number_are_refused(path, value):
    data = phantom()
    data[20, 20, 5] = value
    with pytest.raises(ImageError, match='NaN or infinite'):
        load_scan(write(path, data))


def test_many_voxels_out_of_range_are_refused(path):
    data = phantom()
    data[20:25, 20:28, 5] = 3e38
    with pytest.raises(ImageError, match='times as bright'):
        load_scan(write(path, data))
    with pytest.raises(ImageError, match='intensities up to'):
        load_scan(write(path, phantom() * np.float32(1e20)))


@pytest.mark.parametrize('make', [phantom, head])
def test_a_lost_slice_is_filled(path, make):
    data = make()
    whole = foreground_mask(phantom()).sum()
    data[..., 5] = 0
    scan = load_scan(write(path, data))
    assert scan.warnings == ('Slice 6 of 10 holds no signal: filled from the neighbours.',)
    np.testing.assert_allclose(scan.data[..., 5], (data[..., 4] + data[..., 6]) / 2, rtol=1e-6)
    if make is phantom:
        assert foreground_mask(scan.data).sum() == pytest.approx(whole, rel=0.01)


def test_several_lost_slices(path):
    data = phantom()
    data[..., [3, 5, 6]] = 0
    assert len(load_scan(write(path, data)).warnings) == 2
    data[..., 4] = 0  # four in a row
    scan = load_scan(write(path, data))
    assert scan.warnings == ('Slices 4 to 7 of 10 hold no signal.',)
    # both ends stay, and what was lost stays empty
    mask = foreground_mask(scan.data)
    np.testing.assert_array_equal(mask, data > 0)
    data[..., 2] = 0
    with pytest.raises(ImageError, match='slices hold no signal'):
        load_scan(write(path, data))


def test_empty_slices_at_the_ends_are_background(path):
    data = np.concatenate([np.zeros((48, 48, 3)), phantom(), np.zeros((48, 48, 4))], axis=2)
    scan = load_scan(write(path, data.astype(np.float32)))
    assert scan.warnings == ()


def test_specks_are_no_brain():
    data = phantom()
    data[1, 1, 1] = 500
    assert not foreground_mask(data)[1, 1, 1]
