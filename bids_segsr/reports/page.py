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


def rendered(template: str, /, **values: Any) -> str:
    """Fill a template of `reports/data`.

    What is filled in is escaped, whoever named it; a template marks as safe what is HTML already.

    Args:
        template: Name of the file.
        values: What it takes; `version` and `head`, the style and script of all pages, are known.

    Returns:
        HTML.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.policies['json.dumps_kwargs'] = {'separators': (',', ':')}
    known = {'version': __version__, 'head': _style_and_script()}
    return environment.from_string(data_text(template)).render({**known, **values}) + '\n'


def plain_page(title: str, sections: Mapping[str, str]) -> str:
    """Return a page of sections that needs no other file.

    Args:
        title: Text.
        sections: Heading, a text, to body, HTML.
    """
    return rendered('page.html', title=title, sections=sections)


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


def _style_and_script() -> str:
    """Return the elements that bring Bootstrap (MIT licence) and our style into a page's head."""
    licence = data_text('bootstrap-LICENSE.txt').strip()
    css = data_text('bootstrap.min.css').removeprefix('@charset "UTF-8";')
    return '\n'.join(
        (
            f'<!-- Bootstrap 5.2.3\n{licence}\n-->',
            f'<style>{_without_map(css)}</style>',
            f'<style>\n{data_text("report.css")}</style>',
            f'<script>{_without_map(data_text("bootstrap.bundle.min.js"))}</script>',
        )
    )
