from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from geometry_phantoms import laid, oblique_affine
from scipy.ndimage import gaussian_filter
from training_phantoms import segsr

from bids_segsr.exceptions import UserError
from bids_segsr.imaging.volume import load_volume, save_volume
from bids_segsr.inference.predict import predict
from bids_segsr.inference.processing import Processing
from bids_segsr.training.loop import run_folder, training_run
from bids_segsr.training.loop.run_folder import locked
from bids_segsr.training.loop.run_log import read_log
from bids_segsr.zoo.find import load_model

RECIPE = """
name = "tiny"
[network]
architecture = "segsrgan"
options = { base_filters = 4, n_blocks = 1 }
start_near_identity = true
[task]
labels = { cortex = [2] }
[forward]
spacing_mm = [3, 3]
[sampling]
patch_size = 16
stride = 8
patches_per_epoch = 8
normalisation = "patch-standard"
[schedule]
steps = 3
batch_size = 2
[validation]
every_steps = 2
patches = 2
pictures = 1
"""


def write_subject(folder: Path, name: str, seed: int, labels: str | None) -> tuple[Path, Path]:
    """Image and label map of one made-up brain of 1 mm voxels."""
    rng = np.random.default_rng(seed)
    shape = (28, 26, 24)
    smooth = gaussian_filter(rng.normal(size=shape), 2)
    image = (100 + 300 * smooth / smooth.std() / 5).clip(1).astype(np.float32)
    affine = oblique_affine((1.0, 1.0, 1.0))
    path = save_volume(folder / f'{name}_T2w.nii.gz', image, affine)
    numbers = np.where(image > 120, 2, 1).astype(np.uint8)
    label = save_volume(folder / (labels or f'{name}_dseg.nii.gz'), numbers, affine)
    return path, label


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / 'tiny.toml'
    path.write_text(RECIPE)
    return path


@pytest.fixture
def images(tmp_path):
    rows = ['HR_image,Label_image,Base']
    for seed, base in enumerate(('Train', 'Train', 'Validation')):
        image, label = write_subject(tmp_path, f'sub-{seed}', seed, None)
        rows.append(f'{image.name},{label.name},{base}')
    path = tmp_path / 'data.csv'
    path.write_text('\n'.join(rows))
    return path


def test_help_loads_no_torch():
    code = (
        'import sys, argparse; from bids_segsr.cli import train; '
        'train.add_parser(argparse.ArgumentParser().add_subparsers()); '
        'sys.exit(bool({"torch", "lightning_fabric", "monai", "nibabel"} & set(sys.modules)))'
    )
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


def test_runs_share_decompressed_volumes(recipe, images, tmp_path, monkeypatch):
    class Untrained:
        def __init__(self, *_, **__):
            pass

        def fit(self):
            return None

    monkeypatch.setattr(training_run, 'Trainer', Untrained)
    shared = tmp_path / 'shared'
    words = (recipe, '--data', images, '--device', 'cpu', '--workers', '0', '--cache', shared)
    segsr(*words, '--out', tmp_path / 'one')
    before = {path: path.stat().st_mtime_ns for path in shared.glob('*.npy')}
    assert len(before) == 6  # image and label map of three persons
    segsr(*words, '--out', tmp_path / 'two')
    assert {path: path.stat().st_mtime_ns for path in shared.glob('*.npy')} == before
    assert not list(tmp_path.glob('*/cache'))
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match=r'file/in: .*another folder .*\(--cache\)'):
        segsr(*words, '--cache', tmp_path / 'file' / 'in', '--out', tmp_path / 'three')


def test_a_list_of_images_becomes_a_model(recipe, images, tmp_path, capsys):
    out = tmp_path / 'run'
    words = (recipe, '--data', images, '--out', out, '--device', 'cpu', '--workers', '0')
    assert segsr(*words, '--dry-run') == 0
    shown = capsys.readouterr().out
    assert re.search(r'subjects +2 train, 1 validation, 0 test', shown)
    assert 'segsrgan' in shown
    assert re.search(
        r'labels +cortex = 2: [\d.]+ ml \(mean of 3 of 3 maps; .*1: [\d.]+, 2: ', shown
    )
    assert not out.exists()
    assert segsr(*words, '--label', 'cortex=1', '--dry-run') == 0
    assert 'cortex = 1: ' in capsys.readouterr().out
    with pytest.raises(UserError, match='--label white: the recipe learns cortex'):
        segsr(*words, '--label', 'white=1', '--dry-run')

    assert segsr(*words) == 0
    assert capsys.readouterr().out.strip() == str(out / 'model')
    for name in ('recipe.toml', 'log.csv', 'run.json', 'report.html'):
        assert (out / name).is_file()
    assert list((out / 'tensorboard').iterdir())
    summary = json.loads((out / 'run.json').read_text())
    assert 0.1 < summary['memory_gb'] < 64
    assert summary['subjects']['validation'] == ['sub-2']
    assert summary['steps'] == 3
    model = load_model(out / 'model')
    assert model.card.contract.slice_thickness_mm == (3, 3)
    assert model.card.contract.spacing_mm == (1, 1)
    assert model.card.contract.normalisation == 'patch-standard'
    assert not model.card.contract.mirrored
    assert model.card.contract.patch_size == 16
    image = load_volume(tmp_path / 'sub-2_T2w.nii.gz').data
    found = predict(model, image, laid(image), processing=Processing(patch_size=16))
    assert found.image.shape == image.shape
    assert np.isfinite(found.image).all()
    assert found.probabilities.shape == (1, *image.shape)
    # Started near identity: hardly trained, it still gives the image back.
    assert np.corrcoef(found.image.ravel(), image.ravel())[0, 1] > 0.98

    with pytest.raises(UserError, match='another model as --init'):
        segsr(*words, '--steps', '5', '--init', out / 'model')
    assert segsr(*words, '--steps', '5') == 0
    assert [row['step'] for row in read_log(out / 'log.csv')] == [0, 2, 3, 4, 5]
    for more in ((), ('--dry-run',)):
        with pytest.raises(UserError, match=r'another recipe: seed \(was 0, is 4\)'):
            segsr(*words, '--seed', '4', *more)
        with pytest.raises(UserError, match=r"frozen layers: \[\], now \['conv1\.\*'\]"):
            segsr(*words, '--freeze', 'conv1.*', *more)


def test_training_starts_from_a_model_with_frozen_layers(recipe, images, tmp_path):
    words = (recipe, '--data', images, '--device', 'cpu', '--workers', '0')
    assert segsr(*words, '--out', tmp_path / 'a', '--steps', '1') == 0
    tuned = ('--init', tmp_path / 'a' / 'model', '--freeze', 'conv*', 'deconv*')
    assert segsr(*words, '--out', tmp_path / 'b', '--minutes', '5', '--steps', '1', *tuned) == 0
    summary = json.loads((tmp_path / 'b' / 'run.json').read_text())
    assert summary['frozen'] == 15


def test_label_maps_alone_become_a_model(recipe, tmp_path, capsys):
    from test_synthesis import write_labels

    maps = tmp_path / 'maps'
    maps.mkdir()
    for number in range(3):
        write_labels(maps / f'map{number}.nii.gz')
    text = RECIPE.replace('[forward]\nspacing_mm = [3, 3]\n', '').replace('steps = 3', 'steps = 1')
    recipe.write_text(f'{text}[label_maps]\nvalidation = ["map2*"]\n')
    words = (recipe, '--label-maps', maps, '--out', tmp_path / 'run', '--device', 'cpu')
    assert segsr(*words, '--workers', '0') == 0
    card = load_model(tmp_path / 'run' / 'model').card
    assert card.training['subjects'] == {'train': 2, 'validation': 1}
    assert card.contract.slice_thickness_mm == (1.5, 8.0)
    assert card.contract.mirrored


def write_bids(root: Path, count: int) -> tuple[Path, Path]:
    raw, derived = root / 'raw', root / 'derived'
    description = {'Name': 'x', 'BIDSVersion': '1.10.0'}
    for folder, kind in ((raw, 'raw'), (derived, 'derivative')):
        folder.mkdir(parents=True)
        content = {**description, 'DatasetType': kind, 'GeneratedBy': [{'Name': 'x'}]}
        (folder / 'dataset_description.json').write_text(json.dumps(content))
    for seed in range(count):
        name = f'sub-{seed:02d}'
        anat = raw / name / 'anat'
        anat.mkdir(parents=True)
        (derived / name / 'anat').mkdir(parents=True)
        _, label = write_subject(anat, name, seed, None)
        label.rename(derived / name / 'anat' / f'{name}_desc-drawem9_dseg.nii.gz')
    return raw, derived


def test_a_bids_dataset_with_segmentations(recipe, tmp_path, capsys):
    raw, derived = write_bids(tmp_path / 'bids', 3)
    words = (recipe, '--data', raw, '--out', tmp_path / 'run', '--dry-run')
    with pytest.raises(UserError, match='give --derivatives'):
        segsr(*words)
    words = (*words, '--derivatives', derived)
    assert segsr(*words) == 0
    assert '2 train, 1 validation, 0 test' in capsys.readouterr().out

    table = raw / 'participants.tsv'
    table.write_text('participant_id\tgroup\nsub-00\tTrain\nsub-01\ttest\nsub-02\tvalidation\n')
    assert segsr(*words, '--split-column', 'group') == 0
    with pytest.raises(UserError, match=r"columns participant_id, group, .* asks for 'fold'"):
        segsr(*words, '--split-column', 'fold')
    assert '1 train, 1 validation, 1 test' in capsys.readouterr().out
    whole = table.read_text()
    table.write_text(whole.replace('sub-02\tvalidation\n', '').replace('group', 'split'))
    with pytest.raises(UserError, match=r'participants\.tsv: sub-02 has no row; add one'):
        segsr(*words)
    table.unlink()
    with pytest.raises(UserError, match=r'participants\.tsv: is not there'):
        segsr(*words, '--split-column', 'group')
    table.write_text(whole.replace('Train', 'other'))
    with pytest.raises(UserError, match=r"sub-00 has group 'other'; allowed are train"):
        segsr(*words, '--split-column', 'group')

    again = derived / 'sub-01' / 'anat' / 'sub-01_desc-drawem87_dseg.nii.gz'
    first = derived / 'sub-01' / 'anat' / 'sub-01_desc-drawem9_dseg.nii.gz'
    again.write_bytes(first.read_bytes())
    with pytest.raises(UserError, match=r'several segmentations fit .* choose by --label-desc'):
        segsr(*words)
    assert segsr(*words, '--label-desc', 'drawem9') == 0

    # Segmentations on the grid of a processed image take that one.
    image = load_volume(first)
    cropped = nib.Nifti1Image(image.data[:-2].astype(np.uint8), image.affine)
    nib.save(cropped, first)
    with pytest.raises(UserError, match='lies on another grid'):
        segsr(*words, '--label-desc', 'drawem9')
    scan = load_volume(raw / 'sub-01' / 'anat' / 'sub-01_T2w.nii.gz')
    save_volume(
        derived / 'sub-01' / 'anat' / 'sub-01_desc-restore_T2w.nii.gz',
        scan.data[:-2],
        scan.affine,
    )
    assert segsr(*words, '--label-desc', 'drawem9') == 0


def test_mistakes_are_told_in_one_line(recipe, images, tmp_path):
    def told(*words):
        with pytest.raises(UserError) as caught:
            segsr(*words)
        assert '\n' not in str(caught.value)
        return str(caught.value)

    out = ('--out', tmp_path / 'run')
    assert 'no such recipe' in told('nothing', '--data', images, *out)
    assert 'no such file or folder' in told(recipe, '--data', tmp_path / 'no.csv', *out)
    assert 'no such file or folder' in told(recipe, '--label-maps', tmp_path / 'no', *out)
    assert '--steps must be positive' in told(recipe, '--data', images, *out, '--steps', 0)
    assert '--seed -1' in told(recipe, '--data', images, *out, '--seed', -1)
    assert '--device tpu' in told(recipe, '--data', images, *out, '--device', 'tpu')
    assert 'fits no parameter' in told(
        recipe, '--data', images, *out, '--freeze', 'zzz', '--dry-run'
    )
    for flag, value in (('--derivatives', tmp_path), ('--split-column', 'group')):
        assert 'goes with a BIDS dataset' in told(recipe, '--data', images, *out, flag, value)
    assert 'holds something else than a run' in told(recipe, '--data', images, '--out', tmp_path)
    for dry in ((), ('--dry-run',)):
        file = ('--out', images / 'run')
        assert 'cannot be written;' in told(recipe, '--data', images, *file, *dry)
        assert 'something else' in told(recipe, '--data', images, '--out', tmp_path, *dry)
        large = tmp_path / 'large.toml'
        large.write_text(RECIPE.replace('patch_size = 16', 'patch_size = 32'))
        assert 'than a patch of (32, 32, 32) voxels' in told(large, '--data', images, *out, *dry)
        unlabelled = tmp_path / 'unlabelled.csv'
        unlabelled.write_text(images.read_text().replace('Label_image', 'Labels'))
        assert 'no column Label_image' in told(recipe, '--data', unlabelled, *out, *dry)
    lonely = tmp_path / 'lonely.csv'
    lonely.write_text('\n'.join(images.read_text().splitlines()[:2]))
    assert 'give two at least' in told(recipe, '--data', lonely, *out)


@pytest.mark.slow
def test_a_stopped_process_tells_how_to_go_on(recipe, images, tmp_path):
    code = 'import sys; from test_train import segsr; sys.exit(segsr(*sys.argv[1:]))'
    out = tmp_path / 'run'
    words = [str(recipe), '--data', str(images), '--out', str(out), '--device', 'cpu']
    started = subprocess.Popen(
        [sys.executable, '-c', code, *words, '--steps', '100000'],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.pathsep.join(sys.path)},
    )
    assert started.stderr is not None
    for line in started.stderr:
        if 'step 4' in line:
            started.send_signal(signal.SIGTERM)
            break
    _, told = started.communicate(timeout=120)
    assert started.returncode == 128 + signal.SIGTERM
    assert re.search(r'segsr: stopped after step \d+; the same command goes on', told)
    assert 'Traceback' not in told
    assert (out / 'report.html').is_file()
    assert not (out / 'model').exists()


HOLD = """
import signal, sys
from pathlib import Path
from bids_segsr.training.loop.run_folder import locked
with locked(Path(sys.argv[1])):
    print('held', flush=True)
    signal.pause()
"""


def test_a_folder_belongs_to_one_run_at_a_time(recipe, images, tmp_path, monkeypatch):
    out = tmp_path / 'run'
    out.mkdir()
    words = (recipe, '--data', images, '--out', out, '--device', 'cpu', '--workers', '0')
    words = (*words, '--steps', '1')
    holder = subprocess.Popen(
        [sys.executable, '-c', HOLD, str(out)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == 'held\n'
    monkeypatch.setattr(run_folder, 'LOCK_SECONDS', 0.1)
    with pytest.raises(UserError, match=r'run: another segsr train is running in this folder'):
        segsr(*words)
    # Further processes of the run that holds it are let in.
    monkeypatch.setenv('LOCAL_RANK', '1')
    with locked(out):
        pass
    monkeypatch.delenv('LOCAL_RANK')
    holder.kill()
    holder.wait()
    assert segsr(*words) == 0
    with locked(out):
        pass


def test_an_image_that_changes_is_not_gone_on_with(recipe, images, tmp_path):
    words = (recipe, '--data', images, '--out', tmp_path / 'run', '--device', 'cpu')
    words = (*words, '--workers', '0', '--steps', '1')
    assert segsr(*words) == 0
    write_subject(tmp_path, 'sub-1', 9, None)
    with pytest.raises(UserError, match=r'image sub-1_T2w\.nii\.gz of sub-1 .* has another'):
        segsr(*words)
