"""Random changes of training images."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from bids_segsr.training.data.augmentation import (
    Changes,
    add_artefacts,
    add_noise,
    change_contrast,
    deform,
    draw_changes,
)
from bids_segsr.training.data_tables import Augmentation

SPACING = (0.8, 0.8, 0.8)
NOTHING = Changes(1.0, 0.0, (), (), False, ())


def changes(**fields):
    return replace(NOTHING, **fields)


@pytest.fixture(scope='module')
def anatomy():
    """A smooth image, a guide, and two labels and their background."""
    smooth = gaussian_filter(np.random.default_rng(1).normal(size=(40, 36, 38)), 3)
    smooth = (smooth / smooth.max()).astype(np.float32)
    labels = np.stack([smooth <= 0, (smooth > 0) & (smooth < 0.4), smooth >= 0.4])
    return np.stack([smooth, 1 - smooth]), labels.astype(np.float32)


def test_contrast_keeps_the_sign():
    image = np.array([[[-4.0, 0.0, 9.0]]], np.float32)
    np.testing.assert_allclose(change_contrast(changes(power=0.5), image), [[[-2, 0, 3]]])
    assert change_contrast(NOTHING, image) is image


def test_powers_spread_over_the_range_of_the_paper():
    rng = np.random.default_rng(0)
    powers = [draw_changes(Augmentation(contrast_power=0.5), rng).power for _ in range(400)]
    assert 0.5 <= min(powers) < 0.52
    assert 1.48 < max(powers) <= 1.5


def test_noise_is_gaussian_and_a_share_of_the_maximum():
    low = np.full((40, 40, 40), 0.25, np.float32)
    noisy = add_noise(changes(noise=0.03), low, 2.0, np.random.default_rng(0))
    assert noisy.dtype == np.float32
    assert (noisy - low).std() == pytest.approx(0.06, rel=0.02)
    assert (noisy - low).mean() == pytest.approx(0, abs=1e-3)
    assert add_noise(NOTHING, low, 2.0, np.random.default_rng(0)) is low


@pytest.mark.parametrize('shape', [('affine',), ('elastic',), ('affine', 'elastic')])
def test_labels_and_guides_follow_the_image(anatomy, shape):
    images, labels = anatomy
    moved, shares = deform(changes(shape=shape), images, labels, SPACING, np.random.default_rng(3))
    inner = (slice(None), *(slice(8, -8),) * 3)
    image, guide = moved[inner]
    change = np.abs(moved[inner] - images[inner]).mean()
    assert change > 0.02
    np.testing.assert_allclose(guide, 1 - image, atol=1e-3)
    shares = shares[inner]
    np.testing.assert_allclose(shares.sum(0), 1, atol=1e-4)
    expected = np.stack([image <= 0, (image > 0) & (image < 0.4), image >= 0.4])
    assert (shares.argmax(0) == expected.argmax(0)).mean() > 0.97
    assert ((shares > 0.05) & (shares < 0.95)).any()


def test_bias_field_changes_the_image_alone(anatomy):
    images, labels = anatomy
    images = images + 2
    biased, same = deform(
        changes(bias_field=True), images, labels, SPACING, np.random.default_rng(3)
    )
    np.testing.assert_array_equal(same, labels)
    np.testing.assert_array_equal(biased[1], images[1])
    field = biased[0] / images[0]
    assert field.std() > 0.01
    assert np.abs(np.diff(field, axis=0)).max() < 0.1


@pytest.mark.parametrize('name', ['motion', 'ghosting', 'spike'])
def test_artefacts_change_the_image_but_not_its_size(anatomy, name):
    low = anatomy[0][0][:, :, ::3] + 1
    rng = np.random.default_rng(3)
    spoilt = add_artefacts(changes(artefacts=(name,)), low, (0.8, 0.8, 2.4), 2, rng)
    assert spoilt.shape == low.shape
    assert spoilt.dtype == np.float32
    assert np.isfinite(spoilt).all()
    assert 0.005 < np.abs(spoilt - low).mean() < 0.5


def test_same_seed_same_bytes_and_torch_is_left_alone(anatomy):
    images, labels = anatomy
    everything = changes(shape=('affine', 'elastic'), bias_field=True)
    torch.manual_seed(5)
    expected_state = torch.get_rng_state()
    results = []
    for draws in (0, 7):
        torch.rand(draws)  # the state of the caller must not matter
        rng = np.random.default_rng(11)
        moved, shares = deform(everything, images, labels, SPACING, rng)
        low = add_artefacts(
            changes(artefacts=('motion', 'ghosting', 'spike')), moved[0], SPACING, 2, rng
        )
        results.append((moved, shares, low))
    for first, second in zip(*results, strict=True):
        np.testing.assert_array_equal(first, second)
    torch.manual_seed(5)
    rng = np.random.default_rng(12)
    other, _ = deform(everything, images, labels, SPACING, rng)
    assert torch.equal(torch.get_rng_state(), expected_state)
    assert np.abs(other - results[0][0]).max() > 0.01


@pytest.mark.parametrize('value', [0.0, 0.7])
def test_constant_patch_never_gives_nan(value):
    images = np.full((2, 24, 24, 24), value, np.float32)
    labels = np.zeros((1, 24, 24, 24), np.float32)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        all_of_it = changes(
            power=0.5,
            noise=0.03,
            shape=('affine', 'elastic'),
            bias_field=True,
            artefacts=('motion', 'ghosting', 'spike'),
        )
        moved, shares = deform(all_of_it, images, labels, SPACING, rng)
        low = add_artefacts(all_of_it, change_contrast(all_of_it, moved[0]), SPACING, 2, rng)
        low = add_noise(all_of_it, low, 1.0, rng)
        for part in (moved, shares, low):
            assert np.isfinite(part).all()


def test_probabilities_are_met():
    wanted = {'affine': 0.2, 'elastic': 0.4, 'bias_field': 0.6, 'motion': 0.1, 'spike': 0.9}
    rng = np.random.default_rng(0)
    counts = dict.fromkeys(wanted, 0)
    for _ in range(2000):
        drawn = draw_changes(Augmentation(**wanted), rng)
        happened = {*drawn.shape, *drawn.artefacts, *(['bias_field'] if drawn.bias_field else [])}
        for name in happened:
            counts[name] += 1
    for name, share in wanted.items():
        assert counts[name] / 2000 == pytest.approx(share, abs=0.04)


def test_every_axis_is_flipped_half_of_the_time():
    rng = np.random.default_rng(0)
    drawn = [draw_changes(Augmentation(flips=True), rng).flipped for _ in range(1000)]
    assert len(set(drawn)) == 8
    for axis in range(3):
        assert sum(axis in flipped for flipped in drawn) / 1000 == pytest.approx(0.5, abs=0.05)
    assert draw_changes(Augmentation(), rng).flipped == ()


@pytest.mark.parametrize('field', [f for f in fields(Augmentation) if f.name != 'flips'])
def test_numbers_out_of_range_are_refused(field):
    with pytest.raises(ValueError, match=field.name):
        Augmentation(**{field.name: -0.1})
