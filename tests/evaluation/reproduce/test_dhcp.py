"""Files of the releases of the dHCP."""

from __future__ import annotations

import pytest
from release_phantoms import (
    RELEASES,
    make_release,
)

from bids_segsr.evaluation.reproduce.dhcp import find_scans
from bids_segsr.exceptions import UserError


@pytest.mark.parametrize('release', RELEASES)
@pytest.mark.parametrize('given', ['release', 'pipeline'])
def test_files_of_every_release_are_found(tmp_path, release, given):
    root = make_release(tmp_path, release, ['sub-CC00001XX01', 'sub-CC00002XX02'])
    if given == 'pipeline':
        root = root / RELEASES[release][0]
    wanted = ['sub-CC00002XX02', 'sub-CC00003XX03', 'sub-CC00001XX01']
    scans, missing = find_scans(root, wanted)
    assert [scan.participant for scan in scans] == ['sub-CC00002XX02', 'sub-CC00001XX01']
    assert missing == {'sub-CC00003XX03': 'no such folder'}
    for name, path in zip(
        RELEASES[release][1:], (scans[0].image, scans[0].tissues, scans[0].mask), strict=True
    ):
        assert path.name == f'sub-CC00002XX02_ses-100_{name}.nii.gz'


def test_first_complete_session_is_taken(tmp_path):
    sessions = ('ses-100', 'ses-200', 'ses-300')
    make_release(tmp_path, 3, ['sub-A'], sessions)
    anat = tmp_path / RELEASES[3][0] / 'sub-A'
    (anat / 'ses-100/anat/sub-A_ses-100_desc-drawem9_dseg.nii.gz').unlink()
    ((scan,), missing) = find_scans(tmp_path, ['sub-A'])
    assert not missing
    assert scan.session == 'ses-200'
    assert scan.other_sessions == ('ses-300',)
    for session in sessions[1:]:
        (anat / session / 'anat' / f'sub-A_{session}_desc-brain_mask.nii.gz').unlink()
    scans, missing = find_scans(tmp_path, ['sub-A'])
    assert not scans
    assert missing['sub-A'].startswith('no tissue labels and no brain mask in ')


def test_folder_without_a_release_is_refused(tmp_path):
    (tmp_path / 'sub-A').mkdir()
    with pytest.raises(UserError, match='no dHCP release'):
        find_scans(tmp_path, ['sub-A'])
    with pytest.raises(UserError, match='no such folder'):
        find_scans(tmp_path / 'other', ['sub-A'])
