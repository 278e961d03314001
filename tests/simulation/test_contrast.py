"""Intensities of tissues."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from simulation_phantoms import plain_recipe

from bids_segsr.simulation.contrast import Contrast, draw_contrast, paint, paint_sample
from bids_segsr.simulation.deformation import sample_anatomy
from bids_segsr.simulation.tables import (
    CONTRASTS,
    OUTSIDE,
    TISSUES,
    Appearance,
)


def test_painted_tissues_have_their_intensity(anatomy):
    levels = CONTRASTS['adult-T1w']
    image = paint(anatomy.fractions, levels)
    white = anatomy.fractions[TISSUES.index('white')] == 255
    assert image[white].mean() == pytest.approx(levels['white'], rel=1e-3)
    np.testing.assert_allclose(paint(anatomy.fractions / 255, levels), image, atol=1e-6)
    outside = anatomy.fractions[TISSUES.index('surround')] == 255
    assert not image[outside].any()
    assert paint(anatomy.fractions, levels, rim=True)[outside].min() > 0


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
    assert all(c.young and -0.4 <= c.myelination < 0 for c in drawn)
    with pytest.raises(ValueError, match='newborn-PDw is unknown'):
        Appearance(contrasts=('newborn-PDw',))


def test_random_contrasts_are_painted_in_single_precision(anatomy):
    sample = sample_anatomy(
        anatomy, (32, 32, 32), plain_recipe().deformation, np.random.default_rng(0)
    )
    contrast = draw_contrast('adult', Appearance(random_share=1), np.random.default_rng(0))
    image = paint_sample(sample, contrast, Appearance(), np.random.default_rng(0), True)
    assert image.dtype == torch.float32
    assert image.max() > 0
