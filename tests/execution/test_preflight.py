"""A look at each image before any work: what is left out, and what ends the run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_card import make_card

from bids_segsr.bids.query import Scan
from bids_segsr.exceptions import UserError
from bids_segsr.execution.preflight import check_modality, check_suitable, preflight, write_errors
from bids_segsr.imaging.volume import save_volume
from bids_segsr.reports.run_errors import read_problems
from bids_segsr.zoo.card import InputContract

AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])


def scan_of(path: Path, mask: Path | None = None) -> Scan:
    subject = path.name.split('_')[0].removeprefix('sub-')
    entities = {'subject': subject, 'suffix': 'T2w', 'datatype': 'anat', 'extension': '.nii.gz'}
    return Scan(path, entities, {}, mask)


def write(path: Path, shape: tuple[int, int, int] = (10, 10, 6)) -> Path:
    data = np.random.default_rng(0).uniform(1, 100, shape).astype(np.float32)
    return save_volume(path, data, AFFINE)


def test_each_broken_image_or_mask_is_left_out_with_its_reason(tmp_path: Path) -> None:
    good, bad, masked = (tmp_path / f'sub-{n}_T2w.nii.gz' for n in (1, 2, 3))
    write(good)
    bad.write_bytes(b'no image')
    write(masked)
    mask = save_volume(tmp_path / 'mask.nii.gz', np.ones((4, 4, 4), bool), AFFINE)
    scans = [scan_of(good), scan_of(bad), scan_of(masked, mask)]

    kept, problems = preflight(scans)

    assert kept == scans[:1]
    assert [problem.image for problem in problems] == ['sub-2_T2w', 'sub-3_T2w']
    assert str(bad) in problems[0].message
    assert str(mask) in problems[1].message
    path = write_errors(tmp_path / 'log', problems)
    assert [p.message for p in read_problems(path.parent, {})] == [p.message for p in problems]


def test_a_model_that_needs_guides_is_refused() -> None:
    check_suitable(make_card())
    contract = InputContract(('T2w',), 'volume-max', (0.5, 1.0), (2.0, 4.0), guides=1)
    with pytest.raises(UserError, match='--model tiny: needs guide images'):
        check_suitable(make_card(contract=contract))


def test_results_of_another_modality_are_not_overwritten(tmp_path: Path) -> None:
    scan = scan_of(tmp_path / 'sub-1_T2w.nii.gz')
    record = tmp_path / 'out' / 'sub-1' / 'anat' / 'sub-1_qc.json'
    record.parent.mkdir(parents=True)
    for text in ('{"bids_name": "sub-1_T2w"}', '[]', 'broken'):
        record.write_text(text, encoding='utf-8')
        check_modality([scan], tmp_path / 'out')
    record.write_text(json.dumps({'bids_name': 'sub-1_T1w'}), encoding='utf-8')
    with pytest.raises(UserError, match='made from sub-1_T1w, and sub-1_T2w would overwrite it'):
        check_modality([scan], tmp_path / 'out')
