"""The methods text of a run as HTML: the Markdown of the boilerplate, with its references."""

from __future__ import annotations

import re
import unicodedata
from html import escape

_CITATION = re.compile(r'\[((?:@[\w:-]+)(?:;\s*@[\w:-]+)*)\]')
_ACCENTS = {
    "'": '\u0301',
    '`': '\u0300',
    '^': '\u0302',
    '"': '\u0308',
    '~': '\u0303',
    'c': '\u0327',
    'v': '\u030c',
}


def methods_html(markdown: str, bibliography: str = '') -> str:
    """Render a methods text without pandoc.

    Headings, paragraphs, lists, emphasis, code, superscripts, links and citation keys in square
    brackets are understood; everything else stays as it is. Citations are numbered in the order
    of their first use.

    Args:
        markdown: The text.
        bibliography: BibTeX entries.

    Returns:
        HTML fragment; the text is escaped.
    """
    numbers: dict[str, int] = {}
    # the section has a heading of its own
    markdown = re.sub(r'^\s*# Methods\s*\n', '', markdown)
    blocks = [_block(block, numbers) for block in re.split(r'\n\s*\n', markdown.strip())]
    body = '\n'.join(block for block in blocks if block)
    if not numbers:
        return body
    entries = _entries(bibliography)
    items = ''.join(
        f'<li id="ref-{escape(key)}">{_reference(entries[key]) if key in entries else escape(key)}'
        '</li>'
        for key in numbers
    )
    return f'{body}\n<h4>References</h4>\n<ol class="references">{items}</ol>'


def _block(block: str, numbers: dict[str, int]) -> str:
    heading = re.match(r'(#+)\s+(.*)', block)
    if heading:
        rest = block[heading.end() :].strip()
        level = min(len(heading.group(1)) + 2, 6)
        title = f'<h{level}>{_inline(heading.group(2), numbers)}</h{level}>'
        return title + (_block(rest, numbers) if rest else '')
    lines = block.strip().splitlines()
    if lines and all(re.match(r'\s*[-*]\s', line) for line in lines):
        items = (_inline(re.sub(r'^\s*[-*]\s+', '', line), numbers) for line in lines)
        return '<ul>' + ''.join(f'<li>{item}</li>' for item in items) + '</ul>'
    return f'<p>{_inline(" ".join(lines), numbers)}</p>' if lines else ''


def _inline(text: str, numbers: dict[str, int]) -> str:
    text = escape(text, quote=False)
    text = re.sub(r'`([^`]+)`', r'<code>\1</code>', text)
    text = re.sub(r'\*\*([^*]+)\*\*', r'<strong>\1</strong>', text)
    text = re.sub(r'\*([^*\s][^*]*)\*', r'<em>\1</em>', text)
    text = re.sub(r'\^([^^\s]+)\^', r'<sup>\1</sup>', text)
    text = re.sub(
        r'\[([^\]]+)\]\((https?://[^)\s"]+)\)', r'<a href="\2" rel="noopener">\1</a>', text
    )

    def cite(match: re.Match[str]) -> str:
        keys = re.findall(r'@([\w:-]+)', match.group(1))
        links = (
            f'<a href="#ref-{key}">{numbers.setdefault(key, len(numbers) + 1)}</a>' for key in keys
        )
        return f'[{", ".join(links)}]'

    return _CITATION.sub(cite, text)


def _entries(bibliography: str) -> dict[str, dict[str, str]]:
    entries = {}
    for chunk in re.split(r'\n(?=@)', bibliography.strip()):
        start = re.match(r'@\w+\{([^,\s]+),', chunk)
        if start:
            fields = re.findall(r'^\s*(\w+)\s*=\s*[{"](.*?)["}],?\s*$', chunk, flags=re.MULTILINE)
            entries[start.group(1)] = {name.lower(): _plain(value) for name, value in fields}
    return entries


def _reference(fields: dict[str, str]) -> str:
    people = re.split(r'\s+and\s+', fields.get('author', ''))
    names = ', '.join(person.split(',')[0] for person in people[:3] if person)
    if len(people) > 3:
        names += ' et al.'
    venue = fields.get('journal') or fields.get('booktitle') or fields.get('publisher', '')
    parts = [names, fields.get('title', ''), venue, fields.get('year', '')]
    text = '. '.join(escape(part.rstrip('.')) for part in parts if part) + '.'
    if 'doi' in fields:
        doi = escape(fields['doi'])
        text += f' <a href="https://doi.org/{doi}" rel="noopener">doi:{doi}</a>'
    return text


def _plain(latex: str) -> str:
    def accented(match: re.Match[str]) -> str:
        letter = match.group(2).replace('\\', '')
        return unicodedata.normalize('NFC', letter + _ACCENTS[match.group(1)])

    text = re.sub(r"\{\\(['`^\"~]|[cv](?=[\s{]))\s*\{?(\\?[a-zA-Z])\}?\}", accented, latex)
    return re.sub(r'[{}]', '', text).replace('--', '\N{EN DASH}').replace('\\&', '&')
