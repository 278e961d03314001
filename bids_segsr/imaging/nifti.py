"""Reading of NIfTI files: the header is judged first, then every byte of the file is read."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.batteryrunners import BatteryRunner
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling

from bids_segsr.exceptions import ImageError, MissingContentError, denied
from bids_segsr.extensions import extension_names, load_extension
from bids_segsr.imaging.conform import Placement, mend_affine
from bids_segsr.memory import memory_limit

SUFFIXES = ('.nii', '.nii.gz')

LARGEST_DEFLATE_RATIO = 1032
"""Bytes that deflate packs into one, at most: a header that promises more is damaged."""

MOST_PADDING = 1 << 20
"""Bytes of zeros after the voxels that are no damage: tapes and some writers fill up blocks."""

MAPS_IN_MEMORY = 8
"""Float32 maps of a scan that are held at a time, at most: by the fit of its bias field."""

_ANNEXED = b'/annex/objects/'
_CHUNK = 1 << 16
SLICES_AT_ONCE = 32


@dataclass(frozen=True)
class Header:
    """What a NIfTI header says, checked.

    Attributes:
        shape: Voxels along the three array axes.
        placement: Affine in mm, with notes and warnings.
        dtype: Type of the stored voxels, with their byte order.
        scaling: What stored values are multiplied by, and what is then added; None for neither.
        offset: Where the voxels begin in the (decompressed) file, bytes.
    """

    shape: tuple[int, int, int]
    placement: Placement
    dtype: np.dtype[Any]
    scaling: tuple[float, float] | None
    offset: int

    @property
    def size(self) -> int:
        """Bytes of the stored voxels."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def memory_gb(self) -> float:
        """Memory that the image needs on its own grid, GB (1e9 bytes)."""
        return (self.size + MAPS_IN_MEMORY * 4 * math.prod(self.shape)) / 1e9


def read_header(path: Path) -> Header:
    """Read and check the header of a NIfTI file; no voxel is touched.

    Args:
        path: A `.nii` or `.nii.gz` file.

    Returns:
        What it says.

    Raises:
        MissingContentError: The file is a link or a pointer whose content was not fetched.
        ImageError: There is no such file, or its header cannot be that of a 3-D image.
    """
    if not path.name.endswith(SUFFIXES):
        return _read_by_extension(path)[1]
    with _opened(path) as stream:
        return _header(stream, path)


def read_image(path: Path, mem_gb: float | None = None) -> tuple[np.ndarray, Placement]:
    """Read a NIfTI file to its last byte; of a `.gz`, length and checksum are compared.

    Args:
        path: A `.nii` or `.nii.gz` file.
        mem_gb: Memory that may be used, GB; None for what the machine or container allows.

    Returns:
        Intensities, float32, in the stored axis order; and where they lie.

    Raises:
        MissingContentError: The file is a link or a pointer whose content was not fetched.
        ImageError: There is no such file, it is no 3-D NIfTI image, it is damaged, or it does
            not fit the memory (told before the voxels are read).
    """
    if not path.name.endswith(SUFFIXES):
        data, header = _read_by_extension(path)
        return data, header.placement
    with _opened(path) as stream:
        header = _header(stream, path)
        _check_size(header, path)
        _check_memory(header, path, mem_gb)
        stream.seek(header.offset)
        stored = bytearray(header.size)
        view = memoryview(stored)
        found = 0
        while found < header.size and (count := stream.readinto(view[found:])):
            found += count
        if found < header.size:
            raise ImageError(
                f'{path}: truncated (the header promises {header.size} bytes of voxels, there are '
                f'{found}); copy or convert it again.'
            )
        _check_end(stream, path)
    voxels = np.frombuffer(stored, header.dtype).reshape(header.shape, order='F')
    if header.scaling is not None:
        slope, inter = (np.float32(value) for value in header.scaling)
        voxels = apply_read_scaling(voxels, slope, inter)
    data = np.empty(header.shape, np.float32)
    with np.errstate(over='ignore'):  # becomes infinite, which is told of by those who check
        # the order of axes turns round: some slices at once take half as long as all
        for first in range(0, header.shape[-1], SLICES_AT_ONCE):
            some = np.s_[..., first : first + SLICES_AT_ONCE]
            data[some] = voxels[some]
    return data, header.placement


def image_suffixes() -> tuple[str, ...]:
    """Return how names of images end: of NIfTI files, and of those that other packages read."""
    return (*SUFFIXES, *extension_names('readers'))


def image_stem(path: Path) -> str:
    """Return the name of an image without its suffix."""
    plain = path.name.removesuffix('.gz').removesuffix('.nii')
    if plain != path.name:
        return plain
    return next(
        (path.name.removesuffix(end) for end in image_suffixes() if path.name.endswith(end)), plain
    )


def _read_by_extension(path: Path) -> tuple[np.ndarray, Header]:
    """Read an image in a format of another package, into memory at once."""
    suffix = next((end for end in extension_names('readers') if path.name.endswith(end)), None)
    if suffix is None:
        raise ImageError(f'{path}: not a NIfTI file name; give a .nii or .nii.gz file.')
    if not path.is_file():
        raise ImageError(f'{path}: no such file; check the path.')
    read = load_extension('readers', suffix)
    assert read is not None  # noqa: S101 - narrows
    try:
        image = read(path)
        data = np.ascontiguousarray(image.dataobj, dtype=np.float32)
        if data.ndim != 3:
            raise ValueError(f'{data.ndim}-D, shape {data.shape}')
        placed = nib.Nifti1Image(data, image.affine).header
        placed.set_xyzt_units('mm')
        placement = mend_affine(placed, data.shape)
    except Exception as error:
        raise ImageError(
            f'{path}: cannot be read ({type(error).__name__}: {error}); copy or convert it again.'
        ) from error
    i, j, k = data.shape
    return data, Header((i, j, k), placement, data.dtype, None, 0)


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open a file whose kind is right; what reading raises becomes one line."""
    try:
        _check_kind(path)
        with gzip.open(path) if path.name.endswith('.gz') else path.open('rb') as stream:
            yield stream
    except PermissionError as error:
        raise ImageError(denied(error, path)) from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, 'strerror', None) or ' '.join(str(error).split())
        raise ImageError(
            f'{path}: truncated or damaged ({reason}); copy or convert it again.'
        ) from error


def _check_kind(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise MissingContentError(
            f'{path}: a broken link, the content is not here; '
            f'fetch it (DataLad: datalad get {path.name}), or mend the link.'
        )
    if not path.is_file():
        raise ImageError(f'{path}: no such file; check the path.')
    with path.open('rb') as stream:
        start = stream.read(64)
    if not start:
        raise ImageError(f'{path}: the file is empty; copy or convert it again.')
    if start.startswith(_ANNEXED):
        raise MissingContentError(
            f'{path}: a pointer of git-annex, the content is not here; '
            f'fetch it (datalad get {path.name}).'
        )
    if path.name.endswith('.gz') != start.startswith(b'\x1f\x8b'):
        kind = 'not compressed by gzip' if path.name.endswith('.gz') else 'compressed by gzip'
        wanted = '.nii' if path.name.endswith('.gz') else '.nii.gz'
        raise ImageError(
            f'{path}: not readable as NIfTI ({kind}, unlike its name says); '
            f'rename it to {wanted}, or convert it again.'
        )


def _header(stream: io.BufferedIOBase, path: Path) -> Header:
    block = stream.read(nib.Nifti2Header.sizeof_hdr)
    kind = next((k for k in (nib.Nifti1Header, nib.Nifti2Header) if _is(k, block)), None)
    if kind is None:
        raise ImageError(f'{path}: not readable as NIfTI (no such header); convert it again.')
    try:
        stored = kind(block[: kind.sizeof_hdr], check=False)
        fields, reports = BatteryRunner(kind._get_checks()).check_fix(stored.copy())
    except (HeaderDataError, ValueError, OverflowError, KeyError) as error:
        raise _damaged(path, ' '.join(str(error).split())) from error
    for report in reports:
        if report.problem_level >= 40:
            raise _damaged(path, report.problem_msg)
    shape = _shape(stored, path)
    offset = float(stored['vox_offset'])
    if not (math.isfinite(offset) and offset == int(offset) and kind.sizeof_hdr + 4 <= offset):
        raise _damaged(path, f'the voxels cannot begin at byte {offset:g}')
    dtype = fields.get_data_dtype()
    if dtype.kind not in 'iuf':
        raise ImageError(
            f'{path}: voxels of type {dtype} are not intensities; give a magnitude image.'
        )
    notes = [f'Header: {r.problem_msg} ({r.fix_msg}).' for r in reports if r.problem_level >= 30]
    scaling = _scaling(stored, path, notes)
    # the voxel sizes as stored: a fix must not make them agree with the affine, or contradict it
    sizes = np.abs(stored['pixdim'][1:4])
    fields['pixdim'][1:4] = sizes
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        fields['qform_code'] = 0  # which is made of them
        if int(fields['sform_code']) <= 0:
            raise _no_affine(path, f'voxel sizes {" x ".join(f"{size:g}" for size in sizes)}')
    try:
        placement = mend_affine(fields, shape)
    except ValueError as error:
        raise _no_affine(path, ' '.join(str(error).split())) from error
    placement = Placement(placement.affine, (*notes, *placement.notes), placement.warnings)
    return Header(shape, placement, dtype, scaling, int(offset))


def _is(kind: type[nib.Nifti1Header], block: bytes) -> bool:
    """Tell whether a file begins with the header of one file (not of a pair) of this kind."""
    size = kind.sizeof_hdr
    told = [int.from_bytes(block[:4], order) for order in ('little', 'big')]
    if len(block) < size or size not in told:
        return False
    magic = kind(block[:size], check=False)['magic'].item()
    return bool(magic.startswith(kind.single_magic.rstrip(b'\0')))


def _damaged(path: Path, reason: str) -> ImageError:
    return ImageError(
        f'{path}: not readable as NIfTI ({reason}): the header is damaged; convert it again.'
    )


def _no_affine(path: Path, reason: str) -> ImageError:
    return ImageError(
        f'{path}: no affine can be trusted ({reason}); mend the header, '
        'for example by converting from DICOM again.'
    )


def _shape(fields: nib.Nifti1Header, path: Path) -> tuple[int, int, int]:
    count = int(fields['dim'][0])
    if not 1 <= count <= 7:
        raise _damaged(path, f'{count} dimensions')
    shape = tuple(int(n) for n in fields['dim'][1 : count + 1])
    if min(shape) < 1:
        raise _damaged(path, f'dimensions {shape}')
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise ImageError(
            f'{path}: the image has {len(shape)} dimensions {shape}; give one 3-D image.'
        )
    i, j, k = shape
    return i, j, k


def _scaling(fields: nib.Nifti1Header, path: Path, notes: list[str]) -> tuple[float, float] | None:
    """Return slope and intercept; a slope of 0 means neither, as NIfTI has it."""
    slope, inter = float(fields['scl_slope']), float(fields['scl_inter'])
    if slope == 0 or (slope, inter) == (1, 0):
        return None
    if not math.isfinite(slope):
        notes.append(f'The header scales intensities by {slope:g}: they were taken as stored.')
        return None
    for done, value in (('scaled', slope), ('shifted', inter)):
        # a NIfTI-2 header holds numbers that no voxel in float32 does
        if not abs(value) <= float(np.finfo(np.float32).max):
            raise _damaged(path, f'intensities are {done} by {value:g}')
    return slope, inter


def _check_size(header: Header, path: Path) -> None:
    """Compare what the header promises with the size of the file."""
    there = path.stat().st_size
    promised = header.offset + header.size
    if promised > (there * LARGEST_DEFLATE_RATIO if path.name.endswith('.gz') else there):
        raise ImageError(
            f'{path}: truncated or damaged (the header promises {promised} bytes, the file has '
            f'{there}); copy or convert it again.'
        )


def _check_memory(header: Header, path: Path, mem_gb: float | None) -> None:
    limit = memory_limit(mem_gb)
    if header.memory_gb > limit.gb:
        raise ImageError(
            f'{path}: {" x ".join(map(str, header.shape))} voxels need {header.memory_gb:.3g} GB, '
            f'and {limit.source} is {limit.gb:.3g} GB; give more memory, or crop the image.'
        )


def _check_end(stream: io.BufferedIOBase, path: Path) -> None:
    """Read what follows the voxels; the end of a `.gz` is where its checksum is compared."""
    padding = 0
    while chunk := stream.read(_CHUNK):
        padding += len(chunk)
        if any(chunk) or padding > MOST_PADDING:
            raise ImageError(
                f'{path}: damaged (more bytes than the header promises); convert it again.'
            )
