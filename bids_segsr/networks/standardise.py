"""Normalisation of intensities, one definition for training and inference.

Instance normalisation removes the amplitude of an image inside the generator, so a network that is
to serve any contrast sees every patch with mean 0 and standard deviation 1, or intensities
relative to those of the whole brain, which tell tissues apart wherever the patch lies.
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from bids_segsr.exceptions import UserError
from bids_segsr.extensions import load_extension


def volume_scale(volume: np.ndarray | Tensor, normalisation: str) -> float:
    """Find what a volume is divided by.

    Args:
        volume: Intensities (X, Y, Z), 0 outside the brain.
        normalisation: A key of `zoo.card.NORMALISATIONS`, or what another package brings
            (`bids_segsr.extensions`); 'patch-standard', which is for patches alone, gives the
            maximum.

    Returns:
        A positive number; 1 where no voxel is above 0.

    Raises:
        UserError: Another package brings it, and gives no positive number.
    """
    if normalisation not in ('volume-max', 'volume-mean', 'patch-standard'):
        return _scale_by(normalisation, volume)
    above = volume[volume > 0]
    if not len(above):
        return 1.0
    return float(above.mean() if normalisation == 'volume-mean' else above.max())


def _scale_by(normalisation: str, volume: np.ndarray | Tensor) -> float:
    find = load_extension('normalisations', normalisation)
    if find is None:
        raise UserError(
            f'normalisation {normalisation}: not there; install the package that brings it.'
        )
    if isinstance(volume, Tensor):
        volume = volume.cpu().numpy()
    scale = float(find(volume))
    if not 0 < scale < math.inf:
        raise UserError(
            f'normalisation {normalisation}: gives {scale:g}, not a positive number; mend the '
            'package that brings it.'
        )
    return scale


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
