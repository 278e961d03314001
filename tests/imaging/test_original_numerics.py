"""Numerics of the original program against numbers that it gave."""

from __future__ import annotations

import numpy as np
import original_numerics as original
import pytest

pytestmark = pytest.mark.shared


@pytest.fixture
def numbers(shared):
    return lambda name: np.load(shared / 'fixtures' / 'segsrgan' / f'{name}.npz')


@pytest.mark.parametrize('case', ['scipy_int6', 'scipy_frac', 'sitk_int6'])
def test_low_resolution_and_interpolation(numbers, case):
    expected = numbers(f'lr_simulation_{case}')
    mode = case.split('_')[0]
    spacing, resolution = expected['hr_spacing'], expected['new_resolution']
    factor = resolution / spacing
    for name in ('hr', 'label', 'mask'):
        cropped = original.crop_to_factor(expected[name], factor)
        np.testing.assert_array_equal(cropped, expected[f'{name}_cropped'])
    high = original.crop_to_factor(expected['hr'], factor)
    low = original.low_resolution(high, spacing, resolution, mode)
    np.testing.assert_array_equal(low, expected['lr'])
    low, high = original.normalise(low, high)
    np.testing.assert_array_equal(low, expected['lr_normalized'])
    np.testing.assert_array_equal(high, expected['hr_normalized'])
    if mode == 'scipy':
        back = original.interpolate(low, factor, mode)
        np.testing.assert_allclose(back, expected['interpolated'], atol=1e-6)
        return
    for name, ours in (
        ('Spline', 'BSpline'),
        ('Linear', 'Linear'),
        ('NearestNeighbor', 'NearestNeighbor'),
        ('Lanczos', 'LanczosWindowedSinc'),
    ):
        back = original.interpolate(low, factor, mode, ours)
        np.testing.assert_allclose(back, expected[f'interpolated_{name}'], atol=1e-6)


def test_augmentation(numbers):
    expected = numbers('augmentation')
    power, noise = float(expected['power']), float(expected['percent_val_max'])
    rng = np.random.RandomState(int(expected['seed']))
    high, low = original.augment(expected['hr'], expected['lr'], power, noise, rng)
    np.testing.assert_allclose(high, expected['hr_out'], rtol=1e-6)
    np.testing.assert_allclose(low, expected['lr_out'], rtol=1e-6, atol=1e-4)


def test_normalisation(numbers):
    expected = numbers('normalization')
    low, _ = original.normalise(expected['input'], expected['input'])
    np.testing.assert_array_equal(low, expected['normalized'])


def test_patches_in_their_order(numbers):
    expected = numbers('patches_plain')
    spacing, resolution = np.full(3, 0.5), np.array([0.5, 0.5, 3])
    factor = resolution / spacing
    rng = np.random.RandomState(77)
    inputs, targets = [], []
    for number, power in enumerate((0.8, 1.2)):
        high = original.crop_to_factor(expected[f'hr{number}'], factor)
        label = (high > 450).astype(np.float32)
        box = original.bounding_box(high)
        border = [[part.start, part.stop] for part in box]
        np.testing.assert_array_equal(border, expected[f'border{number}'])
        low = original.low_resolution(high, spacing, resolution, 'scipy')
        high, low = original.augment(high, low, power, 0.02, rng)
        low, high = original.normalise(low, high)
        image = original.interpolate(low, factor, 'scipy')
        inputs.append(original.shuffled_patches(image[None][(slice(None), *box)], 16, 20, rng))
        pair = np.stack([high, label])[(slice(None), *box)]
        targets.append(original.shuffled_patches(pair, 16, 20, rng))
    inputs, targets = np.concatenate(inputs), np.concatenate(targets)
    np.testing.assert_allclose(inputs, expected['datas'], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(targets, expected['labels'], rtol=1e-6, atol=1e-6)
