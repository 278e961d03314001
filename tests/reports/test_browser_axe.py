"""Pages can be read by everybody: axe-core finds nothing serious, at a desk or on a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_browser import CHROMIUM, browser, page, site  # noqa: F401 - fixtures
from test_subject import VIEWER

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


def test_a_fault_is_found(tmp_path: Path, page: Any) -> None:  # noqa: F811
    path = tmp_path / 'bad.html'
    path.write_text('<html lang="en"><title>x</title><img src="x.png"></html>', encoding='utf-8')
    page.goto(path.as_uri())
    assert any(line.startswith('image-alt') for line in serious(page))
