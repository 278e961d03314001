"""What a protocol leaves in its folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from bids_segsr.evaluation.protocol_output import open_folder, tables_text, write_result
from bids_segsr.evaluation.protocols import Result
from bids_segsr.exceptions import UserError


def test_a_folder_holds_one_protocol(tmp_path: Path) -> None:
    out = open_folder(tmp_path / 'new' / 'out', 'steps')
    assert out.is_dir()
    (out / 'settings.json').write_text('{"protocol": "steps"}', encoding='utf-8')
    assert open_folder(out, 'steps') == out
    with pytest.raises(UserError, match='holds results of steps; give a new folder'):
        open_folder(out, 'cost')
    (out / 'settings.json').write_text('[', encoding='utf-8')
    with pytest.raises(UserError, match='cannot be used'):
        open_folder(out, 'steps')
    (out / 'settings.json').rename(out / 'mine.txt')
    with pytest.raises(UserError, match='holds something else'):
        open_folder(out, 'steps')


def test_numbers_are_written_in_full_and_gaps_are_told(tmp_path: Path) -> None:
    summary = pd.DataFrame({'system': ['a', 'b'], 'mean': [1 / 3, float('nan')]})
    table = pd.DataFrame({'system': ['a', 'b'], 'PSNR (dB)': ['27.00', '-']})
    figure = Figure()
    figure.add_subplot().plot([0, 1])
    result = Result(
        summary, summary, summary, {'Comparison': table, 'Gain': table}, {'curve': figure}, ()
    )
    written = write_result(result, tmp_path)
    assert {path.name for path in written} == {
        'summary.tsv', 'tests.tsv', 'table.txt', 'curve.png', 'curve.svg',
    }  # fmt: skip
    assert all(path.is_file() for path in written)
    assert written[0].read_text(encoding='utf-8') == 'system\tmean\na\t0.3333333333\nb\tnan\n'
    text = tables_text(result)
    assert (tmp_path / 'table.txt').read_text(encoding='utf-8') == text + '\n'
    assert text.startswith('Comparison\n\n')
    assert '\n\nGain\n\n' in text
    before = (tmp_path / 'curve.svg').read_bytes()
    write_result(result, tmp_path)
    assert (tmp_path / 'curve.svg').read_bytes() == before
