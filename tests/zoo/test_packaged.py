"""What every packaged pair must hold to, on phantoms."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from geometry_phantoms import laid
from scipy.ndimage import gaussian_filter

from bids_segsr.inference.predict import predict
from bids_segsr.inference.processing import Processing
from bids_segsr.zoo.find import load_model

WHOLE = Processing(patch_size=0, device='cpu')


def folded_ball(dark: float, bright: float, outside: float) -> np.ndarray:
    """White matter in a folded cortex in CSF, 56 voxels wide; nothing in it repeats every two."""
    x, y, z = (axis - 31.37 for axis in np.indices((64, 64, 64)))
    folds = 1.2 * np.sin(x / 3.1) * np.sin(y / 2.7) * np.sin(z / 3.3)
    radius = np.sqrt(x**2 + y**2 + z**2) + folds
    levels = (bright, dark, outside, 0.0)
    tissue = np.select([radius < 20, radius < 23.5, radius < 28], levels[:3], levels[3])
    image = np.asarray(gaussian_filter(tissue, (0.8, 0.8, 1.3)), np.float32)
    return np.where(radius < 28, image, np.float32(0))


def between_over_within(probability: np.ndarray) -> list[float]:
    """Changes between blocks of two voxels over those within, along each axis; 1 or more."""
    ratios = []
    for axis in range(3):
        steps = np.moveaxis(np.abs(np.diff(probability, axis=axis)), axis, 0)
        ratios.append(float(np.exp(np.abs(np.log(steps[1::2].mean() / steps[::2].mean())))))
    return ratios


@pytest.mark.parametrize('name', ['tissue-unet', 'tissue-unet-newborn', 'tissue-unet-newborn-t1w'])
def test_probabilities_show_no_checkerboard(name: str) -> None:
    model = load_model(name)
    levels = (0.6, 0.9, 0.2) if 'T1w' in model.card.contract.modalities else (0.37, 0.58, 0.9)
    scan = laid(folded_ball(*levels), 2)
    found = {}
    for mirrored in (False, model.card.contract.mirrored):
        contract = dataclasses.replace(
            model.card.contract, mirrored=mirrored, back_projection_steps=0
        )
        looks = dataclasses.replace(model, card=dataclasses.replace(model.card, contract=contract))
        made = predict(looks, scan.data, scan, mask=scan.data > 0, processing=WHOLE)
        found[mirrored] = between_over_within(made.probabilities[0])
    assert max(found[True]) < 1.05
    # what the mirror image is looked at for
    assert max(found[False]) > 1.1
