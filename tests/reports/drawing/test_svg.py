"""SVG files of matplotlib, made small."""

from __future__ import annotations

import re

from bids_segsr.reports.drawing.svg import finish


def test_paths_lose_digits_and_not_their_place() -> None:
    path = 'M 10.123456 20.987654 \nL 11.04 22.06 \nL 12.049 22.06 \nz\n'
    svg = finish(f'<svg viewBox="0 0 1 1"><path d="{path}"/></svg>', 'title')
    assert 'd="M10.1 21 l0.9 1.1 1 0 z"' in svg
    # the line of a series of one point
    assert 'd="M1.3 2"' in finish('<svg viewBox="0 0 1 1"><path d="M 1.26 2"/></svg>', 'title')


def test_size_and_date_go_and_the_title_is_told() -> None:
    svg = (
        '<?xml version="1.0"?>\n<svg width="9pt" height="8pt" viewBox="0 0 9 8">\n'
        ' <metadata>2026</metadata><g id="after-1"/></svg>\n'
    )
    still = finish(svg, 'Mask <b>')
    assert still == (
        '<svg viewBox="0 0 9 8" role="img" aria-label="Mask &lt;b&gt;">\n<g id="after-1"/>\n</svg>'
    )
    flicker = finish(svg, 'Mask', ('Scan', 'N4 & more'))
    assert re.findall(r'class="control" data-state="(\w+)"', flicker) == [
        'before', 'after', 'flicker',
    ]  # fmt: skip
    assert '>N4 &amp; more</text>' in flicker
