"""The demonstrations write nothing among the files of others, and score against the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bids_segsr.cli import demo
from bids_segsr.exceptions import UserError
from bids_segsr.imaging.volume import load_volume, save_volume
from bids_segsr.simulation.demo_dataset import SUBJECT, write_demo_dataset


@pytest.mark.parametrize('run', [demo.run_demo, demo.run_training_demo])
def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path, run) -> None:
    (tmp_path / 'thesis.txt').touch()
    with pytest.raises(UserError, match='not empty; give a new folder for the demonstration'):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.txt']


def test_the_truth_itself_scores_best(tmp_path: Path) -> None:
    place = np.stack(np.meshgrid(*[np.linspace(-1, 1, 36)] * 3, indexing='ij'))
    inside = (place**2).sum(0) < 0.8**2
    truth = np.where(inside, 600 + 200 * np.sin(9 * place[2]) * np.cos(5 * place[0]), 0)
    affine = np.eye(4)
    write_demo_dataset(tmp_path / 'bids', truth.astype(np.float32), affine)
    stem = f'sub-{SUBJECT}'
    folder = tmp_path / 'out' / stem / 'anat'
    folder.mkdir(parents=True)
    scan = load_volume(tmp_path / 'bids' / stem / 'anat' / f'{stem}_T1w.nii.gz')
    name = 'res-1mm_desc-toy'
    save_volume(folder / f'{stem}_{name}_T1w.nii.gz', truth.astype(np.float32), affine)
    save_volume(folder / f'{stem}_desc-preproc_T1w.nii.gz', scan.data, scan.affine)
    save_volume(folder / f'{stem}_desc-brain_mask.nii.gz', scan.data > 0, scan.affine)
    head, *rows = demo._scores(
        tmp_path / 'bids', tmp_path / 'out', truth.astype(np.float32), affine, 'toy'
    )
    assert head.split() == ['PSNR', '(dB)', 'SSIM']
    spline, projected, network = (float(row.split()[-2]) for row in rows)
    assert spline < projected < network
    assert float(rows[-1].split()[-1]) > 0.999
