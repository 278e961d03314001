"""Which images of a collection an article takes, and for what."""

from __future__ import annotations

import pytest
from release_phantoms import (
    make_kirby,
    make_namic,
)

from bids_segsr.evaluation.reproduce.datasets import (
    dhcp_participants,
    find_collection,
)
from bids_segsr.exceptions import UserError


def test_lists_are_those_of_the_appendix():
    subjects = dhcp_participants()
    bases = list(subjects.values())
    assert len(subjects) == 40
    assert bases.count('Train') == 32
    assert bases.count('Test') == 8
    assert [name for name, base in subjects.items() if base == 'Test'] == [
        'sub-CC00122XX07', 'sub-CC00363XX09', 'sub-CC00480XX11', 'sub-CC00201XX03',
        'sub-CC00172BN08', 'sub-CC00237XX15', 'sub-CC00162XX06', 'sub-CC00268XX13',
    ]  # fmt: skip
    assert next(iter(subjects)) == 'sub-CC00367XX13'


def test_kirby_scans_are_those_of_the_published_code(tmp_path):
    found = find_collection('kirby', make_kirby(tmp_path / 'kirby', [1, 5, 6, 33, 42]))
    assert {m.name: m.base for m in found.members} == {
        'KKI2009-33': 'Train', 'KKI2009-42': 'Train', 'KKI2009-01': 'Test', 'KKI2009-05': 'Test',
    }  # fmt: skip
    assert found.wanted == {'Train': 10, 'Test': 5}
    assert len(found.missing) == 11
    assert found.missing['KKI2009-02'] == 'no KKI2009-02-MPRAGE.nii(.gz)'
    with pytest.raises(UserError, match='no image of Kirby 21'):
        find_collection('kirby', make_namic(tmp_path / 'other', ['01011']))


def test_namic_cases_are_halved(tmp_path):
    cases = ['01045', '01011', '01018', '01042']
    found = find_collection('namic', make_namic(tmp_path / 'namic', cases))
    assert [(m.name, m.base) for m in found.members] == [
        ('01011', 'Test'), ('01018', 'Test'), ('01042', 'Train'), ('01045', 'Train'),
    ]  # fmt: skip
    assert list(found.missing) == ['16 cases']
    (tmp_path / 'nrrd').mkdir()
    (tmp_path / 'nrrd' / '01011-t1w.nhdr').touch()
    with pytest.raises(UserError, match='write them as NIfTI first'):
        find_collection('namic', tmp_path / 'nrrd')


def test_persons_of_hcp_are_split_by_lot_but_always_alike(tmp_path):
    for number in range(1113):
        folder = tmp_path / str(100000 + number) / 'unprocessed/3T/T1w_MPR1'
        folder.mkdir(parents=True)
        (folder / f'{100000 + number}_3T_T1w_MPR1.nii.gz').touch()
    found = find_collection('hcp', tmp_path)
    bases = {m.name: m.base for m in found.members}
    counts = {base: list(bases.values()).count(base) for base in found.wanted}
    assert counts == found.wanted
    assert counts == {'Train': 780, 'Validation': 111, 'Evaluation': 111, 'Test': 111}
    assert not found.missing
    again = find_collection('hcp', tmp_path)
    assert {m.name: m.base for m in again.members} == bases
