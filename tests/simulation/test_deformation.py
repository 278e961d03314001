"""Boxes of a brain, turned, scaled and bent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from simulation_phantoms import plain_recipe

from bids_segsr.simulation import deformation
from bids_segsr.simulation.deformation import _interpolate, sample_anatomy
from bids_segsr.simulation.synthesis import brain_of
from bids_segsr.simulation.tables import (
    OUTSIDE,
    TISSUES,
    Deformation,
)


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


def test_interpolation_is_that_of_scipy(monkeypatch):
    monkeypatch.setattr(deformation, 'AT_ONCE', 100)
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 7, 8, 9)).astype(np.float32)
    at = rng.uniform(-2, 10, (3, 5, 6, 11)).astype(np.float32)
    found = _interpolate(
        torch.from_numpy(values.reshape(3, -1).T.copy()), (7, 8, 9), torch.from_numpy(at)
    )
    expected = [ndimage.map_coordinates(each, at, order=1, mode='nearest') for each in values]
    np.testing.assert_allclose(found, expected, atol=0.01)
