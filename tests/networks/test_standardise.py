"""Patches and volumes on one scale of intensities."""

from __future__ import annotations

import pytest
import torch

from bids_segsr.networks.standardise import restore, standardise


def test_standardise_and_restore():
    x = torch.randn(3, 1, 8, 8, 8) * torch.tensor([0.1, 5, 300]).view(3, 1, 1, 1, 1) + 40
    scaled, mean, sd = standardise(x)
    for patch in scaled:
        assert patch.mean().item() == pytest.approx(0, abs=1e-4)
        assert patch.std(correction=0).item() == pytest.approx(1, rel=1e-4)
    torch.testing.assert_close(restore(scaled, mean, sd), x, rtol=1e-4, atol=1e-4)


def test_standardise_leaves_a_constant_patch_at_zero():
    scaled, mean, sd = standardise(torch.full((1, 1, 8, 8, 8), 1234.567))
    assert sd.item() == 1
    torch.testing.assert_close(restore(scaled, mean, sd), torch.full((1, 1, 8, 8, 8), 1234.567))
