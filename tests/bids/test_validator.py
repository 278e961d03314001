"""Validation of the input."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from bids_segsr.bids import validator as validation
from bids_segsr.bids.validator import validate_dataset
from bids_segsr.exceptions import UserError


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    pytest.importorskip('bids_validator_deno')
    nibabel = pytest.importorskip('nibabel')
    import numpy as np

    (tmp_path / 'dataset_description.json').write_text(
        '{"Name": "x", "BIDSVersion": "1.9.0", "DatasetType": "raw"}', encoding='utf-8'
    )
    (tmp_path / 'README').write_text('A dataset.\n' * 20, encoding='utf-8')
    for subject in ('01', '02'):
        path = tmp_path / f'sub-{subject}' / 'anat' / f'sub-{subject}_T2w.nii.gz'
        path.parent.mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)), path)
    return tmp_path


def test_valid_dataset_passes(dataset: Path) -> None:
    validate_dataset(dataset, ['01', '02'])


def test_invalid_dataset_names_file_and_flag(dataset: Path) -> None:
    (dataset / 'sub-01' / 'anat' / 'scan.nii.gz').write_bytes(b'x')

    with pytest.raises(UserError, match=r'/sub-01/anat/scan\.nii\.gz.*--skip-bids-validation'):
        validate_dataset(dataset, ['01'])


def test_errors_of_other_participants_do_not_count(dataset: Path) -> None:
    (dataset / 'sub-02' / 'anat' / 'scan.nii.gz').write_bytes(b'x')

    validate_dataset(dataset, ['01'])
    with pytest.raises(UserError, match='sub-02'):
        validate_dataset(dataset, ['01', '02'])


def test_missing_description_is_an_error(dataset: Path) -> None:
    (dataset / 'dataset_description.json').unlink()

    with pytest.raises(UserError, match='MISSING_DATASET_DESCRIPTION'):
        validate_dataset(dataset, ['01'])


@pytest.mark.parametrize('content', [b'', b'not a NIfTI file'])
def test_broken_image_is_left_to_the_run(dataset: Path, content: bytes) -> None:
    (dataset / 'sub-01' / 'anat' / 'sub-01_T2w.nii.gz').write_bytes(content)

    validate_dataset(dataset, ['01', '02'])


def test_without_validator_a_line_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(validation, '_find_validator', lambda: None)

    with caplog.at_level(logging.WARNING):
        validate_dataset(tmp_path, [])

    assert 'not installed: the input is not validated' in caplog.text
