"""Brain masks: recognise a stripped image, or carry a template's mask over."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull
from skimage.filters import threshold_otsu

from bids_segsr.exceptions import UserError
from bids_segsr.imaging.components import (
    bounding_box,
    drop_specks,
    keep_largest_component,
    topology,
)
from bids_segsr.imaging.intensities import outer_background
from bids_segsr.imaging.resample import Grid, isotropic_grid, resample

SPECK_SHARE = 0.01
"""Of the foreground of a stripped image: a smaller piece is no part of the brain."""

REGISTRATION_SPACING_MM = 2.0

FOLD_MM = 6.0
"""Half the width of the folds that are closed before the shape of a mask is judged."""

SHAPE_SPACING_MM = 2.0
"""Voxels of which the shape of a mask is judged, at most."""


def is_skull_stripped(data: np.ndarray) -> bool:
    """Tell whether an image holds a brain only, on an empty background.

    Args:
        data: Image of three axes.

    Returns:
        Whether it is stripped (see `intensities.outer_background`).
    """
    return outer_background(data) is not None


def foreground_mask(data: np.ndarray) -> np.ndarray:
    """Return the brain of a stripped image: its foreground without specks, holes filled.

    Whoever stripped the image left the brain: a lost slice, or a cut, makes several pieces of it.

    Args:
        data: Stripped image of three axes.

    Returns:
        Boolean array.
    """
    background = outer_background(data)
    foreground = data != (data.min() if background is None else background)
    return ndimage.binary_fill_holes(drop_specks(foreground, SPECK_SHARE))


def otsu_foreground(data: np.ndarray) -> np.ndarray:
    """Return the brain on a background that is not quite empty, such as noise or ringing.

    Args:
        data: Image of three axes that shows a brain alone.

    Returns:
        Boolean array: the largest component that is nearer to the bright of Otsu's two classes
        than to the dark one, holes filled; every voxel where all are equal.
    """
    low, high = float(data.min()), float(data.max())
    if low == high:
        return np.ones(data.shape, dtype=bool)
    # flat: of three axes, scikit-image takes a short last one for colours
    bright: np.ndarray = data > threshold_otsu(data.ravel())
    # in a gap between dark and bright every threshold is as good to Otsu, who takes the lowest
    bright = data > (float(data[bright].mean()) + float(data[~bright].mean())) / 2
    return ndimage.binary_fill_holes(keep_largest_component(bright))


def find_template(name: str, suffix: str) -> tuple[Path, Path]:
    """Find a whole-head template and its brain mask in the local TemplateFlow archive.

    Nothing is downloaded: a template is used when its files lie in `TEMPLATEFLOW_HOME`. Listing a
    whole archive, 2,645 files that are empty until they are fetched, takes TemplateFlow 6 s.

    Args:
        name: TemplateFlow name, with `:cohort-N` where the template has cohorts.
        suffix: Contrast; where the template lacks it, the other one is taken.

    Returns:
        The image and the mask.

    Raises:
        UserError: The files are not there.
    """
    home = Path(os.environ.get('TEMPLATEFLOW_HOME', Path.home() / '.cache' / 'templateflow'))
    return _template_in(home, name, suffix)


@lru_cache  # not of errors: a template may be fetched meanwhile
def _template_in(home: Path, name: str, suffix: str) -> tuple[Path, Path]:
    template, _, cohort = name.partition(':')
    # importing TemplateFlow fills a home that is empty
    if (home / f'tpl-{template}').is_dir():
        from templateflow.client import TemplateFlowClient

        masks = TemplateFlowClient(root=home).ls(
            template,
            cohort=cohort.removeprefix('cohort-') or None,
            desc='brain',
            suffix='mask',
            extension='.nii.gz',
        )
        for mask in sorted(path for path in masks if _fetched(path)):
            for contrast in dict.fromkeys((suffix, 'T1w', 'T2w')):
                image = mask.with_name(mask.name.replace('_desc-brain_mask', f'_{contrast}'))
                if _fetched(image):
                    return image, mask
    raise UserError(
        f'skull stripping needs the TemplateFlow template {name}, which is not in {home}: '
        'fetch it where there is a network (templateflow.api.get) and set TEMPLATEFLOW_HOME, '
        'give a brain mask (--derivatives, segsr predict: --mask), or use --skull-strip skip.'
    )


def _fetched(path: Path) -> bool:
    """Whether a file of TemplateFlow is more than the empty one that stands for it."""
    return path.is_file() and path.stat().st_size > 0


def mask_by_registration(
    data: np.ndarray,
    affine: np.ndarray,
    template: Path,
    template_mask: Path,
    seed: int = 1,
) -> np.ndarray:
    """Carry the brain mask of a template over to a whole-head image.

    The template is registered to the image by ANTs (affine, then SyN, mutual information, both at
    2 mm), which does not need the contrasts to agree.

    Args:
        data: Whole-head image of three axes.
        affine: Voxel to RAS+ mm (4 x 4).
        template: Whole-head template, NIfTI.
        template_mask: Its brain mask, on the same grid.
        seed: Seed of the metric's random sampling.

    Returns:
        Boolean array on the image's grid, one component without holes.
    """
    # several threads sum in another order every time, and ITK fixes their number at its first
    # use in a process: a process of its own is the only way to the same bytes in every run
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn')) as pool:
        return pool.submit(_register, data, affine, template, template_mask, seed).result()


def _register(
    data: np.ndarray, affine: np.ndarray, template: Path, template_mask: Path, seed: int
) -> np.ndarray:
    import ants
    from ants.config import set_ants_deterministic

    set_ants_deterministic(on=True, seed_value=seed)
    grid = isotropic_grid(data.shape, affine, REGISTRATION_SPACING_MM)
    fixed = _to_ants(resample(data, affine, grid), grid)
    moving = ants.resample_image(
        ants.image_read(str(template)), (REGISTRATION_SPACING_MM,) * 3, interp_type=0
    )
    registration = ants.registration(
        fixed,
        moving,
        type_of_transform='SyN',
        aff_metric='mattes',
        syn_metric='mattes',
    )
    moved = ants.apply_transforms(
        fixed,
        ants.image_read(str(template_mask)),
        registration['fwdtransforms'],
        interpolator='linear',
    )
    for name in {*registration['fwdtransforms'], *registration['invtransforms']}:
        Path(name).unlink(missing_ok=True)
    mask = resample(moved.numpy(), grid.affine, Grid(data.shape, affine), order=1) >= 0.5
    return ndimage.binary_fill_holes(keep_largest_component(mask))


def _to_ants(data: np.ndarray, grid: Grid) -> Any:
    import ants

    flip = np.diag([-1.0, -1.0, 1.0])
    return ants.from_numpy(
        data,
        origin=list(flip @ grid.affine[:3, 3]),
        spacing=list(grid.spacing),
        direction=flip @ grid.affine[:3, :3] / np.array(grid.spacing),
    )


def solidity(mask: np.ndarray, spacing: Sequence[float]) -> float:
    """Return the volume of a mask over that of its convex hull, its folds closed.

    Masks of whole brains have 0.84 to 0.92, whether they follow the sulci or not, from a fetus of
    21 weeks to adults; what a network takes for a brain in another organ has 0.56 to 0.80.

    Args:
        mask: Boolean array of three axes.
        spacing: Of its voxels in mm.

    Returns:
        0 to 1; NaN for a mask that is empty or flat.
    """
    steps = [max(1, round(SHAPE_SPACING_MM / s)) for s in spacing]
    coarse = np.asarray(mask, dtype=bool)[tuple(slice(None, None, step) for step in steps)]
    sampling = [s * step for s, step in zip(spacing, steps, strict=True)]
    if not coarse.any():
        return float('nan')
    inside = np.pad(
        coarse[bounding_box(coarse)], [(int(2 * FOLD_MM // s) + 1,) * 2 for s in sampling]
    )
    near = ndimage.distance_transform_edt(~inside, sampling=sampling) <= FOLD_MM
    closed = inside | (ndimage.distance_transform_edt(near, sampling=sampling) > FOLD_MM)
    edge = np.argwhere(closed & ~ndimage.binary_erosion(closed))
    corners = np.concatenate([edge + corner for corner in np.ndindex(2, 2, 2)]) * sampling
    hull = ConvexHull(corners)
    return float(closed.sum() * np.prod(sampling) / hull.volume)


def share_at_border(mask: np.ndarray) -> float:
    """Return how far a mask runs out of its array.

    Args:
        mask: Boolean array of three axes.

    Returns:
        Of the six faces of the array, the largest area of the mask on one over its largest section
        parallel to that face, 0 to 1; 0 for an empty mask.
    """
    shares = [0.0]
    for axis in range(3):
        areas = np.asarray(mask, dtype=bool).sum(axis=tuple(a for a in range(3) if a != axis))
        if areas.any():
            shares.append(float(max(areas[0], areas[-1]) / areas.max()))
    return max(shares)


def pieces(mask: np.ndarray) -> int:
    """Count the connected pieces (26 neighbours) of a mask; specks do not count."""
    return topology(drop_specks(mask, SPECK_SHARE)).components


def brightness(data: np.ndarray, mask: np.ndarray) -> float | None:
    """Return the mean of an image inside a mask over its mean outside.

    Args:
        data: Image of three axes, 0 in air.
        mask: Boolean array of its shape.

    Returns:
        The ratio; None where nothing or everything is inside, or the image is stripped.
    """
    outside = data[~mask]
    if not mask.any() or not outside.any() or is_skull_stripped(data):
        return None
    return float(data[mask].mean() / outside.mean())
