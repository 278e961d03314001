"""The report of an image in one file: all that the App draws, nothing beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from evaluation_phantoms import write_model
from test_api import AFFINE, CHOICES, voxels

import bids_segsr
from bids_segsr.exceptions import UserError


def test_the_report_is_one_file_and_names_no_temporary_folder(tmp_path: Path) -> None:
    model = write_model(tmp_path / 'model', 'toy')
    made = bids_segsr.predict(voxels(), affine=AFFINE, model=model, name='scan_T1w', **CHOICES)
    path = made.save(tmp_path / 'out')['report']
    report = path.read_text(encoding='utf-8')
    assert 'scan_T1w' in report
    assert '/tmp/' not in report
    for drawn in ('superresolution', 'fidelity', 'segmentation', 'uncertainty'):
        assert f'desc-{drawn}' in report or f'id="{drawn}' in report, drawn
    # nothing is loaded: neither figures beside it nor anything of a network
    loaded = re.findall(
        r'<(?:img|object|script|link|iframe)[^>]*(?:src|data|href)="([^"]*)"', report
    )
    assert [source[:60] for source in loaded if not source.startswith(('data:', '#'))] == []
    with pytest.raises(UserError, match='exists already'):
        made.save(tmp_path / 'out')
