"""Training and test images of SegSRGAN (2020) from a dHCP release."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from bids_segsr.evaluation.reproduce.dhcp import CORTEX, Scan
from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.files import complete, write_text
from bids_segsr.imaging.volume import load_map, load_mask, load_volume, save_volume

FOLDER = 'data'
LIST, TRAINING_LIST = 'data.csv', 'training.csv'
_COLUMNS = ('HR_image', 'Label_image', 'Mask_image', 'Base', 'Subject')


def write_data(
    scans: Sequence[Scan],
    bases: Mapping[str, str],
    out: Path,
    tell: Callable[[str], None],
) -> tuple[Path, Path]:
    """Write brain images, cortex labels and brain masks, and lists of them.

    The images of the article are the bias-corrected T2w images; it scores inside the masks of the
    release and notes that nothing, or almost nothing, is seen around the brains (sections 4.2 and
    5.3), so they are set to zero there. Files that an earlier call wrote are kept.

    Args:
        scans: Files of the release.
        bases: Participant to 'Train' or 'Test'.
        out: Folder; gets `data/` and the lists, with the columns of Table A.11 and the mask.
        tell: Takes a line about every image that is written.

    Returns:
        The list of training and test images, `data.csv`; and one for trainings, `training.csv`,
        where the test images are for validation: they choose the weights (section 3.1.3).

    Raises:
        ImageError: If a file of the release cannot be used.
        UserError: If nothing can be written.
    """
    rows = []
    try:
        (out / FOLDER).mkdir(parents=True, exist_ok=True)
        for scan in scans:
            names = {
                'HR_image': f'{FOLDER}/{scan.participant}_T2w.nii.gz',
                'Label_image': f'{FOLDER}/{scan.participant}_cortex.nii.gz',
                'Mask_image': f'{FOLDER}/{scan.participant}_mask.nii.gz',
            }
            base = bases[scan.participant]
            if not all((out / name).is_file() for name in names.values()):
                tell(f'{scan.participant}: {scan.session}, {base}')
                _write_images(scan, *(out / name for name in names.values()))
            rows.append({**names, 'Base': base, 'Subject': scan.participant})
        followed = [
            {**row, 'Base': 'Validation' if row['Base'] == 'Test' else row['Base']} for row in rows
        ]
        return _write_list(out / LIST, rows), _write_list(out / TRAINING_LIST, followed)
    except OSError as error:
        raise UserError(f'{out}: cannot be written ({error.strerror}).') from error


def _write_list(path: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    return write_text(path, text.getvalue())


def _write_images(scan: Scan, image: Path, label: Path, mask: Path) -> None:
    volume = load_volume(scan.image)
    brain = load_mask(scan.mask, volume)
    tissues = load_map(scan.tissues)
    if tissues.data.shape != volume.data.shape or not np.allclose(
        tissues.affine, volume.affine, atol=0.01
    ):
        raise ImageError(f'{scan.tissues}: lies on another grid than {scan.image}; get it anew.')
    cortex = np.rint(tissues.data) == CORTEX
    if not cortex.any():
        raise ImageError(f'{scan.tissues}: holds no cortex (label {CORTEX}); get it anew.')
    for path, array in (
        (image, np.where(brain, volume.data, np.float32(0))),
        (label, cortex),
        (mask, brain),
    ):
        # an interrupted run must not leave half a file behind that the next one takes for whole
        with complete(path) as part:
            save_volume(part, array, volume.affine)
