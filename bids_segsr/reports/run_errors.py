"""What went wrong in a run: images that were refused and crash files, ready to be shown.

nireports' own errors section is not used: it fails on a crash file with a multi-line input, does
not escape tracebacks, and prints user names and home folders.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

from bids_segsr.bids.names import label_of_node

_TRACEBACK = re.compile(r'^(\s*)Traceback \(most recent call last\):$')
_EXCEPTION = re.compile(r'^(?P<name>(?:[A-Za-z_]\w*\.)*[A-Z]\w*)(?:: ?(?P<message>.*))?$')
_NAMED_ERROR = re.compile(r'^\s*(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit)\b')


@dataclass(frozen=True)
class Problem:
    """One thing that went wrong.

    Attributes:
        image: Name of the image, or of what else it is about.
        reason: One line.
        step: The step that failed; empty for an image that was refused.
        detail: The text of the crash file; empty for an image that was refused.
        path: The crash file; None where there is none.
        further: How many more steps of the image failed.
    """

    image: str
    reason: str
    step: str = ''
    detail: str = ''
    path: Path | None = None
    further: int = 0

    @property
    def message(self) -> str:
        """The reason with the step, as terminal, report and table of the group tell it."""
        told = f'step {self.step} failed: {self.reason}' if self.step else self.reason
        more = f'{self.further} further step{"s" if self.further > 1 else ""}'
        return f'{told} (and {more})' if self.further else told


def by_image(problems: Sequence[Problem]) -> list[Problem]:
    """Make one problem an image: what failed first, and how many steps failed after it.

    A disk that is full fails every step that writes, and one reason says it.

    Args:
        problems: In the order in which they were met.

    Returns:
        The first problem of each image, with the details of all.
    """
    images: dict[str, list[Problem]] = {}
    for number, problem in enumerate(problems):
        known = problem.image.startswith('sub-')
        images.setdefault(problem.image if known else str(number), []).append(problem)
    return [
        replace(
            first,
            further=len(others),
            detail='\n\n'.join(p.detail or p.message for p in (first, *others))
            if others
            else first.detail,
        )
        for first, *others in images.values()
    ]


def read_problems(log_dir: Path, folders: Mapping[str, Path]) -> list[Problem]:
    """Read `errors.json` and the crash files of a run.

    Whatever a file holds, it yields a problem and no exception.

    Args:
        log_dir: `sub-X/log/<run_uuid>`; it may be missing.
        folders: Names that stand for folders in what is shown, such as `{'<output>': root}`.

    Returns:
        One an image: refused ones first, then crashes by file name.
    """
    problems = []
    refused = log_dir / 'errors.json'
    if refused.is_file():
        problems += _refused(discreet(_text(refused), folders))
    # their names hold whole seconds
    for crash in sorted(
        log_dir.glob('crash*'), key=lambda path: (path.name[:21], path.stat().st_mtime_ns)
    ):
        if crash.suffix == '.txt':
            problems.append(read_crash(discreet(_text(crash), folders), crash))
        else:
            # a pickle may run code when it is read
            problems.append(Problem('A step', 'failed; its crash file is not plain text.'))
    return by_image(problems)


def read_crash(text: str, path: Path | None = None) -> Problem:
    """Find image, step and reason in the text of a crash file.

    Args:
        text: The text.
        path: The file that holds it, if one does.

    Returns:
        The problem; a full disk is told with the folder that lies on it.
    """
    head = dict(re.findall(r'^(Node|Working directory): *(\S.*)$', text, flags=re.MULTILINE))
    node = head.get('Node', '').strip()
    reason = last_line(text)
    if 'No space left on device' in reason and '/' not in reason:
        reason = f'{head.get("Working directory", "disk")}: no space left on device'
    return Problem(
        label_of_node(node) or 'A step',
        reason or 'failed; see its crash file.',
        node.rpartition('.')[2],
        text.strip() or 'The crash file is empty.',
        path,
    )


def last_line(text: str) -> str:
    """Return the exception's own line of a traceback, without the module of its class.

    Nipype puts the traceback of a worker, indented, into the message of its own exception, and a
    message may go on over further lines: the line is the one that ends the last traceback.

    Args:
        text: A traceback, or a message.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    found = ''
    margin = None
    for line in lines:
        start = _TRACEBACK.match(line)
        if start:
            margin = start[1]
        elif margin is not None and re.match(rf'{margin}\S', line):
            found, margin = line.strip(), None
    if not found:
        named = [line for line in lines if _NAMED_ERROR.match(line)]
        found = (named or lines or [''])[-1].strip()
    match = _EXCEPTION.match(found)
    if match is None:
        return found
    name, message = match['name'], match['message'] or ''
    # Our own errors speak for themselves.
    if name.startswith('bids_segsr.') and message:
        return message
    return f'{name.rpartition(".")[2]}: {message}' if message else name.rpartition('.')[2]


def one_line(error: Exception) -> str:
    """Return an exception as the one line that a traceback would end with."""
    kind = type(error)
    return last_line(f'{kind.__module__}.{kind.__qualname__}: {error}')


def problems_html(problems: list[Problem]) -> str:
    """Return the problems as HTML, details folded, every text escaped."""
    parts = []
    for problem in problems:
        line = f'<strong>{escape(problem.image)}</strong>: {escape(problem.message)}'
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


def _refused(text: str) -> list[Problem]:
    try:
        return [Problem(str(entry['image']), str(entry['message'])) for entry in json.loads(text)]
    except (ValueError, TypeError, KeyError):
        return [Problem('errors.json', 'cannot be read as a list of images', detail=text)]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding='utf-8', errors='replace')
    except OSError as error:
        return f'{path.name} cannot be read: {error.strerror}'
