"""One step of back-projection: what the acquired slices show and a fine image lacks is put back.

Irani and Peleg (CVGIP: Graphical Models and Image Processing, 1991); after a learnt image, Yang et
al. (IEEE Transactions on Image Processing, 2010).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bids_segsr.imaging.degrade import degrade
from bids_segsr.imaging.resample import Grid, resample


@dataclass(frozen=True)
class Slices:
    """A scan, and how a fine image of it lies.

    Attributes:
        data: Acquired slices, bias-corrected as the fine image is; what surrounds the brain is in
            them.
        affine: Their voxels to RAS+ mm (4 x 4).
        fine_affine: Voxels of the fine image to RAS+ mm (4 x 4).
        thickness: FWHM of the slice profile in mm; None for the distance of the slices.
    """

    data: np.ndarray
    affine: np.ndarray
    fine_affine: np.ndarray
    thickness: float | None = None


def back_project(fine: np.ndarray, mask: np.ndarray, slices: Slices, share: float) -> np.ndarray:
    """Bring a fine image closer to the slices that it was made from.

    X + share S (Y - D X): D is the forward model (`degrade`), S the cubic B-spline interpolation.
    A share below one leaves a part of the noise of the slices out. Outside of the mask, X is the
    interpolated scan, so that the partial volume of the outermost voxels is no difference.

    Args:
        fine: Restored image (X, Y, Z).
        mask: Boolean array of its shape: where it is one.
        slices: What it was made from.
        share: Of the difference, 0 (nothing happens) to 1.

    Returns:
        float32 array, 0 outside the mask.
    """
    i, j, k = fine.shape
    grid = Grid((i, j, k), slices.fine_affine)
    whole = np.where(mask, fine, resample(slices.data, slices.affine, grid))
    a, b, c = slices.data.shape
    seen = degrade(whole, grid.affine, Grid((a, b, c), slices.affine), slices.thickness)
    lacking = resample(slices.data - seen, slices.affine, grid)
    return np.where(mask, fine + np.float32(share) * lacking, np.float32(0))
