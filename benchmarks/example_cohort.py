"""Write a BIDS dataset of 32 simulated infants, some of whose scans are bad.

    python benchmarks/example_cohort.py raw
    bids_segsr raw out participant group --modality T1w --resolution 1

Each head is the ICBM 152 average in the size of an infant of one to twelve months, in 3 mm slices
with noise. The pages of `out` are those that `draw_pages.py` takes pictures of.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy import ndimage

from bids_segsr.imaging.degrade import degrade, thick_slice_grid, with_noise
from bids_segsr.imaging.volume import save_volume
from bids_segsr.simulation.demo_dataset import SLICE_THICKNESS_MM, icbm_template

INFANTS = 32
SEED = 11
TEMPLATE_ML = 1972.0
TOO_LARGE, STRIPES, MOTION, BROKEN, TWICE = 5, 9, 17, 23, (12, 28)


def scanned(
    number: int, volume_ml: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a scan (i, j, k) of an infant and its affine."""
    truth, affine = icbm_template()
    affine = affine @ np.diag([*[(volume_ml / TEMPLATE_ML) ** (1 / 3)] * 3, 1])
    grid = thick_slice_grid(truth.shape, affine, SLICE_THICKNESS_MM, axis=2)
    scan = degrade(truth, affine, grid)
    if number == STRIPES:
        scan[..., 1::2] *= 0.9
    if number == MOTION:
        for k in range(scan.shape[2]):
            shift = rng.normal(0, 2.5, 2)
            scan[..., k] = ndimage.shift(scan[..., k], shift, order=1)
    inside = scan > 0.02 * truth.max()
    noisy = with_noise(scan, rng.uniform(0.005, 0.03) * float(truth.max()), rng)
    return np.where(inside, np.maximum(noisy, 1), 0).astype(np.float32), grid.affine


def write_cohort(root: Path) -> None:
    """Write the dataset."""
    rng = np.random.default_rng(SEED)
    rows = ['participant_id\tage\tsex']
    for number in range(1, INFANTS + 1):
        subject = f'sub-{number:02d}'
        months = float(rng.uniform(1, 12))
        volume_ml = (380 + 300 * np.log2(1 + months / 5)) * rng.normal(1, 0.07)
        if number == TOO_LARGE:
            volume_ml = 1500
        rows.append(f'{subject}\t{months:.1f}\t{"FM"[rng.integers(2)]}')
        folder = root / subject / 'anat'
        folder.mkdir(parents=True)
        for run in ('_run-1', '_run-2') if number in TWICE else ('',):
            scan, affine = scanned(number, volume_ml, rng)
            if number == BROKEN:
                scan[:] = np.nan
            save_volume(folder / f'{subject}{run}_T1w.nii.gz', scan, affine)
    for name, content in {
        'participants.tsv': '\n'.join(rows),
        'participants.json': json.dumps({'age': {'Units': 'month'}}),
        'dataset_description.json': json.dumps(
            {'Name': 'Simulated infants', 'BIDSVersion': '1.10.0', 'DatasetType': 'raw'}
        ),
        'README': 'The ICBM 152 average in the sizes of infants. No person was scanned.',
    }.items():
        (root / name).write_text(content + '\n', encoding='utf-8')


def main() -> None:
    """Write it."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('raw', type=Path, help='folder, made')
    write_cohort(parser.parse_args().raw)


if __name__ == '__main__':
    main()
