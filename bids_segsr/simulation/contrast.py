"""Intensities of tissues: what sequences and ages make of them, and random ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bids_segsr.simulation.anatomy import OUTSIDE, TISSUES, smooth_field

_INNER = TISSUES[OUTSIDE:]

CONTRASTS: dict[str, dict[str, float]] = {
    name: {
        'background': 0.0,
        'surround': surround,
        'outer-soft': soft,
        'outer-bright': bright,
        'outer-dark': dark,
        **dict(zip(_INNER, levels, strict=True)),
    }
    for name, (surround, soft, bright, dark, *levels) in {
        # Outside the brain; then csf, ventricles, cortex, white, deep grey, hippocampus,
        # cerebellar grey and white, brainstem.
        'adult-T1w': (
            *(0.45, 0.40, 0.85, 0.15),
            *(0.17, 0.14, 0.58, 0.92, 0.72, 0.60, 0.58, 0.88, 0.84),
        ),
        'adult-T2w': (
            *(0.40, 0.35, 0.60, 0.12),
            *(0.95, 1.00, 0.56, 0.38, 0.42, 0.58, 0.55, 0.40, 0.40),
        ),
        'adult-FLAIR': (
            *(0.45, 0.40, 0.60, 0.15),
            *(0.15, 0.12, 0.75, 0.58, 0.66, 0.78, 0.72, 0.58, 0.58),
        ),
        'newborn-T2w': (
            *(0.45, 0.35, 0.60, 0.20),
            *(1.00, 0.97, 0.48, 0.76, 0.48, 0.52, 0.44, 0.55, 0.46),
        ),
        'newborn-T1w': (
            *(0.45, 0.40, 0.80, 0.20),
            *(0.20, 0.18, 0.68, 0.48, 0.68, 0.66, 0.66, 0.70, 0.70),
        ),
    }.items()
}
"""Intensity of each tissue, typical of a sequence and an age; relative units."""

_PRIORS = {
    'adult': {
        'adult-T1w': 0.34,
        'adult-T2w': 0.34,
        'adult-FLAIR': 0.08,
        'newborn-T2w': 0.17,
        'newborn-T1w': 0.07,
    },
    'fetal': {'newborn-T2w': 0.75, 'newborn-T1w': 0.13, 'adult-T2w': 0.12},
}


@dataclass(frozen=True)
class Appearance:
    """How tissues look; each range is drawn uniformly.

    Attributes:
        random_share: Share of samples whose tissue intensities are all random.
        jitter: Standard deviation added to each prior intensity.
        texture: Standard deviation of the smooth texture. It is kept low: fine independent
            texture is lost in the slices and would only hide what can be learnt.
        bias: Standard deviation of the logarithm of the bias field.
        gamma: Standard deviation of the logarithm of the exponent of real images.
        rim_share: Share of samples with surroundings, which blur into the brain before it is
            masked; the others were masked before.
        loose_share: Share of samples whose mask leaves a rim of the surroundings.
        skull_share: Share of samples that are not masked at all.
    """

    random_share: float = 0.08
    jitter: float = 0.05
    texture: tuple[float, float] = (0.0, 0.03)
    bias: tuple[float, float] = (0.0, 0.12)
    gamma: float = 0.2
    rim_share: float = 0.5
    loose_share: float = 0.1
    skull_share: float = 0.1


def draw_contrast(
    labelling: str, appearance: Appearance, rng: np.random.Generator
) -> dict[str, float]:
    """Draw the intensity of every tissue.

    Args:
        labelling: Key of LABELLINGS: which priors suit.
        appearance: How much is random.
        rng: Source of random numbers.

    Returns:
        Tissue name to intensity, background 0, all others at least 0.02.
    """
    if rng.random() < appearance.random_share:
        levels = dict(zip(TISSUES, rng.uniform(0.05, 1.0, len(TISSUES)), strict=True))
    else:
        priors = _PRIORS[labelling]
        name = rng.choice(list(priors), p=list(priors.values()))
        levels = {
            tissue: max(0.02, level + rng.normal(0, appearance.jitter))
            for tissue, level in CONTRASTS[name].items()
        }
        # What lies outside the brain differs from scan to scan by more than the brain does.
        for tissue in TISSUES[1:OUTSIDE]:
            levels[tissue] = float(rng.uniform(0.05, 1.0))
    levels['background'] = 0.0
    return levels


def paint(fractions: np.ndarray, levels: Mapping[str, float], rim: bool = False) -> np.ndarray:
    """Mix the intensities of the tissues.

    Args:
        fractions: (tissues, i, j, k), in the order of TISSUES; uint8 with 255 for one, or float.
        levels: Intensity of every tissue.
        rim: Paint what surrounds the brain as well.

    Returns:
        Image (i, j, k) float32.
    """
    weights = np.array([levels[name] for name in TISSUES], np.float32)
    if not rim:
        weights[:OUTSIDE] = 0
    if fractions.dtype == np.uint8:
        weights /= 255
    image = np.zeros(fractions.shape[1:], np.float32)
    for weight, fraction in zip(weights, fractions, strict=True):
        if weight:
            image += weight * fraction
    return image


def vary_real(image: np.ndarray, appearance: Appearance, rng: np.random.Generator) -> np.ndarray:
    """Change the contrast of a real image by a power, now and then also its sign.

    Args:
        image: (i, j, k), values of about 0 to 1.
        appearance: How much is random.
        rng: Source of random numbers.

    Returns:
        float32 image, not negative.
    """
    varied = np.maximum(image, 0) ** np.float32(np.exp(rng.normal(0, appearance.gamma)))
    if rng.random() < appearance.random_share:
        varied = np.where(image > 0.02, np.maximum(1.1 - varied, 0), varied)
    return varied.astype(np.float32)


def add_texture_and_bias(
    image: np.ndarray, appearance: Appearance, rng: np.random.Generator
) -> np.ndarray:
    """Multiply an image by a fine and by a slowly varying random field.

    Args:
        image: (i, j, k) float32.
        appearance: How much is random.
        rng: Source of random numbers.

    Returns:
        float32 image.
    """
    texture = smooth_field(image.shape, 4, rng.uniform(*appearance.texture), rng)
    bias = smooth_field(image.shape, 60, rng.uniform(*appearance.bias), rng)
    return image * (1 + texture) * np.exp(bias)
