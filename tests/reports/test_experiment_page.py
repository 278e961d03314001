"""The page of an experiment: everything in one file, and every text as text."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bids_segsr.evaluation.protocols import Result
from bids_segsr.reports.experiment_page import write_experiment_page


def test_tables_figures_failures_and_settings_are_told(tmp_path: Path) -> None:
    table = pd.DataFrame({'system': ['spline', 'ours <b>'], 'PSNR (dB)': ['27.0', '29.5']})
    tests = pd.DataFrame({'measure': ['psnr'], 'p': [0.0123456]})
    svg = '<svg xmlns="http://www.w3.org/2000/svg"/>'
    (tmp_path / 'scale_psnr.svg').write_text(svg, encoding='utf-8')
    (tmp_path / 'settings.json').write_text('{"seed": "<7>"}', encoding='utf-8')
    result = Result(
        table, table, tests, {'Table 8': table}, {'scale_psnr': Figure()}, ('sub-02: <empty>',)
    )
    page = write_experiment_page(result, tmp_path, 'scales')
    assert page == tmp_path / 'report.html'
    text = page.read_text(encoding='utf-8')
    assert '<th scope="row">ours &lt;b&gt;</th><td class="number">29.5</td>' in text
    assert '<td class="number">0.01235</td>' in text
    assert '<li>sub-02: &lt;empty&gt;</li>' in text
    assert '&lt;7&gt;' in text
    (held,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)" alt="Scale psnr"', text)
    assert base64.b64decode(held).decode() == svg
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)


def test_what_there_is_not_has_no_section(tmp_path: Path) -> None:
    (tmp_path / 'settings.json').write_text('{}', encoding='utf-8')
    none = pd.DataFrame()
    page = write_experiment_page(Result(none, none, none, {}, {}, ()), tmp_path, 'cost')
    text = page.read_text(encoding='utf-8')
    assert 'Evaluation, cost' in text
    assert 'Failed' not in text
    assert 'Paired tests' not in text
