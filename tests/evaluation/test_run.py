"""Rows of a run: kept between runs, one line for what failed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from evaluation_phantoms import (
    IMAGING,
    models,
    settings,
    write_model,
)

from bids_segsr.evaluation import protocols, run
from bids_segsr.evaluation.systems import read_systems, run_system
from bids_segsr.exceptions import UserError
from bids_segsr.training.data.subjects import Subject


def test_a_second_run_keeps_what_is_there(
    root: Path, heads: list[Subject], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(tmp_path)
    done: list[str] = []

    def noted(system: Any, *arguments: Any) -> Any:
        done.append(system.name)
        return run_system(system, *arguments)

    monkeypatch.setattr(run, 'run_system', noted)
    first = protocols.ablation(models(root, 'one'), {'heads': heads}, given)
    assert done == ['spline', 'ibp', 'one'] * 2
    done.clear()
    again = protocols.ablation(models(root, 'one'), {'heads': heads}, given)
    assert done == []
    pd.testing.assert_frame_equal(first.rows, again.rows)
    more = protocols.ablation(models(root, 'one', 'two'), {'heads': heads}, given)
    assert done == ['two'] * 2
    assert set(more.rows['system']) == {'spline', 'ibp', 'one', 'two'}
    done.clear()
    other = dataclasses.replace(given, seed=1, imaging=dataclasses.replace(IMAGING, noise=5.0))
    noisy = protocols.ablation(models(root, 'one'), {'heads': heads}, other)
    assert len(done) == 6
    assert not set(noisy.rows['key']) & set(first.rows['key'])


def test_rows_of_other_runs_stay_in_the_folder(
    root: Path, heads: list[Subject], tmp_path: Path
) -> None:
    given, heads = settings(tmp_path), heads[:1]
    first = protocols.steps(models(root, 'one'), {'heads': heads}, given, distances=(12, 16))
    second = protocols.steps(models(root, 'two'), {'heads': heads}, given, distances=(12,))
    assert set(second.rows['system']) == {'spline', 'ibp', 'two'}
    assert second.tables['Step sweep']['system'].tolist() == ['spline', 'ibp', 'two']
    rows = pd.read_csv(tmp_path / 'rows.tsv', sep='\t')
    assert set(rows['system']) == {'spline', 'ibp', 'one', 'two'}
    assert rows['key'].head(len(second.rows)).tolist() == second.rows['key'].tolist()
    again = protocols.steps(models(root, 'one'), {'heads': heads}, given, distances=(12, 16))
    pd.testing.assert_frame_equal(first.rows, again.rows)
    keys = json.loads((tmp_path / 'keys.json').read_text(encoding='utf-8'))
    assert set(keys) == set(rows['key'])
    assert {content['system'] for content in keys.values()} == {'spline', 'ibp', 'one', 'two'}


def test_a_broken_image_costs_one_line(root: Path, heads: list[Subject], tmp_path: Path) -> None:
    broken = tmp_path / 'broken.nii.gz'
    assert heads[0].image is not None
    broken.write_bytes(heads[0].image.read_bytes()[:3000])
    bad = dataclasses.replace(heads[0], name='sub-bad', image=broken)
    told: list[str] = []
    given = dataclasses.replace(settings(tmp_path / 'out'), tell=told.append)
    result = protocols.ablation(models(root, 'one'), {'heads': [bad, *heads]}, given)
    assert len(result.failures) == 1
    assert 'broken.nii.gz' in result.failures[0]
    assert '\n' not in result.failures[0]
    assert told[0] == result.failures[0]
    assert set(result.rows['subject']) == {'sub-1', 'sub-2'}
    with pytest.raises(UserError, match=r'nothing could be scored.*broken'):
        protocols.ablation(models(root), {'heads': [bad]}, given)
    with pytest.raises(UserError, match='Base "Test"'):
        train = dataclasses.replace(heads[0], split='train')
        protocols.ablation(models(root), {'heads': [train]}, given)


def test_a_model_that_fails_leaves_the_others(
    root: Path, heads: list[Subject], tmp_path: Path
) -> None:
    guided = read_systems([
        str(write_model(
            root, 'guided', architecture='recnn', channels=('intensity',), guides=1, depth=3,
            filters=2,
        ))
    ])  # fmt: skip
    systems = [*models(root, 'one'), guided[-1]]
    result = protocols.ablation(systems, {'heads': heads[:1]}, settings(tmp_path))
    assert len(result.failures) == 1
    assert result.failures[0].startswith('sub-1, guided: ')
    assert set(result.rows['system']) == {'spline', 'ibp', 'one'}


def test_images_of_one_person_are_told_apart(heads: list[Subject], tmp_path: Path) -> None:
    twice = [dataclasses.replace(head, name='sub-1') for head in heads]
    result = protocols.ablation(read_systems([]), {'heads': twice}, settings(tmp_path))
    assert result.rows['subject'].nunique() == 2
    assert set(result.rows['person']) == {'sub-1'}
    assert all(name.startswith('sub-1 sub-') for name in result.rows['subject'])
