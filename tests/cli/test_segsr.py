"""The toolbox command: single images, lists, mistakes in one line."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from geometry_phantoms import SHARED, oblique_affine

from bids_segsr.cli.segsr import main
from bids_segsr.imaging.volume import load_map, save_volume
from bids_segsr.training.recipe_file import read_recipe


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    data = rng.uniform(100, 900, (18, 16, 8)).astype(np.float32)
    return save_volume(tmp_path / 'scan.nii.gz', data, oblique_affine((1.0, 1.0, 2.0)))


FLAGS = ['--device', 'cpu', '--skull-strip', 'skip', '--patch-size', '16', '--no-report']


def test_packaged_model_on_a_list_one_of_which_is_broken(scan, tmp_path, capsys):
    (tmp_path / 'broken.nii.gz').write_bytes(b'')
    listed = tmp_path / 'list.csv'
    listed.write_text('image,mask\nbroken.nii.gz,\nscan.nii.gz,\n', encoding='utf-8')
    assert main(['predict', str(listed), str(tmp_path / 'out'), *FLAGS]) == 1
    out, err = capsys.readouterr()
    assert 'Traceback' not in err
    assert sum('broken.nii.gz' in line and 'empty' in line for line in err.splitlines()) == 1
    written = [Path(line) for line in out.splitlines()]
    assert {path.name.removeprefix('scan_') for path in written} == {
        'desc-preproc_image.nii.gz',
        'desc-residual_map.nii.gz',
        'res-1mm_desc-tissueunet_image.nii.gz',
        'res-1mm_label-CGM_probseg.nii.gz',
        'res-1mm_label-CGM_mask.nii.gz',
        'res-1mm_dseg.nii.gz',
        'res-1mm_desc-entropy_map.nii.gz',
        'res-1mm_desc-disagreement_map.nii.gz',
        'seg-regions_res-1mm_dseg.nii.gz',
        'seg-regions_dseg.tsv',
        'qc.json',
    }
    assert all(path.is_file() for path in written)


@pytest.mark.shared
def test_original_weights_with_region_classes(scan, tmp_path, capsys):
    weights = SHARED / 'fixtures' / 'segsrgan' / 'generator_mask3.weights.h5'
    assert main(['predict', str(scan), str(tmp_path), '--model', str(weights), *FLAGS]) == 0
    assert 'scan_seg-regions_res-1mm_dseg.nii.gz' in capsys.readouterr().out
    regions = load_map(tmp_path / 'scan_seg-regions_res-1mm_dseg.nii.gz').data
    assert set(np.unique(regions)) <= {0, 1, 2}


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['nothing.nii.gz', 'out'], 'no such file'),
        (['scan.nii.gz', 'scan.nii.gz'], 'not a folder'),
        (['scan.nii.gz', 'out', '--model', 'nobody'], 'no such model'),
        (['scan.nii.gz', 'out', '--model', 'weights.pt'], 'pickled'),
        (['scan.nii.gz', 'out', '--model', 'brain-mask'], 'brain-mask finds the brain'),
        (['scan.nii.gz', 'out', '--threshold', '2'], 'between 0 and 1'),
        (['scan.nii.gz', 'out', '--patch-size', '30'], 'multiple of 4'),
        (['scan.nii.gz', 'out', '--device', 'abacus'], 'abacus'),
        (['empty.csv', 'out'], 'no column "image"'),
        (['scan.nii.gz', 'scan.nii.gz', 'out', '--mask', 'scan.nii.gz'], '--mask goes with one'),
    ],
)
@pytest.mark.usefixtures('brain_mask_model')
def test_mistakes_are_one_line(scan, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'empty.csv').write_text('path\n', encoding='utf-8')
    assert main(['predict', *arguments, '--skull-strip', 'skip']) == 1
    err = capsys.readouterr().err
    assert 'Traceback' not in err
    assert words in err.splitlines()[-1]


def test_named_template_takes_the_place_of_the_network(scan, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('TEMPLATEFLOW_HOME', str(tmp_path))
    flags = ['--device', 'cpu', '--skull-strip-template', 'MNIInfant:cohort-1']
    assert main(['predict', str(scan), str(tmp_path / 'out'), *flags]) == 1
    assert 'TemplateFlow template MNIInfant:cohort-1' in capsys.readouterr().err


@pytest.mark.parametrize('command', ['bids_segsr.cli.app', 'bids_segsr.cli.segsr'])
def test_help_imports_nothing_heavy(command):
    code = (
        'import sys, runpy\nsys.argv = [sys.argv[1], "--help"]\n'
        'try:\n    runpy.run_module(sys.argv[0], run_name="__main__")\n'
        'except SystemExit:\n    pass\n'
        'heavy = {"torch", "nipype", "ants", "SimpleITK", "bids", "nireports", "monai", "scipy"}\n'
        'print("HEAVY", sorted(heavy & set(sys.modules)))'
    )
    start = time.perf_counter()
    result = subprocess.run(
        [sys.executable, '-c', code, command], capture_output=True, text=True, check=True
    )
    assert 'HEAVY []' in result.stdout
    assert time.perf_counter() - start < 30


def test_every_command_asks_for_large_pages(monkeypatch, capsys):
    monkeypatch.delenv('THP_MEM_ALLOC_ENABLE', raising=False)
    assert main(['recipes', 'list']) == 0
    assert os.environ['THP_MEM_ALLOC_ENABLE'] == '1'


def test_training_demo_is_the_network_of_the_article(tmp_path, monkeypatch, capsys):
    runs = []
    monkeypatch.setattr('bids_segsr.api.run_training_with_report', lambda *run: runs.append(run))
    assert main(['demo', '--train', str(tmp_path / 'new')]) == 0
    recipe, data, sets, out, _ = runs[0]
    article = read_recipe('segsrgan-2020')
    assert (recipe.network, recipe.loss) == (article.network, article.loss)
    assert recipe.schedule.minutes <= 5
    assert data.counts == {'train': 1, 'validation': 1, 'test': 0}
    training, validation = sets(recipe, tmp_path / 'cache', torch.device('cpu'))
    assert training[0]['target'].shape == (2, 32, 32, 32)
    assert len(validation) >= recipe.validation.patches
    assert f'Report: {out / "report.html"}' in capsys.readouterr().out
    (tmp_path / 'other').write_text('')
    assert main(['demo', '--train', str(tmp_path)]) == 1
