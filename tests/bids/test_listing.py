"""Names of BIDS, and the patterns of `.bidsignore`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from bids_segsr.bids.listing import (
    AnatomicalFile,
    anatomical_files,
    closed_folders,
    is_ignored,
    misplaced_images,
)


def test_an_index_has_no_leading_zeros() -> None:
    path = Path('sub-01_acq-01_run-01_T2w.nii.gz')
    file = AnatomicalFile(path, {'sub': '01'})
    assert file.pairs == {'sub': '01', 'acq': '01', 'run': '1'}
    assert (file.suffix, file.extension, file.trouble) == ('T2w', '.nii.gz', None)


@pytest.mark.parametrize(
    ('name', 'told'),
    [
        ('sub-02_T2w.nii.gz', 'sub-02 in the name, but sub-01 in the folder'),
        ('sub-01_ses-1_T2w.nii.gz', 'ses-1 in the name, but no ses- in the folder'),
        ('sub-01_run-1_run-2_T2w.nii.gz', 'no BIDS name'),
        ('sub-01_a b_T2w.nii.gz', 'no BIDS name'),
    ],
)
def test_names_that_cannot_be(name: str, told: str) -> None:
    assert told in str(AnatomicalFile(Path(name), {'sub': '01'}).trouble)


@pytest.mark.parametrize(
    ('path', 'patterns', 'ignored'),
    [
        ('sub-01/anat/sub-01_T2w.nii.gz', ['*_T2w.nii.gz'], True),
        ('sub-01/anat/sub-01_T2w.nii.gz', ['/*_T2w.nii.gz'], False),
        ('sub-01/anat/sub-01_T2w.nii.gz', ['sub-01/'], True),
        ('sub-01/anat/sub-01_T2w.nii.gz', ['**/anat/**'], True),
        ('sub-01/anat/sub-01_T2w.nii.gz', ['sub-0[!1]*'], False),
        ('sub-01/anat/sub-01_T2w.nii.gz', ['*.nii.gz', '!sub-01_*'], False),
        ('sub-01/anat/sub-01_T2w.nii.gz', ['sub-01', '!*_T2w.nii.gz'], True),
        ('sub-01/anat/sub-01xT2w.nii.gz', ['sub-01.T2w.nii.gz'], False),
    ],
)
def test_patterns_are_those_of_gitignore(path: str, patterns: list[str], ignored: bool) -> None:
    assert is_ignored(PurePosixPath(path), patterns) is ignored


def test_misplaced_images_are_found(tmp_path: Path) -> None:
    for name in ('sub-01_T2w.nii.gz', 'Anat/sub-01_T2w.nii', 'anat/sub-01_t2W.nii.gz'):
        path = tmp_path / 'sub-01' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / 'sub-01/anat/sub-01_run-1_T2w.nii.gz').mkdir()
    found = {f.path.name: f.misplaced for f in misplaced_images(tmp_path, ['01'], 'T2w')}
    assert found.keys() == {
        'sub-01_T2w.nii.gz',
        'sub-01_T2w.nii',
        'sub-01_t2W.nii.gz',
        'sub-01_run-1_T2w.nii.gz',
    }
    assert found['sub-01_T2w.nii'] == 'lies in "Anat"; BIDS calls the folder "anat"'
    assert found['sub-01_run-1_T2w.nii.gz'].startswith('a folder')


@pytest.mark.parametrize('mode', [0, 0o111, 0o444])
def test_folders_that_are_not_empty_but_closed(
    tmp_path: Path, closed: Callable[[Path], Path], mode: int
) -> None:
    for name in ('sub-1/anat', 'sub-1/ses-1/anat', 'sub-2/anat', 'sub-3/ses-1/anat', 'sub-4'):
        (tmp_path / name).mkdir(parents=True)
    shut = ['sub-1/ses-1/anat', 'sub-2', 'sub-3/ses-1']
    for name in shut:
        closed(tmp_path / name).chmod(mode)
    found = list(closed_folders(tmp_path, ['1', '2', '3', '4', 'none']))
    assert [str(folder.path.relative_to(tmp_path)) for folder in found] == shut
    assert {folder.trouble for folder in found} == {
        'cannot be looked through (Permission denied); make it readable'
    }
    assert list(anatomical_files(tmp_path, ['1', '3'])) == []


def test_a_disk_that_fails_is_no_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> None:
        raise OSError(5, 'Input/output error', str(folder))

    monkeypatch.setattr(Path, 'iterdir', fail)
    (folder,) = closed_folders(tmp_path, ['1'])
    assert folder.path == tmp_path / 'sub-1'
    assert 'Input/output error' in folder.misplaced
