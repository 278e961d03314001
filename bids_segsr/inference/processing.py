"""How an image is processed: every choice that a person has, in one frozen object."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from bids_segsr.exceptions import UserError
from bids_segsr.imaging.patch_size import PatchSize
from bids_segsr.inference.tiling import Tiling, resolve_patches

Blending = Literal['gaussian', 'uniform']
BiasCorrection = Literal['n4', 'none']
SkullStrip = Literal['auto', 'skip', 'force']
SkullStripTool = Literal['builtin', 'hd-bet', 'synthstrip']


@dataclass(frozen=True)
class Processing:
    """The choices that decide what is made of an image, model and contrast apart.

    Attributes:
        resolution: Spacing of the isotropic grid in mm; None for automatic.
        slice_thickness: FWHM of the slice profile in mm; None for what the sidecar tells, else
            the distance of the slices.
        patch_size: Edge of a patch in voxels, or its three edges in the order in which the network
            sees the axes; 0 for the whole volume, None for the default.
        step: Distance of the patches in voxels; None for the default.
        blending: Weights of overlapping patches, `gaussian` or `uniform`.
        margin: Voxels cut off at every side of a patch before they are put side by side, nothing
            blended; 0 for none. The three ways are those of `tiling.Tiling`.
        threshold: Above which probability a voxel is cortex, 0 to 1. A network that tells tissues
            apart needs none: there, the cortex is where it is the likeliest.
        keep_largest: Whether only the largest connected component of the cortex is kept.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        bias_correction: Whether the bias field is corrected, by `n4`, or not, `none`.
        skull_strip: Brain extraction: `auto` (when needed), `skip` or `force`.
        skull_strip_tool: What looks for the brain: `builtin`, or a tool of others that is
            installed, `hd-bet` or `synthstrip`.
        skull_strip_template: TemplateFlow name of the template that is registered to find the
            brain; None for the packaged network.

    Raises:
        UserError: A value is outside its range; names the flag.
    """

    resolution: float | None = None
    slice_thickness: float | None = None
    patch_size: PatchSize | None = None
    step: int | None = None
    blending: Blending = 'gaussian'
    margin: int = 0
    threshold: float = 0.5
    keep_largest: bool = False
    device: str = 'auto'
    bias_correction: BiasCorrection = 'n4'
    skull_strip: SkullStrip = 'auto'
    skull_strip_tool: SkullStripTool = 'builtin'
    skull_strip_template: str | None = None

    def __post_init__(self) -> None:
        for name in ('resolution', 'slice_thickness'):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UserError(f'{flag(name)} is {value:g}: give a positive number of mm')
        if not 0 <= self.threshold <= 1:
            raise UserError(
                f'--threshold is {self.threshold:g}: give a probability between 0 and 1'
            )
        if not re.fullmatch(r'auto|cpu|cuda(:\d+)?', self.device):
            raise UserError(f'--device is {self.device!r}: give auto, cpu, cuda or cuda:N')
        for name, allowed in (
            ('blending', Blending),
            ('bias_correction', BiasCorrection),
            ('skull_strip', SkullStrip),
            ('skull_strip_tool', SkullStripTool),
        ):
            if getattr(self, name) not in get_args(allowed):
                raise UserError(
                    f'{flag(name)} is {getattr(self, name)!r}: give one of '
                    f'{", ".join(get_args(allowed))}'
                )
        if self.skull_strip_tool != 'builtin' and self.skull_strip_template is not None:
            raise UserError(
                f'--skull-strip-tool {self.skull_strip_tool} registers no template: leave it out, '
                'or leave out --skull-strip-template'
            )
        _ = self.patches

    @property
    def patches(self) -> tuple[PatchSize, int]:
        """Patch size and step in voxels, defaults filled in."""
        return resolve_patches(self.patch_size, self.step, self.margin)

    def choices(self, *names: str) -> dict[str, Any]:
        """Return some choices by name, for a node that depends on no others."""
        return {name: getattr(self, name) for name in names}

    @property
    def tiling(self) -> Tiling:
        """How the network is put over a volume."""
        return Tiling(*self.patches, self.blending, self.margin)

    def settled(self, *, resolution: float, slice_thickness: float) -> Processing:
        """Return the choices for one image, with nothing left to a default.

        Args:
            resolution: Of the grid in mm, where none was asked for.
            slice_thickness: In mm, where none was given.
        """
        patch_size, step = self.patches
        return replace(
            self,
            resolution=self.resolution or resolution,
            slice_thickness=self.slice_thickness or slice_thickness,
            patch_size=patch_size,
            step=step,
        )


CHOICES = tuple(item.name for item in fields(Processing))
"""Names of all choices, which command lines and configuration files spell alike."""


def flag(name: str) -> str:
    """Return the flag of a choice, as both command lines spell it."""
    return '--' + name.replace('_', '-')
