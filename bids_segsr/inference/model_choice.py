"""Which packaged model suits a scan, where none is named: by its contrast and the person's age."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bids_segsr.bids.participants import Age
from bids_segsr.imaging.brain_mask import foreground_mask, is_skull_stripped
from bids_segsr.imaging.volume import Volume
from bids_segsr.zoo.find import AUTO_MODEL, DEFAULT_MODEL, NEWBORN_MODELS

NEWBORN_WEEKS = (34.0, 52.0)
"""Postmenstrual weeks at which white matter is brighter than the cortex in T2w and darker in T1w,
by little."""

NEWBORN_ML = (250.0, 700.0)
"""Inside the skull at these weeks (`participants.BRAIN_ML_BY_AGE`); nobody older has so little,
and few fetuses so much."""


@dataclass(frozen=True)
class Choice:
    """A model for a scan.

    Attributes:
        model: Name or path.
        reason: Why it was chosen, for a reader; empty where it was given.
    """

    model: str
    reason: str = ''


def choose_model(
    given: str, contrast: str | None, age: Age | None, brain_ml: Callable[[], float | None]
) -> Choice:
    """Choose the model of a scan.

    Args:
        given: `AUTO_MODEL`, or a name or path that is taken as it is.
        contrast: BIDS suffix of the scan, or None.
        age: Of the person in the scanner; None where it is not told.
        brain_ml: Measures the brain, which tells a newborn where no age does, or one that
            leaves it open (`known_brain_ml`).

    Returns:
        The model, and why.
    """
    if given != AUTO_MODEL:
        return Choice(given)
    if contrast not in NEWBORN_MODELS:
        return Choice(DEFAULT_MODEL, f'the one for {contrast or "an unknown contrast"}')
    newborn = NEWBORN_MODELS[contrast]
    first, last = NEWBORN_WEEKS
    fits = age is not None and first <= age.youngest and age.oldest <= last
    if age is not None and (fits or age.oldest < first or age.youngest > last):
        return Choice(newborn if fits else DEFAULT_MODEL, f'the one for {contrast} at {age.text}')
    doubt = 'no age is told' if age is None else f'{age.text} may be a newborn or not'
    if (volume := brain_ml()) is not None:
        fits = NEWBORN_ML[0] <= volume <= NEWBORN_ML[1]
        whose = 'that of a newborn' if fits else 'no newborn'
        reason = f'{doubt}; a brain of {volume:.0f} mL is {whose}'
    else:
        reason = f'{doubt}; for a newborn tell its postmenstrual weeks, or give {newborn}'
    return Choice(newborn if fits else DEFAULT_MODEL, reason)


def known_brain_ml(scan: Volume, mask: np.ndarray | None, *, look: bool = True) -> float | None:
    """Measure the brain in a scan before anything is computed.

    Args:
        scan: The scan.
        mask: Brain mask on its grid that was given, or None.
        look: Whether a stripped scan counts as its own mask.

    Returns:
        mL; None for a head without a mask.
    """
    if mask is None:
        if not look or not is_skull_stripped(scan.data):
            return None
        mask = foreground_mask(scan.data)
    return float(mask.sum() * np.prod(scan.spacing) / 1000)
