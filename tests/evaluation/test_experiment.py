"""A protocol from the names of models and lists to its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from evaluation_phantoms import settings, write_list

from bids_segsr.evaluation.experiment import PROTOCOLS, run_experiment
from bids_segsr.exceptions import UserError
from bids_segsr.training.data.subjects import Subject


def test_settings_rows_and_tables_lie_in_the_folder(heads: list[Subject], tmp_path: Path) -> None:
    given = settings(tmp_path / 'out', metrics=('psnr',))
    lists = {'heads': write_list(tmp_path / 'heads.csv', heads)}
    result, written = run_experiment('ablation', [], lists, given, varied={})
    assert set(result.rows['system']) == {'spline', 'ibp'}
    assert all(path.parent == given.out and path.is_file() for path in written)
    told = json.loads((given.out / 'settings.json').read_text(encoding='utf-8'))
    assert told['protocol'] == 'ablation'
    assert told['data']['heads']['test'] == ['sub-1', 'sub-2']
    assert told['imaging']['forward']['spacing_mm'] == [3.0, 3.0]
    with pytest.raises(UserError, match='holds results of ablation'):
        run_experiment('cost', [], lists, given, varied={})


def test_what_does_not_fit_is_refused_before_anything_is_written(
    heads: list[Subject], tmp_path: Path
) -> None:
    given = settings(tmp_path / 'out')
    lists = {'heads': write_list(tmp_path / 'heads.csv', heads)}
    with pytest.raises(UserError, match='nothing: no such protocol; there are compare, ablation'):
        run_experiment('nothing', [], lists, given, varied={})
    with pytest.raises(UserError, match='step'):
        run_experiment('steps', [], lists, given, varied={'distances': (8, 17)})
    assert not list(given.out.iterdir())
    assert list(PROTOCOLS) == [
        'compare', 'ablation', 'steps', 'robustness', 'scales', 'transfer', 'blends', 'cost',
    ]  # fmt: skip
