"""What stands first in a report, and what a hostile name makes of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from bids_segsr.reports.assembly import Image
from bids_segsr.reports.run_errors import Problem
from bids_segsr.reports.verdict_html import subject_records, verdicts_html

GOOD = {'bids_name': 'sub-01_run-1_T2w', 'brain_volume_ml': 1200.0, 'fidelity_nrmse': 0.02}
ODD = {'bids_name': 'sub-01_run-2_T2w', 'brain_volume_ml': 1200.0, 'fidelity_nrmse': 0.4}


def test_what_is_wrong_comes_first_and_the_table_keeps_the_order_of_images() -> None:
    images = [Image({'run': str(n)}, 'T2w', f'sub-01_run-{n}') for n in (1, 2)]
    told = verdicts_html([ODD, GOOD], images, [Problem('sub-01_run-3_T2w', 'no voxels')])
    assert re.findall(r'class="banner (\w+)', told) == ['failed', 'look', 'usable']
    assert 'sub-01_run-3_T2w: no result' in told
    assert re.findall(r'href="#brain-mask-(\S+)"', told) == [image.anchor for image in images]
    assert '0.4' in re.sub(r'<td.*', '', told, flags=re.S)  # the reason tells the number


def test_hostile_names_are_text() -> None:
    evil = '<img src=x onerror=alert(1)>'
    record = {**GOOD, 'bids_name': evil, 'warnings': [evil], 'brain_volume_ml': evil}
    told = verdicts_html([record], [], [Problem(evil, evil)])
    assert '<img' not in told
    assert told.count('&lt;img') >= 5


def test_records_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / 'sub-01/anat'
    folder.mkdir(parents=True)
    for name, text in {'b': json.dumps(ODD), 'a': json.dumps(GOOD), 'c': '[', 'd': '{}'}.items():
        (folder / f'sub-01_{name}_qc.json').write_text(text, encoding='utf-8')
    assert subject_records(tmp_path, '01') == [GOOD, ODD]
