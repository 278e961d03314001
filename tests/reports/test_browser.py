"""The pages in headless Chromium: nothing leaves the file system, everything loads and works."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from test_group import make_group
from test_subject import RUN, make_tree

from bids_segsr.reports.group import write_group
from bids_segsr.reports.subject import export_single_file, generate_report

CHROMIUM = shutil.which('chromium') or shutil.which('google-chrome')

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason='no Chromium on PATH'),
]


class Visit:
    """A page with everything it complained of and asked for."""

    def __init__(self, page: Any, path: Path) -> None:
        self.page, self.path = page, path
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on('console', self._console)
        page.on('pageerror', lambda error: self.complaints.append(str(error)))
        page.on('requestfailed', lambda request: self.complaints.append(request.url[:200]))
        page.on('request', lambda request: self.requests.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_load_state('networkidle')

    def _console(self, message: Any) -> None:
        if message.type in {'error', 'warning'}:
            self.complaints.append(message.text)

    def screenshot(self, name: str) -> None:
        """Keep a picture where REPORT_SCREENSHOTS names a folder."""
        if folder := os.environ.get('REPORT_SCREENSHOTS'):
            self.page.screenshot(path=Path(folder, name), full_page=True)


@pytest.fixture(scope='module')
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('site') / 'out'
    settings = make_tree(root)
    export_single_file(generate_report(root, '01', RUN, settings))
    log = root / 'sub-02' / 'log' / RUN
    log.mkdir(parents=True)
    (log / 'errors.json').write_text(
        '[{"image": "sub-02_T2w", "message": "the file is empty"}]', encoding='utf-8'
    )
    generate_report(root, '02', RUN, settings)
    group = root.parent / 'group'
    make_group(group)
    write_group(group, 'T2w')
    return root


@pytest.fixture(scope='module')
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip('playwright.sync_api')
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        yield running
        running.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    page = browser.new_page(viewport={'width': 1400, 'height': 900})
    yield page
    page.close()


def frame_of(page: Any, figure: Any) -> Any:
    """Return the document inside an object element."""
    for frame in page.frames[1:]:
        if frame.frame_element().evaluate('(e, other) => e === other', figure):
            return frame
    raise LookupError('the figure holds no document')


def figures_of(page: Any) -> list[Any]:
    return page.query_selector_all('img.svg-reportlet, object.svg-reportlet')


@pytest.mark.parametrize('name', ['sub-01.html', 'sub-01_single.html'])
def test_report_loads_every_figure_and_asks_for_nothing_else(
    site: Path, page: Any, name: str
) -> None:
    visit = Visit(page, site / name)
    assert visit.complaints == []
    assert all(url.startswith(('file://', 'data:')) for url in visit.requests)
    figures = figures_of(page)
    assert len(figures) == 18
    for figure in figures:
        box = figure.bounding_box()
        assert box['width'] > 900
        assert box['height'] > 200
        if figure.evaluate('e => e.tagName') == 'IMG':
            assert figure.evaluate('e => e.complete && e.naturalWidth > 0 && e.alt !== ""')
        else:
            frame = frame_of(page, figure)
            assert frame.query_selector('svg image') is not None
            assert figure.evaluate('e => e.clientHeight') > 200
    visit.screenshot(name.replace('.html', '.png'))


def test_single_file_stands_alone(site: Path, page: Any, tmp_path: Path) -> None:
    alone = shutil.copy(site / 'sub-01_single.html', tmp_path / 'mailed.html')
    visit = Visit(page, Path(alone))
    assert visit.complaints == []
    files = {url for url in visit.requests if url.startswith('file:')}
    assert files == {Path(alone).as_uri()}


@pytest.mark.parametrize('name', ['sub-01.html', 'sub-01_single.html'])
def test_flicker_buttons_by_mouse_and_keyboard(site: Path, page: Any, name: str) -> None:
    Visit(page, site / name)
    figure = page.query_selector('#super-resolution object')
    figure.scroll_into_view_if_needed()
    frame = frame_of(page, figure)

    def opacity() -> float:
        return float(
            frame.evaluate(
                '() => getComputedStyle(document.querySelector("[id^=after-]")).opacity'
            )
        )

    assert opacity() == 1
    frame.query_selector('.control[data-state=before]').click()
    assert opacity() == 0
    assert frame.evaluate('() => document.querySelector("[aria-pressed=true]").textContent') == (
        'Cubic spline'
    )
    frame.query_selector('.control[data-state=after]').focus()
    page.keyboard.press('Enter')
    assert opacity() == 1
    page.keyboard.press('ArrowRight')
    page.keyboard.press(' ')
    seen = set()
    for _ in range(20):
        page.wait_for_timeout(60)
        seen.add(round(opacity(), 1))
    assert min(seen) < 0.3
    assert max(seen) > 0.7


def test_hover_flickers(site: Path, page: Any) -> None:
    Visit(page, site / 'sub-01.html')
    figure = page.query_selector('#bias-field object')
    figure.scroll_into_view_if_needed()
    figure.hover()
    animated = 'getComputedStyle(document.querySelector("[id^=after-]")).animationName'
    assert frame_of(page, figure).evaluate(animated) == 'fade'


def test_navigation(site: Path, page: Any) -> None:
    visit = Visit(page, site / 'sub-01.html')
    page.click('nav >> text=Errors')
    top = 'document.getElementById("{}").getBoundingClientRect().top'
    page.wait_for_function(f'{top.format("errors")} < 700')
    page.click('#to-fidelity')
    assert page.query_selector('#to-fidelity + .dropdown-menu').is_visible()
    page.click('#to-fidelity + .dropdown-menu >> text=Session 02, run 10')
    target = 'fidelity-sub-01-ses-02-run-10-T2w'
    assert page.url.endswith(f'#{target}')
    page.wait_for_function(f'Math.abs({top.format(target)} - 100) < 100')
    page.wait_for_function("document.querySelector('#to-fidelity.active') !== null")
    page.click('#errors details summary >> nth=0')
    assert page.query_selector('#errors details pre').is_visible()
    assert visit.complaints == []
    anchors = page.eval_on_selector_all(
        'a[href^="#"]', 'all => all.map(a => a.getAttribute("href").slice(1))'
    )
    missing = [a for a in anchors if page.query_selector(f'[id="{a}"]') is None]
    assert missing == []


def test_narrow_screen_has_no_sideways_scrolling(site: Path, page: Any) -> None:
    page.set_viewport_size({'width': 420, 'height': 800})
    Visit(page, site / 'sub-01.html')
    assert page.evaluate('document.documentElement.scrollWidth') <= 430
    page.click('.navbar-toggler')
    page.wait_for_selector('#sections.show')


def test_report_with_only_errors(site: Path, page: Any) -> None:
    visit = Visit(page, site / 'sub-02.html')
    assert visit.complaints == []
    assert 'the file is empty' in page.inner_text('#errors')
    visit.screenshot('sub-02.png')


def test_print(site: Path, page: Any) -> None:
    Visit(page, site / 'sub-01.html')
    page.emulate_media(media='print')
    assert not page.query_selector('nav').is_visible()
    assert page.query_selector('#summary').is_visible()


@pytest.mark.parametrize('name', ['sub-01.html', 'sub-01_single.html'])
def test_both_states_of_a_comparison_stand_side_by_side_on_paper(
    site: Path, page: Any, name: str
) -> None:
    Visit(page, site / name)
    pair = '#super-resolution .pair img >> nth={}'
    assert not page.query_selector(pair.format(0)).is_visible()
    page.emulate_media(media='print')
    boxes = [page.query_selector(pair.format(n)).bounding_box() for n in (0, 1)]
    assert boxes[0]['y'] == boxes[1]['y']
    assert boxes[1]['x'] > boxes[0]['x'] + 0.9 * boxes[0]['width']
    assert not page.query_selector('#super-resolution object').is_visible()
    shown = [page.query_selector(pair.format(n)).screenshot() for n in (0, 1)]
    assert shown[0] != shown[1]


def test_text_in_figures_can_be_read_on_a_phone(site: Path, page: Any) -> None:
    page.set_viewport_size({'width': 390, 'height': 800})
    Visit(page, site / 'sub-01.html')
    assert page.evaluate('document.documentElement.scrollWidth') <= 390
    figure = page.query_selector('#brain-mask object')
    figure.scroll_into_view_if_needed()
    sizes = frame_of(page, figure).evaluate(
        '() => [...document.querySelectorAll("text")].map(e => e.getBoundingClientRect().height)'
    )
    assert min(sizes) >= 9
    # what is wider than the screen scrolls, by keyboard too
    assert page.query_selector('#brain-mask figure').get_attribute('tabindex') == '0'


def test_group_page(site: Path, page: Any) -> None:
    visit = Visit(page, site.parent / 'group' / 'group_T2w.html')
    assert visit.complaints == []

    def names() -> list[str]:
        return page.eval_on_selector_all(
            '#group-table tbody tr:not([hidden]) th', 'all => all.map(e => e.textContent)'
        )

    assert len(names()) == 8
    page.click('#group-table th button >> text=Holes')
    assert names()[0] == 'sub-01_T2w'
    assert names()[-1] == 'sub-04_T2w'  # n/a comes last
    page.click('#group-table th button >> text=Holes')
    assert names()[0] == 'sub-08_T2w'
    assert names()[-1] == 'sub-04_T2w'
    visit.screenshot('group.png')
    page.fill('#filter', 'ses-02')
    assert names() == ['sub-02_ses-02_T2w']
    assert page.inner_text('#count') == '1 of 8 images'
    page.fill('#filter', '')
    page.check('#only-outliers')
    assert names() == ['sub-08_T2w']
    page.uncheck('#only-outliers')
    page.click('text=sub-01_T2w')
    assert page.url.endswith('/sub-01.html#verdict')


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Group page of forty images whose volumes lie on a line over age, two of one person."""
    root, raw = tmp_path / 'out', tmp_path / 'raw'
    make_group(root, 40)
    raw.mkdir()
    rows = [f'sub-{n:02d}\t{n}\t{"FM"[n % 2]}' for n in range(1, 41)]
    (raw / 'participants.tsv').write_text(
        'participant_id\tage\tsex\n' + '\n'.join(rows) + '\n', encoding='utf-8'
    )
    for n in range(1, 41):
        (root / f'sub-{n:02d}.html').touch()
    figures = root / 'sub-03' / 'figures'
    figures.mkdir()
    Image.new('RGB', (90, 30), (90, 120, 200)).save(figures / 'sub-03_desc-thumbnail_T2w.jpg')
    return write_group(root, 'T2w', bids_dir=raw)[1]


def test_a_click_on_a_point_opens_its_report(cohort: Path, page: Any) -> None:
    visit = Visit(page, cohort)
    strip = page.query_selector('canvas[data-key="cortex_volume_ml"]')
    assert '40 images, 91 to 500' in strip.get_attribute('aria-label')
    strip.scroll_into_view_if_needed()
    box = strip.bounding_box()
    # the outlier of 500 mL lies at the right end
    height = 8 + (39 * 0.618034 % 1) * (54 - 16)
    page.mouse.move(box['x'] + box['width'] - 7, box['y'] + height)
    assert 'sub-40_T2w' in page.inner_text('.strip:has([data-key="cortex_volume_ml"]) .told')
    page.mouse.click(box['x'] + box['width'] - 7, box['y'] + height)
    page.wait_for_url('**/sub-40.html#verdict')
    assert visit.complaints == []


def test_volumes_against_age_have_the_curve_of_the_cohort(cohort: Path, page: Any) -> None:
    visit = Visit(page, cohort)
    page.wait_for_function("document.querySelector('#scatter').curve")
    page.select_option('#up', label='Residual, super-resolved')
    curve = page.evaluate("document.querySelector('#scatter').curve")
    for age, residual in curve:  # 0.04 + 0.001 age in the phantom
        assert abs(residual - (0.04 + 0.001 * age)) < 1e-6
    page.select_option('#colour', label='sex')
    assert page.inner_text('#scatter-legend').split() == ['F', 'M']
    assert visit.complaints == []


def test_pictures_follow_the_filter(cohort: Path, page: Any) -> None:
    visit = Visit(page, cohort)
    page.click('text=Pictures')
    page.fill('#filter', 'sub-03')
    picture = page.locator('#pictures-view img')
    assert picture.count() == 1
    page.wait_for_function("document.querySelector('#pictures-view img').naturalWidth === 90")
    assert not page.is_visible('#table-view')
    visit.screenshot('pictures.png')
    page.fill('#filter', '')
    assert page.locator('#pictures-view a').count() == 40
    assert visit.complaints == []


def test_first_column_and_head_of_the_table_stay(cohort: Path, page: Any) -> None:
    page.set_viewport_size({'width': 390, 'height': 800})
    Visit(page, cohort)
    assert page.evaluate('document.documentElement.scrollWidth') <= 390
    view = page.query_selector('#table-view')
    view.evaluate('e => e.scrollTo(400, 300)')
    left = view.bounding_box()['x']
    name = page.query_selector('#group-table tbody tr:nth-child(20) th').bounding_box()
    head = page.query_selector('#group-table thead th').bounding_box()
    assert abs(name['x'] - left) < 2
    assert name['width'] > 100
    assert abs(head['y'] - view.bounding_box()['y']) < 2
