"""Slice profiles: how much each position across a slice weighs."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from bids_segsr.exceptions import UserError
from bids_segsr.imaging.resample import FWHM_PER_SIGMA

GAUSSIAN_REACH = 4.0
"""Standard deviations at which a Gaussian profile is cut off."""


def profile_samples(profile: str, thickness: float, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Return positions across a slice and their weights.

    Args:
        profile: 'gaussian', 'box', or the path of a measured profile (see `read_profile`).
        thickness: Full width at half maximum in mm; a measured profile has its own.
        step: Largest distance of the positions in mm.

    Returns:
        Offsets from the centre of mass of the slice in mm, equidistant (the middles of intervals
        that cover the profile), and weights that sum to one.

    Raises:
        UserError: A measured profile cannot be read.
    """
    if profile == 'gaussian':
        sigma = thickness / FWHM_PER_SIGMA
        offsets = _middles(-GAUSSIAN_REACH * sigma, GAUSSIAN_REACH * sigma, step)
        weights = np.exp(-(offsets**2) / (2 * sigma**2))
    elif profile == 'box':
        offsets = _middles(-thickness / 2, thickness / 2, step)
        weights = np.ones_like(offsets)
    else:
        positions, measured = read_profile(profile)
        offsets = _middles(positions[0], positions[-1], step)
        weights = np.interp(offsets, positions, measured)
    weights = weights / weights.sum()
    # a slice lies where its signal comes from
    return offsets - weights @ offsets, weights


@lru_cache
def read_profile(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a measured slice profile.

    Args:
        path: Text file of two columns (blanks or a comma between them, `#` for remarks):
            position in mm, ascending, and weight, at least 0.

    Returns:
        Positions and weights, a value a line.

    Raises:
        UserError: The file cannot be read or holds something else.
    """
    try:
        text = Path(path).read_text(encoding='utf-8').replace(',', ' ')
        table = np.loadtxt(text.splitlines(), ndmin=2)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UserError(
            f'{path}: not readable as a slice profile ({" ".join(str(error).split())}); give '
            "'gaussian', 'box' or a text file of two columns (mm, weight)."
        ) from None
    if table.ndim != 2 or table.shape[0] < 3 or table.shape[1] != 2:
        raise UserError(f'{path}: a slice profile needs two columns (mm, weight), three lines.')
    positions, weights = table.T
    if not (np.diff(positions) > 0).all() or (weights < 0).any() or not weights[1:-1].any():
        raise UserError(
            f'{path}: a slice profile needs ascending mm and weights that are not < 0.'
        )
    return positions, weights


def profile_width(profile: str, thickness: float) -> float:
    """Return the full width at half maximum in mm of a profile.

    Args:
        profile: As for `profile_samples`.
        thickness: That of a Gaussian or a box, in mm.
    """
    if profile in ('gaussian', 'box'):
        return thickness
    positions, weights = read_profile(profile)
    fine = np.linspace(positions[0], positions[-1], 2001)
    above = fine[np.interp(fine, positions, weights) >= weights.max() / 2]
    return float(above[-1] - above[0])


def _middles(low: float, high: float, step: float) -> np.ndarray:
    count = max(int(np.ceil((high - low) / step)), 1)
    return low + (np.arange(count) + 0.5) * (high - low) / count
