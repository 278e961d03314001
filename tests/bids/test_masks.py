"""Which brain mask belongs to a scan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bids_segsr.bids.listing import AnatomicalFile
from bids_segsr.bids.masks import MaskDataset, find_mask, mask_datasets, missing_mask
from bids_segsr.exceptions import UserError

SCAN = AnatomicalFile(Path('raw/sub-01/anat/sub-01_run-1_T2w.nii.gz'), {'sub': '01'})


def dataset(root: Path, *names: str) -> MaskDataset:
    folder = root / 'sub-01/anat'
    folder.mkdir(parents=True)
    for name in names:
        (folder / f'sub-01_{name}.nii.gz').touch()
    return MaskDataset('masks', root)


@pytest.mark.parametrize('name', ['run-1_desc-brain_mask', 'run-01_space-T2w_desc-brain_mask'])
def test_a_mask_with_the_entities_of_the_scan_fits(tmp_path: Path, name: str) -> None:
    masks = dataset(tmp_path / 'a', name, 'run-2_desc-brain_mask', 'run-1_desc-tissue_mask')
    assert find_mask(SCAN, [masks]) == tmp_path / f'a/sub-01/anat/sub-01_{name}.nii.gz'


@pytest.mark.parametrize(
    'name',
    [
        'desc-brain_mask',  # of which run?
        'run-2_desc-brain_mask',
        'run-1_space-T1w_desc-brain_mask',
        'run-1_res-2_desc-brain_mask',
        'run-1_desc-brain_dseg',
    ],
)
def test_a_mask_of_another_grid_or_run_does_not(tmp_path: Path, name: str) -> None:
    masks = [dataset(tmp_path / 'a', name)]
    assert find_mask(SCAN, masks) is None
    assert 'sub-01/anat/sub-01_run-1_desc-brain_mask.nii.gz' in missing_mask(SCAN, masks)


def test_two_masks_and_no_folder_are_refused(tmp_path: Path) -> None:
    masks = [dataset(tmp_path / each, 'run-1_desc-brain_mask') for each in 'ab']
    with pytest.raises(UserError, match='several brain masks fit'):
        find_mask(SCAN, masks)
    with pytest.raises(UserError, match='check --derivatives m='):
        mask_datasets({'m': tmp_path / 'none'})


@pytest.mark.parametrize('folder', ['.', 'sub-01', 'sub-01/anat'])
def test_masks_that_cannot_be_seen_are_not_missing(
    tmp_path: Path, closed: Callable[[Path], Path], folder: str
) -> None:
    masks = dataset(tmp_path / 'a', 'run-1_desc-brain_mask')
    (tmp_path / 'a/sub-01/ses-1').mkdir()
    closed(tmp_path / 'a/sub-01/ses-1')
    assert find_mask(SCAN, [masks]) is not None
    closed(tmp_path / 'a' / folder)
    with pytest.raises(UserError, match=r'sub-01.*: cannot be looked through'):
        find_mask(SCAN, [masks])
