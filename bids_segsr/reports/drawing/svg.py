"""What is done to an SVG file of matplotlib before it goes into a report."""

from __future__ import annotations

import base64
import html
import io
import re

import numpy as np

from bids_segsr.reports.page import data_text

_GREY_LEVELS, _COLOURS = 128, 64


def finish(svg: str, title: str, states: tuple[str, str] | None = None) -> str:
    """Make an SVG file of matplotlib small, without date and size, and let it flicker.

    Args:
        svg: What matplotlib wrote.
        title: What the figure shows, for screen readers.
        states: Labels of the buttons that hide and show the elements whose id begins with
            `after-`; None for a still figure.

    Returns:
        The file's text; it begins with `<svg` on its first line, as nireports leaves it.
    """
    svg = svg[svg.index('<svg') :]
    svg = re.sub(r'\s*<metadata>.*?</metadata>', '', svg, count=1, flags=re.DOTALL)
    svg = re.sub(r' style="image-rendering:[^"]*"', ' preserveAspectRatio="none"', svg)
    svg = re.sub(r'data:image/png;base64,\s*([^"]+)"', _smaller_png, svg)
    svg = re.sub(r' d="([ML][^"CQ]*)"', lambda m: f' d="{_shorter_path(m.group(1))}"', svg)
    svg = svg.replace("'DejaVu Sans'", "'Helvetica Neue', Helvetica, Arial, sans-serif")
    opening = svg[: svg.index('>') + 1]
    attributes = re.sub(r' (height|width)="[^"]*"', '', opening)[:-1]
    attributes = re.sub(r'\s+', ' ', attributes)
    name = html.escape(title)
    inside = svg[len(opening) :].rstrip().removesuffix('</svg>').rstrip()
    if states is None:
        return f'{attributes} role="img" aria-label="{name}">\n{inside}\n</svg>'
    return (
        f'{attributes} role="group" aria-label="{name}" data-state="rest">\n'
        f'<style>\n{data_text("flicker.css")}</style>\n{inside}\n'
        f'<g id="show-before"/><g id="show-after"/>\n{_controls(states)}\n'
        f'<script><![CDATA[\n{data_text("flicker.js")}]]></script>\n</svg>'
    )


def _shorter_path(path: str) -> str:
    pieces: list[str] = []
    at = (0.0, 0.0)
    for command, x, y in re.findall(r'([MLz])\s*(?:(-?[\d.e-]+)\s+(-?[\d.e-]+))?', path):
        if command == 'z':
            pieces.append('z')
            continue
        place = (round(float(x), 1), round(float(y), 1))
        if command == 'M':
            pieces.append(f'M{place[0]:g} {place[1]:g}')
        else:
            # a path may end where it moved to, as the line of a single point does
            line = 'l' if pieces[-1].startswith('M') else ''
            pieces.append(f'{line}{place[0] - at[0]:.3g} {place[1] - at[1]:.3g}')
        at = place
    return ' '.join(pieces)


def _controls(states: tuple[str, str]) -> str:
    x, pieces = 8.0, []
    for state, label in (('before', states[0]), ('after', states[1]), ('flicker', 'Flicker')):
        width = 28 + 7.6 * len(label)
        pieces.append(
            f'<g class="control" data-state="{state}" tabindex="0" role="button" '
            f'aria-pressed="false">'
            f'<rect x="{x:.1f}" y="4" width="{width:.1f}" height="26" rx="4"/>'
            f'<text x="{x + width / 2:.1f}" y="22">{html.escape(label)}</text></g>'
        )
        x += width + 8
    return '\n'.join(pieces)


def _smaller_png(match: re.Match[str]) -> str:
    from PIL import Image

    image = Image.open(io.BytesIO(base64.b64decode(match.group(1)))).convert('RGB')
    pixels = np.asarray(image)
    if (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all():
        step = 256 // _GREY_LEVELS
        image = Image.fromarray(pixels[..., 0] // step * step)
    else:
        image = image.quantize(_COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, 'PNG', optimize=True)
    return f'data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"'
