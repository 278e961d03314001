"""Training images from real thick slices, whose in-plane axes are fine.

The idea of SMORE (Zhao et al., IEEE TMI 2021) and ECLARE (Remedios et al.): what a scan resolves
in plane is real fine structure. It is blurred along one in-plane axis as thick slices would, and
the network learns to undo that; along its own slices the image stays as it is, in the input and in
the truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from bids_segsr.exceptions import ImageError
from bids_segsr.imaging.brain_mask import foreground_mask, is_skull_stripped
from bids_segsr.imaging.conform import acquired_axis
from bids_segsr.imaging.resample import isotropic_grid, resample, resample_mask
from bids_segsr.imaging.volume import load_fine
from bids_segsr.simulation.contrast import vary_real
from bids_segsr.simulation.synthesis import Sample, Synthesis
from bids_segsr.simulation.tables import CLASSES
from bids_segsr.simulation.thick_slices import acquire, draw_stack

_HEAD = 0.1
"""Share of the bright intensities above which a voxel belongs to the head."""


@dataclass(frozen=True)
class ThinAxes:
    """A real scan on an isotropic grid.

    Attributes:
        name: File name.
        image: (i, j, k) float32, RAS+ axes, 1 for the 99.5th percentile of the head; of a stripped
            scan 0 outside the brain.
        slice_axis: Axis along which the acquired slices followed each other.
    """

    name: str
    image: np.ndarray
    slice_axis: int

    @cached_property
    def stripped(self) -> bool:
        """Whether it shows a brain alone."""
        return is_skull_stripped(self.image)


def read_thin_axes(path: Path, resolution: float) -> ThinAxes:
    """Read a scan and interpolate it.

    Args:
        path: NIfTI image of thick slices.
        resolution: Spacing of the grid in mm, not finer than the scan in plane.

    Returns:
        The scan.

    Raises:
        ImageError: The file cannot be read or holds no signal.
    """
    scan = load_fine(path)
    grid = isotropic_grid(scan.data.shape, scan.affine, resolution)
    image = np.maximum(resample(scan.data, scan.affine, grid), 0)
    if is_skull_stripped(scan.data):
        inside = ndimage.binary_fill_holes(
            resample_mask(foreground_mask(scan.data), scan.affine, grid)
        )
        # above 0 within the brain, so that it is known
        image = np.where(inside, np.maximum(image, 1e-6 * image.max()), np.float32(0))
    head = image[image > _HEAD * np.percentile(image, 99)]
    if not head.size:
        raise ImageError(f'{path}: no voxel is above 0.')
    axis = acquired_axis(scan.affine, grid.affine)
    return ThinAxes(path.name, image / np.percentile(head, 99.5), axis)


def make_thin_sample(
    scan: ThinAxes,
    shape: tuple[int, int, int],
    recipe: Synthesis,
    rng: np.random.Generator,
    device: torch.device | str = 'cpu',
) -> Sample:
    """Make one training volume.

    Args:
        scan: The scan.
        shape: Voxels of the volume, slice axis last.
        recipe: What is drawn at random; of the contrast only the exponent.
        rng: Source of random numbers; the same state gives the same sample on a device.
        device: Where it is made.

    Returns:
        The sample: the head as it lies, mirrored left to right or not, an in-plane axis of the
        scan last; its tissues are all 0: not known. Where the scan is shorter than `shape`, the
        border is repeated.
    """
    stack = draw_stack(recipe.acquisition, rng)
    margin = int(np.ceil(2 * stack.ratio))
    thin = int(rng.choice([axis for axis in range(3) if axis != scan.slice_axis]))
    image = scan.image[:: rng.choice((-1, 1))]
    turned = np.moveaxis(image, thin, -1)

    full = np.array([shape[0], shape[1], shape[2] + 2 * margin])
    bright = np.argwhere(turned[::4, ::4, ::4] > _HEAD) * 4
    centre = bright[rng.integers(len(bright))]
    low = np.clip(centre - full // 2, 0, np.maximum(np.array(turned.shape) - full, 0))
    box = turned[tuple(slice(a, a + n) for a, n in zip(low, full, strict=True))]
    box = np.pad(box, [(0, n - m) for n, m in zip(full, box.shape, strict=True)], mode='edge')
    seen = torch.from_numpy(np.ascontiguousarray(box)).to(device)
    truth = vary_real(seen, recipe.appearance, rng)
    shown = None
    if scan.stripped:
        shown = seen > 0
        truth = truth * shown
    acquired, brain = acquire(truth, shown, stack, rng, recipe.back_projection)
    truth = truth * brain
    inner = (..., slice(margin, margin + shape[2]))
    tissues = torch.zeros((len(CLASSES), *truth.shape), device=device)
    return Sample(acquired[inner], truth[inner], tissues[inner], brain[inner], stack.ratio)
