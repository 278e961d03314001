"""Random changes of training images, drawn anew for every sample.

Shape and bias field change the fine image, before it is acquired: labels and guides follow its
shape. Contrast changes both images alike. Noise and artefacts are the scanner's: they change the
low-resolution image alone. Deformations and artefacts are TorchIO's (Perez-Garcia et al. 2021),
which draws from torch's global generator; that is seeded for each sample and restored after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bids_segsr.environment import seeded
from bids_segsr.imaging.degrade import with_noise
from bids_segsr.training.data_tables import Augmentation

if TYPE_CHECKING:
    import torchio

DEGREES = 8.0
SCALING = 0.1
"""Largest rotation about each axis and relative change of size of `affine`."""

MARGIN = 0.2
"""Share of a region by which it is read larger on each side, so that no corner is missing after
the largest turn and shrinking."""

CONTROL_POINTS = 7
BIAS_ORDER = 2
BIAS_COEFFICIENTS = 0.2
MOTION_DEGREES, MOTION_MM = 3.0, 2.0
GHOSTS, GHOST_INTENSITY = (2, 6), (0.1, 0.5)
SPIKE_INTENSITY = (0.1, 0.5)


@dataclass(frozen=True)
class Changes:
    """What is changed in one sample.

    Attributes:
        power: Exponent of both images.
        noise: Standard deviation of the noise, as a share of the maximum.
        flipped: Axes that are flipped.
        shape: 'affine' and 'elastic', where the shape changes.
        bias_field: Whether the image gets one.
        artefacts: Of 'motion', 'ghosting' and 'spike'.
    """

    power: float
    noise: float
    flipped: tuple[int, ...]
    shape: tuple[str, ...]
    bias_field: bool
    artefacts: tuple[str, ...]


def draw_changes(augmentation: Augmentation, rng: np.random.Generator) -> Changes:
    """Draw what is changed in one sample."""

    def chosen(*names: str) -> tuple[str, ...]:
        return tuple(name for name in names if rng.random() < getattr(augmentation, name))

    c = augmentation.contrast_power
    return Changes(
        power=float(rng.uniform(1 - c, 1 + c)),
        noise=augmentation.noise,
        flipped=tuple(axis for axis in range(3) if augmentation.flips and rng.random() < 0.5),
        shape=chosen('affine', 'elastic'),
        bias_field=bool(chosen('bias_field')),
        artefacts=chosen('motion', 'ghosting', 'spike'),
    )


def deform(
    changes: Changes,
    images: np.ndarray,
    labels: np.ndarray,
    spacing: Sequence[float],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Change the shape, and give the first image a bias field.

    Args:
        changes: What to do.
        images: (N, i, j, k) float32; interpolated by cubic B-spline.
        labels: (M, i, j, k) float32 shares of each label; interpolated linearly, so that they
            become soft and still sum to what they did.
        spacing: In mm.
        rng: Source of random numbers.

    Returns:
        Both, of the same shapes. Close to the border something may be missing (see MARGIN).
    """
    if not changes.shape and not changes.bias_field:
        return images, labels
    import torchio as tio

    affine = np.diag([*spacing, 1.0])
    parts: dict[str, Any] = {
        'image': tio.ScalarImage(tensor=torch.from_numpy(images[:1]), affine=affine)
    }
    if len(images) > 1:
        parts['guides'] = tio.ScalarImage(tensor=torch.from_numpy(images[1:]), affine=affine)
    if len(labels):
        parts['labels'] = tio.LabelMap(tensor=torch.from_numpy(labels), affine=affine)
    extent = np.array(images.shape[1:]) * np.array(spacing)
    with seeded(rng):
        subject = tio.Subject(parts)
        for name in changes.shape:
            subject = _deformation(name, extent)(subject)
        if changes.bias_field:
            field = tio.RandomBiasField(BIAS_COEFFICIENTS, BIAS_ORDER, include=['image'])
            subject = field(subject)
    found = {name: subject[name].data.numpy().astype(np.float32) for name in parts}
    changed = [found['image']] + ([found['guides']] if 'guides' in found else [])
    return np.concatenate(changed), found.get('labels', labels)


def change_contrast(changes: Changes, image: np.ndarray) -> np.ndarray:
    """Raise intensities to the power, the sign kept."""
    if changes.power == 1:
        return image
    raised: np.ndarray = np.sign(image) * np.abs(image) ** changes.power
    return raised.astype(np.float32)


def add_noise(
    changes: Changes, low: np.ndarray, maximum: float, rng: np.random.Generator
) -> np.ndarray:
    """Add Gaussian noise to a low-resolution image.

    Args:
        changes: What to do.
        low: Low-resolution image.
        maximum: Of the whole low-resolution volume.
        rng: Source of random numbers.

    Returns:
        float32 image.
    """
    if not changes.noise:
        return low
    return with_noise(low, changes.noise * maximum, rng)


def add_artefacts(
    changes: Changes,
    low: np.ndarray,
    spacing: Sequence[float],
    slice_axis: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Add motion, ghosts and spikes to a low-resolution image.

    Args:
        changes: What to do.
        low: Low-resolution image (i, j, k).
        spacing: Of its voxels in mm.
        slice_axis: Ghosts follow the other axes.
        rng: Source of random numbers.

    Returns:
        float32 image.
    """
    if not changes.artefacts:
        return low
    import torchio as tio

    in_plane = tuple(axis for axis in range(3) if axis != slice_axis)
    transforms = {
        'motion': tio.RandomMotion(MOTION_DEGREES, MOTION_MM),
        'ghosting': tio.RandomGhosting(GHOSTS, in_plane, GHOST_INTENSITY),
        'spike': tio.RandomSpike(intensity=SPIKE_INTENSITY),
    }
    tensor = torch.from_numpy(np.ascontiguousarray(low[None], dtype=np.float32))
    with seeded(rng):
        image = tio.ScalarImage(tensor=tensor, affine=np.diag([*spacing, 1.0]))
        for name in changes.artefacts:
            image = transforms[name](image)
    return np.asarray(image.data[0].numpy(), dtype=np.float32)


def _deformation(name: str, extent: np.ndarray) -> torchio.Transform:
    import torchio as tio

    how = {'image_interpolation': 'bspline', 'label_interpolation': 'linear'}
    if name == 'affine':
        return tio.RandomAffine(SCALING, DEGREES, default_pad_value=0, **how)
    # a third of the distance of the control points does not fold
    displacement = extent / (CONTROL_POINTS - 2) / 3
    return tio.RandomElasticDeformation(CONTROL_POINTS, tuple(displacement), **how)
