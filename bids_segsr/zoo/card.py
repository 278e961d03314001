"""Model cards: what a trained network is, expects and gives; read without torch."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from bids_segsr.exceptions import ModelError, UserError
from bids_segsr.extensions import extension_names
from bids_segsr.imaging.patch_size import PatchSize, edges
from bids_segsr.strict_toml import read_dataclass

SCHEMA_VERSION = 1
"""Raised when a field changes its meaning or a new one becomes necessary."""

CARD_SIZE_LIMIT = 2**20
"""Longest card that is read, bytes."""

NAME = re.compile('[A-Za-z0-9][A-Za-z0-9-]*')
"""What a model may be called: the name becomes a folder and a BIDS label."""

NORMALISATIONS = {
    'patch-standard': 'every patch to mean 0 and standard deviation 1',
    'volume-max': 'the volume divided by its maximum',
    'volume-mean': 'the volume divided by the mean of its voxels above 0',
}
"""What networks expect of intensities."""

OTHER_SLICES = 'other_slices'
"""Key of the scores on slices of another kind than a model and its baselines take for granted: too
many for a page that sums up (see `other_slices_text`)."""

INTERPOLATIONS = {'cubic': 3, 'linear': 1, 'zero-fill': 3}
"""How the images of a training came to the fine grid; the order of the spline that does it here.

Zeros that a scanner fills k-space with cannot be had from an image: cubic splines come closest.
"""

Precision = Literal['fp32', 'bf16']

MOST_GUIDES = 16
"""More guide images than any network of the articles has: a damaged card."""

LARGEST_LABEL = 2**15 - 1
"""Label maps are written as int16."""

LARGEST_PATCH = 1024
"""More voxels along an axis than any network was trained on: a damaged card."""

MOST_STEPS = 100
"""More steps of back-projection than change anything: a damaged card."""


def other_slices_text(scores: Mapping[str, Any]) -> str:
    """Sum up the scores on slices of other kinds; nothing where a card has none.

    Args:
        scores: The `scores` of a card.
    """
    rows, gains = scores.get(OTHER_SLICES), []
    for row in rows if isinstance(rows, (list, tuple)) else ():
        names = ('network', 'spline', 'ibp') if isinstance(row, Mapping) else ()
        values = [row.get(f'psnr_{name}') for name in names]
        if values and all(isinstance(value, (int, float)) for value in values):
            network, *others = map(float, values)
            gains.append(network - max(others))
    if not gains:
        return ''
    told = ' to '.join(dict.fromkeys(f'{gain:+.2f}' for gain in (min(gains), max(gains))))
    return (
        'On slices of other kinds (profile, thickness, gap, noise, direction, stripping): '
        f'{told} dB over the better of spline and IBP.'
    )


@dataclass(frozen=True)
class InputContract:
    """What a network expects of the image it is given.

    Attributes:
        modalities: BIDS suffixes it was made for, e.g. T2w.
        normalisation: `patch-standard` (every patch to mean 0 and standard deviation 1, undone
            after the network), `volume-max` (the volume divided by its maximum), `volume-mean`
            (by the mean of its voxels above 0), or what another package brings.
        spacing_mm: Finest and coarsest spacing of the isotropic grid, mm.
        slice_thickness_mm: Thinnest and thickest slices, mm.
        skull_stripped: Whether everything but the brain must be 0; else the network is shown, and
            restores, the whole head.
        slice_axis_last: Whether the through-plane axis must be the last one.
        guides: Images of other contrasts, registered to the image, that the network needs as
            further input channels, each normalised like the image.
        mirrored: Whether it saw heads and their mirror images alike: the prediction then is the
            mean of what it makes of both; of a pair, its tissues are.
        patch_size: Edge of the patches that it was trained on, voxels, or their three edges; 0
            where that is not told.
        interpolation: How the training brought its images to the fine grid: `cubic` or `linear`
            splines, `zero-fill` (of k-space), or what another package brings.
        back_projection: Share of what the slices show and the restored image lacks that a step
            of back-projection puts back (`imaging.back_projection`), 0 to 1.
        back_projection_steps: How many such steps follow the network at most; they end where what
            the image lacks is small beside the noise of the slices.
        input_back_projection_steps: How many the interpolated image gets before the network sees
            it.
        precision: `bf16` for a network whose scores were found the same in mixed precision, which
            is then used on every device that has it; else `fp32`.
    """

    modalities: tuple[str, ...]
    normalisation: str
    spacing_mm: tuple[float, float]
    slice_thickness_mm: tuple[float, float]
    skull_stripped: bool = True
    slice_axis_last: bool = True
    guides: int = 0
    mirrored: bool = False
    patch_size: PatchSize = 0
    back_projection: float = 0.0
    interpolation: str = 'cubic'
    back_projection_steps: int = 1
    input_back_projection_steps: int = 0
    precision: Precision = 'fp32'

    def __post_init__(self) -> None:
        _check_known('normalisations', self.normalisation, NORMALISATIONS)
        if type(self.guides) is not int or not 0 <= self.guides <= MOST_GUIDES:
            raise ModelError(f'guides is {self.guides!r}; give a number from 0 to {MOST_GUIDES}')
        if any(type(n) is not int or not 0 <= n <= LARGEST_PATCH for n in edges(self.patch_size)):
            raise ModelError(
                f'patch_size is {self.patch_size!r}; give a number from 0 to {LARGEST_PATCH}, or '
                'three'
            )
        for name in ('spacing_mm', 'slice_thickness_mm'):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ModelError(
                    f'{name} is {low:g} to {high:g}; give the lower one first, above 0'
                )
        if not 0 <= self.back_projection <= 1:
            raise ModelError(f'back_projection is {self.back_projection!r}; give 0 to 1')
        _check_known('interpolations', self.interpolation, INTERPOLATIONS)
        if self.precision not in get_args(Precision):
            raise ModelError(
                f'unknown precision {self.precision!r}; known are {", ".join(get_args(Precision))}'
            )
        for name in ('back_projection_steps', 'input_back_projection_steps'):
            steps = getattr(self, name)
            if type(steps) is not int or not 0 <= steps <= MOST_STEPS:
                raise ModelError(f'{name} is {steps!r}; give a number from 0 to {MOST_STEPS}')


@dataclass(frozen=True)
class ModelCard:
    """Description of a trained network, stored as JSON beside its weights.

    Attributes:
        name: Short name, letters, digits and hyphens.
        version: Version of the weights.
        description: What it does, for whom, and what it must not be used for.
        architecture: Name known to `bids_segsr.networks.create`.
        options: Its options.
        contract: What the input must be like.
        channels: Meaning of each output channel, in order.
        labels: Value in the hard segmentation to name of the structure.
        training: How and on what it was trained; sources with their licences.
        scores: What was measured on held-out subjects.
        limitations: Where it fails, one sentence each.
        licence: Licence of the weights.
        citation: What to cite.
        sha256: Hash of the weights file, hexadecimal; empty when it was imported and not saved.
        schema_version: Version of this layout.
    """

    name: str
    version: str
    description: str
    architecture: str
    options: dict[str, Any]
    contract: InputContract
    channels: tuple[str, ...]
    labels: dict[int, str]
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    limitations: tuple[str, ...] = ()
    licence: str = ''
    citation: tuple[str, ...] = ()
    sha256: str = ''
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ModelError(f'name {self.name!r}: use letters, digits and hyphens')
        if not self.channels:
            raise ModelError('channels is empty; the first is the intensity')
        if len(self.channels) > 1 and not self.labels:
            raise ModelError('labels is empty; give the value of the segmented structure')
        if not all(0 < value <= LARGEST_LABEL for value in self.labels):
            raise ModelError(f'labels are {sorted(self.labels)}; give 1 to {LARGEST_LABEL}')

    @property
    def finds_brain(self) -> bool:
        """Whether it makes brain masks for other models, from images that it leaves alone."""
        return 'brain' in self.channels[1:]

    @property
    def conditional(self) -> bool:
        """Whether the network is told the distance of the slices."""
        return bool(self.options.get('conditional'))

    @property
    def cortex_class(self) -> int | None:
        """Place of the cortex among the classes (`channels[2:]`), background 0.

        None where the cortex is a channel by itself, beside the classes or without any. The cortex
        channel of a tissue U-Net is its first class, whatever that is called.
        """
        classes = self.channels[2:]
        if not self.regions or not self.labels:
            return None
        name = self.labels[min(self.labels)]
        if name in classes:
            return classes.index(name)
        return 1 if self.architecture.startswith('tissue-unet') else None

    @property
    def regions(self) -> tuple[str, ...]:
        """Classes of the region map, without its background; none for most models.

        The channels are the intensity, the cortex, and the classes, background first.
        """
        return self.channels[3:]

    def to_json(self) -> str:
        """Return the card as indented JSON text."""
        content = dataclasses.asdict(self)
        content = {'schema_version': content.pop('schema_version'), **content}
        return json.dumps(content, indent=2, ensure_ascii=False) + '\n'

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Read a card.

        Args:
            text: What `to_json` wrote.

        Returns:
            The card.

        Raises:
            ModelError: If the text is no JSON, of a newer schema, lacks a field, or has one that
                is unknown, of a wrong type or out of its range.
        """
        try:
            content = json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise ModelError(f'not valid JSON ({error})') from error
        if not isinstance(content, dict) or 'schema_version' not in content:
            raise ModelError('not a model card (no schema_version)')
        if content['schema_version'] != SCHEMA_VERSION:
            raise ModelError(
                f'schema version {content["schema_version"]}, this release reads '
                f'{SCHEMA_VERSION}; use the release of bids_segsr that it was written for'
            )
        contract, options, training = (
            table if isinstance(table := content.get(name), dict) else {}
            for name in ('contract', 'options', 'training')
        )
        # cards were written without these, and the option or the recipe alone told
        contract.setdefault('guides', options.get('guides', 0))
        contract.setdefault('interpolation', _interpolation(str(training.get('recipe_file'))))
        try:
            return read_dataclass(cls, content, 'wrong field')
        except UserError as error:
            raise ModelError(str(error)) from None


def _check_known(
    kind: Literal['interpolations', 'normalisations'], name: str, own: Iterable[str]
) -> None:
    if name in own:
        return
    others = extension_names(kind)
    if name not in others:
        raise ModelError(
            f'unknown {kind.removesuffix("s")} {name!r}; known are {", ".join([*own, *others])}; '
            'install the package that brings it'
        )


def _interpolation(recipe: str) -> str:
    """Read from the recipe how a training interpolated: cards were written without the field."""
    found = re.search(r"^interpolation\s*=\s*['\"]([\w-]+)", recipe, re.M)
    return found[1] if found else 'cubic'


def _refuse(constant: str) -> None:
    raise ValueError(f'{constant} is no number')


def read_card(path: Path) -> ModelCard:
    """Read a card from a file.

    Args:
        path: JSON file.

    Returns:
        The card.

    Raises:
        ModelError: If it cannot be read or is no card; names the file.
    """
    try:
        if path.stat().st_size > CARD_SIZE_LIMIT:
            raise ModelError(f'longer than {CARD_SIZE_LIMIT} bytes, no model card')
        return ModelCard.from_json(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f'{path}: cannot be read ({error}); give a model card') from error
    except ModelError as error:
        raise ModelError(f'{path}: {error}') from error
