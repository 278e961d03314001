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


@pytest.mark.parametrize('content', [b'', b'[1]', b'{"a": 1,}', b'\xff{}'])
def test_broken_sidecar_is_left_to_the_run(dataset: Path, content: bytes) -> None:
    (dataset / 'sub-01' / 'anat' / 'sub-01_T2w.json').write_bytes(content)
    validate_dataset(dataset, ['01', '02'])


def test_misplaced_images_and_other_data_are_left_to_the_run(dataset: Path) -> None:
    anat = dataset / 'sub-01' / 'anat'
    (anat / 'sub-02_T2w.nii.gz').write_bytes((anat / 'sub-01_T2w.nii.gz').read_bytes())
    (dataset / 'sub-01' / 'func').mkdir()
    (dataset / 'sub-01' / 'func' / 'sub-01_task-rest_bold.json').write_text('{"a": 1,}')
    (dataset / 'sub-01_pre' / 'anat').mkdir(parents=True)
    (dataset / 'sub-01_pre' / 'anat' / 'sub-01_pre_T2w.nii.gz').touch()
    validate_dataset(dataset, ['01', '02', '01_pre'])


def test_links_to_a_folder_above_are_not_validated(
    dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (dataset / 'sub-01' / 'self').symlink_to('..')
    (dataset / 'sub-01' / 'anat' / 'loop').symlink_to('..')
    with caplog.at_level(logging.WARNING):
        validate_dataset(dataset, ['01', '02'])
    assert 'links to a folder above' in caplog.text


def test_without_validator_a_line_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(validation, '_find_validator', lambda: None)

    # the App, run by other tests in this process, sets the level of our own logger
    with caplog.at_level(logging.INFO, logger='bids_segsr'):
        validate_dataset(tmp_path, [])

    assert 'not installed: the input is not validated' in caplog.text
