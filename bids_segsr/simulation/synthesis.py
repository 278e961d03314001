"""Training images from label maps: anatomy, contrast, acquisition.

A label map becomes smooth tissue fractions (`anatomy`), a random contrast turns them into a fine
image (`contrast`), the forward model of SegSRGAN (2020, equation 1) turns that into thick slices,
and cubic B-spline interpolation back into what the generator sees (`acquisition`). Where a subject
has a real fine image, it takes the place of the painted one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bids_segsr.simulation.anatomy import (
    CLASSES,
    OUTSIDE,
    TISSUES,
    Anatomy,
    Deformation,
    sample_anatomy,
)
from bids_segsr.simulation.contrast import (
    CONTRASTS,
    Appearance,
    add_texture_and_bias,
    draw_contrast,
    paint,
    vary_real,
)
from bids_segsr.simulation.thick_slices import AcquisitionRanges, acquire, draw_stack

_MEMBERS = np.array(
    [[tissue in members for tissue in TISSUES] for members in CLASSES.values()], np.float32
)


@dataclass(frozen=True)
class Sample:
    """One training volume, slice axis last.

    Attributes:
        image: Interpolated thick slices, float32, 0 outside the brain mask.
        truth: Fine image, float32, same units, masked alike.
        tissues: Fractions of the classes, (classes, i, j, k) float32, in the order of
            `anatomy.CLASSES`; outside the mask all background. They sum to one, or are all 0
            where nothing is known.
        brain: Brain mask, bool.
        ratio: Slice distance in voxels.
    """

    image: np.ndarray
    truth: np.ndarray
    tissues: np.ndarray
    brain: np.ndarray
    ratio: float

    @property
    def cortex(self) -> np.ndarray:
        """Fraction of cortical grey matter, (i, j, k) float32."""
        return self.tissues[1]


@dataclass(frozen=True)
class Synthesis:
    """Everything that is drawn at random for a sample."""

    appearance: Appearance = field(default_factory=Appearance)
    acquisition: AcquisitionRanges = field(default_factory=AcquisitionRanges)
    deformation: Deformation = field(default_factory=Deformation)


def brain_of(fractions: np.ndarray) -> np.ndarray:
    """Find the brain: where it and its CSF make up more than half.

    Args:
        fractions: (tissues, i, j, k), uint8 with 255 for one, or float.

    Returns:
        Mask (i, j, k) bool.
    """
    one = 255 if fractions.dtype == np.uint8 else 1
    return fractions[:OUTSIDE].sum(0, dtype=np.float32) < one / 2


def classes_of(fractions: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Add up the tissues of each class.

    Args:
        fractions: (tissues, i, j, k) float, sums of one.
        brain: Mask (i, j, k); outside of it all is background.

    Returns:
        (classes, i, j, k) float32, sums of one.
    """
    tissues = np.tensordot(_MEMBERS, fractions, 1)
    # What the mask leaves of the surroundings is background for certain.
    tissues[1:] *= brain
    tissues[0] = 1 - tissues[1:].sum(0)
    return tissues


def make_sample(
    anatomy: Anatomy,
    shape: tuple[int, int, int],
    recipe: Synthesis,
    rng: np.random.Generator,
    contrast: str | None = None,
) -> Sample:
    """Make one training volume.

    Args:
        anatomy: The subject.
        shape: Voxels of the volume, slice axis last.
        recipe: What is drawn at random.
        rng: Source of random numbers; the same state gives the same sample.
        contrast: Key of CONTRASTS, taken without jitter; drawn from the recipe when None.

    Returns:
        The sample, in arbitrary intensity units of about one.
    """
    appearance = recipe.appearance
    stack = draw_stack(recipe.acquisition, rng)
    # Interpolation near the ends of the stack is worse than inside it: make more, cut it off.
    margin = int(np.ceil(2 * stack.ratio))
    full = (shape[0], shape[1], shape[2] + 2 * margin)
    fractions, real = sample_anatomy(anatomy, full, recipe.deformation, rng)

    loose, skull = (
        rng.random() < share for share in (appearance.loose_share, appearance.skull_share)
    )
    rim = loose or skull or rng.random() < appearance.rim_share
    if real is not None:
        truth = vary_real(real, appearance, rng)
        if not rim:
            truth *= fractions[OUTSIDE:].sum(0)
    else:
        drawn = draw_contrast(anatomy.labelling, appearance, rng)
        truth = paint(fractions, CONTRASTS[contrast] if contrast else drawn, rim)
        truth = add_texture_and_bias(truth, appearance, rng)
    within = fractions[OUTSIDE:].sum(0)
    if loose:
        within += fractions[TISSUES.index('surround')]
    mask = None if skull else within > 0.5
    interpolated, brain = acquire(truth, mask, stack, rng)

    truth = truth * brain
    tissues = classes_of(fractions, brain)
    inner = (..., slice(margin, margin + shape[2]))
    return Sample(interpolated[inner], truth[inner], tissues[inner], brain[inner], stack.ratio)
