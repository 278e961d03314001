"""Thick slices, as they are drawn and disturbed."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import binary_erosion
from simulation_phantoms import plain_recipe, sample_of

from bids_segsr.imaging.back_projection import Slices, back_projection_alone, surroundings
from bids_segsr.imaging.degrade import degrade, thick_slice_grid
from bids_segsr.imaging.measures.metrics import psnr
from bids_segsr.simulation.tables import (
    AcquisitionRanges,
)
from bids_segsr.simulation.thick_slices import BackProjection, Stack, acquire, draw_stack


def test_blur_runs_along_the_last_axis(anatomy):
    def roughness(image, inside, axis):
        difference = np.diff(image, axis=axis)[tuple(slice(n) for n in inside.shape)]
        return np.square(difference)[inside].mean()

    lost = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        sample = sample_of(anatomy, (40, 40, 36), plain_recipe(), rng, 'adult-T1w')
        inside = binary_erosion(sample.brain, iterations=2)[1:, 1:, 1:]
        seen, true = (
            np.array([roughness(image, inside, axis) for axis in range(3)])
            for image in (sample.image, sample.truth)
        )
        lost.append(1 - seen / true)
    lost = np.mean(lost, axis=0)
    assert lost[2] > 0.15
    assert lost[2] > 1.5 * max(lost[:2])


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


def test_back_projection_of_samples_is_that_of_predictions():
    """Whatever surrounds the brain: the numbers of `back_projection_alone`."""
    shape, ratio = (48, 48, 48), 3.0
    apart = np.indices(shape) - 23.5
    brain = (apart**2).sum(0) < 20**2
    inner = np.random.default_rng(0).uniform(0.5, 1, shape)
    for around, stripped, expected in (
        (0.0, False, 'nothing'),
        (0.7, False, 'scan'),
        (0.7, True, 'cut away'),
    ):
        truth = torch.from_numpy(np.where(brain, inner, around).astype(np.float32))
        stack = Stack(ratio, ratio, stripped=stripped)
        image, mask = acquire(
            truth,
            torch.from_numpy(brain),
            stack,
            np.random.default_rng(0),
            BackProjection(0.5, 5),
        )
        grid = thick_slice_grid(shape, np.eye(4), ratio, 2)
        low = degrade(truth.numpy(), np.eye(4), grid)
        filled = degrade(brain.astype(np.float32), np.eye(4), grid)
        low = np.where((filled > 0.5) | (not stripped), low, 0).astype(np.float32)
        scan = Slices(low, grid.affine, np.eye(4))
        seen = degrade(mask.numpy().astype(np.float32), np.eye(4), grid)
        assert surroundings(low, seen) == expected
        wanted = back_projection_alone(scan, mask.numpy())
        np.testing.assert_allclose(image.numpy(), wanted, rtol=0, atol=5e-3)


def test_what_was_taken_away_has_no_noise():
    apart = np.indices((48, 48, 48)) - 23.5
    distance = np.sqrt((apart**2).sum(0))
    brain = torch.from_numpy(distance < 12)
    rng = np.random.default_rng(0)
    image, _ = acquire(brain.float(), None, Stack(3.0, 3.0, noise=0.05), rng)
    assert image[distance > 20].std() > 0.02
    loose = torch.from_numpy(distance < 23)
    image, mask = acquire(brain.float(), loose, Stack(3.0, 3.0, noise=0.05), rng)
    beyond = mask.numpy() & (distance > 20)
    assert beyond.any()
    assert np.abs(image.numpy()[beyond]).max() < 0.02


def test_some_slices_are_stripped():
    rng = np.random.default_rng(0)
    drawn = [draw_stack(AcquisitionRanges(stripped_share=0.3), rng).stripped for _ in range(400)]
    assert 0.2 < np.mean(drawn) < 0.4
