"""The steps of one image, each a function, run by the nodes of the App and by `segsr predict`.

An acquired scan is conformed and corrected for its bias field; the brain is found; a network, fed
as its card says, restores the image on an isotropic grid; it is segmented and checked against the
scan; and all numbers become one QC record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_segsr.exceptions import ImageError
from bids_segsr.imaging.back_projection import Slices, back_projection_alone
from bids_segsr.imaging.bias_field import correct_bias_field
from bids_segsr.imaging.components import keep_largest_component, topology
from bids_segsr.imaging.conform import acquired_axis, as_stored, slice_axis, spacing_of
from bids_segsr.imaging.measures import scan_quality
from bids_segsr.imaging.measures.fidelity import fidelity
from bids_segsr.imaging.resample import (
    Grid,
    auto_resolution,
    isotropic_grid,
    resample,
    resample_mask,
)
from bids_segsr.imaging.volume import Volume, load_scan
from bids_segsr.inference.processing import Processing
from bids_segsr.inference.qc import KEYS
from bids_segsr.zoo.card import ModelCard
from bids_segsr.zoo.contract import contract_warnings

if TYPE_CHECKING:
    # what needs torch is imported where a network runs: most steps do without
    from bids_segsr.inference.predict import Prediction
    from bids_segsr.zoo.store import TrainedModel

WHOLE = 0.999
"""Share of the brain from which on a guide covers it."""

EDGE = 1e-3
"""Voxels that rounding may put a point beyond the edge of an image."""


@dataclass(frozen=True)
class Fine:
    """A scan on the isotropic grid.

    Attributes:
        image: Cubic B-spline of the scan (X, Y, Z), float32, 0 outside the brain.
        mask: Brain mask, boolean array.
        affine: Voxel to RAS+ mm (4 x 4).
    """

    image: np.ndarray
    mask: np.ndarray
    affine: np.ndarray


@dataclass(frozen=True)
class Segmentation:
    """What the probabilities of a network come down to.

    Attributes:
        cortex: Boolean array.
        regions: Number of the likeliest class, int16, 0 the background; None for a network without
            classes.
        qc: Volumes, and shape of the cortex, by key of the QC dictionary.
    """

    cortex: np.ndarray
    regions: np.ndarray | None
    qc: dict[str, Any]

    def labelled(self, label: int) -> np.ndarray:
        """Return the cortex as an int16 array that holds a label."""
        return np.where(self.cortex, label, 0).astype(np.int16)


@dataclass(frozen=True)
class Check:
    """Agreement of a result with the scan that it was made from.

    Attributes:
        residual: Result seen through the forward model, minus the scan, on the grid of the scan.
        qc: Agreement of the result and of plain interpolation, by key of the QC dictionary.
    """

    residual: np.ndarray
    qc: dict[str, Any]


def conform(path: str | Path, mem_gb: float | None = None) -> Volume:
    """Read a scan, check it, mend its header and let intensities begin at 0.

    Voxels keep their order and place.

    Args:
        path: NIfTI file, or folder of one DICOM series.
        mem_gb: Memory that may be used, GB; None for what the machine or container allows.

    Raises:
        ImageError: It cannot be processed; names the file.
    """
    scan = load_scan(path, mem_gb)
    return replace(scan, affine=as_stored(scan.affine))


def settle(
    processing: Processing, scan: Volume, metadata: Mapping[str, Any]
) -> tuple[Processing, list[str]]:
    """Decide for one image what was left open.

    Args:
        processing: The choices.
        scan: The scan.
        metadata: Its sidecar.

    Returns:
        The choices with nothing left open, and what may be wrong with the scan or its sidecar.
    """
    thickness, warnings = _slice_thickness(scan, metadata)
    settled = processing.settled(
        resolution=auto_resolution(scan.spacing), slice_thickness=thickness
    )
    return settled, [*scan.warnings, *(warnings if processing.slice_thickness is None else [])]


def expectations(
    card: ModelCard, processing: Processing, *, modality: str | None, masked: bool
) -> list[str]:
    """Tell where an image is outside what a model was made for, before anything is computed.

    Args:
        card: Card of the model.
        processing: Settled choices.
        modality: BIDS suffix of the image; None where it is not known.
        masked: Whether there will be a brain mask.

    Returns:
        One sentence each.
    """
    return contract_warnings(
        card,
        modality=modality,
        resolution=processing.resolution or 0.0,
        slice_thickness=processing.slice_thickness or 0.0,
        skull_stripped=masked,
    )


def correct(scan: Volume, processing: Processing, mask: np.ndarray | None = None) -> Volume:
    """Correct the bias field of a scan on its own grid, or leave the scan as it is.

    Args:
        scan: The scan.
        processing: Whether it is corrected.
        mask: Where the field is fitted, boolean array; None for the foreground.
    """
    if processing.bias_correction == 'none':
        return scan
    corrected = correct_bias_field(scan.data, scan.affine, mask)
    return replace(scan, data=corrected)


def find_brain(
    corrected: Volume,
    processing: Processing,
    *,
    existing: np.ndarray | None = None,
    modality: str | None = None,
) -> tuple[np.ndarray, str]:
    """Take a brain mask, recognise a stripped image, or look for the brain.

    Args:
        corrected: Bias-corrected scan.
        processing: Whether and how to look.
        existing: A mask on the grid of the scan, which comes first.
        modality: BIDS suffix of the scan, for the contrast of a template.

    Returns:
        Boolean array, and how it came about.

    Raises:
        UserError: The template or the model is not at hand.
        ImageError: The mask has no size that a brain can have.
    """
    from bids_segsr.inference.brain_extraction import find_brain_mask

    return find_brain_mask(
        corrected.data,
        corrected.affine,
        existing=existing,
        mode=processing.skull_strip,
        tool=processing.skull_strip_tool,
        template=processing.skull_strip_template,
        suffix='T1w' if modality == 'T1w' else 'T2w',
    )


def interpolate(corrected: Volume, brain: np.ndarray, processing: Processing) -> Fine:
    """Bring a scan and its brain mask to the isotropic grid.

    Args:
        corrected: Bias-corrected scan.
        brain: Brain mask on its grid.
        processing: Settled choices: the resolution.
    """
    resolution = processing.resolution or auto_resolution(corrected.spacing)
    grid = isotropic_grid(corrected.data.shape, corrected.affine, resolution)
    grid = Grid(grid.shape, as_stored(grid.affine))
    inside = resample_mask(brain, corrected.affine, grid)
    image = resample(corrected.data, corrected.affine, grid)
    return Fine(np.where(inside, image, np.float32(0)), inside, grid.affine)


def guide(
    path: Path, volume: Volume, fine: Fine, card: ModelCard, processing: Processing
) -> tuple[np.ndarray, str | None]:
    """Bring an image of another contrast to the isotropic grid, 0 where it does not reach.

    Args:
        path: Its file, for messages.
        volume: The image, registered to the scan, on any grid.
        fine: The grid and the brain.
        card: Card of the model, which says how to interpolate.
        processing: Whether its bias field is corrected, too.

    Returns:
        Array on the grid, and a warning where it does not cover the brain.

    Raises:
        ImageError: It does not overlap with the brain.
    """
    from bids_segsr.zoo import feeding

    covered = _field_of_view(volume, fine)
    share = covered[fine.mask].mean() if fine.mask.any() else 0.0
    if not share:
        raise ImageError(
            f'{path}: does not overlap with the brain in the image; register it to the image.'
        )
    corrected = correct(volume, processing)
    slices = Slices(corrected.data, corrected.affine, fine.affine)
    data = np.where(covered, feeding.interpolated(card, slices, fine.mask), 0)
    if share >= WHOLE:
        return data, None
    return data, f'The guide {path.name} covers {share:.0%} of the brain.'


def restore(
    model: TrainedModel,
    corrected: Volume,
    fine: Fine,
    processing: Processing,
    *,
    guides: Sequence[np.ndarray] = (),
    progress: Callable[[float], None] | None = None,
) -> Prediction:
    """Let a network restore and segment a scan.

    Args:
        model: Generator and card.
        corrected: Bias-corrected scan.
        fine: The isotropic grid and the brain on it.
        processing: Settled choices: slice thickness, patch size, step, blending, device.
        guides: Images of other contrasts on the isotropic grid, for a model that needs them.
        progress: Takes the share that is done, 0 to 1.

    Returns:
        The maps on the isotropic grid.

    Raises:
        UserError: The device cannot be used.
    """
    from bids_segsr.inference.predict import predict
    from bids_segsr.zoo import feeding

    scan = Slices(corrected.data, corrected.affine, fine.affine, processing.slice_thickness)
    return predict(
        model,
        feeding.interpolated(model.card, scan, fine.mask),
        scan,
        mask=fine.mask,
        guides=guides,
        processing=processing,
        progress=progress,
    )


def segment(
    probabilities: Sequence[np.ndarray] | np.ndarray,
    spacing: Sequence[float],
    card: ModelCard,
    processing: Processing,
) -> Segmentation:
    """Decide what is cortex, and which class every voxel belongs to.

    Where the network tells tissues apart, the map of the likeliest class is the product, and the
    cortex is its class of that name; a threshold is needed only where the cortex stands alone.

    Args:
        probabilities: One map (X, Y, Z) a segmentation channel: the cortex, then the classes.
        spacing: Of their grid in mm.
        card: Card of the model.
        processing: Threshold, and whether only the largest component is kept. A piece that is
            dropped becomes the next likeliest class.

    Returns:
        The segmentation and its numbers.
    """
    classes = probabilities[1:] if card.regions else ()
    regions = np.argmax(classes, axis=0).astype(np.int16) if len(classes) else None
    if regions is not None and card.cortex_class is not None:
        cortex = regions == card.cortex_class
    else:
        cortex = np.asarray(probabilities[0]) > processing.threshold
    before = after = topology(cortex)
    if processing.keep_largest:
        kept = keep_largest_component(cortex)
        if regions is not None and card.cortex_class is not None:
            others = [
                np.full_like(c, -1) if n == card.cortex_class else c for n, c in enumerate(classes)
            ]
            dropped = cortex & ~kept
            regions[dropped] = np.argmax([c[dropped] for c in others], axis=0)
        cortex = kept
        after = topology(cortex)
    voxel_ml = float(np.prod(spacing)) / 1000
    volumes = {}
    if regions is not None:
        for number, name in enumerate(card.regions, start=1):
            key = f'{name.replace(" ", "_")}_volume_ml'
            if key in KEYS:
                volumes[key] = int((regions == number).sum()) * voxel_ml
    return Segmentation(
        cortex,
        regions,
        {
            'cortex_volume_ml': after.voxels * voxel_ml,
            **volumes,
            'components_before': before.components,
            'components_after': after.components,
            'largest_share': before.largest_share,
            'holes': after.holes,
            'euler_number': after.euler_number,
        },
    )


def check(image: np.ndarray, fine: Fine, corrected: Volume, processing: Processing) -> Check:
    """Put a result through the forward model and compare it with the scan.

    Args:
        image: The result, on the isotropic grid.
        fine: What it is compared with, and where.
        corrected: Bias-corrected scan.
        processing: Settled choices: the slice thickness.
    """
    scan = Slices(corrected.data, corrected.affine, fine.affine, processing.slice_thickness)
    result, spline, projected = fidelity(
        (image, fine.image, back_projection_alone(scan, fine.mask)),
        fine.affine,
        corrected.data,
        corrected.affine,
        fine.mask,
        processing.slice_thickness,
    )
    across = acquired_axis(corrected.affine, fine.affine)
    resolved = scan_quality.resolution_across(
        image, fine.mask, across, float(spacing_of(fine.affine)[across])
    )
    return Check(
        result.residual,
        {
            **({'resolution_across_mm': resolved} if np.isfinite(resolved) else {}),
            'fidelity_nrmse': result.nrmse,
            'fidelity_nrmse_ibp': projected.nrmse,
            'fidelity_nrmse_spline': spline.nrmse,
            'fidelity_correlation': result.correlation,
            'fidelity_correlation_ibp': projected.correlation,
            'fidelity_correlation_spline': spline.correlation,
        },
    )


def _slice_thickness(scan: Volume, metadata: Mapping[str, Any]) -> tuple[float, list[str]]:
    """Take the slice thickness from the sidecar or DICOM, or the distance of the slices, in mm."""
    distance = scan.spacing[slice_axis(scan.spacing)]
    told = metadata.get('SliceThickness', scan.slice_thickness)
    if told is None:
        return distance, []
    number = isinstance(told, (int, float)) and not isinstance(told, bool)
    if number and 0.1 * distance <= told <= 10 * distance:
        return float(told), []
    return distance, [
        f'SliceThickness in the sidecar is {told!r}, which no slices {distance:.3g} mm apart can '
        'have: their distance was used.'
    ]


def _field_of_view(volume: Volume, fine: Fine) -> np.ndarray:
    """Voxels of the grid whose centres lie in a voxel of an image, boolean."""
    to_index = np.linalg.inv(volume.affine) @ fine.affine
    places = np.ogrid[tuple(slice(n) for n in fine.mask.shape)]
    covered = np.ones(fine.mask.shape, dtype=bool)
    for row, n in zip(to_index[:3], volume.data.shape, strict=True):
        index = sum(weight * place for weight, place in zip(row[:3], places, strict=True)) + row[3]
        covered &= (index > -0.5 - EDGE) & (index < n - 0.5 + EDGE)
    return covered
