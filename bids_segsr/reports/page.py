"""What the pages share: style and script inside the page, so that they work without a network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

from bids_segsr import __version__


def data_text(name: str) -> str:
    """Return a text file of `reports/data`."""
    return (resources.files('bids_segsr.reports') / 'data' / name).read_text(encoding='utf-8')


def style_and_script() -> list[str]:
    """Return the elements that bring Bootstrap (MIT licence) and our style into a page's head."""
    licence = data_text('bootstrap-LICENSE.txt').strip()
    css = data_text('bootstrap.min.css').removeprefix('@charset "UTF-8";')
    return [
        f'<!-- Bootstrap 5.2.3\n{licence}\n-->',
        f'<style>{_without_map(css)}</style>',
        f'<style>\n{data_text("report.css")}</style>',
        f'<script>{_without_map(data_text("bootstrap.bundle.min.js"))}</script>',
    ]


def plain_page(title: str, sections: Mapping[str, str]) -> str:
    """Return a page of sections that needs no other file.

    Args:
        title: HTML.
        sections: Heading to body, HTML.
    """
    return '\n'.join(
        [
            '<!DOCTYPE html>',
            '<html lang="en">',
            '<head>',
            '<meta charset="utf-8" />',
            '<meta name="viewport" content="width=device-width, initial-scale=1" />',
            f'<title>{title} - bids_segsr</title>',
            *style_and_script(),
            '</head>',
            '<body>',
            '<nav class="navbar navbar-dark fixed-top" aria-label="Page">'
            '<div class="container-fluid">'
            f'<span class="navbar-brand">{title} <span>bids_segsr</span></span></div></nav>',
            '<main>',
            f'<h1 class="visually-hidden">{title}</h1>',
            *(
                f'<section class="step">\n<h2>{heading}</h2>\n{body}\n</section>'
                for heading, body in sections.items()
            ),
            '</main>',
            f'<footer>bids_segsr {__version__}. For research use only: not for diagnosis.'
            '</footer>',
            '</body>',
            '</html>',
            '',
        ]
    )


def formatted(value: Any) -> str:
    """Return a value for a reader: four significant digits, true minus sign, n/a for none."""
    if value is None or (isinstance(value, float) and value != value):
        return 'n/a'
    if isinstance(value, float):
        text = f'{value:.4g}' if abs(value) < 1e4 else f'{value:.0f}'
        return text.replace('-', '\N{MINUS SIGN}')
    return str(value).replace('-', '\N{MINUS SIGN}') if isinstance(value, int) else str(value)


def _without_map(text: str) -> str:
    # a browser would ask for the map, which is not there
    return re.sub(r'(?:/\*|//)# sourceMappingURL=\S+(?:\s*\*/)?', '', text).rstrip()
