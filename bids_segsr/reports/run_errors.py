"""What went wrong in a run: images that were refused and crash files, ready to be shown.

nireports' own errors section is not used: it fails on a crash file with a multi-line input, does
not escape tracebacks, and prints user names and home folders.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

_ERROR_LINE = re.compile(r'^(?:[\w.]+\.)?(\w*(?:Error|Exception|Interrupt|Exit|Warning)\b.*)$')


@dataclass(frozen=True)
class Problem:
    """One thing that went wrong.

    Attributes:
        where: Name of the image or of the node.
        message: One line.
        detail: The text of the crash file; empty for an image that was refused.
    """

    where: str
    message: str
    detail: str = ''


def read_problems(log_dir: Path, folders: Mapping[str, Path]) -> list[Problem]:
    """Read `errors.json` and the crash files of a run.

    Whatever a file holds, it yields a problem and no exception.

    Args:
        log_dir: `sub-X/log/<run_uuid>`; it may be missing.
        folders: Names that stand for folders in what is shown, such as `{'<output>': root}`.

    Returns:
        Refused images first, then crashes by file name.
    """
    problems = []
    refused = log_dir / 'errors.json'
    if refused.is_file():
        problems += _refused(_text(refused), folders)
    for crash in sorted(log_dir.glob('crash*')):
        if crash.suffix == '.txt':
            problems.append(_crash(_text(crash), folders))
        else:
            # a pickle may run code when it is read
            problems.append(Problem('A node', 'failed; its crash file is not plain text.'))
    return problems


def problems_html(problems: list[Problem]) -> str:
    """Return the problems as HTML, details folded, every text escaped."""
    if not problems:
        return '<p class="alert alert-success" role="alert">No errors to report.</p>'
    parts = []
    for problem in problems:
        line = f'<strong>{escape(problem.where)}</strong>: {escape(problem.message)}'
        if problem.detail:
            parts.append(
                f'<details class="problem"><summary>{line}</summary>'
                f'<pre>{escape(problem.detail)}</pre></details>'
            )
        else:
            parts.append(f'<p class="problem">{line}</p>')
    count = 'One problem was' if len(problems) == 1 else f'{len(problems)} problems were'
    return f'<p class="alert alert-danger" role="alert">{count} met in this run.</p>' + '\n'.join(
        parts
    )


def discreet(text: str, folders: Mapping[str, Path]) -> str:
    """Replace known folders and home folders, and with them user names, in a text.

    Args:
        text: Any text.
        folders: Names that stand for folders.

    Returns:
        The text with the names in place of the folders.
    """
    longest_first = sorted(folders.items(), key=lambda item: -len(str(item[1])))
    for name, folder in longest_first:
        if len(str(folder)) > 1:
            text = re.sub(re.escape(str(folder)) + r'(?![\w.-])', name, text)
    text = re.sub(r'[^\s"\']*/(?:site|dist)-packages/', '', text)
    text = re.sub(r'(/home|/Users)/[^/\s"\':,]+', '~', text)
    text = re.sub(r'/root(?=[/\s"\'])', '~', text)
    return re.sub(r'(crash-\d{8}-\d{6}-)[^-\s/]+-', r'\1', text)


def _refused(text: str, folders: Mapping[str, Path]) -> list[Problem]:
    try:
        entries = json.loads(text)
        return [
            Problem(str(entry['image']), discreet(str(entry['message']), folders))
            for entry in entries
        ]
    except (ValueError, TypeError, KeyError):
        return [Problem('errors.json', 'cannot be read as a list of images', text)]


def _crash(text: str, folders: Mapping[str, Path]) -> Problem:
    text = discreet(text, folders).strip()
    lines = text.splitlines()
    named = next((line[5:].strip() for line in lines if line.startswith('Node:')), '')
    where = f'Node {named.rsplit(".", 1)[-1]}' if named else 'A node'
    found = [m.group(1) for m in map(_ERROR_LINE.match, lines) if m]
    message = found[-1] if found else 'failed; see its crash file.'
    return Problem(where, message, text or 'The crash file is empty.')


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding='utf-8', errors='replace')
    except OSError as error:
        return f'{path.name} cannot be read: {error.strerror}'
