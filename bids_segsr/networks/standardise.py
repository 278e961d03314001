"""Normalisation of intensities, one definition for training and inference.

Instance normalisation removes the amplitude of an image inside the generator, so a network that is
to serve any contrast sees every patch with mean 0 and standard deviation 1, or intensities
relative to those of the whole brain, which tell tissues apart wherever the patch lies.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor


def volume_scale(volume: np.ndarray | Tensor, normalisation: str) -> float:
    """Find what a volume is divided by.

    Args:
        volume: Intensities (X, Y, Z), 0 outside the brain.
        normalisation: A key of `zoo.card.NORMALISATIONS`; 'patch-standard', which is for patches
            alone, gives the maximum.

    Returns:
        A positive number; 1 where no voxel is above 0.
    """
    above = volume[volume > 0]
    if not len(above):
        return 1.0
    return float(above.mean() if normalisation == 'volume-mean' else above.max())


def standardise(patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Shift and scale each channel of each patch to mean 0 and standard deviation 1.

    Args:
        patches: Intensities, (B, C, X, Y, Z), any unit.

    Returns:
        Standardised patches of the same shape, and their means and standard deviations,
        (B, C, 1, 1, 1). A constant patch becomes 0 and has the standard deviation 1.
    """
    mean = patches.mean(dim=(2, 3, 4), keepdim=True)
    sd = patches.std(dim=(2, 3, 4), correction=0, keepdim=True)
    # Rounding alone leaves about 1e-7 of the magnitude: below that there is nothing to scale.
    sd = sd.where(sd > 1e-6 * mean.abs(), sd.new_ones(()))
    return (patches - mean) / sd, mean, sd


def restore(intensities: Tensor, mean: Tensor, sd: Tensor) -> Tensor:
    """Undo `standardise`.

    Args:
        intensities: Standardised intensities, (B, 1, X, Y, Z).
        mean: Means of the patches, (B, 1, 1, 1, 1).
        sd: Their standard deviations, (B, 1, 1, 1, 1).

    Returns:
        Intensities in the unit of the patches, (B, 1, X, Y, Z).
    """
    return intensities * sd + mean
