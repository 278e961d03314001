"""Pictures and sizes of the pages: reports, viewer, group page.

    segsr demo demo && python benchmarks/draw_pages.py --demo demo/derivatives
    python benchmarks/example_cohort.py raw
    bids_segsr raw out participant group --modality T1w --resolution 1
    python benchmarks/draw_pages.py --cohort out

Writes into docs/images: `report.jpg` (desk), `report-phone.jpg` and `viewer.webp`, which moves, of
the demo; of the cohort a report with a warning, one that failed, and the group page. Needs
Chromium and the packages of `.[test]`. Sizes are printed as the table of docs/outputs.md.
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path
from typing import Any

from example_cohort import BROKEN, STRIPES
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from bids_segsr.simulation.demo_dataset import SUBJECT

PHONE = {'width': 390, 'height': 844}
SETTLED = 1500
"""Milliseconds after which a page has drawn everything."""


def shot(page: Page, **options: Any) -> Image.Image:
    """Return what a page shows."""
    page.wait_for_timeout(SETTLED)
    return Image.open(io.BytesIO(page.screenshot(**options))).convert('RGB')


def opened(page: Page, path: Path, width: int, height: int) -> Page:
    """Open a page in a window of a size."""
    page.set_viewport_size({'width': width, 'height': height})
    page.goto(path.resolve().as_uri())
    page.wait_for_load_state('networkidle')
    if page.locator('iframe.viewer').count():
        viewer = page.frame_locator('iframe.viewer').first
        viewer.locator('#viewer:not([hidden])').wait_for()
    return page


def scroll(page: Page, section: str) -> None:
    """Show a section of a page from its top."""
    page.evaluate(
        'id => document.getElementById(id).scrollIntoView({behavior: "instant"})', section
    )


def save(picture: Image.Image, path: Path, width: int = 960) -> None:
    """Write a picture as JPEG, `width` pixels wide."""
    height = round(picture.height * width / picture.width)
    picture.resize((width, height), Image.Resampling.LANCZOS).save(path, quality=82, optimize=True)


def phone(page: Page, report: Path, sections: tuple[str, ...]) -> Image.Image:
    """Return screens of a phone side by side, each from a section on."""
    opened(page, report, **PHONE)
    gap = 14
    sheet = Image.new(
        'RGB', (len(sections) * (PHONE['width'] + gap) - gap, PHONE['height']), 'white'
    )
    for place, section in enumerate(sections):
        scroll(page, section)
        sheet.paste(shot(page), (place * (PHONE['width'] + gap), 0))
    return sheet


def moving(page: Page, viewer: Path, path: Path) -> None:
    """Write what a person does with the viewer: compare, look at tissues, go through slices."""
    opened(page, viewer, 900, 480)
    page.wait_for_selector('#viewer:not([hidden])')
    page.keyboard.press('c')
    page.keyboard.press('t')
    frames: list[tuple[Image.Image, int]] = []

    def keep(milliseconds: int) -> None:
        page.wait_for_timeout(200)
        frames.append((Image.open(io.BytesIO(page.screenshot())).convert('RGB'), milliseconds))

    for key in '121213':
        page.keyboard.press(key)
        keep(900)
    page.keyboard.press('2')
    page.keyboard.press('t')
    keep(900)
    for axis in (2, 1):
        slider = page.locator(f'.plane input[data-axis="{axis}"]')
        middle, most = int(slider.input_value()), int(slider.get_attribute('max') or 0)
        for step in (-3, -2, -1, 0, 1, 2, 3, 0):
            value = middle + round(step * most / 14)
            slider.evaluate(
                '(e, value) => { e.value = value; e.dispatchEvent(new Event("input")); }', value
            )
            keep(250)
    pictures = [picture.resize((720, 384), Image.Resampling.LANCZOS) for picture, _ in frames]
    pictures[0].save(
        path,
        save_all=True,
        append_images=pictures[1:],
        duration=[milliseconds for _, milliseconds in frames],
        loop=0,
        quality=60,
        method=6,
    )


def draw_demo(page: Page, root: Path, out: Path) -> None:
    """Draw the pages of the demo."""
    report = root / f'sub-{SUBJECT}.html'
    save(shot(opened(page, report, 1200, 1190)), out / 'report.jpg')
    save(phone(page, report, ('verdict', 'segmentation', 'qc')), out / 'report-phone.jpg')
    (viewer,) = (root / f'sub-{SUBJECT}' / 'figures').glob('*_desc-viewer_*.html')
    moving(page, viewer, out / 'viewer.webp')


def draw_cohort(page: Page, root: Path, out: Path) -> None:
    """Draw the pages of the cohort."""
    save(shot(opened(page, root / f'sub-{STRIPES:02d}.html', 1200, 900)), out / 'report-look.jpg')
    opened(page, root / f'sub-{STRIPES:02d}.html', 1200, 900)
    scroll(page, 'qc')
    save(shot(page), out / 'report-cohort.jpg')
    failed = shot(opened(page, root / f'sub-{BROKEN:02d}.html', 1200, 560))
    save(failed, out / 'report-failed.jpg')
    (group,) = root.glob('group_*.html')
    save(shot(opened(page, group, 1200, 1700)), out / 'group.jpg')
    page.click('text=Pictures')
    scroll(page, 'images')
    save(shot(page), out / 'group-pictures.jpg')


def sizes(root: Path) -> list[str]:
    """Return the rows of the table: largest of each kind of page below a root, MB."""
    kinds = {
        'report, beside its figures': 'sub-*.html',
        'report in a single file': 'sub-*_single.html',
        'figures of an image': 'sub-*/figures/*.svg',
        'viewer of an image': 'sub-*/figures/*_desc-viewer_*.html',
        'picture of an image on the group page': 'sub-*/figures/*_desc-thumbnail_*.jpg',
        'group page': 'group_*.html',
    }
    rows = []
    for kind, pattern in kinds.items():
        found = [
            path
            for path in root.glob(pattern)
            if path.stem.endswith('_single') == ('_single' in pattern)
        ]
        if found:
            totals: dict[str, int] = {}
            for path in found:
                image = path.name.split('_desc-')[0]
                totals[image] = totals.get(image, 0) + path.stat().st_size
            rows.append(f'| {kind} | {max(totals.values()) / 1e6:.2f} |')
    return rows


def main() -> None:
    """Draw what was asked for and print sizes."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--demo', type=Path, help='derivatives of the demo')
    parser.add_argument('--cohort', type=Path, help='derivatives of example_cohort.py')
    parser.add_argument('--out', type=Path, default=Path('docs/images'))
    arguments = parser.parse_args()
    chromium = shutil.which('chromium') or shutil.which('google-chrome')
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=['--no-sandbox'])
        page = browser.new_page()
        for root, draw in ((arguments.demo, draw_demo), (arguments.cohort, draw_cohort)):
            if root:
                draw(page, root, arguments.out)
                print('\n'.join([f'{root}:', '| page | MB |', '|---|---|', *sizes(root)]))
        browser.close()


if __name__ == '__main__':
    main()
