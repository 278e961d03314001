"""The QC record of an image: which numbers and texts it holds, and how each is read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bids_segsr.bids.participants import ANY_AGE_ML
from bids_segsr.exceptions import UserError

SCAN, SCAN_QUALITY, MASK, SIZE, SHAPE, FIDELITY, UNCERTAINTY, RUN = (
    'Scan and output grid',
    'Quality of the scan',
    'Brain mask',
    'Volumes',
    'Shape of the segmentation',
    'Fidelity to the acquired scan',
    'Uncertainty',
    'Run',
)
SIGNIFICANT_DIGITS = 6


@dataclass(frozen=True)
class Entry:
    """One entry of the QC record.

    Attributes:
        key: Its key in the QC JSON.
        name: Its name for a reader.
        unit: Its unit; empty for counts, ratios and texts.
        text: One sentence that says how to read it.
        group: The part of the table that it belongs to; `RUN` for what says which image and model
            it is, which is no number.
        low: From where on its value is plausible; None without such a bound.
        high: Up to where.
        sign: What is said of an image where its value is not plausible; empty where that says
            nothing of the result.
        failed_low: Below which nothing can be done with the result; None without such a bound.
        failed_high: Above which nothing can be done with it.
    """

    key: str
    name: str
    unit: str
    text: str
    group: str
    low: float | None = None
    high: float | None = None
    sign: str = ''
    failed_low: float | None = None
    failed_high: float | None = None

    def hopeless(self, value: float) -> bool:
        """Return whether a value says that nothing can be done with the result."""
        too_low = self.failed_low is not None and value < self.failed_low
        return too_low or (self.failed_high is not None and value > self.failed_high)

    def of(self, record: Mapping[str, Any]) -> Entry:
        """Return the entry with the range that is plausible for the image of a record."""
        bounds = record.get('brain_volume_expected_ml')
        if self.key == 'brain_volume_ml' and isinstance(bounds, (list, tuple)):
            return replace(self, low=bounds[0], high=bounds[1])
        return self

    @property
    def plausible(self) -> str:
        """Its plausible range in words; empty without one."""
        if self.low is None:
            return '' if self.high is None else f'{self.high:g} or less'
        if self.high is None:
            return f'{self.low:g} or more'
        return f'{self.low:g}' if self.low == self.high else f'{self.low:g} to {self.high:g}'

    def implausible(self, value: Any) -> str | None:
        """Return what is expected instead of a value, or None where it can be right."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
            return None
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        return None if low <= value <= high else f'expected {self.plausible}'


DICTIONARY = (
    Entry('bids_name', 'Image', '', 'Name of the image.', RUN),
    Entry('guides', 'Guides', '', 'Images of other contrasts that the network was shown.', RUN),
    Entry('model', 'Model', '', 'Name of the model.', RUN),
    Entry('model_version', 'Version of the model', '', 'Version of its weights.', RUN),
    Entry(
        'model_reason', 'Why this model', '',
        'What chose it, where none was named: contrast, age or size of the brain.', RUN,
    ),
    Entry('model_sha256', 'Hash of the model', '', 'SHA-256 of its weights.', RUN),
    Entry('device', 'Device', '', 'Where the network ran in the end.', RUN),
    Entry('precision', 'Precision', '', 'fp32, or bf16 for mixed precision.', RUN),
    Entry('skull_strip', 'Brain mask', '', 'How the brain mask came about.', RUN),
    Entry(
        'spacing_i', 'Spacing i', 'mm', 'Voxel spacing of the scan, first array axis.', SCAN,
        0.2, 15,
    ),
    Entry(
        'spacing_j', 'Spacing j', 'mm', 'Voxel spacing of the scan, second array axis.', SCAN,
        0.2, 15,
    ),
    Entry(
        'spacing_k', 'Spacing k', 'mm', 'Voxel spacing of the scan, third array axis.', SCAN,
        0.2, 15,
    ),
    Entry('slice_axis', 'Slice axis', '', 'Array axis across the slices (the coarsest).', SCAN),
    Entry(
        'slice_thickness_mm', 'Slice thickness', 'mm',
        'Thickness of a slice as used in the forward model.', SCAN,
        0.5, 12,
    ),
    Entry(
        'resolution_mm', 'Output resolution', 'mm', 'Edge of the isotropic voxels.', SCAN,
        0.3, 2,
    ),
    Entry(
        'snr', 'Signal to noise', '',
        'Median of the brain over the noise in the slices (Immerkær 1996). A scanner that smooths '
        'or interpolates in plane hides noise.', SCAN_QUALITY,
        10, None,
        'The scan is noisy: signal to noise',
    ),
    Entry(
        'cnr', 'Contrast to noise', '',
        'Difference of cortex and white matter over the root of their summed variances and that '
        'of the noise, as MRIQC has it; 0: the two look alike, as at some ages of newborns.',
        SCAN_QUALITY,
        0.5, None,
    ),
    Entry(
        'tissue_contrast', 'Contrast inside the brain', '',
        'Standard deviation inside the brain mask, less that of the noise, over the median; heads '
        'have 0.12 to 0.4, newborns with hardly any contrast 0.06, a uniform phantom up to 0.03.',
        SCAN_QUALITY,
        0.04, None,
        'Inside the brain mask there are no tissues that differ, as in a phantom: contrast',
    ),
    Entry(
        'stripes', 'Stripes', '',
        'Share by which odd slices are brighter or darker than even ones, as interleaved slices '
        'that saturate each other are: the stripes go through the result.', SCAN_QUALITY,
        0, 0.025,
        'Odd and even slices differ in brightness, and stripes may go through the result',
    ),
    Entry(
        'slice_shift_mm', 'Shift of slices', 'mm',
        'Median distance in plane of a slice from the mean of its neighbours: motion between '
        'slices.', SCAN_QUALITY,
        0, 1,
        'Slices are shifted against each other, as by motion between them',
    ),
    Entry(
        'lost_slices', 'Lost slices', '',
        'Slices inside the stack without signal; one or two in a row are filled from their '
        'neighbours.', SCAN_QUALITY,
        0, 0,
    ),
    Entry(
        'resolution_across_mm', 'Resolved across the slices', 'mm',
        'Spacing of slices that would show as much detail as the result does across the slices of '
        'the scan: where its power falls below half of that in plane. A cubic spline measures '
        'about the distance of the slices, an image as fine in all directions the output '
        'resolution.', SCAN_QUALITY,
    ),
    Entry(
        'brain_volume_ml', 'Brain volume', 'mL',
        'Volume of the brain mask; judged by age where participants.tsv tells one.', MASK,
        *ANY_AGE_ML,
        'The brain mask has no size that a brain has', 20, 2500,
    ),
    Entry(
        'brain_volume_expected_ml', 'Expected brain volume', 'mL',
        'Least and most of a brain of that age, or of any age where none is known.', RUN,
    ),
    Entry('age', 'Age', '', 'Age at the scan, as the dataset tells it.', RUN),
    Entry(
        'brain_solidity', 'Roundness of the brain mask', '',
        'Its volume, folds closed, over that of its convex hull; brains have 0.84 to 0.92.', MASK,
        0.82, 1,
        'The brain mask has no shape that a brain has', 0.77,
    ),
    Entry(
        'brain_at_border', 'Brain mask at the border', '',
        'Area of the mask on the first or last slice (or row, or column) of the scan over its '
        'largest parallel section.', MASK,
        0, 0.25,
        'The brain mask runs out of the field of view, so that a part of the brain is missing or '
        'the mask is wrong',
    ),
    Entry(
        'brain_pieces', 'Pieces of the brain mask', '',
        'Connected pieces of at least a hundredth of it.', MASK,
        1, 1,
        'The brain mask is in pieces',
    ),
    Entry(
        'brain_brightness', 'Brightness of the brain', '',
        'Mean of the scan inside the mask over its mean outside; nothing is told of a stripped '
        'scan.', MASK,
        0.5, None,
        'The brain mask lies where the scan is dark',
    ),
    Entry(
        'cortex_volume_ml', 'Cortical grey matter', 'mL', 'Volume of the cortex segmentation.',
        SIZE,
        5, 1200,
    ),
    *(
        Entry(
            f'{key}_volume_ml', name, 'mL', f'Volume of the {text}.', SIZE,
            least, None,
            f'The segmentation holds next to no {text}' if least else '',
        )
        for key, name, text, least in (
            ('white_matter', 'White matter', 'white matter', 5),
            ('outer_csf', 'Outer CSF', 'fluid around the brain, inside its mask', None),
            ('ventricles', 'Ventricles', 'ventricles', None),
            ('deep_grey_matter', 'Deep grey matter', 'deep grey matter', 0.3),
            ('cerebellum', 'Cerebellum', 'cerebellum', 0.3),
            ('brainstem', 'Brainstem', 'brainstem', 0.3),
        )
    ),
    Entry(
        'components_before', 'Components before', '',
        'Connected pieces (26 neighbours) before --keep-largest.', SHAPE,
        1,
    ),
    Entry(
        'components_after', 'Components after', '',
        'Connected pieces in the segmentation that was written.', SHAPE,
        1,
    ),
    Entry(
        'largest_share', 'Share of the largest', '',
        'Part of all cortex voxels in the largest piece, before --keep-largest; near 1 is '
        'expected.', SHAPE,
        0.9, 1,
        'The cortex is in pieces: share of the largest',
    ),
    Entry('holes', 'Holes', '', 'Cavities enclosed by the segmentation.', SHAPE),
    Entry(
        'euler_number', 'Euler number', '',
        'Components + cavities \N{MINUS SIGN} tunnels; far below 0 means many false bridges.',
        SHAPE,
    ),
    Entry(
        'fidelity_nrmse', 'Residual, super-resolved', '',
        'RMS of the residual over RMS of the scan after the forward model; 0 is perfect. Where '
        'the model back-projects, a share was put back before, and it tells less of the network.',
        FIDELITY,
        0, 0.3,
        'The result does not agree with the scan that it was made from: residual',
    ),
    Entry(
        'fidelity_nrmse_ibp', 'Residual, back-projection alone', '',
        'The same for interpolation with five half steps of back-projection and no network, '
        'which knows the brain mask.',
        FIDELITY,
        0, 0.3,
    ),
    Entry(
        'fidelity_nrmse_spline', 'Residual, cubic spline', '',
        'The same for plain interpolation, for comparison.', FIDELITY,
        0, 0.3,
    ),
    Entry(
        'fidelity_correlation', 'Correlation, super-resolved', '',
        'Pearson correlation with the scan after the forward model; 1 is perfect.', FIDELITY,
        0.8, 1,
    ),
    Entry(
        'fidelity_correlation_ibp', 'Correlation, back-projection alone', '',
        'The same for interpolation with five half steps of back-projection and no network, '
        'which knows the brain mask.',
        FIDELITY,
        0.8, 1,
    ),
    Entry(
        'fidelity_correlation_spline', 'Correlation, cubic spline', '',
        'The same for plain interpolation, for comparison.', FIDELITY,
        0.8, 1,
    ),
    Entry(
        'entropy_mean', 'Mean entropy', 'bits',
        'Mean over the brain; 0 is certain, 1 is a coin toss at every voxel.', UNCERTAINTY,
        0, 0.65,
        'The network is unsure in most of the brain: mean entropy',
    ),
    Entry(
        'disagreement_mean', 'Mean disagreement', '',
        'Mean standard deviation of the probability over overlapping patches, where they overlap.',
        UNCERTAINTY,
        0, 0.2,
    ),
    Entry('versions', 'Versions', '', 'Versions of this package and of its libraries.', RUN),
    Entry('header_notes', 'Header repairs', '', 'What was mended in the header.', RUN),
    Entry(
        'warnings', 'Warnings', '',
        'What was noticed on the way, such as an image outside what the model was made for.', RUN,
    ),
)  # fmt: skip
"""All entries of the record, in the order in which they are written and shown."""

QUANTITIES = tuple(entry for entry in DICTIONARY if entry.group != RUN)
"""Those that are shown in tables, one row or column each."""

KEYS = tuple(entry.key for entry in DICTIONARY)


def qc_record(**values: Any) -> dict[str, Any]:
    """Make the QC record of an image.

    Args:
        values: By key of the dictionary. One that is None does not apply to the image and is left
            out.

    Returns:
        The record in the order of the dictionary, numbers to six significant digits; a number that
        is not finite becomes None.

    Raises:
        KeyError: A key is not in the dictionary.
    """
    unknown = values.keys() - set(KEYS)
    if unknown:
        raise KeyError(f'not in the QC dictionary: {", ".join(sorted(unknown))}')
    return {key: _rounded(values[key]) for key in KEYS if values.get(key) is not None}


def qc_json(record: Mapping[str, Any]) -> str:
    """Return a record as the text of its file."""
    return json.dumps(record, indent=2, ensure_ascii=False) + '\n'


def check_same_image(path: Path, name: str) -> None:
    """Make sure that no other image's results have the names of this one's.

    The names of masks and segmentations do not hold the modality, as BIDS would have it.

    Args:
        path: Where the QC record of the image goes.
        name: Of the image.

    Raises:
        UserError: The record of another image lies there.
    """
    try:
        earlier = str(json.loads(path.read_text(encoding='utf-8'))['bids_name'])
    except (OSError, ValueError, KeyError, TypeError):
        return
    if earlier != name:
        raise UserError(
            f'{path}: made from {earlier}, and {name} would overwrite it; '
            'give each modality an output folder of its own'
        )


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f'{value:.{SIGNIFICANT_DIGITS}g}') if math.isfinite(value) else None
    return value
