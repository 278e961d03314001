"""Viewer and rating in headless Chromium, with neither WebGL nor a network."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_browser import CHROMIUM, Visit, browser, page  # noqa: F401 - fixtures
from test_group import make_group
from test_subject import RUN, VIEWER, make_tree

from bids_segsr.reports.group import write_group
from bids_segsr.reports.rating import read_ratings
from bids_segsr.reports.subject import export_single_file, generate_report

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason='no Chromium on PATH'),
]


@pytest.fixture(scope='module')
def viewer_page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('viewer') / 'viewer.html'
    path.write_text(VIEWER, encoding='utf-8')
    return path


@pytest.fixture(scope='module')
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('rated') / 'out'
    report = generate_report(root, '01', RUN, make_tree(root))
    export_single_file(report)
    return report


def pixels(shown: Any, axis: int) -> np.ndarray:
    """Return a plane of the viewer as an array (rows, columns, RGB)."""
    shown.wait_for_timeout(150)
    picture = shown.evaluate(
        'axis => document.querySelector(`canvas[data-axis="${axis}"]`).toDataURL()', axis
    )
    raw = base64.b64decode(picture.split(',')[1])
    return np.asarray(Image.open(io.BytesIO(raw)).convert('RGB'))


def bare(shown: Any) -> None:
    """Hide crosshair and tissues."""
    shown.keyboard.press('c')
    shown.keyboard.press('t')


def test_three_planes_show_voxels_and_keys_change_the_layer(
    viewer_page_file: Path,
    page: Any,  # noqa: F811
) -> None:
    visit = Visit(page, viewer_page_file)
    page.wait_for_selector('#viewer:not([hidden])')
    tinted = pixels(page, 2)
    bare(page)
    planes = [pixels(page, axis).astype(int) for axis in range(3)]
    for plane in planes:
        assert (plane.max(axis=2) > 60).mean() > 0.1
        spread = np.ptp(plane, axis=2)
        assert spread.max() == 0, 'grey without tissues and crosshair'
    assert np.ptp(tinted.astype(int), axis=2).max() > 20
    # the phantom is brighter to the anterior right, which is at the upper left
    height, width = planes[2].shape[:2]
    left = planes[2][:, : width // 2, 0]
    assert left[: height // 2].mean() > left[height // 2 :].mean()
    page.keyboard.press('1')
    assert np.abs(pixels(page, 2).astype(int) - planes[2]).max() > 3
    assert page.inner_text('[aria-pressed=true]').startswith('Interpolated')
    page.keyboard.press('3')
    residual = pixels(page, 2).astype(int)
    assert (residual[..., 0] > residual[..., 2] + 40).any()
    assert (residual[..., 2] > residual[..., 0] + 40).any()
    page.keyboard.press(' ')
    np.testing.assert_array_equal(pixels(page, 2), planes[2])
    assert visit.complaints == []
    assert visit.requests == [viewer_page_file.as_uri()]
    for width in (390, 720, 900):
        page.set_viewport_size({'width': width, 'height': 900})
        assert page.evaluate('document.documentElement.scrollWidth') <= width


def test_crosshair_in_mm_scroll_and_zoom(viewer_page_file: Path, page: Any) -> None:  # noqa: F811
    visit = Visit(page, viewer_page_file)
    page.wait_for_selector('#viewer:not([hidden])')
    canvas = page.query_selector('canvas[data-axis="2"]')
    box = canvas.bounding_box()

    def where() -> list[float]:
        page.wait_for_timeout(120)
        text = page.inner_text('#readout').replace('\N{MINUS SIGN}', '-').split(' mm')[0]
        return [float(word) for word in text.split()[1::2]]

    def click(x: float, y: float) -> list[float]:
        page.mouse.click(box['x'] + x * box['width'], box['y'] + y * box['height'])
        return where()

    centre, left, up = click(0.5, 0.5), click(0.35, 0.5), click(0.5, 0.35)
    assert left[0] > centre[0] + 3, 'the right of the scanner is at the left'
    assert up[1] > centre[1] + 3, 'anterior is up'
    before = pixels(page, 2)
    page.mouse.wheel(0, -120)
    scrolled = where()
    assert scrolled[2] > up[2] + 2
    assert not np.array_equal(pixels(page, 2), before)
    page.keyboard.press('PageDown')
    page.keyboard.press('ArrowLeft')
    assert where()[0] > scrolled[0]
    assert where()[2] < scrolled[2]
    slider = page.query_selector('input[data-axis="0"]')
    slider.fill('3')
    assert where()[0] < centre[0] - 3
    page.keyboard.press('0')
    bare(page)
    whole = (pixels(page, 2)[..., 0] > 60).mean()
    page.keyboard.press('+')
    page.keyboard.press('+')
    assert (pixels(page, 2)[..., 0] > 60).mean() > 1.2 * whole
    assert visit.complaints == []


def test_tissues_by_slider_and_legend(viewer_page_file: Path, page: Any) -> None:  # noqa: F811
    Visit(page, viewer_page_file)
    page.wait_for_selector('#viewer:not([hidden])')
    page.keyboard.press('c')

    def tint() -> int:
        return int(np.ptp(pixels(page, 2).astype(int), axis=2).max())

    page.fill('#opacity', '100')
    full = tint()
    page.fill('#opacity', '20')
    assert 0 < tint() < full
    assert 'Cortical <plate>' in page.inner_text('.legend')
    page.uncheck('[data-label="1"]')
    assert tint() == 0


@pytest.mark.parametrize('name', ['sub-01.html', 'sub-01_single.html'])
def test_report_holds_the_viewer_at_its_height(report: Path, page: Any, name: str) -> None:  # noqa: F811
    visit = Visit(page, report.parent / name)
    frame = page.query_selector('iframe.viewer')
    frame.scroll_into_view_if_needed()
    inside = frame.content_frame()
    inside.wait_for_selector('#viewer:not([hidden])')
    page.wait_for_timeout(300)
    assert inside.evaluate('document.documentElement.scrollHeight <= innerHeight + 1')
    assert pixels(inside, 2).max() > 99
    assert visit.complaints == []
    assert all(url.startswith(('file://', 'data:', 'about:')) for url in visit.requests)
    visit.screenshot(f'viewer-{name}.png')


def test_rating_is_saved_and_read_again(report: Path, page: Any, tmp_path: Path) -> None:  # noqa: F811
    visit = Visit(page, report)
    form = page.locator('form.rating[data-image="sub-01_ses-02_run-1_T2w"]')
    save = form.locator('button')
    assert save.is_disabled()
    form.get_by_label('Doubt').check()
    assert save.is_disabled(), 'a rating needs its rater'
    form.get_by_label('Your initials').fill('J. D.')
    form.get_by_label('Stripes').check()
    form.get_by_role('textbox', name='Comment').fill('stripes, "6 mm"\n<b>')
    with page.expect_download() as download:
        save.click()
    name = download.value.suggested_filename
    assert name == 'sub-01_ses-02_run-1_T2w_rating-JD.json'
    assert name in form.locator('[role=status]').inner_text()
    download.value.save_as(tmp_path / 'ratings' / name)
    (found,) = read_ratings(tmp_path, 'T2w')
    assert found['bids_name'] == 'sub-01_ses-02_run-1_T2w'
    assert (found['rating'], found['artefacts'], found['rater']) == ('doubt', 'stripes', 'JD')
    assert found['comment'] == 'stripes, "6 mm"\n<b>'
    assert found['model'] == 'phantom'
    assert json.loads((tmp_path / 'ratings' / name).read_text(encoding='utf-8'))['time_sec'] >= 0
    assert visit.complaints == []


def test_place_in_the_cohort_and_way_to_the_group_page(
    tmp_path: Path,
    page: Any,  # noqa: F811
) -> None:
    report = generate_report(tmp_path, '09', RUN, make_tree(tmp_path, '09'))
    visit = Visit(page, report)
    assert page.locator('.place').count() == 0, 'one scan has no cohort'
    assert page.get_by_role('link', name='Group').count() == 0
    make_group(tmp_path)
    write_group(tmp_path, 'T2w')
    for width in (1400, 390):
        page.set_viewport_size({'width': width, 'height': 800})
        page.reload()
        row = page.locator('#qc-sub-09-ses-01-T2w tr[data-key=cortex_volume_ml]')
        row.scroll_into_view_if_needed()
        # 7 of 11 are smaller, and itself
        assert row.locator('.place').inner_text().strip() == 'above 68\N{NO-BREAK SPACE}%'
        assert row.locator('.place circle').bounding_box()['width'] > 5
        assert page.evaluate('document.documentElement.scrollWidth') <= width
    page.set_viewport_size({'width': 1400, 'height': 800})
    page.click('nav >> text=Group')
    page.wait_for_url('**/group_T2w.html')
    page.click('text=sub-09_ses-01_T2w')
    page.wait_for_url('**/sub-09.html#verdict')
    assert visit.complaints == []
