"""A folder of DICOM slices as one image."""

from __future__ import annotations

import locale
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from bids_segsr.exceptions import ImageError
from bids_segsr.imaging.resample import from_sitk

GAP_TOLERANCE = 0.02
"""Largest relative difference of the distances between slices, and of a distance told twice."""

SHIFT_TOLERANCE_MM = 0.1
"""Largest shift in plane of a slice against the one before (more: a tilted gantry)."""

ALIKE = {
    'rows': '0028|0010',
    'columns': '0028|0011',
    'pixel spacing': '0028|0030',
    'orientation': '0020|0037',
    'echo time': '0018|0081',
    'echo number': '0018|0086',
    'acquisition number': '0020|0012',
    'slice thickness': '0018|0050',
}
"""What all slices of one image share, and its tag."""

POSITION, IMAGE_TYPE, MODALITY = '0020|0032', '0008|0008', '0008|0060'
PATIENT = '0010|0020'
EXTENSIONS = ('.dcm', '.ima')
PHASES = {'P', 'PHASE', 'PHASE MAP'}
THICKNESS, DISTANCE, PROMISED = '0018|0050', '0018|0088', '0020|1002'


@dataclass(frozen=True)
class Series:
    """One DICOM series.

    Attributes:
        data: Intensities, float32, (i, j, k).
        affine: Voxel index to RAS+ mm (4 x 4).
        slice_thickness: As the header tells it, mm, or None.
        warnings: What the header contradicts, one sentence each.
    """

    data: np.ndarray
    affine: np.ndarray
    slice_thickness: float | None
    warnings: tuple[str, ...]


@contextmanager
def same_locale() -> Iterator[None]:
    """Undo that GDCM sets the locale of the whole process to C when it touches DICOM files."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)


@same_locale()
def read_series(path: Path) -> Series:
    """Read a folder that holds the slices of one DICOM series.

    ITK lays slices at equal distances whatever their headers say; here their positions are
    compared first, so that a lost slice, a second echo or a tilted gantry does not end as a brain
    of another size.

    Args:
        path: The folder.

    Returns:
        The image.

    Raises:
        PermissionError: The folder, or a file of it, may not be read.
        ImageError: The folder holds no series or several, a slice is missing or there twice, the
            slices differ in size, orientation, echo or acquisition, are not at equal distances
            along their normal, hold phases, or cannot be read.
    """
    names = _slices(path)
    try:
        tags = [_tags(name) for name in names]
        tags, names = _ordered(path, tags, names)
        _check_alike(path, tags)
        distance = _check_positions(path, tags, names)
        image = sitk.ReadImage(names, sitk.sitkFloat32)
    except RuntimeError as error:
        raise ImageError(
            f'{path}: the DICOM series cannot be read ({" ".join(str(error).split())}); '
            'convert it with dcm2niix.'
        ) from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise ImageError(f'{path}: the DICOM series is not one 3-D image of intensities.')
    data, affine = from_sitk(image)
    thickness = _number(tags[0], THICKNESS)
    return Series(data, affine, thickness, tuple(_doubts(tags, distance)))


def _slices(path: Path) -> list[str]:
    for file in path.iterdir():  # GDCM passes over what may not be read
        if file.is_file():
            file.open('rb').close()
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(path))
    if len(series) != 1:
        raise ImageError(
            f'{path}: {len(series)} DICOM series in this folder; give a folder that holds one.'
        )
    names = list(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path), series[0]))
    if len(names) < 2:
        raise ImageError(
            f'{path}: a single DICOM file; give the folder of the whole stack, '
            'or convert it with dcm2niix.'
        )
    _check_all_read(path, {Path(name).name for name in names})
    return names


def _check_all_read(path: Path, read: set[str]) -> None:
    """Refuse a folder with a slice that cannot be read: at an end, none would miss it."""
    for file in sorted(path.iterdir()):
        if file.name in read or file.name.upper() == 'DICOMDIR' or not file.is_file():
            continue
        with file.open('rb') as stream:
            begins = stream.read(132)
        if file.suffix.lower() in EXTENSIONS or begins.endswith(b'DICM'):
            raise ImageError(
                f'{path}: {file.name} cannot be read as a slice of the series (damaged?); export '
                'the series again, or take the file away.'
            )


def _tags(name: str) -> dict[str, str]:
    reader = sitk.ImageFileReader()
    reader.SetFileName(name)
    reader.ReadImageInformation()
    wanted = (
        *ALIKE.values(),
        POSITION,
        IMAGE_TYPE,
        MODALITY,
        PATIENT,
        THICKNESS,
        DISTANCE,
        PROMISED,
    )
    return {key: reader.GetMetaData(key).strip() for key in wanted if reader.HasMetaDataKey(key)}


def _numbers(tags: dict[str, str], key: str) -> np.ndarray:
    try:
        return np.array([float(part) for part in tags.get(key, '').split('\\')])
    except ValueError:
        return np.array([])


def _number(tags: dict[str, str], key: str) -> float | None:
    values = _numbers(tags, key)
    return float(values[0]) if values.size == 1 and 0 < values[0] < np.inf else None


def _ordered(
    path: Path, tags: Sequence[dict[str, str]], names: Sequence[str]
) -> tuple[list[dict[str, str]], list[str]]:
    """Sort slices along their normal."""
    for own, name in zip(tags, names, strict=True):
        if _numbers(own, POSITION).size != 3 or _numbers(own, '0020|0037').size != 6:
            raise ImageError(
                f'{path}: {Path(name).name} does not tell where it lies (position and '
                'orientation); convert the series with dcm2niix.'
            )
    normal = _normal(tags[0])
    along = [float(normal @ _numbers(own, POSITION)) for own in tags]
    order = np.argsort(along, kind='stable')
    return [tags[k] for k in order], [names[k] for k in order]


def _normal(tags: dict[str, str]) -> np.ndarray:
    orientation = _numbers(tags, '0020|0037')
    return np.cross(orientation[:3], orientation[3:])


def _check_alike(path: Path, tags: Sequence[dict[str, str]]) -> None:
    remedy = 'give a folder that holds one image, or convert it with dcm2niix.'
    for name, key in ALIKE.items():
        values = [_numbers(own, key) for own in tags]
        if len({value.size for value in values}) > 1 or not np.allclose(
            values, values[0], rtol=1e-4, atol=1e-4
        ):
            found = Counter(own.get(key, 'none').replace('\\', ' ') for own in tags)
            told = ', '.join(f'{value} ({count} slices)' for value, count in found.most_common(4))
            raise ImageError(f'{path}: slices of several images: their {name} is {told}; {remedy}')
    kinds = {own.get(IMAGE_TYPE, '') for own in tags}
    if any(PHASES & set(kind.upper().split('\\')) for kind in kinds):
        raise ImageError(f'{path}: phases, not intensities; give the magnitude images.')
    if any('MOSAIC' in kind.upper().split('\\') for kind in kinds):
        raise ImageError(
            f'{path}: mosaics, many slices in one picture; convert them with dcm2niix.'
        )
    if len({own.get(PATIENT) for own in tags}) > 1:
        raise ImageError(f'{path}: slices of several patients; {remedy}')
    if len(kinds) > 1:
        told = ', '.join(sorted(kind.replace('\\', '/') for kind in kinds))
        raise ImageError(f'{path}: slices of several images: their type is {told}; {remedy}')


def _check_positions(path: Path, tags: Sequence[dict[str, str]], names: Sequence[str]) -> float:
    """Return the distance of neighbouring slices in mm, the same for all."""
    steps = np.diff([_numbers(own, POSITION) for own in tags], axis=0)
    normal = _normal(tags[0])
    distances = steps @ normal
    usual = float(np.median(distances))
    for k, distance in enumerate(distances):
        pair = f'{Path(names[k]).name} and {Path(names[k + 1]).name}'
        if distance < 1e-3:
            raise ImageError(
                f'{path}: {pair} lie at the same place; give a folder that holds one image.'
            )
        if abs(distance - usual) > GAP_TOLERANCE * usual:
            place = _numbers(tags[k], POSITION) + normal * usual
            lost = round(distance / usual) - 1
            told = f'{lost} missing between them' if lost > 0 else 'a slice too many, or moved'
            raise ImageError(
                f'{path}: slices are {usual:.4g} mm apart, but {pair} {distance:.4g} mm ({told}, '
                f'near {" ".join(f"{x:.4g}" for x in place)} mm); export the series again.'
            )
        if np.linalg.norm(steps[k] - distance * normal) > SHIFT_TOLERANCE_MM:
            raise ImageError(
                f'{path}: slices do not follow each other along their normal ({pair}: a tilted '
                'gantry, or several images); convert the series with dcm2niix.'
            )
    return usual


def _doubts(tags: Sequence[dict[str, str]], distance: float) -> Iterator[str]:
    told = _number(tags[0], DISTANCE)
    if told is not None and abs(told - distance) > GAP_TOLERANCE * distance:
        yield (
            f'SpacingBetweenSlices is {told:g} mm, the slices lie {distance:.4g} mm apart: '
            'their places were used.'
        )
    promised = _number(tags[0], PROMISED)
    if promised is not None and promised > len(tags):
        yield (
            f'The header tells of {promised:g} images in this acquisition, {len(tags)} are there: '
            'slices may be missing at the ends.'
        )
    modality = tags[0].get(MODALITY)
    if modality not in (None, 'MR'):
        yield f'The modality is {modality}, not MR.'
