"""Pages: no name in a dataset, a model or a table becomes markup."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from bids_segsr.reports.group import write_group
from bids_segsr.reports.missing_results import LeftOut
from bids_segsr.reports.page import plain_page, rendered
from bids_segsr.reports.subject import generate_report
from bids_segsr.reports.summary_html import image_summary, qc_table

HOSTILE = '\'"><planted onclick="alert(1)">&lt;planted></script></style></pre>{{ 7 * 191 }}'
"""Ends attributes, elements and scripts, brings an element, and would be counted by a template."""


class Reader(HTMLParser):
    """What a browser finds in a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: set[str] = set()
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


def check(page: str) -> Reader:
    """What was planted is there as text alone."""
    found = Reader(page)
    assert 'planted' in page
    assert 'planted' not in found.tags
    assert not {name for name in found.attributes if name.startswith('on') or 'planted' in name}
    assert page.count('</script>') == found.tags.count('script')
    assert page.count('</style>') == found.tags.count('style')
    assert '1337' not in page
    return found


def qc(name: str) -> dict[str, object]:
    return {
        'bids_name': name,
        'model': HOSTILE,
        'model_version': HOSTILE,
        'device': HOSTILE,
        'skull_strip': HOSTILE,
        'slice_axis': HOSTILE,
        'cortex_volume_ml': 90.0,
        'warnings': [HOSTILE],
        'header_notes': [HOSTILE],
        'versions': {HOSTILE: HOSTILE},
    }


@pytest.fixture
def derivatives(tmp_path: Path) -> Path:
    """Derivatives whose every name and text is hostile, as far as a file can have it."""
    root = tmp_path / 'out'
    for part in ('anat', 'figures', 'log/run', '../logs'):
        (root / 'sub-01' / part).mkdir(parents=True)
    (root / 'sub-01' / 'anat' / 'sub-01_qc.json').write_text(json.dumps(qc(HOSTILE)))
    named = HOSTILE.replace('/', '')
    figures = root / 'sub-01' / 'figures'
    for desc in ('brainmask', 'superresolution'):
        figure = figures / f'sub-01_acq-{named}_desc-{desc}_T2w.svg'
        figure.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    pages = {
        'qc': qc_table(qc(HOSTILE)),
        'summary': image_summary(
            file=HOSTILE, qc=qc(HOSTILE), shape=(4, 4, 2), fine_shape=(8, 8, 8), slice_direction=2
        ),
    }
    for desc, page in pages.items():
        check(page)
        (figures / f'sub-01_acq-{named}_desc-{desc}_T2w.html').write_text(page)
    log = root / 'sub-01' / 'log' / 'run'
    (log / 'errors.json').write_text(json.dumps([{'image': HOSTILE, 'message': HOSTILE}]))
    (log / 'crash-1-1-me-x.txt').write_text(f'Node: {HOSTILE}\nTraceback\nOSError: {HOSTILE}')
    (log / 'bids_segsr.toml').write_text(HOSTILE)
    (root / 'logs' / 'CITATION.md').write_text(f'# {HOSTILE}\n\n- {HOSTILE} [@n4]\n')
    (root / 'logs' / 'CITATION.bib').write_text(f'@article{{n4,\n  title = {{{HOSTILE}}},\n}}\n')
    return root


def test_report_of_a_hostile_dataset(derivatives: Path) -> None:
    settings = {'bids_dir': HOSTILE, 'command': HOSTILE, 'model': HOSTILE}
    page = generate_report(derivatives, '01', 'run', settings).read_text()
    found = check(page)
    assert found.tags.count('section') > 5
    # labels are kept to letters and digits by BIDS; a folder need not know it
    check(generate_report(derivatives, HOSTILE.replace('/', ''), 'run', settings).read_text())


def test_group_page_of_a_hostile_dataset(derivatives: Path, tmp_path: Path) -> None:
    raw = tmp_path / 'raw'
    raw.mkdir()
    table = pd.DataFrame({'participant_id': ['sub-01'], HOSTILE: [HOSTILE]})
    table.to_csv(raw / 'participants.tsv', sep='\t', index=False)
    missing = [LeftOut(HOSTILE, HOSTILE)]
    paths = write_group(derivatives, 'T2w', missing, raw)
    check(next(path for path in paths if path.suffix == '.html').read_text())


def test_a_template_escapes_what_it_does_not_know_to_be_html() -> None:
    page = plain_page(HOSTILE, {HOSTILE: '<p id="ours"></p>'})
    assert check(page).attributes >= {'id'}
    viewer = rendered(
        'viewer.html',
        title=HOSTILE,
        step=1,
        packed={HOSTILE: HOSTILE},
        labels=[{'name': HOSTILE, 'value': 1, 'colour': HOSTILE}],
        css='',
        script='',
        facts={'name': HOSTILE},
    )
    check(viewer)
