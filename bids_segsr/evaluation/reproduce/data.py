"""Lists of training and test images of an article, and the images that must be made for them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bids_segsr.evaluation.reproduce.article import Dataset
from bids_segsr.evaluation.reproduce.datasets import (
    EVALUATION,
    TEST,
    TRAIN,
    VALIDATION,
    Collection,
    Member,
)
from bids_segsr.evaluation.reproduce.dhcp import CORTEX, Scan
from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.files import make_folder, write_text
from bids_segsr.imaging.resample import isotropic_grid, resample
from bids_segsr.imaging.volume import load_fine, load_map, load_mask, save_volume

FOLDER = 'data'
TRAINING_LIST = 'training.csv'
_COLUMNS = ('HR_image', 'Label_image', 'Mask_image', 'Base', 'Subject')


@dataclass(frozen=True)
class Lists:
    """CSV lists of a dataset, as `segsr train` and `segsr evaluate` take them.

    Attributes:
        training: Those to train on, and those that follow the training as validation images.
        tests: Name of a set of test images (the dataset's, or ``DATASET-evaluation``) to its list;
            the training images are in it, too, for measures that learn from them.
    """

    training: Path
    tests: dict[str, Path]


def write_lists(
    name: str, dataset: Dataset, collection: Collection, out: Path, tell: Callable[[str], None]
) -> Lists:
    """Write the lists of a dataset, and the images that its article does not use as they are.

    dHCP (SegSRGAN): the images of the articles are the bias-corrected T2w images; they score
    inside the masks of the release and note that nothing, or almost nothing, is seen around the
    brains (2020, sections 4.2 and 5.3), so they are set to zero there. Images of another spacing
    than the dataset's are interpolated by cubic splines. All others stay where they are. Files
    that an earlier call wrote are kept.

    Args:
        name: Of the dataset.
        dataset: What the article does with it.
        collection: What was found.
        out: Folder; gets ``data/NAME/`` and in it the lists.
        tell: Takes a line about every image that is written.

    Returns:
        The lists.

    Raises:
        ImageError: If an image cannot be used.
        UserError: If nothing can be written.
    """
    folder = out / FOLDER / name
    try:
        make_folder(folder)
        rows = [_files(member, dataset, folder, tell) for member in collection.members]
        follow = [{**row, 'Base': VALIDATION} for row in rows if row['Base'] == dataset.follow]
        trained = [row for row in rows if row['Base'] == TRAIN]
        tests = {}
        for base, test in ((TEST, name), (EVALUATION, f'{name}-{EVALUATION.lower()}')):
            own = [{**row, 'Base': TEST} for row in rows if row['Base'] == base]
            if own:
                tests[test] = _write_list(folder / f'{base.lower()}.csv', [*trained, *own])
        return Lists(_write_list(folder / TRAINING_LIST, [*trained, *follow]), tests)
    except OSError as error:
        raise UserError(f'{folder}: cannot be written ({error.strerror}).') from error


def _files(
    member: Member, dataset: Dataset, folder: Path, tell: Callable[[str], None]
) -> dict[str, str]:
    """Row of a list; writes its images where they must be made."""
    row = {'Base': member.base, 'Subject': member.name}
    if member.scan is not None:
        names = {
            'HR_image': f'{member.name}_T2w.nii.gz',
            'Label_image': f'{member.name}_cortex.nii.gz',
            'Mask_image': f'{member.name}_mask.nii.gz',
        }
        files = [folder / file for file in names.values()]
        if not all(file.is_file() for file in files):
            tell(f'{member.name}: {member.scan.session}, {member.base}')
            _write_brain(member.scan, *files)
        return row | names
    if dataset.spacing_mm is None:
        return row | {'HR_image': str(member.image.absolute())}
    file = folder / f'{member.name}.nii.gz'
    if not file.is_file():
        tell(f'{member.name}: to {dataset.spacing_mm:g} mm, {member.base}')
        volume = load_fine(member.image)
        grid = isotropic_grid(volume.data.shape, volume.affine, dataset.spacing_mm)
        save_volume(file, resample(volume.data, volume.affine, grid), grid.affine)
    return row | {'HR_image': file.name}


def _write_list(path: Path, rows: Iterable[Mapping[str, str]]) -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, restval='', lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    return write_text(path, text.getvalue())


def _write_brain(scan: Scan, image: Path, label: Path, mask: Path) -> None:
    volume = load_fine(scan.image)
    brain = load_mask(scan.mask, volume)
    tissues = load_map(scan.tissues)
    if tissues.data.shape != volume.data.shape or not np.allclose(
        tissues.affine, volume.affine, atol=0.01
    ):
        raise ImageError(f'{scan.tissues}: lies on another grid than {scan.image}; get it anew.')
    cortex = np.rint(tissues.data) == CORTEX
    if not cortex.any():
        raise ImageError(f'{scan.tissues}: holds no cortex (label {CORTEX}); get it anew.')
    save_volume(image, np.where(brain, volume.data, np.float32(0)), volume.affine)
    save_volume(label, cortex, volume.affine)
    save_volume(mask, brain, volume.affine)
