"""Reading, checking and writing of images."""

from __future__ import annotations

import locale
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from bids_segsr.exceptions import ImageError
from bids_segsr.imaging.conform import mend_affine, spacing_of

LARGEST_DEFLATE_RATIO = 1100

NIFTI_SUFFIXES = ('.nii', '.nii.gz')


@dataclass(frozen=True)
class Volume:
    """A 3-D image and where it lies.

    Attributes:
        data: Intensities, float32, array axes (i, j, k) as stored in the file.
        affine: Voxel index to RAS+ mm (4 x 4), axes orthogonal.
        notes: What had to be mended in the header, one sentence each.
    """

    data: np.ndarray
    affine: np.ndarray
    notes: tuple[str, ...] = ()

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in mm between voxel centres along each array axis."""
        return spacing_of(self.affine)


def load_volume(path: str | Path) -> Volume:
    """Read a NIfTI file or a folder of DICOM slices, and check that it can be processed.

    Args:
        path: A `.nii` or `.nii.gz` file, or a folder that holds one DICOM series.

    Returns:
        The image in its stored axis order, its header mended (see `conform.mend_affine`).

    Raises:
        ImageError: The file is missing, empty, truncated or no NIfTI; is not 3-D; has a single
            slice; holds NaN, infinite or only constant voxels; or no affine can be inverted.
    """
    path = Path(path)
    if path.is_dir():
        volume = _load_dicom_folder(path)
    else:
        data, affine, notes = _load_nifti(path)
        volume = Volume(data, affine, notes)
    _check_voxels(volume.data, path)
    return volume


def load_mask(path: str | Path, like: Volume) -> np.ndarray:
    """Read a mask that must lie on the grid of an image.

    Args:
        path: NIfTI file; voxels above 0.5 are inside.
        like: The image that the mask belongs to.

    Returns:
        Boolean array of the image's shape.

    Raises:
        ImageError: The file cannot be read, lies on another grid (shape, or any corner more than
            0.1 mm away), or is empty.
    """
    path = Path(path)
    data, affine, _ = _load_nifti(path)
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in like.data.shape]), -1).reshape(-1, 3)
    if data.shape != like.data.shape or not np.allclose(
        apply_affine(affine, corners),
        apply_affine(like.affine, corners),
        atol=0.1,
    ):
        raise ImageError(
            f'{path}: the mask lies on another grid (shape {data.shape}) than its image '
            f'(shape {like.data.shape}); resample it to the image, or leave it out.'
        )
    mask = data > 0.5
    if not mask.any():
        raise ImageError(f'{path}: the mask is empty; mend it, or leave it out.')
    return mask


def load_map(path: str | Path) -> Volume:
    """Read a map of our own making, such as a probability map; it may be constant.

    Raises:
        ImageError: The file cannot be read.
    """
    return Volume(*_load_nifti(Path(path)))


def save_volume(
    path: str | Path, data: np.ndarray, affine: np.ndarray, dtype: type | None = None
) -> Path:
    """Write an image as NIfTI-1, with sform and qform alike (code 1, scanner) and units mm.

    Args:
        path: Where to; `.nii` or `.nii.gz` (compressed without a time stamp: same bytes for the
            same image).
        data: Image of three axes; a boolean image is stored as uint8, a floating one as float32,
            other integers as they are.
        affine: Voxel to RAS+ mm (4 x 4), axes orthogonal.
        dtype: Stored type where the rule above is not wanted.

    Returns:
        The path.
    """
    data = np.asarray(data)
    if dtype is None:
        if data.dtype == bool:
            dtype = np.uint8
        elif np.issubdtype(data.dtype, np.floating):
            dtype = np.float32
        else:
            dtype = data.dtype.type
    image = nib.Nifti1Image(np.asarray(data, dtype=dtype), affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units('mm')
    image.header.set_slope_inter(1, 0)
    nib.save(image, path)
    return Path(path)


def _load_nifti(path: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    if not path.name.endswith(NIFTI_SUFFIXES):
        raise ImageError(f'{path}: not a NIfTI file name; give a .nii or .nii.gz file.')
    if not path.is_file():
        raise ImageError(f'{path}: no such file; check the path.')
    if path.stat().st_size == 0:
        raise ImageError(f'{path}: the file is empty; copy or convert it again.')
    try:
        image = nib.load(path)
    except (ImageFileError, HeaderDataError, OSError, EOFError, zlib.error, ValueError) as error:
        raise ImageError(
            f'{path}: not readable as NIfTI ({_one_line(error)}); convert it again.'
        ) from error
    if not isinstance(image, nib.Nifti1Image):
        raise ImageError(f'{path}: not a NIfTI file; convert it to .nii.gz.')

    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise ImageError(
            f'{path}: the image has {len(shape)} dimensions {shape}; give one 3-D image.'
        )
    if min(shape) < 2:
        raise ImageError(
            f'{path}: a single slice (shape {shape}) cannot be super-resolved; '
            'give the whole stack.'
        )
    if image.get_data_dtype().kind not in 'iuf':
        raise ImageError(
            f'{path}: voxels of type {image.get_data_dtype()} are not intensities; '
            'give a magnitude image.'
        )
    # deflate packs at most 1032 bytes into one: a header that promises more is damaged
    promised = math.prod(shape) * image.get_data_dtype().itemsize
    if promised > LARGEST_DEFLATE_RATIO * path.stat().st_size:
        raise ImageError(
            f'{path}: truncated or damaged (the header promises {promised} bytes of voxels); '
            'copy or convert it again.'
        )
    try:
        affine, notes = mend_affine(image.header, shape)
    except ValueError as error:
        raise ImageError(
            f'{path}: {_one_line(error)} (zero or degenerate); mend the header, '
            'for example by converting from DICOM again.'
        ) from error
    try:
        data = np.asarray(image.dataobj, dtype=np.float32).reshape(shape)
    except (OSError, EOFError, zlib.error, ValueError, MemoryError) as error:
        raise ImageError(
            f'{path}: truncated or damaged ({_one_line(error)}); copy or convert it again.'
        ) from error
    return data, affine, notes


@contextmanager
def same_locale() -> Iterator[None]:
    """Undo that GDCM sets the locale of the whole process to C when it touches DICOM files."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)


@same_locale()
def _load_dicom_folder(path: Path) -> Volume:
    import SimpleITK as sitk

    from bids_segsr.imaging.resample import from_sitk

    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(path))
    if len(series) != 1:
        raise ImageError(
            f'{path}: {len(series)} DICOM series in this folder; give a folder that holds one.'
        )
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path), series[0])
    if len(names) < 2:
        raise ImageError(
            f'{path}: a single DICOM file; give the folder of the whole stack, '
            'or convert it with dcm2niix.'
        )
    try:
        image = sitk.ReadImage(names, sitk.sitkFloat32)
    except RuntimeError as error:
        raise ImageError(
            f'{path}: the DICOM series cannot be read ({_one_line(error)}); '
            'convert it with dcm2niix.'
        ) from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise ImageError(f'{path}: the DICOM series is not one 3-D image of intensities.')
    data, affine = from_sitk(image)
    return Volume(data, affine)


def _check_voxels(data: np.ndarray, path: Path) -> None:
    bad = int(data.size - np.isfinite(data).sum())
    if bad:
        raise ImageError(
            f'{path}: {bad} of {data.size} voxels are NaN or infinite; '
            'set them to a number, or convert the image again.'
        )
    if data.min() == data.max():
        raise ImageError(
            f'{path}: every voxel has the value {data.min():g}; this image holds no signal.'
        )


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split()) or type(error).__name__
