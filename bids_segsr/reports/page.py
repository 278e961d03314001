"""What the pages share: style and script inside the page, so that they work without a network."""

from __future__ import annotations

import re
from importlib import resources


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


def _without_map(text: str) -> str:
    # a browser would ask for the map, which is not there
    return re.sub(r'(?:/\*|//)# sourceMappingURL=\S+(?:\s*\*/)?', '', text).rstrip()
