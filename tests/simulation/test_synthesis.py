from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion

from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.imaging.measures.metrics import psnr
from bids_segsr.simulation.anatomy import (
    capsules,
    deep_nearness,
    read_anatomy,
    sulci,
)
from bids_segsr.simulation.contrast import Contrast, draw_contrast, paint, paint_sample
from bids_segsr.simulation.deformation import sample_anatomy
from bids_segsr.simulation.synthesis import Synthesis, brain_of, make_sample, with_sulci
from bids_segsr.simulation.tables import (
    CLASSES,
    CONTRASTS,
    OUTSIDE,
    TISSUES,
    AcquisitionRanges,
    Appearance,
    Deformation,
)
from bids_segsr.simulation.thick_slices import BackProjection, draw_stack


def write_labels(path, numbers=(3, 2)):
    """A ball of white matter in a folded shell of cortex, FreeSurfer numbers."""
    axis = np.linspace(-1.2, 1.2, 64)
    x, y, z = np.meshgrid(axis, axis, axis, indexing='ij')
    folds = 0.06 * np.sin(9 * x) * np.sin(9 * y) * np.sin(9 * z)
    radius = np.sqrt(x**2 + y**2 + z**2) + folds
    labels = np.where(radius < 0.75, numbers[1], np.where(radius < 0.9, numbers[0], 0))
    # Stored left to right and with another order of axes than the processing wants.
    affine = np.array([[-1.0, 0, 0, 60], [0, 0, 1, -20], [0, -1, 0, 30], [0, 0, 0, 1]])
    nib.Nifti1Image(labels.astype(np.int16), affine).to_filename(path)
    return path


@pytest.fixture(scope='module')
def anatomy(tmp_path_factory):
    return read_anatomy(write_labels(tmp_path_factory.mktemp('labels') / 'ball.nii.gz'), 'adult')


def plain_recipe(appearance=None, **acquisition):
    plain = {'ratio': (3, 3), 'usual_share': 0, 'gap': 0, 'noise': (0, 0)}
    plain |= {'in_plane_share': 0, 'motion_share': 0}
    shares = {'random_share': 0, 'rim_share': 0, 'loose_share': 0, 'skull_share': 0}
    return Synthesis(
        Appearance(
            **({'texture': (0, 0), 'bias': (0, 0), 'gamma': 0} | shares | (appearance or {}))
        ),
        AcquisitionRanges(**(plain | acquisition)),
        Deformation(voxel=(1, 1), usual_share=0, stretch=0, turn=0, bend=0),
    )


def test_fractions_sum_to_one(anatomy):
    total = anatomy.fractions.astype(int).sum(0)
    assert np.abs(total - 255).max() <= len(TISSUES)


def test_missing_csf_and_surroundings_are_filled_in(anatomy):
    share = {name: (f > 127).sum() for name, f in zip(TISSUES, anatomy.fractions, strict=True)}
    assert share['csf'] > 0
    assert share['surround'] > 0
    assert share['white'] > share['cortex'] > 0
    assert share['ventricles'] == 0


def test_map_without_cortex_is_refused(tmp_path):
    path = write_labels(tmp_path / 'wrong.nii.gz', numbers=(502, 506))
    with pytest.raises(ImageError, match=r'wrong\.nii\.gz.*cortex'):
        read_anatomy(path, 'adult')


def test_painted_tissues_have_their_intensity(anatomy):
    levels = CONTRASTS['adult-T1w']
    image = paint(anatomy.fractions, levels)
    white = anatomy.fractions[TISSUES.index('white')] == 255
    assert image[white].mean() == pytest.approx(levels['white'], rel=1e-3)
    np.testing.assert_allclose(paint(anatomy.fractions / 255, levels), image, atol=1e-6)
    outside = anatomy.fractions[TISSUES.index('surround')] == 255
    assert not image[outside].any()
    assert paint(anatomy.fractions, levels, rim=True)[outside].min() > 0


def sample_of(*arguments):
    """`make_sample`, as NumPy arrays."""
    sample = make_sample(*arguments)
    arrays = {n: getattr(sample, n).numpy() for n in ('image', 'truth', 'tissues', 'brain')}
    return replace(sample, **arrays)


def test_samples_repeat_with_the_seed_alone(anatomy):
    first, again, other = (
        sample_of(anatomy, (24, 20, 16), Synthesis(), np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    for name in ('image', 'truth', 'cortex', 'brain'):
        assert getattr(first, name).shape == (24, 20, 16)
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.image, other.image)


def test_blur_runs_along_the_last_axis(anatomy):
    sample = sample_of(
        anatomy, (40, 40, 36), plain_recipe(), np.random.default_rng(0), 'adult-T1w'
    )
    inside = binary_erosion(sample.brain, iterations=2)[1:, 1:, 1:]

    def roughness(image, axis):
        difference = np.diff(image, axis=axis)[tuple(slice(n) for n in inside.shape)]
        return np.square(difference)[inside].mean()

    lost = [1 - roughness(sample.image, a) / roughness(sample.truth, a) for a in range(3)]
    assert lost[2] > 0.15
    assert lost[2] > 1.5 * max(lost[:2])


def test_sample_stays_aligned_with_its_truth(anatomy):
    recipe = plain_recipe(ratio=(2, 2))
    sample = sample_of(anatomy, (40, 40, 36), recipe, np.random.default_rng(0), 'adult-T1w')
    right = psnr(sample.truth, sample.image, sample.brain)
    for axis in range(3):
        for shift in (-1, 1):
            moved = np.roll(sample.image, shift, axis)
            assert psnr(sample.truth, moved, sample.brain) < right


def test_everything_outside_the_mask_is_zero(anatomy):
    sample = sample_of(anatomy, (32, 32, 32), Synthesis(), np.random.default_rng(3))
    outside = ~sample.brain
    assert outside.any()
    assert sample.brain.any()
    for image in (sample.image, sample.truth, sample.cortex):
        assert not image[outside].any()


def test_noise_reaches_the_image(anatomy):
    clean, noisy = (
        sample_of(
            anatomy, (32, 32, 32), plain_recipe(noise=noise), np.random.default_rng(0), 'adult-T2w'
        )
        for noise in ((0, 0), (0.05, 0.05))
    )
    np.testing.assert_array_equal(clean.truth, noisy.truth)
    assert psnr(clean.truth, noisy.image, clean.brain) < psnr(
        clean.truth, clean.image, clean.brain
    )


def test_contrasts_follow_the_priors_unless_random():
    rng = np.random.default_rng(0)

    def inner(levels):
        return {tissue: levels[tissue] for tissue in TISSUES[OUTSIDE:]}

    plain = Appearance(random_share=0, jitter=0, csf_jitter=0)
    usual = [draw_contrast('adult', plain, rng).levels for _ in range(50)]
    known = [inner(levels) for levels in CONTRASTS.values()]
    assert all(inner(levels) in known for levels in usual)
    assert len({levels['surround'] for levels in usual}) == 50
    random = [draw_contrast('fetal', Appearance(random_share=1), rng).levels for _ in range(50)]
    darker = np.mean([c['cortex'] < c['white'] for c in random])
    assert 0.2 < darker < 0.8
    assert all(c['background'] == 0 for c in (*usual, *random))


def test_every_tissue_belongs_to_one_class():
    members = [tissue for tissues in CLASSES.values() for tissue in tissues]
    assert sorted(members) == sorted(TISSUES)


def test_classes_sum_to_one_and_the_rest_is_background(anatomy):
    sample = sample_of(anatomy, (32, 32, 32), Synthesis(), np.random.default_rng(3))
    np.testing.assert_allclose(sample.tissues.sum(0), 1, atol=1e-5)
    assert sample.tissues[0][~sample.brain].min() == 1
    np.testing.assert_array_equal(sample.cortex, sample.tissues[1])
    assert 1.5 <= sample.ratio <= 8


def test_undeformed_box_is_the_map_itself(anatomy):
    plain = plain_recipe().deformation
    size = anatomy.fractions.shape[1:]
    whole = tuple(n - n % 2 for n in size)
    sample = sample_anatomy(anatomy, whole, plain, np.random.default_rng(0))
    assert sample.image is None
    box = sample.fractions.numpy()
    # Axes permuted and flipped only: the tissues keep their volumes.
    there = anatomy.fractions[OUTSIDE:].sum((1, 2, 3)) / 255
    np.testing.assert_allclose(box[OUTSIDE:].sum((1, 2, 3)), there, rtol=0.03, atol=3)


@pytest.mark.parametrize(('slice_axis', 'order'), [(0, (1, 2, 0)), (1, (0, 2, 1)), (2, (0, 1, 2))])
def test_upright_heads_lie_as_the_workflow_hands_them_over(anatomy, slice_axis, order):
    fractions = np.zeros_like(anatomy.fractions)
    # One tissue on the left half, another in front, a third one above.
    for axis, tissue in enumerate(('cortex', 'white', 'ventricles')):
        half = [slice(None)] * 3
        half[axis] = slice(fractions.shape[axis + 1] // 2, None)
        fractions[(TISSUES.index(tissue), *half)] = 80
    fractions[TISSUES.index('csf')] = 255 - fractions.sum(0)
    weights = [0.0, 0.0, 0.0]
    weights[slice_axis] = 1.0
    upright = Deformation(
        (1, 1), 0, stretch=0, turn=0, bend=0, upright_share=1, slice_axes=weights
    )
    size = tuple(n // 2 * 2 for n in fractions.shape[1:])
    mirrored = set()
    for seed in range(8):
        maps = np.concatenate([fractions, anatomy.maps[len(TISSUES) :]])
        box = sample_anatomy(
            replace(anatomy, maps=maps),
            tuple(size[axis] for axis in order),
            upright,
            np.random.default_rng(seed),
        ).fractions.numpy()
        for axis, tissue in enumerate(('cortex', 'white', 'ventricles')):
            profile = np.moveaxis(box[TISSUES.index(tissue)], order.index(axis), 0)
            rises = profile[-5:].mean() > profile[:5].mean()
            if axis == 0:
                mirrored.add(not rises)
            else:
                assert rises
    assert mirrored == {True, False}


def test_larger_voxels_hold_more_of_the_head(anatomy):
    def share(voxel):
        deformation = Deformation((voxel, voxel), usual_share=0, stretch=0, turn=0, bend=0)
        box = sample_anatomy(anatomy, (56, 56, 56), deformation, np.random.default_rng(0))
        return brain_of(box.fractions).sum()

    assert share(1.5) == pytest.approx(share(1.0) / 1.5**3, rel=0.1)


def test_bending_moves_tissues(anatomy):
    straight, bent = (
        sample_anatomy(
            anatomy,
            (40, 40, 40),
            Deformation((1, 1), usual_share=0, stretch=0, turn=0, bend=bend),
            np.random.default_rng(0),
        ).fractions.numpy()
        for bend in (1e-6, 1.5)
    )
    moved = np.abs(straight - bent)[TISSUES.index('cortex')]
    assert moved.max() > 0.5
    np.testing.assert_allclose(bent.sum(0), 1, atol=1e-5)


def test_real_image_takes_the_place_of_the_painted_one(tmp_path):
    path = write_labels(tmp_path / 'ball.nii.gz')
    labels = nib.load(path)
    values = np.asarray(labels.dataobj) * 100.0 + 50
    nib.Nifti1Image(values.astype(np.float32), labels.affine).to_filename(tmp_path / 'T2w.nii.gz')
    anatomy = read_anatomy(path, 'adult', image=tmp_path / 'T2w.nii.gz')
    sample = sample_of(anatomy, (32, 32, 32), plain_recipe(), np.random.default_rng(0))
    white = (sample.tissues[2] > 0.99) & sample.brain
    cortex = (sample.tissues[1] > 0.99) & sample.brain
    assert sample.truth[white].mean() / sample.truth[cortex].mean() == pytest.approx(
        250 / 350, rel=0.02
    )


def test_table_of_label_numbers_is_taken_and_checked(tmp_path):
    path = write_labels(tmp_path / 'other.nii.gz', numbers=(7, 9))
    anatomy = read_anatomy(path, 'adult', numbers={'cortex': (7,), 'white': (9,)})
    assert (anatomy.fractions[TISSUES.index('cortex')] > 127).any()
    with pytest.raises(UserError, match=r'other\.nii\.gz.*gyrus'):
        read_anatomy(path, 'adult', numbers={'gyrus': (7,)})


def test_slices_stay_the_coarsest_axis():
    rng = np.random.default_rng(0)
    acquisition = AcquisitionRanges(in_plane_share=1, in_plane=(1.0, 4.0), motion_share=1)
    stacks = [draw_stack(acquisition, rng) for _ in range(200)]
    assert all(1 <= stack.in_plane < stack.ratio for stack in stacks)
    assert all(stack.thickness <= stack.ratio for stack in stacks)
    assert min(stack.ratio for stack in stacks) < 2 < 6 < max(stack.ratio for stack in stacks)


def test_motion_moves_slices_apart(anatomy):
    still, moving = (
        sample_of(
            anatomy,
            (32, 32, 32),
            plain_recipe(motion_share=1, motion=(motion, motion), gain=(0, 0)),
            np.random.default_rng(0),
            'adult-T1w',
        )
        for motion in (0, 1.0)
    )
    np.testing.assert_array_equal(still.truth, moving.truth)
    assert psnr(still.truth, moving.image, still.brain) < psnr(
        still.truth, still.image, still.brain
    )


def test_heads_may_come_without_a_mask(anatomy):
    recipe = plain_recipe({'skull_share': 1})
    sample = sample_of(anatomy, (64, 64, 64), recipe, np.random.default_rng(0))
    assert sample.brain.all()
    # All that is not brain is background, and what surrounds it is in the image.
    outside = sample.tissues[0] > 0.99
    assert sample.truth[outside].max() > 0.02


def test_the_sheet_between_touching_banks_is_found():
    # white, cortex, white along the first axis: the banks touch in the middle
    tissue = np.full((24, 20, 20), TISSUES.index('white'), np.uint8)
    tissue[8:15] = TISSUES.index('cortex')
    found = sulci(tissue, (1.0, 1.0, 1.0))
    assert found[11].min() > 0.8
    assert found[:10].max() < 0.1
    assert found[13:].max() < 0.1
    # a crown beside CSF has no such sheet
    crown = np.full((24, 20, 20), TISSUES.index('white'), np.uint8)
    crown[8:12], crown[12:] = TISSUES.index('cortex'), TISSUES.index('csf')
    assert sulci(crown, (1.0, 1.0, 1.0)).max() == 0


def test_capsules_are_the_white_matter_between_the_nuclei():
    tissue = np.full((40, 20, 20), TISSUES.index('white'), np.uint8)
    for nucleus in (slice(8, 16), slice(20, 28)):
        tissue[nucleus, 4:16, 4:16] = TISSUES.index('deep-grey')
    found = capsules(tissue, (1.0, 1.0, 1.0))
    assert found[18, 10, 10] > 0.9
    assert found[[4, 32], 10, 10].max() < 0.05
    nearness = deep_nearness(tissue, (1.0, 1.0, 1.0))
    assert nearness[18, 10, 10] > 3 * nearness[36, 10, 10]


def test_young_white_matter_is_not_one_level(anatomy):
    plain = Appearance(
        random_share=0, texture=(0, 0), csf_texture=(0, 0), variation=(0, 0), bias=(0, 0)
    )
    sample = sample_anatomy(
        anatomy, (32, 32, 32), plain_recipe().deformation, np.random.default_rng(0)
    )
    fractions = torch.zeros_like(sample.fractions)
    fractions[TISSUES.index('white')] = 1
    nearness = torch.linspace(0, 1, 32)[:, None, None].expand(32, 32, 32)
    sample = replace(
        sample,
        fractions=fractions,
        deep_nearness=nearness,
        frontal_occipital=torch.zeros(32, 32, 32),
    )
    contrast = Contrast(CONTRASTS['newborn-T2w'], young=True, myelination=-0.3)
    image = paint_sample(sample, contrast, plain, np.random.default_rng(0), False)
    np.testing.assert_allclose(image[-1] / image[0], 0.7, rtol=1e-5)
    newborns = Appearance(random_share=0, contrasts=('newborn-T2w',))
    drawn = [draw_contrast('adult', newborns, np.random.default_rng(n)) for n in range(20)]
    assert all(c.young and -0.4 <= c.myelination <= 0 for c in drawn)
    with pytest.raises(ValueError, match='newborn-PDw is unknown'):
        Appearance(contrasts=('newborn-PDw',))


def test_open_sulci_are_painted_more_than_labelled(anatomy):
    sample = sample_anatomy(
        anatomy, (32, 32, 32), plain_recipe().deformation, np.random.default_rng(0)
    )
    csf, cortex = TISSUES.index('csf'), TISSUES.index('cortex')
    fractions = torch.zeros_like(sample.fractions)
    fractions[cortex] = 1
    sample = replace(sample, fractions=fractions, sulci=torch.ones(32, 32, 32))
    painted, labelled = with_sulci(sample, Appearance(sulci=(0.8, 0.8)), np.random.default_rng(0))
    np.testing.assert_allclose(painted.fractions[csf], 0.8, rtol=1e-6)
    np.testing.assert_allclose(labelled[csf], 0.4, rtol=1e-6)
    np.testing.assert_allclose(labelled[cortex] + labelled[csf], 1, rtol=1e-6)


def test_back_projection_brings_samples_closer_to_their_truth(anatomy):
    plain, projected = (
        sample_of(
            anatomy,
            (40, 40, 36),
            replace(plain_recipe(), back_projection=projection),
            np.random.default_rng(0),
            'adult-T1w',
        )
        for projection in (None, BackProjection(0.5, 5))
    )
    gain = psnr(plain.truth, projected.image, plain.brain) - psnr(
        plain.truth, plain.image, plain.brain
    )
    assert gain > 0.5
