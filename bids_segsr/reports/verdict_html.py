"""What stands first in a report: may the results be used, and why not."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from bids_segsr.inference.verdict import FAILED, LOOK, USABLE, Verdict, judge_all
from bids_segsr.reports.assembly import Image
from bids_segsr.reports.page import formatted
from bids_segsr.reports.run_errors import Problem

RESEARCH_ONLY = '<span class="badge research">Research use only: not for diagnosis</span>'

_SAID = {
    USABLE: 'Usable: nothing implausible was found. Look at the brain mask all the same.',
    LOOK: 'Look before use: something is implausible.',
    FAILED: 'Failed: this result is not to be used.',
}
_GLANCE = (
    ('brain_volume_ml', 'Brain (mL)'),
    ('cortex_volume_ml', 'Cortex (mL)'),
    ('fidelity_nrmse', 'Residual<br>super-resolved'),
    ('fidelity_nrmse_ibp', 'Residual<br>back-projection alone'),
    ('fidelity_nrmse_spline', 'Residual<br>cubic spline'),
)


def subject_records(root: Path, subject: str) -> list[dict[str, Any]]:
    """Read the QC records of a participant, sorted by name; what cannot be read is left out.

    Args:
        root: Root of the derivatives.
        subject: Label without `sub-`.
    """
    found = []
    for path in sorted((root / f'sub-{subject}').rglob('*_qc.json')):
        with contextlib.suppress(OSError, ValueError):
            content = json.loads(path.read_text(encoding='utf-8'))
            if isinstance(content, dict) and content:
                found.append(content)
    return found


def verdicts_html(
    records: Sequence[Mapping[str, Any]], images: Sequence[Image], problems: Sequence[Problem]
) -> str:
    """Return the verdicts on the images of a participant and what was noticed, in words.

    Args:
        records: Their QC records.
        images: The images that have figures, for headings and links.
        problems: What failed; each is told in full elsewhere, under `#errors`.

    Returns:
        HTML fragment; images that failed come first, every text is escaped.
    """
    places = {image.label: place for place, image in enumerate(images)}
    records = sorted(records, key=lambda r: places.get(_name(r), len(places)))
    verdicts = judge_all(records)
    known = {image.label: image for image in images}
    order = (FAILED, LOOK, USABLE)
    parts = [
        f'<div class="banner failed" role="alert"><p><strong>{escape(p.image)}: '
        f'{"not complete" if p.image in verdicts else "no result"}</strong></p>'
        f'<p>{escape(p.message)} (<a href="#errors">Errors</a>)</p></div>'
        for p in problems
    ]
    if not records:
        parts.append('<p class="reading">No image of this participant could be processed.</p>')
    for record in sorted(records, key=lambda r: order.index(verdicts[_name(r)].word)):
        image = known.get(_name(record))
        parts.append(_banner(record, verdicts[_name(record)], image))
    if records:
        heads = ''.join(f'<th scope="col" class="number">{title}</th>' for _, title in _GLANCE)
        rows = ''.join(_row(r, verdicts[_name(r)], known.get(_name(r))) for r in records)
        parts.append(
            '<div class="scroller" tabindex="0" role="region" aria-label="Images at a glance">'
            '<table class="table table-sm glance"><thead><tr><th scope="col">Image</th>'
            f'<th scope="col">Verdict</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        )
    return '\n'.join([*parts, f'<p>{RESEARCH_ONLY}</p>'])


def _name(record: Mapping[str, Any]) -> str:
    return str(record.get('bids_name'))


def _banner(record: Mapping[str, Any], verdict: Verdict, image: Image | None) -> str:
    title = escape(image.title if image else _name(record))
    warnings = [str(text) for text in record.get('warnings') or []]
    return (
        f'<div class="banner {verdict.word}"{"" if verdict.word == USABLE else " role=alert"}>'
        f'<p><strong>{title}</strong> <span class="said">{_SAID[verdict.word]}</span></p>'
        f'{_listed("reasons", verdict.reasons)}{_listed("warnings", warnings)}</div>'
    )


def _listed(kind: str, texts: Iterable[str]) -> str:
    items = ''.join(f'<li>{escape(text)}</li>' for text in texts)
    return f'<ul class="{kind}">{items}</ul>' if items else ''


def _row(record: Mapping[str, Any], verdict: Verdict, image: Image | None) -> str:
    label = escape(_name(record))
    if image:
        label = f'<a href="#brain-mask-{image.anchor}">{label}</a>'
    numbers = ''.join(
        f'<td class="number">{escape(formatted(record.get(key)))}</td>' for key, _ in _GLANCE
    )
    word = f'<span class="verdict {verdict.word}">{verdict.word}</span>'
    return f'<tr><th scope="row">{label}</th><td>{word}</td>{numbers}</tr>'
