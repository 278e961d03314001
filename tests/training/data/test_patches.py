"""Training patches from images."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from geometry_phantoms import oblique_affine
from scipy.ndimage import gaussian_filter
from torch.utils.data import DataLoader

from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.imaging.acquisition import acquire, draw_acquisition, interpolate
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.training.data.patches import PatchDataset, make_dataset
from bids_segsr.training.data.subjects import Subject
from bids_segsr.training.data_tables import Augmentation, Sampling
from bids_segsr.training.recipe import Validation

SHAPE = (44, 40, 60)
AFFINE = oblique_affine((0.8, 0.8, 0.8), (4, -3, 6))
FORWARD = ForwardModel(spacing_mm=(2.4, 2.4))


@pytest.fixture(scope='module')
def subjects(tmp_path_factory):
    """Two persons to train on, one to validate: textured balls, ventricles and rind labelled."""
    folder = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing='ij'), -1)
    radius = np.linalg.norm((index - np.array(SHAPE) / 2) / np.array(SHAPE), axis=-1)
    found = []
    for number, split in enumerate(('train', 'train', 'validation')):
        texture = gaussian_filter(rng.normal(size=SHAPE), 1)
        image = (radius < 0.42) * (500 + 900 * texture).clip(20)
        label = (radius < 0.42) * np.where(radius < 0.15, 2, 1)
        paths = []
        for name, data in (
            ('T2w', image.astype(np.float32)),
            ('T1w', (image[::-1] + 1).astype(np.float32)),
            ('dseg', label.astype(np.uint8)),
        ):
            paths.append(folder / f'sub-{number}_{name}.nii.gz')
            nib.Nifti1Image(data, AFFINE).to_filename(paths[-1])
        found.append(Subject(f'sub-{number}', paths[0], paths[2], split, guides=(paths[1],)))
    return found


@pytest.fixture
def made(subjects, tmp_path_factory):
    cache = tmp_path_factory.getbasetemp() / 'cache'

    def make(split='train', seed=0, subjects=subjects, **fields) -> PatchDataset:
        task = {
            'input': 'interpolated',
            'channels': ('intensity', 'cortex', 'rest', 'ventricles'),
            'labels': {'cortex': (1,), 'ventricles': (2,)},
        }
        recipe = SimpleNamespace(
            task=SimpleNamespace(**task | fields.pop('task', {})),
            forward=fields.pop('forward', FORWARD),
            sampling=Sampling(**{'patch_size': 16} | fields.pop('sampling', {})),
            validation=Validation(
                augmented=fields.pop('augmented', False), subjects=fields.pop('judged', 'held-out')
            ),
            augmentation=Augmentation(**fields),
        )
        return make_dataset(recipe, subjects, split, seed, cache)

    return make


def whole(subject, forward, seed=0):
    data = np.asarray(nib.load(subject.image).dataobj)
    acquisition = draw_acquisition(forward, (0.8, 0.8, 0.8), np.random.default_rng(seed))
    low, _ = acquire(data, AFFINE, acquisition)
    image = interpolate(low, SHAPE, AFFINE, acquisition)
    return image / image.max(), data / image.max()


@pytest.mark.parametrize(
    'forward',
    [
        FORWARD,
        ForwardModel(kind='isotropic', factor=(2.0, 2.0), sigma=1.0),
        ForwardModel(kind='k-space', factors=((2.0, 2.0, 1.0),), interpolation='linear'),
    ],
)
def test_patch_is_that_of_the_whole_simulated_volume(made, subjects, forward):
    dataset = made(sampling={'mode': 'grid', 'stride': 14}, forward=forward)
    inputs = {n: whole(subjects[n], forward) for n in (0, 1)}
    labels = [np.asarray(nib.load(s.label).dataobj) for s in subjects]
    seen = set()
    for index in range(len(dataset)):
        patch = dataset[index]
        number, start = dataset._position(index, np.random.default_rng(0))
        seen.add((number, start))
        box = tuple(slice(n, n + 16) for n in start)
        image, truth = inputs[number]
        np.testing.assert_allclose(patch['image'][0], image[box], atol=2e-3)
        np.testing.assert_allclose(patch['target'][0], truth[box], atol=1e-6)
        for channel, value in ((1, 1), (2, None), (3, 2)):
            # the background is what is no class; the cortex is no class
            expected = labels[number][box] != 2 if value is None else labels[number][box] == value
            np.testing.assert_array_equal(patch['target'][channel], expected)
    assert len(seen) == len(dataset)


def test_patch_has_the_types_of_the_contract(made):
    dataset = made()
    patch = dataset[3]
    assert dataset.size == (16, 16, 16)
    assert dataset.channels == ('intensity', 'cortex', 'rest', 'ventricles')
    assert patch['image'].shape == (2, 16, 16, 16)
    assert patch['target'].shape == (4, 16, 16, 16)
    assert patch['resolution'].item() == pytest.approx(2.4)
    assert {part.dtype for part in patch.values()} == {torch.float32}
    batch = next(iter(DataLoader(dataset, 3)))
    assert batch['image'].shape == (3, 2, 16, 16, 16)


EVERYTHING = {
    'contrast_power': 0.5,
    'noise': 0.03,
    'flips': True,
    'affine': 0.5,
    'elastic': 0.3,
    'bias_field': 0.5,
    'motion': 0.3,
    'ghosting': 0.3,
    'spike': 0.3,
}


def test_same_number_same_bytes_whatever_the_workers(made):
    forward = ForwardModel(spacing_mm=(2.0, 4.0), gap=(0.0, 0.2))
    dataset = made(forward=forward, **EVERYTHING)
    order = [5, 0, 1000, 5, 2, 1 << 41]
    alone = [dataset[index] for index in order]
    shared = list(DataLoader(dataset, batch_size=None, sampler=order, num_workers=2))
    again = made(forward=forward, **EVERYTHING)
    for first, second, index in zip(alone, shared, order, strict=True):
        for key in first:
            assert torch.equal(first[key], second[key])
            assert torch.equal(first[key], again[index][key])
    assert torch.equal(alone[0]['image'], alone[3]['image'])
    assert not torch.equal(alone[0]['image'], alone[1]['image'])
    other = made(forward=forward, seed=1, **EVERYTHING)
    assert not torch.equal(other[5]['image'], alone[0]['image'])


def test_everything_is_drawn_anew_in_the_next_epoch(made):
    dataset = made(
        sampling={'mode': 'grid', 'stride': 60}, noise=0.03, forward=ForwardModel(factor=(2, 4))
    )
    assert len(dataset) == 2
    images = [dataset[index]['image'] for index in range(8)]
    assert len({image.sum().item() for image in images}) == 8
    resolutions = {dataset[index]['resolution'].item() for index in range(8)}
    assert len(resolutions) == 8
    assert all(1.6 <= resolution <= 3.2 for resolution in resolutions)


def test_grid_is_that_of_the_paper(made):
    dataset = made(sampling={'mode': 'grid', 'stride': 20})
    box = dataset.subjects[0].image.foreground
    counts = [(part.stop - part.start - 16) // 20 + 1 for part in box]
    assert len(dataset) == 2 * np.prod(counts)
    for epoch in range(2):
        numbers = range(epoch * len(dataset), (epoch + 1) * len(dataset))
        drawn = [dataset._position(n, np.random.default_rng(n)) for n in numbers]
        assert sorted(drawn) == sorted(dataset.positions)
        assert drawn != dataset.positions


def test_random_patches_hold_foreground_and_use_subjects_alike(made):
    dataset = made(sampling={'foreground': 0.9, 'patches_per_epoch': 30})
    assert len(dataset) == 30
    drawn = [dataset._position(n, np.random.default_rng(n)) for n in range(60)]
    assert sum(number for number, _ in drawn) == 30
    assert len(set(drawn)) > 55
    assert min(dataset._foreground(dataset.subjects[n], start) for n, start in drawn) >= 0.9


def test_mask_decides_where_patches_are_cut(made, subjects, tmp_path):
    mask = np.zeros(SHAPE, np.uint8)
    mask[12:30, 10:30, 20:40] = 2
    nib.Nifti1Image(mask, AFFINE).to_filename(tmp_path / 'mask.nii.gz')
    subject = Subject('a', subjects[0].image, subjects[0].label, 'train', tmp_path / 'mask.nii.gz')
    dataset = made(subjects=[subject], sampling={'foreground': 0.5})
    starts = np.array([dataset._position(n, np.random.default_rng(n))[1] for n in range(40)])
    assert starts.min(axis=0).tolist() == [12, 10, 20]
    assert (starts.max(axis=0) + 16).tolist() == [30, 30, 40]


def test_a_brain_smaller_than_a_patch_is_in_its_middle(made, subjects, tmp_path):
    mask = np.zeros(SHAPE, np.uint8)
    mask[20:24, 18:20, 30:36] = 1
    nib.Nifti1Image(mask, AFFINE).to_filename(tmp_path / 'mask.nii.gz')
    subject = Subject('a', subjects[0].image, subjects[0].label, 'train', tmp_path / 'mask.nii.gz')
    dataset = made(subjects=[subject])
    assert dataset._position(0, np.random.default_rng(0))[1] == (14, 11, 25)


def test_validation_patches_are_fixed_and_not_augmented(made, subjects):
    dataset = made('validation', **EVERYTHING)
    image, truth = whole(subjects[2], FORWARD)
    assert [dataset._position(n, np.random.default_rng(n)) for n in range(len(dataset))] == (
        dataset.positions
    )
    for n in (0, len(dataset) - 1):
        box = tuple(slice(start, start + 16) for start in dataset.positions[n][1])
        np.testing.assert_allclose(dataset[n]['image'][0], image[box], atol=2e-3)
        assert (truth[box] > 0).mean() >= 0.1
        assert torch.equal(dataset[n]['image'], dataset[n + len(dataset)]['image'])


def test_powers_of_augmented_validation_images_divide_the_range(made, subjects):
    again = [dataclasses.replace(subjects[2], name=name) for name in 'abc']
    changes = {'contrast_power': 0.5, 'noise': 0.03, 'flips': True, 'subjects': again}
    plain, dataset = made('validation', **changes), made('validation', augmented=True, **changes)
    patches = len(dataset) // 3
    for number, power in enumerate((0.5, 1.0, 1.5)):
        n = number * patches
        truth, changed = plain[n]['target'][0], dataset[n]['target'][0]
        inside = truth > 0.1
        ratio = (changed / truth**power)[inside]
        assert (ratio / ratio.mean() - 1).abs().max() < 1e-3
        assert torch.equal(dataset[n]['image'], dataset[n + len(dataset)]['image'])
    n = patches  # power 1: what is left is the noise
    scale = (dataset[n]['target'][0] / plain[n]['target'][0])[inside].median()
    assert 0.01 < (dataset[n]['image'][0] - scale * plain[n]['image'][0]).std() < 0.03


@pytest.mark.parametrize(('judged', 'names'), [('trained', 'sub-0 sub-1'), ('held-out', 'sub-2')])
def test_who_is_validated_on(made, judged, names):
    volumes = made('validation', judged=judged).subjects
    assert ' '.join(one.name for one in volumes) == names


def test_validation_patches_show_a_tenth_of_the_brain(made, subjects, tmp_path):
    mask = np.zeros(SHAPE, np.uint8)
    mask[:9, :9, :9] = mask[23:32, 23:32, 39:48] = 1
    nib.Nifti1Image(mask, AFFINE).to_filename(tmp_path / 'mask.nii.gz')
    of = subjects[2]
    subject = Subject('a', of.image, of.label, 'validation', tmp_path / 'mask.nii.gz')
    dataset = made('validation', subjects=[subject])
    # two of the twelve of the grid
    assert sorted(start for _, start in dataset.positions) == [(0, 0, 0), (16, 16, 32)]


@pytest.mark.parametrize(
    ('forward', 'size'),
    [
        (ForwardModel(spacing_mm=(4.0, 4.0), axis=0), (12, 14, 18)),
        (ForwardModel(spacing_mm=(4.0, 4.0), axis=1), (14, 12, 18)),
        (ForwardModel(spacing_mm=(4.0, 4.0)), (14, 18, 12)),
        (ForwardModel(kind='k-space', factors=((2.0, 2.0, 1.0),)), (14, 18, 12)),
    ],
)
def test_edges_of_a_patch_follow_the_axes_that_the_network_sees(made, subjects, forward, size):
    """Patches of 14 x 18 voxels in plane, 12 slices; `size` is as they lie in the image."""
    shape = (14, 18, 12)
    dataset = made(sampling={'patch_size': shape, 'foreground': 0.3}, forward=forward)
    images = {n: whole(subjects[n], forward) for n in (0, 1)}
    for index in range(6):
        number, start = dataset._position(index, np.random.default_rng([0, index]))
        box = tuple(slice(n, n + edge) for n, edge in zip(start, size, strict=True))
        assert (images[number][1][box] > 0).mean() >= 0.3
        image, truth = (np.moveaxis(part[box], forward.last_axis, -1) for part in images[number])
        patch = dataset[index]
        assert patch['image'].shape[1:] == patch['target'].shape[1:] == shape
        np.testing.assert_allclose(patch['image'][0], image, atol=2e-3)
        np.testing.assert_allclose(patch['target'][0], truth, atol=1e-6)


@pytest.mark.parametrize('axis', [0, 1])
def test_slices_follow_each_other_along_the_last_axis(made, subjects, axis):
    forward = ForwardModel(spacing_mm=(4.0, 4.0), axis=axis)
    dataset = made(forward=forward)
    number, start = dataset._position(1, np.random.default_rng([0, 1]))
    box = tuple(slice(n, n + 16) for n in start)
    image, truth = (np.moveaxis(part[box], axis, -1) for part in whole(subjects[number], forward))
    np.testing.assert_allclose(dataset[1]['image'][0], image, atol=2e-3)
    np.testing.assert_allclose(dataset[1]['target'][0], truth, atol=1e-6)


def test_noise_is_on_the_low_resolution_image_alone(made):
    dataset = made(noise=0.03)
    plain, noisy = made()[7], dataset[7]
    assert torch.equal(plain['target'][1:], noisy['target'][1:])
    assert torch.equal(plain['image'][1], noisy['image'][1])
    # both in the units of the noisy image
    inside = plain['target'][0] > 0.1
    ratio = (noisy['target'][0] / plain['target'][0])[inside]
    assert ratio.max() - ratio.min() < 1e-5
    difference = noisy['image'][0] - plain['image'][0] * ratio.mean()
    assert 0.01 < difference.std() < 0.03
    # noise of a slice is spread over the voxels between the slices
    assert difference.diff(dim=2).std() < 0.7 * difference.diff(dim=0).std()


def test_contrast_changes_input_and_target_alike(made):
    plain, changed = made()[7], made(contrast_power=0.9)[7]
    inside = plain['target'][0] > 0.2
    power = (changed['target'][0].log() / plain['target'][0].log())[inside].median()
    assert abs(power - 1) > 0.02
    expected = plain['image'][0].clamp(min=0) ** power
    assert (changed['image'][0] - expected)[inside].abs().mean() < 0.02


def test_deformed_patch_has_no_missing_corner(made, subjects, tmp_path):
    nib.Nifti1Image(np.full(SHAPE, 9, np.float32) + np.eye(40, 60), AFFINE).to_filename(
        tmp_path / 'full.nii.gz'
    )
    subject = Subject('a', tmp_path / 'full.nii.gz', None, 'train')
    dataset = made(subjects=[subject], task={'channels': ('intensity',), 'labels': {}}, affine=1.0)
    for index in range(4):
        assert dataset[index]['target'].min() > 0.85


def test_segmentation_on_the_high_resolution_image(made):
    patch = made(task={'input': 'high-resolution'}, forward=ForwardModel())[2]
    assert torch.equal(patch['image'][0], patch['target'][0])
    assert patch['image'].max() <= 1
    assert patch['resolution'].item() == pytest.approx(0.8)


def test_constant_patch_has_no_nan(made, subjects, tmp_path):
    data = np.zeros(SHAPE, np.float32)
    data[2, 2, 2] = data[-3, -3, -3] = 1
    nib.Nifti1Image(data, AFFINE).to_filename(tmp_path / 'dots.nii.gz')
    subject = Subject('a', tmp_path / 'dots.nii.gz', subjects[0].label, 'train')
    dataset = made(subjects=[subject], **{**EVERYTHING, 'noise': 0.0, 'motion': 1.0, 'affine': 1})
    for index in range(4):
        patch = dataset[index]
        assert torch.isfinite(patch['image']).all()
        assert torch.isfinite(patch['target']).all()


def test_mistakes_are_told_in_one_line(made, subjects):
    with pytest.raises(UserError, match="no subject of the split 'test'"):
        made('test')
    with pytest.raises(ImageError, match=r'sub-0_T2w\.nii\.gz: smaller'):
        made(sampling={'patch_size': 48})
    with pytest.raises(UserError, match=r'sampling\.foreground'):
        made(sampling={'mode': 'grid', 'foreground': 1.0, 'patch_size': 40})
    bare = Subject('a', subjects[0].image, None, 'train')
    with pytest.raises(ImageError, match='has no label map'):
        made(subjects=[bare])


def test_noisy_images_are_divided_by_what_a_prediction_divides_by(made, subjects, tmp_path):
    rng = np.random.default_rng(5)
    ball = np.asarray(nib.load(subjects[0].label).dataobj) > 0
    data = (ball * rng.uniform(450, 500, SHAPE)).astype(np.float32)
    nib.Nifti1Image(data, AFFINE).to_filename(tmp_path / 'ball.nii.gz')
    subject = Subject('a', tmp_path / 'ball.nii.gz', subjects[0].label, 'train')
    clean, noisy = (made(subjects=[subject], noise=noise).subjects[0] for noise in (0.0, 0.03))
    acquisition = draw_acquisition(FORWARD, (0.8, 0.8, 0.8), None)
    low, _ = acquire(data, AFFINE, acquisition)
    drawn = low + 0.03 * low.max() * rng.standard_normal(low.shape, dtype=np.float32)
    for stored, image in ((clean, low), (noisy, drawn)):
        divisor = interpolate(image, SHAPE, AFFINE, acquisition).max()
        assert stored.scale == pytest.approx(low.max())
        assert stored.scale * stored.level == pytest.approx(divisor, rel=0.03)
    assert noisy.level > clean.level + 0.04


def test_images_and_guides_can_be_divided_by_their_means(made, subjects):
    data = made(sampling={'normalisation': 'volume-mean'})
    # the empty background of a guide is 1: an offset
    guides = [np.asarray(nib.load(subject.guides[0]).dataobj) - 1 for subject in subjects[:2]]
    of_guides = [guide[guide > 0].mean() for guide in guides]
    for index in range(6):
        by_max, by_mean = made()[index], data[index]
        ratio = by_mean['image'] / by_max['image']
        # The subject is told by its guide.
        scales = [guide.max() / mean for guide, mean in zip(guides, of_guides, strict=True)]
        subject = int(np.argmin(np.abs(float(ratio[1].nanmean()) - np.array(scales))))
        torch.testing.assert_close(by_mean['image'][1], by_max['image'][1] * scales[subject])
        _, fine = whole(subjects[subject], FORWARD)
        expected = by_max['target'][0] / fine[fine > 0].mean()
        torch.testing.assert_close(by_mean['target'][0], expected.float(), rtol=1e-3, atol=1e-4)


def test_label_numbers_that_no_map_has_are_refused(made, caplog):
    channels = ('intensity', 'cortex', 'rest', 'ventricles')
    labels = {'cortex': (7, 8), 'ventricles': (2,)}
    with pytest.raises(UserError, match=r'has 7, 8 of the channel cortex .* have 0, 1, 2\)'):
        made(task={'channels': channels, 'labels': labels})
    made(task={'channels': channels, 'labels': {'cortex': (1, 8), 'ventricles': (2,)}})
    assert 'channel cortex: no training label map has 8' in caplog.text
