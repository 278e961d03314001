"""What a training refuses is refused before it, by the headers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.imaging.acquisition import acquire, draw_acquisition, interpolate
from bids_segsr.imaging.conform import spacing_of
from bids_segsr.imaging.volume import save_volume
from bids_segsr.training.data.collection import data_of_subjects, with_validation
from bids_segsr.training.data.patches import make_dataset
from bids_segsr.training.data.subjects import Subject
from bids_segsr.training.recipe_file import changed_recipe, read_recipe


def subject(folder, spacing, name='a', guides=0, split='train'):
    rng = np.random.default_rng(0)
    image = (100 + 900 * gaussian_filter(rng.random((72, 70, 68)), 2)).astype(np.float32)
    affine = np.diag([*spacing, 1.0])
    path = save_volume(folder / f'{name}.nii.gz', image, affine)
    label = save_volume(folder / f'{name}_l.nii.gz', (image > 540).astype(np.uint8), affine)
    return Subject(name, path, label, split, guides=(path,) * guides)


@pytest.mark.parametrize('guides', [0, 1])
@pytest.mark.parametrize('name', ['segsrgan-2020', 'recnn-multimodal'])
def test_guides_are_those_that_the_network_takes(tmp_path, guides, name):
    recipe = read_recipe(name)
    takes = recipe.network.options.get('guides', 0)
    given = [subject(tmp_path, (0.5,) * 3, guides=guides)]
    if guides == takes:
        data_of_subjects(recipe, given, 'list.csv')
    else:
        with pytest.raises(UserError, match=f'a: {guides} guide images.* takes {takes}'):
            data_of_subjects(recipe, given, 'list.csv')


@pytest.mark.parametrize('spacing', [(4.0, 0.5, 0.5), (0.5, 0.5, 4.0)])
def test_slices_finer_than_the_image_are_refused_by_its_header(tmp_path, spacing):
    """Slices follow each other from inferior to superior: the last axis, here."""
    recipe = read_recipe('segsrgan-2020')
    given = [subject(tmp_path, spacing)]
    if spacing[2] == 4.0:
        with pytest.raises(ImageError, match=r'a\.nii\.gz: .*3 mm is finer than the image'):
            data_of_subjects(recipe, given, 'list.csv')
    else:
        data_of_subjects(recipe, given, 'list.csv')


@pytest.mark.parametrize(('patch', 'fits'), [((60, 72, 70), True), ((72, 60, 60), False)])
def test_an_image_is_measured_against_a_patch_along_canonical_axes(tmp_path, patch, fits):
    recipe = changed_recipe(
        read_recipe('mdcsrn-b4u4'), {'sampling': {'patch_size': list(patch)}}, 'oblong'
    )
    image = np.random.default_rng(0).random((72, 70, 68)).astype(np.float32)
    # from front to back, from feet to head, from right to left: canonically 68 x 72 x 70
    affine = np.array([[0, 0, -1, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=float)
    path = save_volume(tmp_path / 'a.nii.gz', image, affine)
    given = [Subject('a', path, None, 'train')]
    if fits:
        data_of_subjects(recipe, given, 'list.csv')
        made = make_dataset(recipe, given, 'train', 0, tmp_path)[0]
        assert made['image'].shape == (1, *patch)
    else:
        with pytest.raises(ImageError, match=r'shape \(68, 72, 70\)\) than a patch of \(72, 60,'):
            data_of_subjects(recipe, given, 'list.csv')


def test_the_clinical_training_of_segsrgan_2019_runs(tmp_path):
    recipe = read_recipe('segsrgan-2019-clinical')
    given = [subject(tmp_path, (0.5,) * 3)]
    data_of_subjects(recipe, given, 'list.csv')
    patch = make_dataset(recipe, given, 'train', 0, tmp_path / 'cache')[0]
    assert patch['image'].shape == (1, 64, 64, 64)
    error = (patch['image'][0] - patch['target'][0]).abs().mean()
    assert 0 < error < 0.1 * patch['target'][0].mean()


def test_a_scan_that_is_finer_in_plane_keeps_every_position():
    """Of a ramp along each axis, each sample is the position of its centre."""
    recipe = read_recipe('segsrgan-2019-clinical')
    affine = np.diag([0.5, 0.5, 0.5, 1.0])
    shape = (60, 62, 66)
    acquisition = draw_acquisition(recipe.forward, (0.5, 0.5, 0.5), None)
    for axis in range(3):
        ramp = np.broadcast_to(
            0.5 * np.arange(shape[axis]).reshape([-1 if n == axis else 1 for n in range(3)]), shape
        ).astype(np.float32)
        low, grid = acquire(ramp, affine, acquisition)
        np.testing.assert_allclose(spacing_of(grid.affine), (0.446, 0.446, 3.0), rtol=1e-6)
        places = grid.affine[axis, 3] + grid.affine[axis, axis] * np.arange(low.shape[axis])
        middle = slice(8, -8) if axis != 2 else slice(3, -3)  # away from the border
        found = np.moveaxis(low, axis, 0)[:, 5, 5][middle]
        np.testing.assert_allclose(found, places[middle], atol=1e-3)
        back = interpolate(low, shape, affine, acquisition)
        inner = tuple(slice(n // 3, -(n // 3)) for n in shape)
        np.testing.assert_allclose(back[inner], ramp[inner], atol=0.05)


def test_nobody_is_set_aside_where_all_train(tmp_path):
    recipe = read_recipe('recnn-10l')
    given = [subject(tmp_path, (1.0,) * 3, name) for name in 'ab']
    assert with_validation(given, recipe, tmp_path) == given
    followed = make_dataset(recipe, given, 'validation', 0, tmp_path / 'cache')
    assert {v.name for v in followed.subjects} == {'a', 'b'}
    held_out = dataclasses.replace(recipe.validation, subjects='held-out')
    drawn = with_validation(given, dataclasses.replace(recipe, validation=held_out), tmp_path)
    assert sorted(s.split for s in drawn) == ['train', 'validation']
