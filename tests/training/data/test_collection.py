"""What a training reads, and who follows it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from training_phantoms import tiny_recipe

from bids_segsr.exceptions import UserError
from bids_segsr.training.data.collection import find_subjects, with_validation
from bids_segsr.training.data.subjects import Subject

LIST = Path('list.csv')


def subjects(number: int) -> list[Subject]:
    return [Subject(f'sub-{n:02}', Path(f'{n}.nii'), None, 'train') for n in range(number)]


def test_a_tenth_of_the_subjects_is_set_aside_by_the_seed() -> None:
    drawn = {
        seed: [s.name for s in with_validation(subjects(20), tiny_recipe(seed=seed), LIST)
               if s.split == 'validation']
        for seed in range(5)
    }  # fmt: skip
    assert {len(names) for names in drawn.values()} == {2}
    assert len({tuple(names) for names in drawn.values()}) > 1
    again = with_validation(subjects(20), tiny_recipe(seed=3), LIST)
    assert [s.name for s in again if s.split == 'validation'] == drawn[3]
    assert [s.name for s in again] == [s.name for s in subjects(20)]


def test_images_of_one_person_stay_together() -> None:
    twice = [dataclasses.replace(s, name=f'sub-{n // 2}') for n, s in enumerate(subjects(6))]
    found = with_validation(twice, tiny_recipe(), LIST)
    aside = {s.name for s in found if s.split == 'validation'}
    assert len(aside) == 1
    assert sum(s.split == 'validation' for s in found) == 2


def test_splits_that_are_given_stay() -> None:
    given = [*subjects(3), dataclasses.replace(subjects(1)[0], name='x', split='validation')]
    assert with_validation(given, tiny_recipe(), LIST) == given


def test_a_single_subject_is_too_few() -> None:
    with pytest.raises(UserError, match=r'^list\.csv: 1 subjects to train on; give two at least'):
        with_validation(subjects(1), tiny_recipe(), LIST)


def test_sources_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'none: no such file or folder; give a CSV list or'):
        find_subjects(tmp_path / 'none', None, tiny_recipe(), None, None)
    (tmp_path / 'a.csv').touch()
    with pytest.raises(UserError, match='--split-column group: goes with a BIDS dataset'):
        find_subjects(tmp_path / 'a.csv', None, tiny_recipe(), None, 'group')
