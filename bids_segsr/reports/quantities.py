"""The numbers of the QC file: what they are called, their units and what they tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SCAN, SIZE, SHAPE, FIDELITY, UNCERTAINTY = (
    'Scan and output grid',
    'Volumes',
    'Shape of the segmentation',
    'Fidelity to the acquired scan',
    'Uncertainty',
)


@dataclass(frozen=True)
class Quantity:
    """One number of the QC file.

    Attributes:
        key: Its key in the QC JSON.
        name: Its name for a reader.
        unit: Its unit; empty for counts and ratios.
        meaning: One sentence that says how to read it.
        group: The part of the table it belongs to.
    """

    key: str
    name: str
    unit: str
    meaning: str
    group: str


QUANTITIES = (
    Quantity('spacing_i', 'Spacing i', 'mm', 'Voxel spacing of the scan, first array axis.', SCAN),
    Quantity(
        'spacing_j', 'Spacing j', 'mm', 'Voxel spacing of the scan, second array axis.', SCAN
    ),
    Quantity('spacing_k', 'Spacing k', 'mm', 'Voxel spacing of the scan, third array axis.', SCAN),
    Quantity('slice_axis', 'Slice axis', '', 'Array axis across the slices (the coarsest).', SCAN),
    Quantity(
        'slice_thickness_mm',
        'Slice thickness',
        'mm',
        'Thickness of a slice as used in the forward model.',
        SCAN,
    ),
    Quantity('resolution_mm', 'Output resolution', 'mm', 'Edge of the isotropic voxels.', SCAN),
    Quantity('brain_volume_ml', 'Brain volume', 'mL', 'Volume of the brain mask.', SIZE),
    Quantity(
        'cortex_volume_ml', 'Cortex volume', 'mL', 'Volume of the cortex segmentation.', SIZE
    ),
    Quantity(
        'components_before',
        'Components before',
        '',
        'Connected pieces right after the threshold.',
        SHAPE,
    ),
    Quantity(
        'components_after',
        'Components after',
        '',
        'Connected pieces in the segmentation that was written.',
        SHAPE,
    ),
    Quantity(
        'largest_share',
        'Share of the largest',
        '',
        'Part of all cortex voxels in the largest piece; near 1 is expected.',
        SHAPE,
    ),
    Quantity('holes', 'Holes', '', 'Cavities enclosed by the segmentation.', SHAPE),
    Quantity(
        'euler_number',
        'Euler number',
        '',
        'Components + cavities \N{MINUS SIGN} tunnels; far below 0 means many false bridges.',
        SHAPE,
    ),
    Quantity(
        'fidelity_nrmse',
        'Residual, super-resolved',
        '',
        'RMS of the residual over RMS of the scan after the forward model; 0 is perfect.',
        FIDELITY,
    ),
    Quantity(
        'fidelity_nrmse_spline',
        'Residual, cubic spline',
        '',
        'The same for plain interpolation, for comparison.',
        FIDELITY,
    ),
    Quantity(
        'fidelity_correlation',
        'Correlation, super-resolved',
        '',
        'Pearson correlation with the scan after the forward model; 1 is perfect.',
        FIDELITY,
    ),
    Quantity(
        'fidelity_correlation_spline',
        'Correlation, cubic spline',
        '',
        'The same for plain interpolation, for comparison.',
        FIDELITY,
    ),
    Quantity(
        'entropy_mean',
        'Mean entropy',
        'bits',
        'Mean over the brain; 0 is certain, 1 is a coin toss at every voxel.',
        UNCERTAINTY,
    ),
    Quantity(
        'disagreement_mean',
        'Mean disagreement',
        '',
        'Mean standard deviation of the probability over overlapping patches.',
        UNCERTAINTY,
    ),
)


def formatted(value: Any) -> str:
    """Return a value for a reader: four significant digits, true minus sign, n/a for none."""
    if value is None or (isinstance(value, float) and value != value):
        return 'n/a'
    if isinstance(value, float):
        text = f'{value:.4g}' if abs(value) < 1e4 else f'{value:.0f}'
        return text.replace('-', '\N{MINUS SIGN}')
    return str(value).replace('-', '\N{MINUS SIGN}') if isinstance(value, int) else str(value)
