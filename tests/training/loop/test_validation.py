"""How a training is followed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from training_phantoms import Phantoms, make_trainer, tiny_recipe

from bids_segsr.imaging.measures.metrics import psnr
from bids_segsr.training.loop.progress import Progress
from bids_segsr.training.loop.run_log import RunLog, read_log


def test_the_gain_is_over_the_interpolated_images(tmp_path: Path) -> None:
    validator = make_trainer(tmp_path / 'run', tiny_recipe()).validator
    progress = Progress()
    scores, score = validator.judge(progress)
    images = [
        [patch[name][0].numpy() for name in ('target', 'image')]
        for patch in (Phantoms(4, seed=1)[number] for number in range(4))
    ]
    assert progress.baseline['psnr'] == pytest.approx(
        np.mean([psnr(*pair) for pair in images]), abs=1e-3
    )
    assert scores['gain'] == pytest.approx(scores['psnr'] - progress.baseline['psnr'])
    assert score == pytest.approx(scores['psnr'] + 10 * scores['dice'])
    # of interpolation there is one score, whatever becomes of the network
    again, _ = validator.judge(progress)
    assert again == scores

    log = RunLog(tmp_path, None)
    validator.write(log, progress, 0.0, {'loss_total': 2.0}, scores, score)
    log.close()
    (row,) = read_log(tmp_path / 'log.csv')
    assert row['score'] == pytest.approx(score)
    assert row['interpolation_psnr'] == pytest.approx(progress.baseline['psnr'])
    assert (row['loss_total'], row['step']) == (2, 0)
    assert math.isfinite(row['validation_loss'])
    assert len(list((tmp_path / 'samples').glob('step-00000000-*.png'))) == 1
