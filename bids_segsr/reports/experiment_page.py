"""The page of an experiment: its tables, figures, pictures and what failed, in one file."""

from __future__ import annotations

import base64
import json
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from bids_segsr.files import write_text
from bids_segsr.reports.page import plain_page

if TYPE_CHECKING:
    import pandas as pd

    from bids_segsr.evaluation.protocols import Result

PAGE = 'report.html'


def write_experiment_page(result: Result, out: Path, protocol: str) -> Path:
    """Write the page of an experiment.

    Args:
        result: What the protocol gave.
        out: Its folder, with the figures and settings that
            `evaluation.protocol_output.write_result` wrote.
        protocol: Its name.

    Returns:
        `out/report.html`, which needs no other file.

    Raises:
        UserError: It cannot be written.
    """
    sections = {
        title: _table(table, f'{title}, mean and standard deviation over the images')
        for title, table in result.tables.items()
    }
    for name in result.figures:
        title = name.replace('_', ' ').capitalize()
        sections[f'Figure: {title}'] = _figure(out / f'{name}.svg', title)
    if len(result.tests):
        tests = result.tests.map(lambda v: f'{v:.4g}' if isinstance(v, float) else str(v))
        sections['Paired tests'] = (
            f'<details><summary>{len(tests)} comparisons</summary>'
            f'{_table(tests, "Paired tests")}</details>'
        )
    if result.failures:
        lines = ''.join(f'<li>{escape(line)}</li>' for line in result.failures)
        sections['Failed'] = f'<ul>{lines}</ul>'
    settings = json.loads((out / 'settings.json').read_text(encoding='utf-8'))
    sections['Settings'] = (
        '<details><summary>Models, data, simulated scan, machine</summary>'
        f'<pre tabindex="0">{escape(json.dumps(settings, indent=2))}</pre></details>'
    )
    page = plain_page(f'Evaluation, {protocol}', sections)
    return write_text(out / PAGE, page)


def _table(table: pd.DataFrame, label: str) -> str:
    heads = ''.join(f'<th scope="col">{escape(str(name))}</th>' for name in table.columns)
    rows = []
    for row in table.itertuples(index=False):
        first, *others = map(str, row)
        cells = ''.join(f'<td class="number">{escape(text)}</td>' for text in others)
        rows.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    return (
        f'<div class="scroller" tabindex="0" role="region" aria-label="{escape(label)}">'
        f'<table class="table table-sm"><thead><tr>{heads}</tr></thead>'
        f'<tbody>{"".join(rows)}</tbody></table></div>'
    )


def _figure(path: Path, title: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<figure tabindex="0"><img src="data:image/svg+xml;base64,{data}" '
        f'alt="{escape(title)}" style="max-width: 100%" /></figure>'
    )
