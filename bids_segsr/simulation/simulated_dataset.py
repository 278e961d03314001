"""The BIDS dataset of simulated scans: what is in it, from what, and made how."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_segsr import __version__
from bids_segsr.bids.description import BIDS_VERSION
from bids_segsr.bids.names import derivative_name
from bids_segsr.exceptions import UserError
from bids_segsr.files import write_text

if TYPE_CHECKING:
    from bids_segsr.imaging.acquisition import Acquisition
    from bids_segsr.imaging.degrade import ForwardModel

logger = logging.getLogger(__name__)

AXES = {'sagittal': 0, 'coronal': 1, 'axial': 2}
PROGRAM = 'bids_segsr simulate'
# What the sidecar of the fine image says of its own voxels and slices.
REPLACED = (
    'SliceThickness',
    'SpacingBetweenSlices',
    'SliceTiming',
    'SliceEncodingDirection',
    'AcquisitionMatrixPE',
    'ReconMatrixPE',
    'AcquisitionVoxelSize',
    'Sources',
)

UNCHANGED = 1.001
"""Largest factor of an axis that counts as not coarser, as in the forward model."""


@dataclass(frozen=True)
class FineImage:
    """An image to degrade.

    Attributes:
        path: NIfTI file.
        entities: BIDS entities by their long names, with the suffix.
        metadata: What its sidecars say.
        source: URI of the image.
    """

    path: Path
    entities: dict[str, str]
    metadata: dict[str, Any]
    source: str


def settings_of(model: ForwardModel, noise: float, seed: int) -> dict[str, Any]:
    """Return what all images of a dataset share, as their sidecars hold it.

    Args:
        model: The forward model.
        noise: Standard deviation over the image maximum.
        seed: Of all that is drawn.

    Returns:
        Values that JSON has; a measured profile by its name and hash.
    """
    settings = {**dataclasses.asdict(model), 'noise': noise, 'seed': seed}
    profile = Path(model.profile)
    if profile.is_file():
        settings['profile'] = profile.name
        settings['profile_sha256'] = hashlib.sha256(profile.read_bytes()).hexdigest()
    # lists where Python has tuples, as they come back from a file
    return dict(json.loads(json.dumps(settings)))


def check_output(root: Path, images: Sequence[FineImage], settings: Mapping[str, Any]) -> None:
    """Refuse a folder in which something else would be overwritten or mixed with.

    Args:
        root: The folder; it need not exist.
        images: What is to be degraded.
        settings: See `settings_of`.

    Raises:
        UserError: It is no folder, holds the images themselves, a dataset of another program,
            images made with other settings, or an image made from another one.
    """
    if root.exists() and not root.is_dir():
        raise UserError(f'{root}: not a folder; the last argument is the output.')
    for image in images:
        if (root / name_of(image, '.nii.gz')).resolve() == image.path.resolve():
            raise UserError(f'{root}: the images lie there; give another folder for the output.')
    description = root / 'dataset_description.json'
    if description.exists() and PROGRAM not in description.read_text(encoding='utf-8'):
        raise UserError(f'{root}: a dataset that this command did not write; give another folder.')
    for path in sorted(root.glob('sub-*/**/*.json')):
        held = _read_json(path).get('Simulation')
        if not isinstance(held, dict) or held.get('Settings') != settings:
            raise UserError(f'{path}: made with other settings; give another folder.')
    for image in images:
        path = root / name_of(image, '.json')
        if path.exists() and _read_json(path).get('Sources') != [image.source]:
            raise UserError(f'{path}: made from another image; give another folder.')


def make_sidecar(
    image: FineImage,
    acquisition: Acquisition,
    fine: Sequence[float],
    sd: float,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Describe a simulated image.

    Args:
        image: What it was made from.
        acquisition: As drawn, with the spacing of the result.
        fine: Spacing of the fine image in mm.
        sd: Standard deviation of the noise.
        settings: See `settings_of`.

    Returns:
        Content of its sidecar.
    """
    kept = {key: value for key, value in image.metadata.items() if key not in REPLACED}
    slices = acquisition.kind == 'thick-slices'
    along = acquisition.spacing[acquisition.axis]
    factors = [low / high for low, high in zip(acquisition.spacing, fine, strict=True)]
    how: dict[str, Any] = {
        'ForwardModel': acquisition.kind,
        'Spacing': [round(mm, 6) for mm in acquisition.spacing],
        'Factors': [round(factor, 6) for factor in factors],
        'Seed': settings['seed'],
        'NoiseDistribution': 'Gaussian',
        'NoiseShareOfMaximum': settings['noise'],
        'NoiseStandardDeviation': sd,
        'Settings': dict(settings),
        'SoftwareVersion': __version__,
    }
    orientation = {value: key for key, value in AXES.items()}
    if slices:
        how |= {
            'SliceOrientation': orientation[acquisition.axis],
            'SliceProfile': settings['profile'],
        }
    elif acquisition.kind == 'isotropic':
        how['BlurStandardDeviationVoxels'] = [
            round(_blur(acquisition, factor), 6) for factor in factors
        ]
    else:
        kept_axes = [axis for axis in range(3) if factors[axis] <= UNCHANGED]
        how['ReadoutOrientation'] = orientation[kept_axes[0]] if len(kept_axes) == 1 else None
    return {
        **kept,
        'Description': 'Simulated: a fine image, acquired again by a forward model',
        'SliceThickness': round(acquisition.thickness if slices else along, 6),
        'SpacingBetweenSlices': round(along, 6),
        'Simulation': {key: value for key, value in how.items() if value is not None},
        'Sources': [image.source],
    }


def _blur(acquisition: Acquisition, factor: float) -> float:
    """Standard deviation of the isotropic blur along an axis, in fine voxels."""
    from bids_segsr.imaging.resample import FWHM_PER_SIGMA

    if factor <= UNCHANGED:
        return 0.0
    return factor / FWHM_PER_SIGMA if acquisition.sigma is None else acquisition.sigma


def dataset_links(root: Path, inputs: Sequence[Path]) -> dict[str, str]:
    """Name the source datasets; those of earlier runs keep their names.

    Args:
        root: Of the simulated dataset.
        inputs: Folders of datasets, and files, which get no name.

    Returns:
        Name to URI.
    """
    held = _read_json(root / 'dataset_description.json').get('DatasetLinks', {})
    links = {str(name): str(uri) for name, uri in held.items()}
    for path in inputs:
        uri = path.resolve().as_uri()
        if path.is_dir() and uri not in links.values():
            links[f'source{len(links) + 1}' if links else 'source'] = uri
    return links


def write_root(root: Path, inputs: Sequence[Path]) -> None:
    """Write what a BIDS dataset has at its root; participants and sources of earlier runs stay.

    Args:
        root: Of the simulated dataset.
        inputs: What it is made from.
    """
    path = root / 'dataset_description.json'
    held = [source['URL'] for source in _read_json(path).get('SourceDatasets', [])]
    sources = dict.fromkeys([*held, *(path.resolve().as_uri() for path in inputs)])
    description: dict[str, Any] = {
        'Name': 'Simulated low-resolution images',
        'BIDSVersion': BIDS_VERSION,
        'DatasetType': 'raw',
        'GeneratedBy': [{'Name': PROGRAM, 'Version': __version__}],
        'SourceDatasets': [{'URL': source} for source in sources],
    }
    if links := dataset_links(root, inputs):
        description['DatasetLinks'] = links
    write_json(path, description)
    readme = (
        'Simulated low-resolution images\n\n'
        'Made by `segsr simulate` from fine images: blurred, sampled coarser, noise added.\n'
        'The sidecar of each image says how (Simulation) and from which image (Sources).\n'
        'For experiments in research; nothing here was acquired by a scanner in this form.\n'
    )
    write_text(root / 'README', readme)
    subjects = sorted(path.name for path in root.glob('sub-*') if path.is_dir())
    write_text(root / 'participants.tsv', '\n'.join(['participant_id', *subjects]) + '\n')


def _read_json(path: Path) -> dict[str, Any]:
    """Read what an earlier run wrote; nothing where there is no such file."""
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding='utf-8')))
    except (OSError, ValueError, TypeError):
        raise UserError(f'{path}: cannot be read; mend or remove it.') from None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file as BIDS has them."""
    write_text(path, json.dumps(content, indent=2) + '\n')


def name_of(image: FineImage, extension: str) -> Path:
    """Name a simulated image or its sidecar, relative to the root.

    Args:
        image: What it is made from.
        extension: With the point.

    Returns:
        The path.

    Raises:
        UserError: Its entities make no BIDS name.
    """
    try:
        name = derivative_name(
            image.entities, suffix=image.entities['suffix'], extension=extension
        )
    except ValueError as error:
        raise UserError(f'{image.path}: no BIDS name ({error}); rename it.') from None
    return Path(name)


def simulate_image(
    image: FineImage, root: Path, model: ForwardModel, settings: Mapping[str, Any]
) -> Path:
    """Degrade one image and write it with its sidecar.

    Args:
        image: The fine image.
        root: Of the dataset.
        model: Forward model; what it leaves open is drawn with the seed and the name of the image.
        settings: See `settings_of`.

    Returns:
        The file of the degraded image, on canonical axes (RAS+).

    Raises:
        ImageError: The image cannot be read.
        UserError: It cannot be degraded so, or the result cannot be written.
    """
    # here, since the flags of the command line come from this module
    import numpy as np

    from bids_segsr.imaging.acquisition import acquire, draw_acquisition
    from bids_segsr.imaging.conform import spacing_of, to_canonical
    from bids_segsr.imaging.degrade import with_noise
    from bids_segsr.imaging.volume import load_fine, save_volume

    volume = load_fine(image.path)
    for warning in volume.warnings:
        logger.warning('%s: %s', image.path, warning)
    data, affine = to_canonical(volume.data, volume.affine)
    # by its name, so that an image is the same whatever others are simulated with it
    name = name_of(image, '.nii.gz')
    rng = np.random.default_rng([settings['seed'], zlib.crc32(str(name).encode())])
    acquisition = draw_acquisition(model, spacing_of(affine), rng)
    low, grid = acquire(data, affine, acquisition)
    if acquisition.kind == 'k-space':  # which keeps the field of view, not the spacing
        acquisition = dataclasses.replace(acquisition, spacing=grid.spacing)
    sd = settings['noise'] * float(low.max())
    low = with_noise(low, sd, rng)
    save_volume(root / name, low, grid.affine)
    sidecar = make_sidecar(image, acquisition, spacing_of(affine), sd, settings)
    write_json(root / name_of(image, '.json'), sidecar)
    return root / name
