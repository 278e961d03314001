"""Pages can be read by everybody: axe-core finds nothing serious, at a desk or on a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from test_browser import CHROMIUM, Visit, browser, page, site  # noqa: F401 - fixtures
from test_subject import VIEWER
from test_training_report import run  # noqa: F401 - fixture

from bids_segsr.evaluation.protocols import Result
from bids_segsr.reports.experiment_page import write_experiment_page
from bids_segsr.reports.training import write_report

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason='no Chromium on PATH'),
]


def serious(page: Any) -> list[str]:  # noqa: F811
    """Return what axe-core finds serious or critical, and where."""
    axe = pytest.importorskip('axe_playwright_python.sync_playwright').Axe()
    found = axe.run(page).response['violations']
    return [
        f'{rule["id"]}: {node["html"][:120]}'
        for rule in found
        if rule['impact'] in ('serious', 'critical')
        for node in rule['nodes']
    ]


@pytest.mark.parametrize('width', [1400, 390])
@pytest.mark.parametrize(
    'name', ['sub-01.html', 'sub-01_single.html', 'sub-02.html', '../group/group_T2w.html']
)
def test_reports(site: Path, page: Any, name: str, width: int) -> None:  # noqa: F811
    page.set_viewport_size({'width': width, 'height': 900})
    page.goto((site / name).resolve().as_uri())
    page.wait_for_load_state('networkidle')
    assert serious(page) == []


def test_viewer(tmp_path: Path, page: Any) -> None:  # noqa: F811
    path = tmp_path / 'viewer.html'
    path.write_text(VIEWER, encoding='utf-8')
    page.goto(path.as_uri())
    page.wait_for_selector('#viewer:not([hidden])')
    assert serious(page) == []


def evaluation_page(out: Path) -> Path:
    """Write the page of an experiment of two systems, one of which failed on an image."""
    table = pd.DataFrame({'': ['spline', 'ours'], 'PSNR (dB)': ['27.0 ± 0.5', '29.5 ± 0.4']})
    tests = pd.DataFrame({'measure': ['psnr'], 'a': ['ours'], 'b': ['spline'], 'p': [0.01]})
    figure, axes = plt.subplots()
    axes.plot([0, 1], [27, 29.5])
    figure.savefig(out / 'psnr_by_spacing.svg')
    plt.close(figure)
    (out / 'settings.json').write_text('{"measures": ["psnr"]}', encoding='utf-8')
    result = Result(
        table, table, tests, {'Table 8': table}, {'psnr_by_spacing': figure}, ('sub-02: empty',)
    )
    return write_experiment_page(result, out, 'compare')


def test_training_and_evaluation(run: Path, tmp_path: Path, page: Any) -> None:  # noqa: F811
    training = write_report(run, tmp_path / 'training.html')
    for path in (training, evaluation_page(tmp_path)):
        visit = Visit(page, path)
        assert visit.complaints == []
        assert all(url.startswith(('file://', 'data:')) for url in visit.requests)
        assert page.locator('h1').count() == 1
        for width in (1400, 390):
            page.set_viewport_size({'width': width, 'height': 900})
            assert serious(page) == []
            assert page.evaluate('document.documentElement.scrollWidth') <= width


def test_a_fault_is_found(tmp_path: Path, page: Any) -> None:  # noqa: F811
    path = tmp_path / 'bad.html'
    path.write_text('<html lang="en"><title>x</title><img src="x.png"></html>', encoding='utf-8')
    page.goto(path.as_uri())
    assert any(line.startswith('image-alt') for line in serious(page))
