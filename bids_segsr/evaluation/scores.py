"""All measures of one result, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from bids_segsr.evaluation.anatomical_fidelity import Network, anatomical_fidelity, prepare
from bids_segsr.evaluation.cases import Case
from bids_segsr.evaluation.surface_distance import average_surface_distance, hausdorff95
from bids_segsr.evaluation.systems import TRUTH, Output, System
from bids_segsr.exceptions import UserError
from bids_segsr.imaging.components import bounding_box, topology
from bids_segsr.imaging.conform import spacing_of
from bids_segsr.imaging.measures.metrics import (
    dice,
    jaccard,
    nrmse,
    psnr,
    slice_average,
    slice_nrmse,
    slice_psnr,
    slice_ssim,
    ssim,
)
from bids_segsr.imaging.measures.naturalness import NaturalModel, brain_slices, niqe, piqe

SSIM_MARGIN = 4
"""Voxels kept around the brain: more than half a patch of SSIM, so that nothing changes."""


@dataclass(frozen=True)
class Metric:
    """How a measure is printed.

    Attributes:
        label: Heading.
        digits: Behind the point.
    """

    label: str
    digits: int


METRICS = {
    'psnr': Metric('PSNR (dB)', 2),
    'ssim': Metric('SSIM', 4),
    'nrmse': Metric('NRMSE', 4),
    'psnr_slices': Metric('PSNR by slice (dB)', 2),
    'ssim_slices': Metric('SSIM by slice', 4),
    'nrmse_slices': Metric('NRMSE by slice', 4),
    'piqe': Metric('PIQE', 2),
    'niqe': Metric('NIQE', 2),
    'm_h': Metric('M_h', 4),
    'parcel_dice': Metric('Parcel Dice', 4),
    'parcel_jaccard': Metric('Parcel Jaccard', 4),
    'dice': Metric('Dice', 3),
    'jaccard': Metric('Jaccard', 3),
    'hd95': Metric('HD95 (mm)', 2),
    'asd': Metric('ASD (mm)', 3),
    'ncc': Metric('NCC', 2),
    'ncc6': Metric('NCC, 6-connected', 2),
    'euler': Metric('Euler number', 1),
    'seconds': Metric('Time (s)', 2),
    'cpu_seconds': Metric('CPU time (s)', 2),
    'parameters': Metric('Parameters', 0),
}
"""Everything that can be asked for; times and parameters are always noted."""

COST = ('seconds', 'cpu_seconds', 'parameters')
NATURAL = ('piqe', 'niqe')
STRUCTURAL = ('dice', 'jaccard', 'hd95', 'asd', 'ncc', 'ncc6', 'euler')
"""Measures of a segmentation."""
ANATOMICAL = ('m_h', 'parcel_dice', 'parcel_jaccard')

_IMAGE: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], float]] = {
    'psnr': psnr,
    'ssim': ssim,
    'nrmse': nrmse,
}
_SLICES = {'psnr_slices': slice_psnr, 'ssim_slices': slice_ssim, 'nrmse_slices': slice_nrmse}
_OVERLAP = {'dice': dice, 'jaccard': jaccard}
_SURFACE = {'hd95': hausdorff95, 'asd': average_surface_distance}


@dataclass(frozen=True)
class Score:
    """One number.

    Attributes:
        metric: Key of METRICS.
        structure: Of the segmentation; empty for a measure of the image or of the cost.
        value: The number.
    """

    metric: str
    structure: str
    value: float


def check_metrics(
    names: Iterable[str], *, natural: bool = True, parcellation: bool = True
) -> tuple[str, ...]:
    """Check what is asked for.

    Args:
        names: Measures.
        natural: Whether there are pristine images for NIQE.
        parcellation: Whether there is a parcellation network.

    Returns:
        The same, as a tuple without the cost, which is always noted.

    Raises:
        UserError: One is unknown, or lacks what it needs.
    """
    wanted = tuple(dict.fromkeys(name for name in names if name not in COST))
    for name in wanted:
        if name not in METRICS:
            raise UserError(f'--metrics {name}: unknown; known are {", ".join(METRICS)}.')
        if name == 'niqe' and not natural:
            raise UserError(
                '--metrics niqe: NIQE is learnt from the training images of the list, and it has '
                'none; add rows with Base "Train".'
            )
        if name in ANATOMICAL and not parcellation:
            raise UserError(f'--metrics {name}: give a network with --parcellation FILE.')
    return wanted


class Scorer:
    """Measures results; keeps what the parcellation network says about the current truth.

    Args:
        metrics: What is measured, see `check_metrics`.
        natural: Pristine images, for NIQE.
        parcellation: Network, for M_h and the overlap of parcels.
        parcellation_spacing_mm: Spacing that it sees images at; None for their own.
    """

    def __init__(
        self,
        metrics: Iterable[str],
        natural: NaturalModel | None = None,
        parcellation: Network | None = None,
        parcellation_spacing_mm: float | None = None,
    ) -> None:
        self._metrics = tuple(metrics)
        self._natural = natural
        self._parcellation = parcellation
        self._spacing_mm = parcellation_spacing_mm
        self._truth: tuple[Case, list[np.ndarray]] | None = None

    def score(self, system: System, case: Case, output: Output) -> list[Score]:
        """Measure one result.

        Args:
            system: What made it.
            case: What it was made from.
            output: The result.

        Returns:
            Image measures, then those of every structure that both have, then the cost. The truth
            has none but the measures that need no reference.
        """
        if system.name == TRUTH:
            return [
                Score(name, '', self._image_score(name, case, output))
                for name in self._metrics
                if name in NATURAL
            ]
        image = [
            Score(name, '', self._image_score(name, case, output))
            for name in self._metrics
            if name in _IMAGE or name in _SLICES or name in NATURAL
        ]
        if set(self._metrics) & set(ANATOMICAL):
            image += self._anatomical(case, output.image)
        structures = [
            Score(name, structure, value)
            for structure, truth in case.reference.structures.items()
            if structure in output.structures
            for name, value in self._structure_scores(
                case, truth, output.structures[structure]
            ).items()
        ]
        cost = [
            Score('seconds', '', output.seconds),
            Score('cpu_seconds', '', output.cpu_seconds),
            Score('parameters', '', float(system.parameters)),
        ]
        return [*image, *structures, *cost]

    def _image_score(self, name: str, case: Case, output: Output) -> float:
        if name in NATURAL:
            return self._natural_score(name, case, output)
        box = bounding_box(case.inside, SSIM_MARGIN)
        inside = case.inside[box]
        # Windows at the border of the brain must not see what lies outside it.
        truth = np.where(inside, case.reference.image[box], 0)
        image = np.where(inside, output.image[box], 0)
        if name in _IMAGE:
            return _IMAGE[name](truth, image, inside)
        return slice_average(_SLICES[name], truth, image, case.across, inside)

    def _natural_score(self, name: str, case: Case, output: Output) -> float:
        peak = float(case.reference.image[case.inside].max())
        slices = brain_slices(output.image, case.across, case.inside, peak)
        if name == 'piqe':
            return float(np.mean([piqe(one) for one in slices])) if slices else float('nan')
        assert self._natural is not None  # noqa: S101 - check_metrics saw to it
        return niqe(slices, self._natural)

    def _anatomical(self, case: Case, image: np.ndarray) -> list[Score]:
        assert self._parcellation is not None  # noqa: S101 - check_metrics saw to it
        affine = case.reference.affine
        if self._truth is None or self._truth[0] is not case:
            truth = prepare(case.reference.image, affine, case.inside, self._spacing_mm)
            self._truth = (case, self._parcellation(truth))
        other = self._parcellation(prepare(image, affine, case.inside, self._spacing_mm))
        found = anatomical_fidelity(self._truth[1], other)
        values = dict(zip(ANATOMICAL, (found.m_h, found.dice, found.jaccard), strict=True))
        return [Score(name, '', values[name]) for name in self._metrics if name in values]

    def _structure_scores(
        self, case: Case, truth: np.ndarray, found: np.ndarray
    ) -> dict[str, float]:
        truth, found = truth & case.inside, found & case.inside
        spacing = spacing_of(case.reference.affine)
        values: dict[str, float] = {}
        for name in self._metrics:
            if name in _OVERLAP:
                values[name] = _OVERLAP[name](truth, found)
            elif name in _SURFACE:
                values[name] = _SURFACE[name](truth, found, spacing)
            elif name == 'ncc':
                values[name] = float(topology(found, 26).components)
            elif name == 'ncc6':
                values[name] = float(topology(found, 6).components)
            elif name == 'euler':
                values[name] = float(topology(found, 26).euler_number)
        return values
