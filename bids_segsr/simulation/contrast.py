"""Intensities of tissues: what sequences and ages make of them, and random ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bids_segsr.simulation.deformation import AnatomySample, smooth_field
from bids_segsr.simulation.tables import (
    CONTRASTS,
    OUTSIDE,
    PRIORS,
    TISSUES,
    Appearance,
)

_CSF = ('csf', 'ventricles')
_WHITE = ('white', 'cerebellum-white')


@dataclass(frozen=True)
class Contrast:
    """Intensities of one subject.

    Attributes:
        levels: Tissue name to intensity.
        young: Whether it is that of a newborn or a fetus.
        myelination: Relative change of white matter next to deep grey matter.
        crossroads: Relative change of white matter at the frontal and occipital ends.
    """

    levels: Mapping[str, float]
    young: bool = False
    myelination: float = 0.0
    crossroads: float = 0.0


def draw_contrast(
    labelling: str, appearance: Appearance, rng: np.random.Generator, name: str | None = None
) -> Contrast:
    """Draw the intensity of every tissue.

    Args:
        labelling: Key of LABELLINGS: which priors suit.
        appearance: How much is random.
        rng: Source of random numbers.
        name: Key of CONTRASTS; drawn by what suits the labelling where it is None.

    Returns:
        Intensities, background 0, all others at least 0.02.
    """
    if name is None and rng.random() < appearance.random_share:
        drawn = rng.uniform(0.05, 1.0, len(TISSUES)).tolist()
        random = dict(zip(TISSUES, drawn, strict=True))
        return Contrast({**random, 'background': 0.0})
    if name is None and appearance.contrasts:
        name = str(rng.choice(appearance.contrasts))
    if name is None:
        priors = PRIORS[labelling]
        name = str(rng.choice(list(priors), p=list(priors.values())))
    levels = {}
    for tissue, level in CONTRASTS[name].items():
        jitter = appearance.csf_jitter if tissue in _CSF else appearance.jitter
        levels[tissue] = max(0.02, level + rng.normal(0, jitter))
    # What lies outside the brain differs from scan to scan by more than the brain does.
    for tissue in TISSUES[1:OUTSIDE]:
        levels[tissue] = float(rng.uniform(0.05, 1.0))
    levels['background'] = 0.0
    if not name.startswith(('newborn', 'fetal')):
        return Contrast(levels)
    sign = -1.0 if name.endswith('T1w') else 1.0
    return Contrast(
        levels,
        young=True,
        myelination=-sign * rng.uniform(*appearance.myelination),
        crossroads=sign * rng.uniform(*appearance.crossroads),
    )


def paint(
    fractions: np.ndarray | Tensor, levels: Mapping[str, float], rim: bool = False
) -> np.ndarray:
    """Mix the intensities of the tissues.

    Args:
        fractions: (tissues, i, j, k), in the order of TISSUES; uint8 with 255 for one, or float.
        levels: Intensity of every tissue.
        rim: Paint what surrounds the brain as well.

    Returns:
        Image (i, j, k) float32.
    """
    fractions = torch.as_tensor(fractions)
    one = 255 if fractions.dtype == torch.uint8 else 1
    image = torch.zeros(fractions.shape[1:])
    for weight, fraction in zip(_shown(levels, rim), fractions, strict=True):
        image.add_(fraction, alpha=weight / one)
    return image.numpy()


def paint_sample(
    sample: AnatomySample,
    contrast: Contrast,
    appearance: Appearance,
    rng: np.random.Generator,
    rim: bool,
) -> Tensor:
    """Paint a fine image: tissues, sulci full of CSF, white matter that is not one level, texture.

    Args:
        sample: The subject.
        contrast: Intensity of every tissue.
        appearance: How much is random.
        rng: Source of random numbers.
        rim: Paint what surrounds the brain as well.

    Returns:
        float32 image (i, j, k).
    """
    fractions = sample.fractions
    shape, device = tuple(fractions.shape[1:]), fractions.device
    white = 1 + contrast.myelination * sample.deep_nearness
    white = white * (1 + contrast.crossroads * sample.frontal_occipital**2)
    csf = 1 + smooth_field(shape, 3, rng.uniform(*appearance.csf_texture), rng, device)
    csf = csf.clamp(min=0.1)
    # apart what varies from place to place
    fluid, myelin = (torch.tensor([name in kind for name in TISSUES]) for kind in (_CSF, _WHITE))
    groups = torch.tensor(_shown(contrast.levels, rim)) * torch.stack(
        [~(fluid | myelin), fluid, myelin]
    )
    plain, in_csf, in_white = torch.tensordot(groups.to(device), fractions, 1)
    image = plain + in_csf * csf + in_white * white
    width = rng.uniform(*appearance.variation_width)
    varied = smooth_field(shape, width, rng.uniform(*appearance.variation), rng, device)
    return add_texture_and_bias(image * (1 + varied).clamp(min=0.1), appearance, rng)


def _shown(levels: Mapping[str, float], rim: bool) -> list[float]:
    """Return the intensity of every tissue, in the order of TISSUES; 0 for what is not painted."""
    return [levels[name] if rim or n >= OUTSIDE else 0.0 for n, name in enumerate(TISSUES)]


def vary_real(image: Tensor, appearance: Appearance, rng: np.random.Generator) -> Tensor:
    """Change the contrast of a real image by a power, now and then also its sign.

    Args:
        image: (i, j, k), values of about 0 to 1.
        appearance: How much is random.
        rng: Source of random numbers.

    Returns:
        float32 image, not negative.
    """
    varied = image.clamp(min=0) ** float(np.exp(rng.normal(0, appearance.gamma)))
    if rng.random() < appearance.random_share:
        varied = torch.where(image > 0.02, (1.1 - varied).clamp(min=0), varied)
    return varied


def add_texture_and_bias(
    image: Tensor, appearance: Appearance, rng: np.random.Generator
) -> Tensor:
    """Multiply an image by a fine and by a slowly varying random field.

    Args:
        image: (i, j, k) float32.
        appearance: How much is random.
        rng: Source of random numbers.

    Returns:
        float32 image.
    """
    shape, device = tuple(image.shape), image.device
    texture = smooth_field(shape, 4, rng.uniform(*appearance.texture), rng, device)
    bias = smooth_field(shape, 60, rng.uniform(*appearance.bias), rng, device)
    return image * (1 + texture) * bias.exp()
