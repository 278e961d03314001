"""Whole heads from label maps and from scans with masks."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from simulation_phantoms import write_balls, write_scan

from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.simulation.anatomy import read_anatomy
from bids_segsr.simulation.heads import draw_levels, make_head, read_head, read_scan
from bids_segsr.simulation.tables import CONTRASTS, OUTSIDE, TISSUES

SPACING = 2.0


@pytest.fixture(scope='module')
def heads(head_maps):
    """A brain alone, and one in a head."""
    return [read_head(head_maps / f'{name}.nii.gz', 'adult') for name in 'ab']


def test_brain_holds_its_csf(heads):
    for head in heads:
        radius = (3 * head.brain.sum() / 4 / np.pi) ** (1 / 3)
        assert radius == pytest.approx(31, abs=0.5)
        ring = head.brain & (head.regions == TISSUES.index('csf'))
        assert ring.any()
        assert head.brain[head.regions == TISSUES.index('cortex')].all()
    assert [head.whole for head in heads] == [False, True]


@pytest.mark.parametrize(('labelling', 'radius'), [('adult', 31.0), ('fetal', 40.0)])
def test_csf_of_a_fetus_reaches_as_far_as_its_mask(tmp_path, labelling, radius):
    axis = np.arange(96) - 47.5
    distance = np.sqrt(sum(a**2 for a in np.meshgrid(axis, axis, axis, indexing='ij')))
    labels = np.where(distance < 30, 1, np.where(distance < 40, 2, 0)).astype(np.int16)
    labels[distance < 26] = 3
    path = tmp_path / 'map.nii.gz'
    nib.Nifti1Image(labels, np.eye(4)).to_filename(path)
    numbers = {'cortex': (1,), 'csf': (2,), 'white': (3,)}
    head = read_head(path, labelling, numbers)
    covered = read_anatomy(path, labelling, numbers=numbers).fractions[OUTSIDE:] > 127
    for brain in (head.brain, covered.any(0)):
        assert (3 * brain.sum() / 4 / np.pi) ** (1 / 3) == pytest.approx(radius, abs=0.8)


def test_own_label_numbers_and_their_mistakes(tmp_path, head_maps):
    path = head_maps / 'b.nii.gz'
    own = {'white': (2,), 'cortex': (3,), 'surround': (511,)}
    head = read_head(path, 'adult', own)
    np.testing.assert_array_equal(head.regions > 0, read_head(path, 'adult').regions > 0)
    assert head.whole
    assert not read_head(path, 'adult', {'white': (2,), 'cortex': (3,)}).whole
    with pytest.raises(UserError, match='unknown tissue bone'):
        read_head(path, 'adult', {'bone': (2,)})
    with pytest.raises(ImageError, match=r'b\.nii\.gz: none of its labels'):
        read_head(path, 'adult', {'white': (77,)})


def test_volumes_repeat_with_the_seed_alone(heads):
    for head in heads:
        (a, mask_a, mm_a), (b, mask_b, mm_b), (c, _, _) = (
            make_head(head, (40, 40, 32), SPACING, 12.0, np.random.default_rng(seed))
            for seed in (4, 4, 5)
        )
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(mask_a, mask_b)
        assert mm_a == mm_b
        assert SPACING <= mm_a <= 3 * SPACING
        assert not np.array_equal(a, c)
        assert a.dtype == np.float32
        assert mask_a.dtype == bool


@pytest.mark.parametrize('spacing', [2.0, 4.0])
def test_brain_keeps_a_possible_size_at_any_spacing(heads, spacing):
    head = heads[1]
    shape = (round(128 / spacing),) * 3
    sizes = [
        make_head(head, shape, spacing, 12.0, np.random.default_rng(seed))[1].sum() * spacing**3
        for seed in range(12)
    ]
    relative = np.array(sizes) / head.brain.sum()
    assert relative.min() > 0.15
    assert relative.max() < 2.2
    assert relative.std() > 0.05


def test_size_in_mm_is_that_of_the_map(tmp_path):
    """Of a finer map of the same brain, stored the other way round, the volume is the same."""
    sizes = []
    for spacing, flip in ((1.0, False), (0.75, True)):
        path = write_balls(tmp_path / f'{spacing}.nii.gz', True, spacing, flip)
        made = make_head(
            read_head(path, 'adult'), (48,) * 3, SPACING, 12.0, np.random.default_rng(3)
        )
        sizes.append(made[1].sum())
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)


def test_something_surrounds_even_a_lone_brain(heads):
    images = [
        make_head(heads[0], (48, 48, 48), SPACING, 12.0, np.random.default_rng(seed))[:2]
        for seed in range(6)
    ]
    assert np.median([image[~brain].mean() for image, brain in images]) > 0.1


def test_bone_and_fluid_lie_around_a_fetus(head_maps):
    """Closest to the brain it is darker than a little further out, more often than by chance."""
    darker = {}
    for labelling in ('fetal', 'adult'):
        numbers = {'white': (2,), 'cortex': (3,)}
        head = read_head(head_maps / 'a.nii.gz', labelling, numbers)
        counts = []
        for seed in range(40):
            rng = np.random.default_rng(seed)
            image, brain, _ = make_head(head, (40, 40, 40), 3.0, 0.0, rng)
            distance = ndimage.distance_transform_edt(~brain)
            near = image[(distance > 0) & (distance <= 1)].mean()
            counts.append(near < image[(distance > 2.5) & (distance <= 4)].mean())
        darker[labelling] = np.mean(counts)
    assert darker['fetal'] > 0.6
    assert darker['fetal'] > darker['adult'] + 0.2


def test_slices_lie_across_a_short_field_of_view(heads):
    across = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        image = make_head(heads[0], (56, 20, 56), SPACING, 0.0, rng)[0]
        roughness = [np.abs(np.diff(image, 2, axis)).mean() for axis in range(3)]
        across += int(np.argmin(roughness)) == 1
    assert across >= 10


def test_levels_of_the_brain_are_those_given_and_the_others_random():
    levels = CONTRASTS['adult-T2w']
    drawn = [draw_levels(np.random.default_rng(seed), levels) for seed in range(20)]
    for tissue in ('cortex', 'white', 'csf'):
        found = [d[TISSUES.index(tissue)] for d in drawn]
        assert found == pytest.approx([levels[tissue]] * 20)
    assert np.std([d[TISSUES.index('surround')] for d in drawn]) > 0.2
    assert np.std([d[45] for d in drawn]) > 0.2


@pytest.mark.parametrize('labelling', ['brain', 'fetal-brain'])
def test_image_and_mask_of_a_real_head_move_together(tmp_path, labelling, monkeypatch):
    """Wherever the ball goes, its mask does; the dark ball stays 12 mm from its middle."""
    monkeypatch.setattr('bids_segsr.simulation.heads.STRANGE_SHARE', 0)
    head = read_scan(*write_scan(tmp_path), labelling)
    volumes, places = [], set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        image, brain, mm = make_head(head, (72, 72, 72), SPACING, 8.0, rng)
        assert mm >= SPACING
        middle, radius = np.argwhere(brain).mean(0), (brain.sum() * 3 / 4 / np.pi) ** (1 / 3)
        places.add(tuple(np.round(middle)))
        volumes.append(brain.sum() * SPACING**3)
        apart = np.linalg.norm(np.indices(brain.shape).T - middle[::-1][::-1], axis=-1).T
        inside, around = image[apart < 0.3 * radius], image[np.abs(apart - 1.3 * radius) < 1]
        assert np.median(inside) > 1.2 * np.median(around[around > 0])
        # the dark ball, an eccentric part of the mask
        smooth = ndimage.gaussian_filter(image, 1.5)
        found = np.unravel_index(np.where(apart < 0.85 * radius, smooth, 9).argmin(), brain.shape)
        assert np.linalg.norm(found - middle) / radius == pytest.approx(12 / 25, abs=0.17)
    ball = 4 / 3 * np.pi * 25**3
    assert 0.12 * ball < min(volumes) < 0.9 * ball
    assert 1.0 * ball < max(volumes) < 2.5 * ball
    assert len(places) == 12


def test_a_real_head_is_seen_as_it_is_stored(tmp_path):
    """Storage order and flips of axes change nothing; masks are filled as hulls are."""
    mask, image = write_scan(tmp_path)
    labels = nib.load(mask).get_fdata()
    labels[44, 36, 18] = 0
    nib.Nifti1Image(labels.astype(np.uint8), nib.load(mask).affine).to_filename(mask)
    head = read_scan(mask, image, 'brain')
    assert head.spacing == (1.5, 1.5, 3.0)
    assert head.brain[80 - 1 - 44, 36, 18]
    assert head.image[head.brain].max() == pytest.approx(1)
    assert head.whole
    for path in (mask, image):
        nib.as_closest_canonical(nib.load(path)).to_filename(tmp_path / f'c{path.name}')
    same = read_scan(tmp_path / 'cx_mask.nii.gz', tmp_path / 'cx_scan.nii.gz', 'brain')
    first, second = (
        make_head(h, (40, 40, 40), SPACING, 8.0, np.random.default_rng(1)) for h in (head, same)
    )
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_scans_that_do_not_fit_their_masks_are_named(tmp_path, head_maps):
    mask, image = write_scan(tmp_path)
    with pytest.raises(ImageError, match=r'a\.nii\.gz: not on the grid of .*x_mask'):
        read_scan(mask, head_maps / 'a.nii.gz', 'brain')
    empty = tmp_path / 'empty.nii.gz'
    nib.Nifti1Image(np.zeros((80, 80, 36), np.uint8), nib.load(mask).affine).to_filename(empty)
    with pytest.raises(ImageError, match='the mask is empty'):
        read_scan(empty, image, 'brain')
    with pytest.raises(ImageError, match=r'empty\.nii\.gz: shows nothing'):
        read_scan(mask, empty, 'brain')


def test_target_is_empty_where_something_else_takes_the_place_of_the_brain(head_maps, monkeypatch):
    numbers = {'white': (2,), 'cortex': (3,)}
    head = read_head(head_maps / 'a.nii.gz', 'fetal', numbers)
    made = {}
    for share in (0, 1):
        monkeypatch.setattr('bids_segsr.simulation.heads.ABSENT_SHARE', share)
        made[share] = make_head(head, (40, 40, 40), 3.0, 0.0, np.random.default_rng(3))
    assert made[0][1].sum() > 500
    assert not made[1][1].any()
    inside = made[0][1]
    assert made[1][0][inside].mean() > 0.02
    assert np.abs(made[0][0] - made[1][0])[inside].mean() > 0.05
