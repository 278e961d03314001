"""The App from a dataset to derivatives and report, on phantoms with known points."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
import torch
from geometry_phantoms import oblique_affine
from nibabel.affines import apply_affine
from scipy.ndimage import map_coordinates

from bids_segsr.imaging.degrade import degrade, thick_slice_grid
from bids_segsr.imaging.volume import save_volume
from bids_segsr.networks import create
from bids_segsr.zoo.card import InputContract, ModelCard
from bids_segsr.zoo.store import save_model

POINTS_MM = np.array([[-9.0, 4.0, 5.0], [8.0, -7.0, -6.0], [2.0, 9.0, -8.0]])
SHAPE = (48, 52, 48)

pytestmark = pytest.mark.slow


def identity_model(folder: Path) -> Path:
    """A SegSRGAN whose last convolution is zero: the image is passed on, the cortex is 0.5."""
    torch.manual_seed(0)
    network = create('segsrgan', base_filters=2, n_blocks=1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.shape[0] == 2 and parameter.ndim == 5 and parameter.shape[-1] == 7:
                last = name
        dict(network.named_parameters())[last].zero_()
    card = ModelCard(
        name='toy-1',
        version='1',
        description='passes the image on',
        architecture='segsrgan',
        options={'base_filters': 2, 'n_blocks': 1},
        contract=InputContract(('T2w',), 'patch-standard', (0.5, 1.0), (2.0, 4.0)),
        channels=('intensity', 'cortex'),
        labels={1: 'Cortical Gray Matter'},
    )
    return save_model(folder, network, card)


def brain_with_points(affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A stripped brain of three bright spots at `POINTS_MM` from its centre; the points."""
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing='ij'), -1)
    centre = affine[:3, :3] @ (np.array(SHAPE) / 2) + affine[:3, 3]
    points = index @ affine[:3, :3].T + affine[:3, 3] - centre
    brain = np.linalg.norm(points, axis=-1) < 19
    spots = sum(np.exp(-((points - at) ** 2).sum(-1) / 8) for at in POINTS_MM)
    return np.where(brain, 300 + 500 * spots, 0).astype(np.float32), centre + POINTS_MM


def write_scan(
    raw: Path, name: str, axis: int = 2, degrees: tuple[float, float, float] = (0, 0, 0)
) -> np.ndarray:
    affine = oblique_affine((1.0, 1.0, 1.0), degrees)
    fine, points = brain_with_points(affine)
    grid = thick_slice_grid(SHAPE, affine, 3.0, axis)
    folder = raw / name.split('_')[0] / 'anat'
    folder.mkdir(parents=True, exist_ok=True)
    scan = degrade(fine, affine, grid)
    save_volume(folder / f'{name}.nii.gz', np.where(scan < 150, 0, scan), grid.affine)
    return points


def write_dataset(raw: Path) -> None:
    raw.mkdir(parents=True, exist_ok=True)
    (raw / 'dataset_description.json').write_text(
        json.dumps({'Name': 'phantoms', 'BIDSVersion': '1.10.0', 'License': 'CC0'}),
        encoding='utf-8',
    )
    (raw / 'README').write_text('Phantoms of three bright spots in a ball. ' * 5, encoding='utf-8')


def app(*arguments: object, timeout: float = 400) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-m', 'bids_segsr.cli.app', *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


FLAGS = ('--nprocs', '2', '--omp-nthreads', '1', '--patch-size', '32', '--device', 'cpu')


@pytest.fixture(scope='module')
def run(tmp_path_factory: pytest.TempPathFactory):
    """Three scans in three slice directions, one of them broken, two of them oblique."""
    root = tmp_path_factory.mktemp('app')
    raw = root / 'raw'
    write_dataset(raw)
    points = {
        'sub-01_run-1_T2w': write_scan(raw, 'sub-01_run-1_T2w', 2),
        'sub-01_run-2_T2w': write_scan(raw, 'sub-01_run-2_T2w', 0, (8, -5, 12)),
        'sub-02_T2w': write_scan(raw, 'sub-02_T2w', 1, (-14, 20, 6)),
    }
    broken = raw / 'sub-02' / 'anat' / 'sub-02_run-9_T2w.nii.gz'
    broken.write_bytes(b'')
    model = identity_model(root / 'model')
    result = app(
        raw, root / 'out', 'participant', 'group', '-w', root / 'work', '--model', model,
        '--resolution', '1', '--skip-bids-validation', '--single-file-report', *FLAGS,
    )  # fmt: skip
    return root, points, result


def test_exit_code_and_one_line_for_the_broken_image(run):
    root, _, result = run
    assert result.returncode == 1
    assert 'Traceback' not in result.stderr + result.stdout
    lines = [line for line in result.stderr.splitlines() if 'run-9' in line and 'empty' in line]
    assert len(lines) == 1
    assert 'Report:' in result.stdout
    for subject in ('01', '02'):
        assert (root / 'out' / f'sub-{subject}.html').is_file()
    report = (root / 'out' / 'sub-02.html').read_text(encoding='utf-8')
    assert 'the file is empty' in report
    assert (root / 'out' / 'group_T2w.tsv').read_text(encoding='utf-8').count('\n') == 4


def names(label: str) -> dict[str, str]:
    stem = label.removesuffix('_T2w')
    return {
        f'{stem}_desc-preproc_T2w.nii.gz': 'float32',
        f'{stem}_desc-brain_mask.nii.gz': 'uint8',
        f'{stem}_res-1mm_desc-toy1_T2w.nii.gz': 'float32',
        f'{stem}_res-1mm_label-CGM_probseg.nii.gz': 'float32',
        f'{stem}_res-1mm_dseg.nii.gz': 'int16',
        f'{stem}_res-1mm_label-CGM_mask.nii.gz': 'uint8',
        f'{stem}_res-1mm_desc-entropy_map.nii.gz': 'float32',
        f'{stem}_res-1mm_desc-disagreement_map.nii.gz': 'float32',
        f'{stem}_desc-residual_map.nii.gz': 'float32',
    }


def test_every_output_is_there_with_its_type_codes_units_and_sidecar(run):
    root, points, _ = run
    for label in points:
        folder = root / 'out' / label.split('_')[0] / 'anat'
        for name, dtype in names(label).items():
            image = nib.load(folder / name)
            assert str(image.get_data_dtype()) == dtype, name
            assert int(image.header['qform_code']) == int(image.header['sform_code']) == 1
            assert image.header.get_xyzt_units()[0] == 'mm'
            np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)
            sidecar = json.loads(
                (folder / name.replace('.nii.gz', '.json')).read_text(encoding='utf-8')
            )
            assert sidecar['Sources']
            assert all(source.startswith('bids:') for source in sidecar['Sources'])
            if '_res-' in name:
                assert sidecar['Resolution'].startswith('Isotropic grid of 1 x 1 x 1 mm^3')
            if name.endswith('_T2w.nii.gz'):
                assert sidecar['SkullStripped'] is True
        stem = label.removesuffix('_T2w')
        sidecar = json.loads(
            (folder / f'{stem}_res-1mm_desc-toy1_T2w.json').read_text(encoding='utf-8')
        )
        assert sidecar['Model']['Name'] == 'toy-1'
        assert len(sidecar['Model']['SHA256']) == 64
        assert sidecar['PatchSize'] == 32
        assert sidecar['Device'] == 'cpu'


def test_known_points_are_where_they_were_in_every_orientation(run):
    """The network passes the image on: the result must be the scan, seen at the same points.

    scipy's cubic spline of the scan at the result's voxel centres is the independent truth. The
    spots rise by some 100 a millimetre, so that agreement within 0.1 is 1e-3 mm.
    """
    root, points, _ = run
    for label, expected in points.items():
        folder = root / 'out' / label.split('_')[0] / 'anat'
        stem = label.removesuffix('_T2w')
        raw = nib.load(root / 'raw' / label.split('_')[0] / 'anat' / f'{label}.nii.gz')
        own = nib.load(folder / f'{stem}_desc-preproc_T2w.nii.gz')
        corners = np.array([[0, 0, 0], np.array(raw.shape) - 1])
        np.testing.assert_allclose(
            apply_affine(own.affine, corners), apply_affine(raw.affine, corners), atol=1e-3
        )
        fine = nib.load(folder / f'{stem}_res-1mm_desc-toy1_T2w.nii.gz')
        assert nib.aff2axcodes(fine.affine) == ('R', 'A', 'S')
        index = np.stack(np.meshgrid(*map(np.arange, fine.shape), indexing='ij'), -1)
        places = apply_affine(fine.affine, index)
        near = np.min([np.linalg.norm(places - at, axis=-1) for at in expected], axis=0) < 5
        coordinates = apply_affine(np.linalg.inv(own.affine), places[near]).T
        truth = map_coordinates(own.get_fdata(), coordinates, order=3, mode='mirror')
        assert np.ptp(truth) > 150
        np.testing.assert_allclose(fine.get_fdata()[near], truth, atol=0.1)


def test_numbers_of_quality(run):
    root, points, _ = run
    for label in points:
        folder = root / 'out' / label.split('_')[0] / 'anat'
        qc = json.loads(
            (folder / f'{label.removesuffix("_T2w")}_qc.json').read_text(encoding='utf-8')
        )
        assert qc['bids_name'] == label
        assert qc['skull_strip'] == 'stripped already'
        assert qc['brain_volume_ml'] == pytest.approx(4 / 3 * np.pi * 1.9**3, rel=0.1)
        # the network passes the image on: both agree with the scan alike
        assert qc['fidelity_nrmse'] == pytest.approx(qc['fidelity_nrmse_spline'], rel=1e-3)
        assert qc['fidelity_correlation'] > 0.85
        assert qc['entropy_mean'] == pytest.approx(1.0, abs=1e-3)
        assert qc['components_before'] == 0


def test_official_validator_finds_no_error(run):
    validator = shutil.which('bids-validator-deno', path=str(Path(sys.executable).parent))
    if validator is None:
        pytest.skip('bids-validator-deno is not installed')
    root, _, _ = run
    result = subprocess.run(
        [validator, str(root / 'out'), '--format', 'json'],
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(result.stdout)
    errors = [i for i in found['issues']['issues'] if i['severity'] == 'error']
    assert errors == []
    assert sorted(found['summary']['subjects']) == ['01', '02']
    assert found['summary']['totalFiles'] > 30


def test_a_second_run_into_another_folder_writes_the_same_bytes(run):
    root, _, _ = run
    result = app(
        root / 'raw', root / 'out2', 'participant', '-w', root / 'work2', '--model',
        root / 'model', '--resolution', '1', '--skip-bids-validation', '--participant-label',
        'sub-01', '--bids-filter-file', _filter(root, {'t2w': {'run': 2}}), *FLAGS,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    files = sorted((root / 'out2' / 'sub-01').glob('anat/*')) + sorted(
        (root / 'out2' / 'sub-01').glob('figures/*.svg')
    )
    assert len(files) > 20
    for path in files:
        first = root / 'out' / path.relative_to(root / 'out2')
        assert path.read_bytes() == first.read_bytes(), path.name


def _filter(root: Path, content: dict) -> Path:
    path = root / 'filter.json'
    path.write_text(json.dumps(content), encoding='utf-8')
    return path


def test_killed_run_goes_on_from_its_work_directory(run):
    root, _, _ = run
    arguments = [
        root / 'raw', root / 'out3', 'participant', '-w', root / 'work3', '--model',
        root / 'model', '--resolution', '1', '--skip-bids-validation', '--participant-label', '01',
        *FLAGS,
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, '-m', 'bids_segsr.cli.app', *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    interpolated = None
    deadline = time.monotonic() + 200
    while interpolated is None and time.monotonic() < deadline:
        found = list((root / 'work3').rglob('interpolate/result_*.pklz'))
        interpolated = found[0] if found else None
        time.sleep(0.05)
    import os

    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert interpolated is not None
    before = interpolated.stat().st_mtime_ns
    result = app(*arguments)
    assert result.returncode == 0, result.stderr
    assert interpolated.stat().st_mtime_ns == before, 'a finished step was run again'
    assert (root / 'out3' / 'sub-01' / 'anat' / 'sub-01_run-1_qc.json').is_file()


def test_a_step_that_fails_leaves_the_others_and_a_report(run, tmp_path):
    """That the template for a whole head is not there is noticed by the brain mask step only."""
    root, _, _ = run
    raw = tmp_path / 'raw'
    write_dataset(raw)
    write_scan(raw, 'sub-01_T2w')
    scan = raw / 'sub-01' / 'anat' / 'sub-01_T2w.nii.gz'
    whole = nib.load(scan)
    head = np.asarray(whole.dataobj) + np.random.default_rng(0).uniform(1, 30, whole.shape)
    save_volume(raw / 'sub-01' / 'anat' / 'sub-01_run-2_T2w.nii.gz', head.astype(np.float32),
                whole.affine)  # fmt: skip
    result = app(
        raw, tmp_path / 'out', 'participant', '-w', tmp_path / 'work', '--model',
        root / 'model', '--resolution', '1', '--skip-bids-validation',
        '--skull-strip-template', 'MNIInfant:cohort-1', *FLAGS,
    )  # fmt: skip
    assert result.returncode == 1
    assert 'Traceback' not in result.stderr
    lines = result.stderr.splitlines()
    (line,) = [text for text in lines if 'step brain_mask failed' in text]
    assert 'sub-01_run-2_T2w' in line
    assert 'TemplateFlow' in line
    assert (tmp_path / 'out' / 'sub-01' / 'anat' / 'sub-01_qc.json').is_file()
    assert list((tmp_path / 'out' / 'sub-01' / 'log').glob('*/crash-*brain_mask*.txt'))
    assert 'TemplateFlow' in (tmp_path / 'out' / 'sub-01.html').read_text(encoding='utf-8')


@pytest.mark.parametrize('damage', ['hash', 'shape'])
def test_a_damaged_model_is_told_in_one_line_before_any_work(run, tmp_path, damage):
    root, _, _ = run
    folder = tmp_path / 'model'
    shutil.copytree(root / 'model', folder)
    weights = folder / 'weights.safetensors'
    if damage == 'hash':
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    else:
        card = folder / 'card.json'
        card.write_text(
            card.read_text(encoding='utf-8').replace('"base_filters": 2', '"base_filters": 4'),
            encoding='utf-8',
        )
    result = app(
        root / 'raw', tmp_path / 'out', 'participant', '-w', tmp_path / 'work', '--model', folder,
        '--skip-bids-validation', '--participant-label', '01', *FLAGS,
    )  # fmt: skip
    assert result.returncode == 1
    assert 'Traceback' not in result.stderr
    (line,) = [text for text in result.stderr.splitlines() if text.startswith('bids_segsr: ')]
    assert str(weights) in line
    assert not list((tmp_path / 'out').glob('sub-*/anat'))


def test_a_killed_worker_fails_its_image_and_not_the_run(run, tmp_path):
    root, _, _ = run
    process = subprocess.Popen(
        [
            sys.executable, '-m', 'bids_segsr.cli.app', str(root / 'raw'), str(tmp_path / 'out'),
            'participant', '-w', str(tmp_path / 'work'), '--model', str(root / 'model'),
            '--resolution', '1', '--skip-bids-validation', '--participant-label', '01', *FLAGS,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 200
    killed = False
    while not killed and time.monotonic() < deadline and process.poll() is None:
        if list((tmp_path / 'work').rglob('bias_field/_inputs.pklz')):
            for worker in psutil.Process(process.pid).children():
                worker.kill()
                killed = True
        time.sleep(0.02)
    assert killed
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 1
    assert 'a worker process was killed' in stderr
    assert 'Traceback' not in stderr
    assert (tmp_path / 'out' / 'sub-01.html').is_file()
