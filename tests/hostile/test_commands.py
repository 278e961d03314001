"""Hostile inputs through the real commands: sound images beside them get their results."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import mutations
import pytest

from bids_segsr.networks import create
from bids_segsr.zoo.card import InputContract, ModelCard
from bids_segsr.zoo.find import FOLDER_VARIABLE
from bids_segsr.zoo.store import save_model

SEED = 1
INPUTS = 16
LONGEST_S = 240
MAKERS = (mutations.header, mutations.stream, mutations.voxels, mutations.shapes)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A tiny untrained model where models are found by name."""
    options = {'base_filters': 2, 'n_blocks': 1}
    card = ModelCard(
        name='tiny',
        version='1',
        description='untrained',
        architecture='segsrgan',
        options=options,
        contract=InputContract(('T2w',), 'volume-max', (0.5, 4.0), (1.0, 9.0)),
        channels=('intensity', 'cortex'),
        labels={1: 'cortical grey matter'},
    )
    save_model(tmp_path / 'models' / 'tiny', create(card.architecture, **options), card)
    return {**os.environ, FOLDER_VARIABLE: str(tmp_path / 'models'), 'OMP_NUM_THREADS': '1'}


def run(module: str, *words: object, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-m', f'bids_segsr.cli.{module}', *map(str, words)],
        capture_output=True,
        encoding='utf-8',
        check=False,
        env=env,
        timeout=LONGEST_S,
        cwd=env['HOME_OF_TEST'],
    )


def hostile(folder: Path, name: str) -> list[Path]:
    """Files `name` with the number of the case in the place of `{}`."""
    made = []
    for number in range(INPUTS):
        own = folder / str(number)
        own.mkdir(parents=True)
        rng = random.Random(f'commands {name} {SEED} {number}')
        path = MAKERS[number % len(MAKERS)](rng, own)
        target = folder / name.format(number) / f'x{"".join(path.suffixes)}'
        target.parent.mkdir(parents=True, exist_ok=True)
        made.append(path.rename(target))
    return made


def test_segsr_predict(tmp_path: Path, environment: dict[str, str]) -> None:
    environment['HOME_OF_TEST'] = str(tmp_path)
    images = []
    for number, path in enumerate(hostile(tmp_path / 'in', 'case{}')):
        images.append(path.rename(path.with_name(f'case{number}{"".join(path.suffixes)}')))
    good = mutations.write(tmp_path / 'in/good.nii', mutations.sound(random.Random(0)))
    out = tmp_path / 'out'
    flags = ('--model', 'tiny', '--device', 'cpu', '--resolution', 3, '--patch-size', 16)
    done = run(
        'segsr', 'predict', *images, good, out, *flags, '--skull-strip', 'skip', '--no-report',
        env=environment,
    )  # fmt: skip
    assert 'Traceback' not in done.stdout + done.stderr
    assert (out / 'good_qc.json').is_file()
    results = [(out / f'case{number}_qc.json').is_file() for number in range(INPUTS)]
    told = [f'case{number}.nii' in done.stderr for number in range(INPUTS)]
    assert all(result or line for result, line in zip(results, told, strict=True)), done.stderr
    assert done.returncode == int(not all(results)), done.stderr


def test_bids_segsr(tmp_path: Path, environment: dict[str, str]) -> None:
    environment['HOME_OF_TEST'] = str(tmp_path)
    raw, out = tmp_path / 'raw', tmp_path / 'out'
    mutations.write(raw / 'dataset_description.json', '{"Name": "x", "BIDSVersion": "1.9.0"}')
    for number, path in enumerate(hostile(tmp_path / 'in', 'case{}')):
        name = f'sub-{number:02d}/anat/sub-{number:02d}_T2w{"".join(path.suffixes)}'
        mutations.write(raw / name, path.read_bytes())
    rng = random.Random(f'sidecars {SEED}')
    for number in range(0, INPUTS, 3):
        sidecar = mutations.mutated_json(rng, '{"SliceThickness": 5, "ImageType": ["M"]}')
        mutations.write(raw / f'sub-{number:02d}/anat/sub-{number:02d}_T2w.json', sidecar)
    mutations.write(raw / 'sub-99/anat/sub-99_T2w.nii', mutations.sound(rng))
    (raw / 'sub-99/loop').symlink_to('..')
    flags = ('--model', 'tiny', '--device', 'cpu', '--skip-bids-validation', '--nprocs', 2)
    done = run('app', raw, out, 'participant', '--dry-run', *flags, env=environment)
    assert 'Traceback' not in done.stdout + done.stderr
    shown = [f'sub-{n:02d}_T2w' in done.stdout for n in range(INPUTS)]
    told = [f'sub-{n:02d}_T2w is left out' in done.stderr for n in range(INPUTS)]
    assert all(a != b for a, b in zip(shown, told, strict=True)), done.stderr
    assert 'sub-99_T2w' in done.stdout
    assert done.returncode == int(any(told))
    labels = ['99', *(f'{n:02d}' for n in range(INPUTS) if told[n])][:4]
    done = run(
        'app', raw, out, 'participant', *flags, '--skull-strip', 'skip', '--resolution', 3,
        '--participant-label', *labels, env=environment,
    )  # fmt: skip
    assert 'Traceback' not in done.stdout + done.stderr
    result = out / 'sub-99/anat/sub-99_qc.json'
    assert result.is_file(), done.stderr
    qc = json.loads(result.read_text(encoding='utf-8'))
    assert qc['bids_name'] == 'sub-99_T2w'
    for label in labels[1:]:
        assert not list(out.glob(f'sub-{label}/anat/*'))
        assert (out / f'sub-{label}.html').is_file()
