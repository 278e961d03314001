"""A small scan and its brain, as the nodes of the graph find them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from geometry_phantoms import oblique_affine

from bids_segsr.imaging.volume import save_volume

AFFINE = oblique_affine((1.5, 1.5, 4.0), (7, -4, 11))


def _ball() -> np.ndarray:
    place = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in (24, 26, 12)), indexing='ij'))
    return (place**2).sum(0) < 0.7**2


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A stripped brain with a texture and a bias field along the first axis."""
    inside = _ball()
    texture = 400 + 100 * np.random.default_rng(0).random(inside.shape)
    field = np.linspace(0.8, 1.2, inside.shape[0])[:, None, None]
    return save_volume(
        tmp_path / 'sub-01_T2w.nii', (texture * field * inside).astype(np.float32), AFFINE
    )


@pytest.fixture
def brain(tmp_path: Path) -> Path:
    """A mask that leaves the first slices of the brain out."""
    inside = _ball()
    inside[..., :4] = False
    return save_volume(tmp_path / 'mask.nii', inside, AFFINE)
