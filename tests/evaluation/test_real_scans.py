"""Scans without truth, and surfaces."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from evaluation_phantoms import ball
from geometry_phantoms import oblique_affine
from scipy.ndimage import gaussian_filter
from training_phantoms import DATA, tiny_recipe

from bids_segsr.cli.segsr import main
from bids_segsr.imaging.volume import load_volume, save_volume
from bids_segsr.networks import create
from bids_segsr.training.loop.model_card import Outcome, write_model
from bids_segsr.training.loop.progress import Progress


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    recipe = tiny_recipe()
    network = create(recipe.network.architecture, **recipe.network.options)
    write_model(tmp_path / 'model', network, recipe, DATA, Outcome(Progress(), None))
    return tmp_path / 'model'


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / 'scans'
    folder.mkdir()
    for number in range(2):
        rng = np.random.default_rng(number)
        data = 100 + 300 * ball((24, 22, 8), (12, 11, 4), 7) + rng.uniform(0, 50, (24, 22, 8))
        save_volume(
            folder / f'{number}_T2w.nii.gz', data.astype(np.float32), oblique_affine((1, 1, 3))
        )
    return folder


def test_pieces_of_the_cortex_by_model_patch_and_step(model, scans, tmp_path, capsys):
    out = tmp_path / 'out'
    words = [
        'evaluate', 'scans', '--data', scans, '--models', f'ours={model}', '--out', out,
        '--patch-size', '16,24', '--steps', 8, 16, '--skull-strip', 'skip', '--device', 'cpu',
        '--bias-correction', 'none', '--pristine', scans / '0_T2w.nii.gz',
    ]  # fmt: skip
    assert main(list(map(str, words))) == 0
    text, told = capsys.readouterr()
    assert 'Pieces of the cortex' in text
    rows = pd.read_csv(out / 'rows.tsv', sep='\t', keep_default_na=False, dtype=str)
    assert set(rows['metric']) == {'ncc', 'euler', 'piqe', 'niqe', 'seconds'}
    pieces = rows[rows['metric'] == 'ncc']
    assert len(pieces) == 2 * 2 * 2  # scans, patch sizes, steps
    assert set(zip(pieces['patch'], pieces['step'], strict=True)) == {
        ('16', '8'), ('16', '16'), ('24', '8'), ('24', '16'),
    }  # fmt: skip
    assert set(rows[rows['system'] == 'spline']['metric']) == {'piqe', 'niqe', 'seconds'}
    for name in ('surfaces.png', 'ncc.svg', 'report.html'):
        assert (out / name).is_file()
    assert json.loads((out / 'settings.json').read_text())['patch_sizes'] == [16, 24]
    assert main(list(map(str, words))) == 0
    again, silent = capsys.readouterr()
    assert again == text
    assert 'pieces of cortex' in told
    assert 'pieces of cortex' not in silent


def test_pristine_images_are_read_once_and_cut_as_the_scan_whatever_their_order(
    model, scans, tmp_path, monkeypatch
):
    read = []

    def counted(path):
        read.append(path)
        return load_volume(path)

    monkeypatch.setattr('bids_segsr.evaluation.real_scans.load_volume', counted)
    (scans / '1_T2w.nii.gz').unlink()
    rng = np.random.default_rng(5)
    data = gaussian_filter(rng.uniform(0, 100, (20, 18, 16)), (2, 1, 0.5)).astype(np.float32)
    found = []
    for order in ((0, 1, 2), (2, 1, 0)):
        pristine = tmp_path / f'{order}.nii.gz'
        affine = np.eye(4)[:, [*order, 3]]
        save_volume(pristine, np.ascontiguousarray(data.transpose(order)), affine)
        out = tmp_path / f'out {order}'
        words = [
            'evaluate', 'scans', '--data', scans, '--models', model, '--out', out, '--device',
            'cpu', '--skull-strip', 'skip', '--bias-correction', 'none', '--pristine', pristine,
        ]  # fmt: skip
        assert main(list(map(str, words))) == 0
        rows = pd.read_csv(out / 'rows.tsv', sep='\t')
        found.append(rows[rows['metric'] == 'niqe']['value'].to_numpy())
        assert read == [pristine]
        read.clear()
    assert len(found[0]) == 3
    assert np.isfinite(found[0]).all()
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9)


def test_a_broken_scan_leaves_the_others(model, scans, tmp_path, capsys):
    (scans / '0_T2w.nii.gz').write_bytes(b'')
    words = ['evaluate', 'scans', '--data', scans, '--models', model, '--out', tmp_path / 'out']
    words += ['--skull-strip', 'skip', '--device', 'cpu', '--bias-correction', 'none']
    assert main(list(map(str, words))) == 1
    assert capsys.readouterr().err.count('0_T2w.nii.gz: the file is empty') == 1
    rows = pd.read_csv(tmp_path / 'out' / 'rows.tsv', sep='\t')
    assert set(rows['subject']) == {'1_T2w'}
