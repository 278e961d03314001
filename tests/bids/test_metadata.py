"""Sidecars are inherited as BIDS defines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bids_segsr.bids.listing import AnatomicalFile
from bids_segsr.bids.metadata import read_metadata, read_sidecar
from bids_segsr.exceptions import UserError

IMAGE = 'sub-01/anat/sub-01_acq-sag_run-1_T2w.nii.gz'


def read(root: Path, sidecars: dict[str, dict[str, Any]]) -> dict[str, Any]:
    for name, content in sidecars.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding='utf-8')
    return read_metadata(AnatomicalFile(root / IMAGE, {'sub': '01'}), root)


def test_the_closer_and_the_more_specific_sidecar_wins(tmp_path: Path) -> None:
    told = read(
        tmp_path,
        {
            'T2w.json': {'EchoTime': 1, 'FlipAngle': 1, 'SliceThickness': 1},
            'acq-sag_T2w.json': {'FlipAngle': 2},
            'sub-01/anat/sub-01_acq-sag_run-01_T2w.json': {'SliceThickness': 3},
        },
    )
    assert told == {'EchoTime': 1, 'FlipAngle': 2, 'SliceThickness': 3}


@pytest.mark.parametrize(
    'other', ['T1w.json', 'acq-cor_T2w.json', 'run-2_T2w.json', 'sub-01_ses-1_T2w.json']
)
def test_sidecars_of_other_images_are_not_inherited(tmp_path: Path, other: str) -> None:
    assert read(tmp_path, {other: {'EchoTime': 1}, 'T2w.json': {'FlipAngle': 2}}) == {
        'FlipAngle': 2
    }


@pytest.mark.parametrize('text', ['[1]', '{"EchoTime": ', '[' * 100_000, ''])
def test_a_broken_sidecar_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / 'T2w.json'
    path.write_text(text, encoding='utf-8')
    with pytest.raises(UserError, match=r'T2w\.json: the sidecar is'):
        read_sidecar(path)
