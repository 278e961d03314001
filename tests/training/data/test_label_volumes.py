"""What is told of label maps before a training learns from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bids_segsr.imaging.volume import save_volume
from bids_segsr.training.data.label_volumes import label_facts


@pytest.fixture
def maps(tmp_path: Path) -> list[Path]:
    """Three brains of 1 mm: a sheet 3 mm thick (5) around 18 mm of white matter (1)."""
    r = np.linalg.norm(np.stack(np.indices((48, 48, 48))) - 23.5, axis=0)
    brain = np.select([r < 18, r < 21], [1, 5], 0).astype(np.int16)
    paths = [tmp_path / f'sub-{k}_dseg.nii.gz' for k in range(3)]
    for path in paths:
        save_volume(path, brain, np.eye(4))
    return paths


def test_numbers_and_volumes_are_told(maps: list[Path]) -> None:
    facts = label_facts('list.csv', maps, {'cortex': (5,)})
    assert facts.warnings == ()
    # spheres: 4/3 pi 18^3 = 24.4 ml; the shell up to 21 mm has 14.4 ml
    assert facts.text.startswith('cortex = 5: 14.')
    assert 'mean of 3 of 3 maps; ml of each number: 1: 24.' in facts.text


@pytest.mark.parametrize('numbers', [(1,), (1, 5)])
def test_white_matter_is_plainly_no_cortex(maps: list[Path], numbers: tuple[int, ...]) -> None:
    (warning,) = label_facts('list.csv', maps, {'cortex': numbers}).warnings
    assert warning.startswith('list.csv: sub-0_dseg.nii.gz: what has the numbers for the cortex')
    assert '--label' in warning


def test_numbers_that_no_map_holds(maps: list[Path]) -> None:
    (warning,) = label_facts('list.csv', maps, {'cortex': (3, 42)}).warnings
    assert 'holds no voxel of 3, 42' in warning


def test_only_the_cortex_is_a_sheet(maps: list[Path]) -> None:
    facts = label_facts('list.csv', maps, {'white': (1,), 'cortex': (5,)})
    assert facts.warnings == ()
    assert 'white = 1' in facts.text


@pytest.mark.shared
@pytest.mark.parametrize('age', ['GA21_notoperated', 'GA27_operated', 'GA34_operated'])
def test_fetal_maps(shared: Path, age: str) -> None:
    path = shared / 'data' / 'labels' / 'fetal' / f'{age}_dseg.nii.gz'
    assert label_facts('fetal', [path], {'cortex': (5,)}).warnings == ()
    assert len(label_facts('fetal', [path], {'cortex': (1,)}).warnings) == 1


@pytest.mark.shared
def test_adult_maps(shared: Path) -> None:
    path = shared / 'data' / 'labels' / 'adult-head' / 'training_seg_01.nii.gz'
    assert label_facts('adult', [path], {'cortex': (3, 42)}).warnings == ()
    assert len(label_facts('adult', [path], {'cortex': (2, 41)}).warnings) == 1
