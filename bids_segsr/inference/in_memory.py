"""Images in memory, as files: the same checks and the same reader serve all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import nibabel as nib
import numpy as np

from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.inference.one_image import Source

ImageLike: TypeAlias = 'str | Path | np.ndarray | nib.spatialimages.SpatialImage'
"""A file or DICOM folder, an image of nibabel, or an array (X, Y, Z) that comes with an affine."""


def as_source(
    folder: Path,
    image: ImageLike,
    affine: np.ndarray | None = None,
    mask: ImageLike | None = None,
    guides: Sequence[ImageLike] = (),
    name: str | None = None,
) -> Source:
    """Return an image and what belongs to it, as files.

    Args:
        folder: Where what is in memory is written.
        image: The image.
        affine: Voxel to RAS+ mm (4 x 4) of arrays; None for that of an image of nibabel.
        mask: Brain mask.
        guides: Images of other contrasts.
        name: What an image in memory is called; None for the name of its file, or `image`.

    Raises:
        UserError: An array comes without affine, or the name is none.
        ImageError: Voxels or affine cannot be those of an image.
    """
    if name is not None and (Path(name).name != name or isinstance(image, (str, Path))):
        raise UserError(f'name {name!r}: without folders, and only for an image in memory')
    path = _file(folder, image, affine, name or _name_of(image))
    if affine is None and not isinstance(image, (str, Path, np.ndarray)):
        affine = image.affine
    others = [_file(folder, each, affine, f'guide-{n}') for n, each in enumerate(guides, 1)]
    return Source(
        path, None if mask is None else _file(folder, mask, affine, 'mask'), tuple(others)
    )


def _file(folder: Path, image: ImageLike, affine: np.ndarray | None, name: str) -> Path:
    if isinstance(image, (str, Path)):
        return Path(image)
    header = None
    if isinstance(image, np.ndarray):
        if affine is None:
            raise UserError(f'{name}: an array needs its affine (voxel to RAS+ mm, 4 x 4)')
        data = image
    else:
        data, affine, header = np.asanyarray(image.dataobj), image.affine, image.header
    if data.dtype.kind not in 'biuf':
        raise ImageError(f'{name}: voxels of type {data.dtype} are not intensities')
    path = folder / f'{name}.nii'
    affine = np.asarray(affine, dtype=float)
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise ImageError(f'{name}: the affine must be 4 x 4 finite numbers')
    if not np.linalg.det(affine[:3, :3]):
        raise ImageError(f'{name}: the affine cannot be inverted')
    stored = nib.Nifti1Image(data.astype(np.float32), affine, header)
    stored.set_data_dtype(np.float32)
    nib.save(stored, path)
    return path


def _name_of(image: ImageLike) -> str:
    """Return what an image is called that came from a file, or `image`."""
    path = image.get_filename() if isinstance(image, nib.spatialimages.SpatialImage) else None
    return Path(path).name.partition('.')[0] if path else 'image'
