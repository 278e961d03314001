"""What is measured without any simulated scan, as commands."""

from __future__ import annotations

import numpy as np

from bids_segsr.cli.segsr import main
from bids_segsr.imaging.volume import save_volume


def test_folders_of_trainings_are_drawn(tmp_path, capsys):
    for name in ('one', 'two'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'log.csv').write_text('step,epoch,psnr,dice\n0,0,20,0.1\n9,1,22,0.4\n')
    runs = [str(tmp_path / 'one'), f'second={tmp_path / "two"}']
    assert main(['evaluate', 'trainings', *runs, '--out', str(tmp_path / 'out')]) == 0
    assert 'second' in (tmp_path / 'out' / 'trainings.svg').read_text()
    assert main(['evaluate', 'trainings', str(tmp_path), '--out', str(tmp_path / 'out')]) == 1
    assert 'holds no run' in capsys.readouterr().err


def test_two_runs_of_one_name_are_refused(tmp_path, capsys):
    for place in ('a', 'b'):
        (tmp_path / place / 'run').mkdir(parents=True)
    runs = [str(tmp_path / place / 'run') for place in ('a', 'b')]
    assert main(['evaluate', 'trainings', *runs, '--out', str(tmp_path / 'out')]) == 1
    assert 'another run is called run; write NAME=DIR' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_patches_that_a_network_cannot_take_are_told_before_any_work(tmp_path, capsys):
    image = save_volume(
        tmp_path / 'a_T2w.nii', np.arange(600, dtype=np.float32).reshape(10, 10, 6), np.eye(4)
    )
    words = ['evaluate', 'scans', '--data', str(image), '--models', 'tissue-unet']
    words += ['--out', str(tmp_path / 'out'), '--patch-size', '16,18']
    assert main(words) == 1
    assert '18' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
