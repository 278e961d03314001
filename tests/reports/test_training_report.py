from __future__ import annotations

import base64
import math
import re

import numpy as np
import pytest
from training_phantoms import adversarial_recipe, make_trainer

from bids_segsr.exceptions import UserError
from bids_segsr.reports.training import _between, write_report
from bids_segsr.training.loop.run_log import RunLog, read_log
from bids_segsr.training.recipe import Schedule


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp('run')
    make_trainer(out, adversarial_recipe(schedule=Schedule(steps=6, batch_size=2))).fit()
    return out


def test_page_holds_curves_pictures_and_recipe(run, tmp_path):
    page = write_report(run, tmp_path / 'report.html').read_text()
    assert page.count('<figure class="curves"') == 5
    for text in ('PSNR (dB)', 'Dice, cortex', 'minutes', 'Loss of the critic', 'penalty'):
        assert text in page
    rows = read_log(run / 'log.csv')
    assert f'{rows[0]["interpolation_psnr"]:.2f}' in page
    assert 'back-projection restores more than plain interpolation' in page
    assert 'model against its input' in page
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    files = [path.read_bytes() for path in sorted((run / 'samples').iterdir())]
    assert [base64.b64decode(text) for text in pictures] == files
    assert 'architecture = &quot;segsrgan&quot;' in page
    assert 'a, b' not in page  # names of subjects stay in the summary
    assert not re.search(r'(?:src|href)="http', page)
    assert write_report(run, tmp_path / 'again.html').read_text() == page


def test_folders_without_a_run_are_refused(tmp_path):
    with pytest.raises(UserError, match='holds no run'):
        write_report(tmp_path, tmp_path / 'report.html')


def test_minutes_and_epochs_go_both_ways():
    there, back = _between(np.array([0.0, 1.0, 3.0]), np.array([0.0, 2.0, 3.0]))
    assert there(np.array([0.5, 2.0])).tolist() == pytest.approx([1.0, 2.5])
    for x in (-1.0, 0.5, 2.0, 4.0):
        assert float(back(there(x))) == pytest.approx(x, abs=1e-6)


def test_table_survives_half_a_line_and_new_columns(tmp_path):
    log = RunLog(tmp_path, None)
    log.add({'step': 0, 'psnr': 1.5})
    log.add({'step': 3, 'psnr': 2.5, 'loss_total': 0.1})
    log.add({'step': 6, 'psnr': math.nan, 'loss_total': 0.2})
    log.close()
    rows = read_log(tmp_path / 'log.csv')
    assert [row['step'] for row in rows] == [0, 3, 6]
    assert math.isnan(rows[0]['loss_total'])
    assert math.isnan(rows[2]['psnr'])
    with (tmp_path / 'log.csv').open('a') as file:
        file.write('7,2.')
    again = RunLog(tmp_path, 3)
    again.close()
    assert [row['step'] for row in read_log(tmp_path / 'log.csv')] == [0, 3]
