from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.stats import norm
from simulation_phantoms import plain_recipe, sample_of, write_balls, write_labels

from bids_segsr.imaging.measures.metrics import psnr
from bids_segsr.simulation.anatomy import (
    read_anatomy,
)
from bids_segsr.simulation.deformation import sample_anatomy
from bids_segsr.simulation.synthesis import Synthesis, with_sulci
from bids_segsr.simulation.tables import (
    TISSUES,
    Appearance,
)
from bids_segsr.simulation.thick_slices import BackProjection


def test_samples_repeat_with_the_seed_alone(anatomy):
    first, again, other = (
        sample_of(anatomy, (24, 20, 16), Synthesis(), np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    for name in ('image', 'truth', 'cortex', 'brain'):
        assert getattr(first, name).shape == (24, 20, 16)
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.image, other.image)


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


def test_classes_sum_to_one_and_the_rest_is_background(anatomy):
    sample = sample_of(anatomy, (32, 32, 32), Synthesis(), np.random.default_rng(3))
    np.testing.assert_allclose(sample.tissues.sum(0), 1, atol=1e-5)
    assert sample.tissues[0][~sample.brain].min() == 1
    np.testing.assert_array_equal(sample.cortex, sample.tissues[1])
    assert 1.5 <= sample.ratio <= 8


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


def test_heads_may_come_without_a_mask(anatomy):
    recipe = plain_recipe({'skull_share': 1})
    sample = sample_of(anatomy, (64, 64, 64), recipe, np.random.default_rng(0))
    assert sample.brain.all()
    # All that is not brain is background, and what surrounds it is in the image.
    outside = sample.tissues[0] > 0.99
    assert sample.truth[outside].max() > 0.02


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


@pytest.mark.parametrize('weight', [0.5, 2.0, 4.0])
def test_white_matter_reaches_into_the_cortex_by_its_weight(tmp_path, weight):
    smoothing, radius = 0.7, 26
    ball = read_anatomy(write_balls(tmp_path / 'ball.nii.gz', whole=False), 'adult', smoothing)
    recipe = plain_recipe(
        {'white_weight': (weight, weight), 'csf_weight': (1, 1), 'sulci': (0, 0)}
    )
    tissues = sample_of(ball, (72, 72, 72), recipe, np.random.default_rng(0), 'adult-T1w').tissues
    # the border is where the smooth fraction of white matter, times its weight, is that of cortex
    found = np.cbrt((tissues[2] > tissues[1]).sum() / (4 / 3 * np.pi))
    assert found == pytest.approx(radius + smoothing * norm.ppf(weight / (1 + weight)), abs=0.05)


def test_what_lies_in_white_matter_keeps_its_size_whatever_that_weighs(tmp_path):
    path = write_balls(tmp_path / 'ball.nii.gz', whole=False)
    labels = nib.load(path)
    values = np.asarray(labels.dataobj).copy()
    # 6 mm around the middle of white matter
    grid = np.indices(values.shape)
    values[sum((axis - 48) ** 2 for axis in grid) < 6**2] = 10
    nib.Nifti1Image(values, labels.affine).to_filename(path)
    ball = read_anatomy(path, 'adult')
    sizes = []
    for weight in (1.0, 4.0):
        recipe = plain_recipe({'white_weight': (weight, weight), 'sulci': (0, 0)})
        found = sample_of(ball, (72, 72, 72), recipe, np.random.default_rng(0), 'adult-T1w')
        sizes.append(int((found.tissues[5] > found.tissues[2]).sum()))
    assert sizes[0] == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.1)
    assert sizes[0] == sizes[1]


def test_capsules_of_newborns_are_called_deep_grey_and_painted_as_white_matter(tmp_path):
    path = write_balls(tmp_path / 'ball.nii.gz', whole=False)
    labels = nib.load(path)
    values = np.asarray(labels.dataobj).copy()
    # two nuclei, and four voxels of white matter between them
    for nucleus in (slice(34, 46), slice(50, 62)):
        values[nucleus, 40:56, 40:56] = 10
    nib.Nifti1Image(values, labels.affine).to_filename(path)
    ball = read_anatomy(path, 'adult')
    recipe = plain_recipe({'sulci': (0, 0), 'csf_weight': (1, 1), 'white_weight': (1, 1)})
    between, nucleus = (31, 36, 36), (22, 36, 36)
    for contrast, label in (('adult-T2w', 2), ('newborn-T2w', 5)):
        found = sample_of(ball, (72, 72, 72), recipe, np.random.default_rng(0), contrast)
        assert found.tissues[:, *between].argmax() == label
        assert found.tissues[:, *nucleus].argmax() == 5
        # white matter that is myelinated early
        assert found.truth[between] < 0.9 * found.truth[nucleus]


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
