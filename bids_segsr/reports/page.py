"""What the pages share: style and script inside the page, so that they work without a network."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any


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
