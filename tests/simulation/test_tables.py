"""Tissues, contrasts and classes."""

from __future__ import annotations

import pytest

from bids_segsr.simulation.tables import CLASSES, CONTRASTS, LABELLINGS, PRIORS, TISSUES


def test_every_tissue_belongs_to_one_class():
    members = [tissue for tissues in CLASSES.values() for tissue in tissues]
    assert sorted(members) == sorted(TISSUES)


def test_every_contrast_has_a_level_of_each_tissue_between_0_and_1() -> None:
    for name, levels in CONTRASTS.items():
        assert set(levels) == set(TISSUES), name
        assert levels['background'] == 0
        assert all(0 < levels[tissue] <= 1 for tissue in TISSUES[1:])


def test_labellings_use_each_number_once_and_priors_are_shares_of_contrasts() -> None:
    for labelling, table in LABELLINGS.items():
        assert table.keys() <= set(TISSUES)
        numbers = [number for group in table.values() for number in group]
        assert len(numbers) == len(set(numbers))
        assert PRIORS[labelling].keys() <= CONTRASTS.keys()
        assert sum(PRIORS[labelling].values()) == pytest.approx(1)


def test_newborns_are_painted_as_measured():
    """Cores of tissues of six newborns near term in T2w, over that of white matter (1.11)."""
    levels = CONTRASTS['newborn-T2w']
    for tissue, measured in (
        ('csf', 1.80),
        ('ventricles', 2.23),
        ('deep-grey', 0.75),
        ('hippocampus', 0.84),
        ('brainstem', 0.66),
    ):
        assert levels[tissue] / levels['white'] == pytest.approx(measured / 1.11, rel=0.04)
    # white matter just below the cortex is 1.38 to 1.60 times as bright
    assert 1.38 < levels['white'] / levels['cortex'] < 1.60
