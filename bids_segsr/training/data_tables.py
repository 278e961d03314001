"""Tables of a recipe about its data: patches, random changes, label maps."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from bids_segsr.extensions import extension_names
from bids_segsr.imaging.patch_size import PatchSize, edges
from bids_segsr.simulation.tables import (
    LABELLINGS,
    MASKED,
    AcquisitionRanges,
    Appearance,
    Deformation,
)

NORMALISATIONS = ('volume-max', 'volume-mean', 'patch-standard')
"""Of intensities, but for what other packages bring."""

UNLABELLED = 'unlabelled'
"""Labelling of scans that have no label map."""

HEAD_CHANNELS = ('intensity', 'brain')
"""What patches of heads hold."""


@dataclass(frozen=True)
class Sampling:
    """Where patches are cut. [sampling] of a recipe.

    Attributes:
        patch_size: Edge of the patches in voxels, or their three edges in the order in which the
            network sees them (slices last; else right, anterior, superior).
        mode: 'grid': every patch of a grid over the bounding box of the foreground, in random
            order, as SegSRGAN; 'random': positions drawn anew for every sample.
        stride: Distance of the patches of a grid in voxels.
        patches_per_epoch: Length of an epoch; None: all patches of the grid, also where positions
            are random.
        foreground: Least share of foreground in a patch: voxels in the mask of the subject, or
            where it has none, above 0 in the image.
        normalisation: What the network expects. 'volume-max': images divided by the maximum of
            the interpolated low-resolution volume. 'patch-standard': the same, and standardised
            later. 'volume-mean': images divided by the mean of the voxels above 0. Or what another
            package brings (`bids_segsr.extensions`).

    Raises:
        ValueError: A number is out of its range.
    """

    patch_size: PatchSize = 64
    mode: Literal['grid', 'random'] = 'random'
    stride: int = 20
    patches_per_epoch: int | None = None
    foreground: float = 0.0
    normalisation: str = 'volume-max'

    def __post_init__(self) -> None:
        least = {
            'patch_size': min(edges(self.patch_size)),
            'stride': self.stride,
            'patches_per_epoch': self.patches_per_epoch,
        }
        for key, value in least.items():
            if value is not None and value < 1:
                raise ValueError(f'{key} is {value}; give 1 or more')
        known = (*NORMALISATIONS, *extension_names('normalisations'))
        if self.normalisation not in known:
            raise ValueError(
                f'normalisation is {self.normalisation!r}; give one of {", ".join(known)}'
            )
        if not 0 <= self.foreground <= 1:
            raise ValueError(f'foreground is {self.foreground:g}; give 0 to 1')


@dataclass(frozen=True)
class Augmentation:
    """What is changed at random. [augmentation] of a recipe; by default nothing.

    Attributes:
        contrast_power: c: both images are raised to a power drawn from 1 - c to 1 + c, the sign
            kept (SegSRGAN 2020, section 4.4.3).
        noise: Standard deviation of the Gaussian noise added to the low-resolution image, as a
            share of its maximum (same section).
        flips: Flip every axis with probability one half.
        affine: Probability of a random scaling and rotation.
        elastic: Probability of an elastic deformation.
        bias_field: Probability of a bias field.
        motion: Probability of motion artefacts.
        ghosting: Probability of ghosts along an axis in plane.
        spike: Probability of a spike in k-space.

    Raises:
        ValueError: A number is out of its range.
    """

    contrast_power: float = 0.0
    noise: float = 0.0
    flips: bool = False
    affine: float = 0.0
    elastic: float = 0.0
    bias_field: float = 0.0
    motion: float = 0.0
    ghosting: float = 0.0
    spike: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.contrast_power < 1:
            raise ValueError(f'contrast_power is {self.contrast_power:g}; give 0 to below 1')
        if self.noise < 0:
            raise ValueError(f'noise is {self.noise:g}; give 0 or more')
        for entry in fields(self)[3:]:
            value = getattr(self, entry.name)
            if not 0 <= value <= 1:
                raise ValueError(f'{entry.name} is {value:g}; give a probability, 0 to 1')


@dataclass(frozen=True)
class LabelSource:
    """Label maps of one kind.

    Attributes:
        pattern: Glob pattern of the files, relative to the folder that the user names.
        labelling: What the label numbers mean: a name of `anatomy.LABELLINGS`; with `table`, the
            labelling whose contrasts suit. UNLABELLED for scans of thick slices, whose thin axes
            show the intensity what is fine; they have no part in the segmentation. One of MASKED
            for brain masks of the real scans that `image` names; for [heads] alone.
        table: Tissue (a name of `anatomy.TISSUES`) to label numbers, for another labelling.
        image: Real images on the grids of the label maps, used instead of painted ones: a path
            whose `*` stands for what the `*` of `pattern` stands for.
        share: Weight of the source among all.
        spacing_mm: Scans without labels are interpolated to this isotropic spacing; None for
            their finest.

    Raises:
        ValueError: An unknown labelling, a share that is not positive, or an image without `*`.
    """

    pattern: str = '**/*.nii*'
    labelling: str = 'adult'
    table: dict[str, tuple[int, ...]] = field(default_factory=dict)
    image: str = ''
    share: float = 1.0
    spacing_mm: float | None = None

    def __post_init__(self) -> None:
        known = (*LABELLINGS, UNLABELLED, *MASKED)
        if self.labelling not in known:
            raise ValueError(
                f'labelling {self.labelling!r} is unknown; known are {", ".join(known)}'
            )
        if self.share <= 0:
            raise ValueError(f'share is {self.share:g}; give more than 0')
        if self.image and (self.pattern.count('*') != 1 or self.image.count('*') != 1):
            raise ValueError('pattern and image must have one * each, which stand for the same')

    def image_of(self, path: Path, folder: Path) -> Path | None:
        """Return the real image of a label map in a folder, None where painted ones are used."""
        if not self.image:
            return None
        before, after = self.pattern.split('*')
        name = path.relative_to(folder).as_posix()
        return folder / self.image.replace('*', name[len(before) : len(name) - len(after)])


@dataclass(frozen=True)
class LabelMaps:
    """Label maps that training images are made from. [label_maps] of a recipe.

    Attributes:
        sources: Kinds of label maps; by default all NIfTI files, with FreeSurfer's numbers.
        hold_out: Glob patterns of file names that no training reads.
        validation: Glob patterns of file names that only follow the training; without any, a
            tenth of the maps.
        reuse: Patches cut, on average, from every volume that is made.
        appearance: Contrast, texture and bias field.
        acquisition: Slices, noise, motion. Where [forward] says how far the slices lie apart,
            that (and its gap) takes the place of `ratio` and `gap` here.
        deformation: Size and shape.

    Raises:
        ValueError: `reuse` is not positive, or a source holds brain masks alone.
    """

    sources: tuple[LabelSource, ...] = (LabelSource(),)
    hold_out: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    reuse: int = 8
    appearance: Appearance = field(default_factory=Appearance)
    acquisition: AcquisitionRanges = field(default_factory=AcquisitionRanges)
    deformation: Deformation = field(default_factory=Deformation)

    def __post_init__(self) -> None:
        if self.reuse < 1:
            raise ValueError(f'reuse is {self.reuse}; give 1 or more')
        for source in self.sources:
            if source.labelling in MASKED:
                raise ValueError(
                    f'source {source.pattern!r}: {source.labelling!r} is for [heads] alone'
                )


@dataclass(frozen=True)
class Heads:
    """Label maps, and scans with masks, that whole heads are made from. [heads] of a recipe.

    Attributes:
        sources: Kinds of label maps; by default all NIfTI files, with FreeSurfer's numbers.
        hold_out: Glob patterns of file names that no training reads.
        validation: Glob patterns of file names that only follow the training; without any, a
            tenth of the maps.
        spacing_mm: Of the voxels that the network works at in the end; it looks from FAR, too.

    Raises:
        ValueError: The spacing is not positive, a source of label maps has images, one of brain
            masks has none, or a source has neither.
    """

    sources: tuple[LabelSource, ...] = (LabelSource(),)
    hold_out: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    spacing_mm: float = 2.0

    def __post_init__(self) -> None:
        if self.spacing_mm <= 0:
            raise ValueError(f'spacing_mm is {self.spacing_mm:g}; give more than 0')
        for source in self.sources:
            real = source.labelling in MASKED
            if source.labelling == UNLABELLED or bool(source.image) != real:
                raise ValueError(
                    f'source {source.pattern!r}: heads are made from label maps alone '
                    f'({", ".join(LABELLINGS)}), or from brain masks ({", ".join(MASKED)}) '
                    'with an image'
                )
