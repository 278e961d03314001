from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from bids_segsr.exceptions import ImageError
from bids_segsr.imaging.metrics import psnr
from bids_segsr.training.synthesis import (
    CONTRASTS,
    TISSUES,
    Acquisition,
    Appearance,
    Recipe,
    draw_contrast,
    make_sample,
    paint,
    read_anatomy,
)


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


def plain_recipe(**acquisition):
    return Recipe(
        Appearance(
            random_share=0, texture=(0, 0), bias=(0, 0), rim_share=0, loose_share=0, voxel=(1, 1)
        ),
        Acquisition(**({'ratio': (3, 3), 'gap': 0, 'noise': (0, 0)} | acquisition)),
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
    image, cortex = paint(anatomy, levels)
    white = anatomy.fractions[TISSUES.index('white')] == 255
    assert image[white].mean() == pytest.approx(levels['white'], rel=1e-3)
    assert cortex.max() == 1
    outside = anatomy.fractions[TISSUES.index('surround')] == 255
    assert not image[outside].any()
    assert paint(anatomy, levels, rim=True)[0][outside].min() > 0


def test_samples_repeat_with_the_seed_alone(anatomy):
    first, again, other = (
        make_sample(anatomy, (24, 20, 16), Recipe(), np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    for name in ('image', 'truth', 'cortex', 'brain'):
        assert getattr(first, name).shape == (24, 20, 16)
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.image, other.image)


def test_blur_runs_along_the_last_axis(anatomy):
    sample = make_sample(
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
    recipe = plain_recipe(ratio=(2, 2), usual_ratio=2)
    sample = make_sample(anatomy, (40, 40, 36), recipe, np.random.default_rng(0), 'adult-T1w')
    right = psnr(sample.truth, sample.image, sample.brain)
    for axis in range(3):
        for shift in (-1, 1):
            moved = np.roll(sample.image, shift, axis)
            assert psnr(sample.truth, moved, sample.brain) < right


def test_everything_outside_the_mask_is_zero(anatomy):
    sample = make_sample(anatomy, (32, 32, 32), Recipe(), np.random.default_rng(3))
    outside = ~sample.brain
    assert outside.any()
    assert sample.brain.any()
    for image in (sample.image, sample.truth, sample.cortex):
        assert not image[outside].any()


def test_noise_reaches_the_image(anatomy):
    clean, noisy = (
        make_sample(
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
    usual = [draw_contrast('adult', Appearance(random_share=0, jitter=0), rng) for _ in range(50)]
    known = [{k: v for k, v in c.items() if k != 'background'} for c in CONTRASTS.values()]
    assert all({k: v for k, v in c.items() if k != 'background'} in known for c in usual)
    random = [draw_contrast('fetal', Appearance(random_share=1), rng) for _ in range(50)]
    darker = np.mean([c['cortex'] < c['white'] for c in random])
    assert 0.2 < darker < 0.8
    assert all(c['background'] == 0 for c in (*usual, *random))
