"""Label maps and recipes for the tests of simulated samples."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np

from bids_segsr.simulation.synthesis import Synthesis, make_sample
from bids_segsr.simulation.tables import (
    AcquisitionRanges,
    Appearance,
    Deformation,
)


def write_labels(path, numbers=(3, 2)):
    """A ball of white matter in a folded shell of cortex, FreeSurfer numbers."""
    axis = np.linspace(-1.2, 1.2, 64)
    x, y, z = np.meshgrid(axis, axis, axis, indexing='ij')
    folds = 0.06 * np.sin(9 * x) * np.sin(9 * y) * np.sin(9 * z)
    radius = np.sqrt(x**2 + y**2 + z**2) + folds
    labels = np.where(radius < 0.75, numbers[1], np.where(radius < 0.9, numbers[0], 0))
    # Stored left to right and with another order of axes than the processing wants.
    affine = np.array([[-1.0, 0, 0, 60], [0, 0, 1, -20], [0, -1, 0, 30], [0, 0, 0, 1]])
    nib.Nifti1Image(labels.astype(np.int16), affine).to_filename(path)
    return path


def plain_recipe(appearance=None, **acquisition):
    plain = {'ratio': (3, 3), 'usual_share': 0, 'gap': 0, 'noise': (0, 0)}
    plain |= {'in_plane_share': 0, 'motion_share': 0, 'stripped_share': 0}
    shares = {'random_share': 0, 'rim_share': 0, 'loose_share': 0, 'skull_share': 0}
    return Synthesis(
        Appearance(
            **({'texture': (0, 0), 'bias': (0, 0), 'gamma': 0} | shares | (appearance or {}))
        ),
        AcquisitionRanges(**(plain | acquisition)),
        Deformation(voxel=(1, 1), usual_share=0, stretch=0, turn=0, bend=0),
    )


def sample_of(*arguments):
    """`make_sample`, as NumPy arrays."""
    sample = make_sample(*arguments)
    arrays = {n: getattr(sample, n).numpy() for n in ('image', 'truth', 'tissues', 'brain')}
    return replace(sample, **arrays)


def write_balls(path, whole, spacing=1.0, flip=False):
    """A ball of white matter in cortex, radius 30 mm; in skin (label 511) where it is whole."""
    axis = np.arange(round(96 / spacing)) * spacing - 48
    radius = np.sqrt(sum(a.astype(float) ** 2 for a in np.meshgrid(*[axis] * 3, indexing='ij')))
    labels = np.where(radius < 26, 2, np.where(radius < 30, 3, 0))
    if whole:
        labels = np.where((labels == 0) & (radius < 42), 511, labels)
    affine = np.diag([-spacing if flip else spacing, spacing, spacing, 1])
    nib.Nifti1Image(labels.astype(np.int16), affine).to_filename(path)
    return path


def write_scan(folder, labelling='brain', affine=None):
    """A ball of 25 mm with a darker one in it, in a box of thick slices and dim tissue."""
    affine = np.diag([-1.5, 1.5, 3.0, 1.0]) if affine is None else affine
    voxels = np.indices((80, 80, 36)).transpose(1, 2, 3, 0)
    mm = voxels @ affine[:3, :3].T
    apart = np.linalg.norm(mm - mm[44, 36, 18], axis=-1)
    scan = np.where(apart < 25, 800, 300)
    scan[np.linalg.norm(mm - mm[44, 44, 18], axis=-1) < 8] = 0
    mask, image = folder / 'x_mask.nii.gz', folder / 'x_scan.nii.gz'
    nib.Nifti1Image((apart < 25).astype(np.uint8), affine).to_filename(mask)
    nib.Nifti1Image(scan.astype(np.uint16), affine).to_filename(image)
    return mask, image
