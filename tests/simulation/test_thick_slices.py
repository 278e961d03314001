"""Thick slices, as they are drawn and disturbed."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_erosion
from simulation_phantoms import plain_recipe, sample_of

from bids_segsr.imaging.measures.metrics import psnr
from bids_segsr.simulation.tables import (
    AcquisitionRanges,
)
from bids_segsr.simulation.thick_slices import draw_stack


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
