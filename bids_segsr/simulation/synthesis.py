"""Training images from label maps: anatomy, contrast, acquisition.

A label map becomes smooth tissue fractions (`anatomy`), a random contrast turns them into a fine
image (`contrast`), the forward model of SegSRGAN (2020, equation 1) turns that into thick slices,
and cubic B-spline interpolation back into what the generator sees (`acquisition`). Where a subject
has a real fine image, it takes the place of the painted one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from bids_segsr.simulation.anatomy import Anatomy
from bids_segsr.simulation.contrast import draw_contrast, paint_sample, vary_real
from bids_segsr.simulation.deformation import AnatomySample, sample_anatomy
from bids_segsr.simulation.tables import (
    CLASSES,
    OUTSIDE,
    TISSUES,
    AcquisitionRanges,
    Appearance,
    Deformation,
)
from bids_segsr.simulation.thick_slices import BackProjection, acquire, blurred, draw_stack

_MEMBERS = torch.tensor(
    [[float(tissue in members) for tissue in TISSUES] for members in CLASSES.values()]
)
_CSF, _CORTEX, _WHITE, _DEEP = map(TISSUES.index, ('csf', 'cortex', 'white', 'deep-grey'))
_WITHIN = [TISSUES.index(name) for name in ('white', 'ventricles', 'deep-grey', 'hippocampus')]

LABELLED_SULCUS = 0.5
"""Share of the CSF of a narrow sulcus that is called CSF: whoever draws labels leaves most of it
to the cortex."""

TIGHT_BLUR, TIGHT_LEVEL = 2.0, (0.2, 0.5)
"""Masks that follow the gyri: blur of the tissue in voxels, and how much of it is brain."""


@dataclass(frozen=True)
class Sample:
    """One training volume, slice axis last.

    Attributes:
        image: Interpolated thick slices, back-projected where that is asked for, float32, 0
            outside the brain mask.
        truth: Fine image, float32, same units, masked alike.
        tissues: Fractions of the classes, (classes, i, j, k) float32, in the order of
            `anatomy.CLASSES`; outside the mask all background. They sum to one, or are all 0
            where nothing is known.
        brain: Brain mask, bool.
        ratio: Slice distance in voxels.
    """

    image: Tensor
    truth: Tensor
    tissues: Tensor
    brain: Tensor
    ratio: float

    @property
    def cortex(self) -> Tensor:
        """Fraction of cortical grey matter, (i, j, k) float32."""
        return self.tissues[1]


@dataclass(frozen=True)
class Synthesis:
    """Everything that is drawn at random for a sample."""

    appearance: Appearance = field(default_factory=Appearance)
    acquisition: AcquisitionRanges = field(default_factory=AcquisitionRanges)
    deformation: Deformation = field(default_factory=Deformation)
    back_projection: BackProjection | None = None


def brain_of(fractions: np.ndarray | Tensor) -> np.ndarray:
    """Find the brain: where it and its CSF make up more than half.

    Args:
        fractions: (tissues, i, j, k), uint8 with 255 for one, or float.

    Returns:
        Mask (i, j, k) bool.
    """
    fractions = np.asarray(fractions)
    one = 255 if fractions.dtype == np.uint8 else 1
    brain: np.ndarray = fractions[:OUTSIDE].sum(0, dtype=np.float32) < one / 2
    return brain


def classes_of(fractions: Tensor, brain: Tensor) -> Tensor:
    """Add up the tissues of each class.

    Args:
        fractions: (tissues, i, j, k) float, sums of one.
        brain: Mask (i, j, k); outside of it all is background.

    Returns:
        (classes, i, j, k) float32, sums of one.
    """
    tissues = torch.tensordot(_MEMBERS.to(fractions.device), fractions, 1)
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
        rng: Source of random numbers; the same state gives the same sample on a device.
        contrast: Key of CONTRASTS; drawn from the recipe when None.

    Returns:
        The sample, in arbitrary intensity units of about one.
    """
    appearance = recipe.appearance
    stack = draw_stack(recipe.acquisition, rng)
    # Interpolation near the ends of the stack is worse than inside it: make more, cut it off.
    margin = int(np.ceil(2 * stack.ratio))
    full = (shape[0], shape[1], shape[2] + 2 * margin)
    subject = sample_anatomy(anatomy, full, recipe.deformation, rng)

    tight, loose, skull = (
        rng.random() < share
        for share in (appearance.tight_share, appearance.loose_share, appearance.skull_share)
    )
    rim = loose or skull or rng.random() < appearance.rim_share
    if subject.image is not None:
        labelled = subject.fractions
        truth = vary_real(subject.image, appearance, rng)
        if not rim:
            truth = truth * labelled[OUTSIDE:].sum(0)
    else:
        subject, labelled = with_sulci(_sharpened(subject, appearance, rng), appearance, rng)
        drawn = draw_contrast(anatomy.labelling, appearance, rng, contrast)
        if drawn.young:
            moved = subject.capsules * labelled[_WHITE]
            labelled[_WHITE] -= moved
            labelled[_DEEP] += moved
        truth = paint_sample(subject, drawn, appearance, rng, rim)
    within = subject.fractions[OUTSIDE:].sum(0)
    if loose:
        within = within + subject.fractions[TISSUES.index('surround')]
    elif tight:
        # of the tissue alone, so blurred that narrow sulci are filled
        solid = blurred(subject.fractions[_CSF + 1 :].sum(0), TIGHT_BLUR)
        within = within * (solid > rng.uniform(*TIGHT_LEVEL))
    mask = None if skull else within > 0.5
    interpolated, brain = acquire(truth, mask, stack, rng, recipe.back_projection)

    truth = truth * brain
    tissues = classes_of(labelled, brain)
    inner = (..., slice(margin, margin + shape[2]))
    return Sample(interpolated[inner], truth[inner], tissues[inner], brain[inner], stack.ratio)


def _sharpened(
    subject: AnatomySample, appearance: Appearance, rng: np.random.Generator
) -> AnatomySample:
    low, high = appearance.white_weight
    weights = torch.ones(len(TISSUES), 1, 1, 1)
    weights[_CSF] = float(rng.uniform(*appearance.csf_weight))
    weights[_WITHIN] = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    sharp = subject.fractions * weights.to(subject.fractions.device)
    sharp.pow_(float(rng.uniform(*appearance.sharpness)))
    return replace(subject, fractions=sharp.div_(sharp.sum(0)))


def with_sulci(
    subject: AnatomySample, appearance: Appearance, rng: np.random.Generator
) -> tuple[AnatomySample, Tensor]:
    """Open the sulci whose banks touch.

    Args:
        subject: The subject.
        appearance: How much CSF lies in them.
        rng: Source of random numbers.

    Returns:
        The subject as it is painted, and the fractions (tissues, i, j, k) that are labelled.
    """
    share = rng.uniform(*appearance.sulci)
    opened = share * subject.sulci * subject.fractions[_CORTEX]
    painted, labelled = subject.fractions.clone(), subject.fractions.clone()
    for fractions, part in ((painted, 1.0), (labelled, LABELLED_SULCUS)):
        fractions[_CORTEX] -= part * opened
        fractions[_CSF] += part * opened
    return replace(subject, fractions=painted), labelled
