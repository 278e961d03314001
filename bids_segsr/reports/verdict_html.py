"""What stands first in a report: may the results be used, and why not."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bids_segsr.inference.verdict import FAILED, LOOK, USABLE, judge_all
from bids_segsr.reports.assembly import Image
from bids_segsr.reports.page import formatted, rendered
from bids_segsr.reports.run_errors import Problem

_SAID = {
    USABLE: 'Usable: nothing implausible was found. Look at the brain mask all the same.',
    LOOK: 'Look before use: something is implausible.',
    FAILED: 'Failed: this result is not to be used.',
}
_GLANCE = {
    'brain_volume_ml': ('Brain (mL)', ''),
    'cortex_volume_ml': ('Cortex (mL)', ''),
    'fidelity_nrmse': ('Residual', 'super-resolved'),
    'fidelity_nrmse_ibp': ('Residual', 'back-projection alone'),
    'fidelity_nrmse_spline': ('Residual', 'cubic spline'),
}
"""Key of a number to the two lines of its heading."""


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
    verdicts = judge_all(records)
    places = {image.label: place for place, image in enumerate(images)}
    order = (FAILED, LOOK, USABLE)
    told = []
    for record in sorted(records, key=lambda r: places.get(_name(r), len(places))):
        name = _name(record)
        image = images[places[name]] if name in places else None
        told.append(
            {
                'name': name,
                'title': image.title if image else name,
                'anchor': image.anchor if image else None,
                'verdict': verdicts[name],
                'place': order.index(verdicts[name].word),
                'warnings': record.get('warnings') or [],
                'numbers': [formatted(record.get(key)) for key in _GLANCE],
            }
        )
    return rendered(
        'verdict.html',
        problems=problems,
        verdicts=verdicts,
        images=told,
        said=_SAID,
        usable=USABLE,
        titles=_GLANCE.values(),
    )


def _name(record: Mapping[str, Any]) -> str:
    return str(record.get('bids_name'))
