"""N4 bias field correction (Tustison et al. 2010)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from bids_segsr.environment import itk_threads
from bids_segsr.imaging.conform import slice_axis, spacing_of
from bids_segsr.imaging.resample import from_sitk, to_sitk

IN_PLANE_SHRINK = 4
IN_PLANE_MM = 3.0
"""To which voxels are shrunk where `IN_PLANE_SHRINK` would leave finer ones."""
ITERATIONS = (50, 50, 50, 50)

THREADS = 2
"""Of the fit, on any machine: its last digits follow from their number. Four take longer on two
cores."""

SPACING_DIGITS = 4
"""Decimals of the voxel sizes in mm that N4 is told.

It is told no position and no direction, on which no field depends either: ITK's fit can take
another path for the seventh digit of an affine, such as that of a header in single precision, to a
field that differed by 20 % in a phantom.
"""


def correct_bias_field(
    data: np.ndarray,
    affine: np.ndarray,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Divide an image by its smooth multiplicative bias field; see `bias_field`.

    Returns:
        float32 array; the mean inside the mask stays as it was.
    """
    data = np.asarray(data, dtype=np.float32)
    return data / bias_field(data, affine, mask)


def bias_field(
    data: np.ndarray,
    affine: np.ndarray,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Find the smooth multiplicative bias field of an image.

    The field is fitted by SimpleITK's N4 on every fourth voxel in plane and on every slice: the
    through-plane axis of a thick-slice scan is coarse already. On real scans
    (`benchmarks/bias_field.py`) this flattens as well as every second voxel in plane at a third to
    an eighth of the time, and better than ANTsPy's defaults, which shrink the thick axis too, on
    four of five scans in about the same time. Voxels of half a millimetre are shrunk to 3 mm: as
    flat again, at 0.4 of the time.

    Args:
        data: Image of three axes; voxels at or below zero are left out of the fit.
        affine: Voxel to RAS+ mm (4 x 4).
        mask: Where the field is fitted; by default Otsu's foreground.

    Returns:
        float32 array, scaled so that the mean of image over field inside the mask is that of the
        image.
    """
    spacing = np.round(spacing_of(affine), SPACING_DIGITS)
    place = np.diag([*spacing, 1.0])
    image = to_sitk(np.asarray(data, dtype=np.float32), place)
    foreground = _otsu_foreground(image) if mask is None else np.asarray(mask, dtype=bool)
    foreground = foreground & (data > 0)
    if not foreground.any():
        return np.ones(data.shape, dtype=np.float32)

    shrink = shrink_factors(data.shape, spacing.tolist())
    with itk_threads(THREADS):
        n4 = sitk.N4BiasFieldCorrectionImageFilter()
        n4.SetMaximumNumberOfIterations(ITERATIONS)
        n4.Execute(
            sitk.Shrink(image, shrink),
            sitk.Shrink(to_sitk(foreground.astype(np.uint8), place), shrink),
        )
        log_field, _ = from_sitk(n4.GetLogBiasFieldAsImage(image))
    field = np.exp(log_field)
    inside = data[foreground].astype(np.float64)
    field *= (inside / field[foreground]).mean() / inside.mean()
    return field.astype(np.float32)


def shrink_factors(shape: Sequence[int], spacing: Sequence[float]) -> list[int]:
    """Tell of how many voxels along each axis the fit takes one.

    Args:
        shape: Of the image; at least eight voxels are left of an axis that has them.
        spacing: mm.
    """
    wanted = [max(IN_PLANE_SHRINK, round(IN_PLANE_MM / mm)) for mm in spacing]
    factors = [min(factor, max(1, n // 8)) for factor, n in zip(wanted, shape, strict=True)]
    factors[slice_axis(spacing)] = 1
    return factors


def _otsu_foreground(image: sitk.Image) -> np.ndarray:
    return from_sitk(sitk.OtsuThreshold(image, 0, 1, 200))[0].astype(bool)
