"""The report of one participant, assembled by nireports, and its export to a single file."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from bids_segsr import __version__
from bids_segsr.exceptions import UserError
from bids_segsr.files import write_text
from bids_segsr.reports.assembly import (
    Reportlet,
    Section,
    figure_sections,
    find_images,
)
from bids_segsr.reports.cohort import cohort_element, read_cohorts, without_pages
from bids_segsr.reports.file_links import files_section, without_links
from bids_segsr.reports.methods import methods_html
from bids_segsr.reports.missing_results import STOPPED
from bids_segsr.reports.model_html import model_html
from bids_segsr.reports.page import data_text, rendered
from bids_segsr.reports.rating import rating_section
from bids_segsr.reports.run_errors import Problem, discreet, problems_html, read_problems
from bids_segsr.reports.verdict_html import subject_records, verdicts_html
from bids_segsr.reports.viewer import embedded, viewer_section
from bids_segsr.zoo.find import find_card


def generate_report(root: Path, subject: str, run_uuid: str, settings: object) -> Path:
    """Write the report of one participant, whatever state its derivatives are in.

    Figures are taken from `sub-X/figures`, refused images and crash files from
    `sub-X/log/<run_uuid>`, the methods from `logs/CITATION.md`.

    Args:
        root: Root of the derivatives.
        subject: Label, with or without `sub-`.
        run_uuid: Identifier of the run.
        settings: Settings of the run: a dataclass or a mapping.

    Returns:
        `<root>/sub-X.html`. How many problems it tells of: see `count_problems`.
    """
    root = root.absolute()
    subject = subject.removeprefix('sub-')
    log_dir = root / f'sub-{subject}' / 'log' / run_uuid
    values = _values(settings)
    folders = _folders(root, values)
    problems = read_problems(log_dir, folders)
    images = find_images(root / f'sub-{subject}' / 'figures')
    records = subject_records(root, subject)
    if not records and not problems:
        problems.append(Problem(f'sub-{subject}', STOPPED))
    sections, failure = figure_sections(root, subject, run_uuid, images)
    if failure:
        problems.append(Problem('Report', discreet(failure, folders)))
    errors = [_html_section('errors', 'Errors', problems_html(problems))] if problems else []
    page = rendered(
        'report.html',
        subject=subject,
        problems=len(problems),
        print_script=data_text('print.js'),
        script=data_text('subject.js'),
        labelled=_labelled,
        cohort=cohort_element(read_cohorts(root), records),
        sections=[
            _html_section('verdict', 'Verdict', verdicts_html(records, images, problems)),
            *errors,
            *viewer_section(root, subject, images),
            *sections,
            *rating_section(images, {str(r.get('bids_name')): _used(r) for r in records}),
            *files_section(root, images),
            _html_section('methods', 'Methods', _methods(root)),
            _html_section('model', 'Model', _model(values, records)),
            _html_section('about', 'About', _about(run_uuid, log_dir, values, folders)),
        ],
    )
    return write_text(root / f'sub-{subject}.html', page)


def count_problems(report_html: Path) -> int:
    """Return how many problems a report tells of, for the exit code of the run."""
    found = re.search(
        r'<meta name="problems" content="(\d+)"', report_html.read_text(encoding='utf-8')
    )
    return int(found.group(1)) if found else 0


def export_single_file(report_html: Path, target: Path | None = None) -> Path:
    """Put the figures of a report inside the page, so that one file can be sent.

    Args:
        report_html: A report as `generate_report` writes it.
        target: The file; None for `<name>_single.html` beside it.

    Returns:
        The file, whole or not there. A figure that is missing stays a link.
    """
    root = report_html.parent
    text = report_html.read_text(encoding='utf-8')

    def inlined(match: re.Match[str]) -> str:
        path = root / unquote(match.group(2))
        if not path.is_file():
            return match.group(0)
        # percent-encoding the few reserved characters costs less than base64 over base64
        svg = quote(path.read_text(encoding='utf-8'), safe=" /+=:;,.?!@$&()*'~|-_[]{}")
        return f'{match.group(1)}="data:image/svg+xml;charset=utf-8,{svg}"'

    text = without_pages(without_links(embedded(text, root)))
    text = re.sub(r'\b(src|data)="\./([^"]+\.svg)"', inlined, text)
    text = re.sub(r'<small>(?:Get|Open) figure(?: file)?:.*?</small>\n?', '', text)
    return write_text(target or report_html.with_name(f'{report_html.stem}_single.html'), text)


def _labelled(content: str, title: str) -> str:
    """Return what nireports or we made of a figure, HTML, with a name for those who do not see."""
    name = escape(title)
    for tag, attribute in (('<object class', 'aria-label'), ('<img class', 'alt')):
        start = tag.partition(' ')[0]
        content = content.replace(tag, f'{start} {attribute}="{name}" class')
    return content.replace('Get figure file:', 'Open figure:')


def _html_section(name: str, title: str, content: str) -> Section:
    return Section(name, title, [Reportlet(f'{name}-text', [(content, None)])])


def _model(values: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    """Tell of the model once, from its card where the one that was used is at hand."""
    used = records[0] if records else {}
    known = {
        'name': used.get('model', 'n/a'),
        'version': used.get('model_version', ''),
        'sha256': used.get('model_sha256'),
    }
    # the setting may be a path, or leave the choice to the image
    for name in (values.get('model'), used.get('model')):
        with contextlib.suppress(UserError):
            card = find_card(str(name or ''))
            if used and card.sha256 == used.get('model_sha256'):
                known = json.loads(card.to_json())
    return model_html(known)


def _used(record: Mapping[str, Any]) -> str:
    return ' '.join(str(record[key]) for key in ('model', 'model_version') if record.get(key))


def _methods(root: Path) -> str:
    text, bibliography = root / 'logs' / 'CITATION.md', root / 'logs' / 'CITATION.bib'
    if not text.is_file():
        return '<p>The methods text (logs/CITATION.md) was not written.</p>'
    bib = bibliography.read_text('utf-8', 'replace') if bibliography.is_file() else ''
    body = methods_html(text.read_text('utf-8', 'replace'), bib)
    return f'<div class="methods">{body}</div>'


def _about(
    run_uuid: str, log_dir: Path, values: Mapping[str, Any], folders: Mapping[str, Path]
) -> str:
    rows = [('bids_segsr', __version__), ('Run', run_uuid)]
    if values.get('command'):
        rows.append(('Command', discreet(str(values['command']), folders)))
    body = ''.join(f'<dt>{escape(k)}</dt><dd><code>{escape(v)}</code></dd>' for k, v in rows)
    record = log_dir / 'bids_segsr.toml'
    if record.is_file():
        config = record.read_text(encoding='utf-8', errors='replace')
    else:
        config = '\n'.join(f'{k} = {v}' for k, v in values.items() if v is not None)
    return (
        f'<dl>{body}</dl><details class="mt-3"><summary>Settings of the run</summary>'
        f'<pre>{escape(discreet(config, folders))}</pre></details>'
    )


def _values(settings: object) -> dict[str, Any]:
    if isinstance(settings, Mapping):
        return dict(settings)
    if dataclasses.is_dataclass(settings):
        return {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}
    return dict(getattr(settings, '__dict__', {}))


def _folders(root: Path, values: Mapping[str, Any]) -> dict[str, Path]:
    folders = {'<output>': root}
    for name, key in (('<input>', 'bids_dir'), ('<output>', 'output_dir'), ('<work>', 'work_dir')):
        if values.get(key) and name not in folders:
            folders[name] = Path(str(values[key])).absolute()
    with contextlib.suppress(RuntimeError):
        folders['~'] = Path.home()
    return folders
