"""The documented commands of the images, as written, and what they write."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_app_end_to_end import write_dataset, write_scan

from bids_segsr import __version__
from bids_segsr.zoo.find import DEFAULT_MODEL

from .conftest import ROOT, USER, documented, full, hand_over, run


@pytest.fixture(scope='session')
def data(engines) -> Path:
    """Two phantoms, one of them oblique."""
    raw = engines.folder / 'dataset'
    write_dataset(raw)
    write_scan(raw, 'sub-01_T2w')
    write_scan(raw, 'sub-02_T2w', 0, (8, -5, 12))
    hand_over(raw)
    return raw


@pytest.fixture(scope='session')
def plain(data: Path, engines) -> Path:
    """What the install that runs this test writes."""
    out = engines.folder / 'plain'
    command = [sys.executable, '-m', 'bids_segsr.cli.app', str(data), str(out), 'participant']
    command += ['-w', str(engines.folder / 'plain-work')]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return out


def prepare(folder: Path, data: Path) -> None:
    shutil.copytree(data, folder / 'data')
    for name in ('out', 'work'):
        (folder / name).mkdir()
    hand_over(folder)


def assert_same_files(out: Path, plain: Path) -> None:
    """Images and sidecars are the same bytes, and belong to the user who asked for them."""
    names = sorted(path.relative_to(plain) for path in plain.glob('sub-*/anat/*'))
    assert len([name for name in names if name.suffix == '.gz']) == 20
    found = sorted(path.relative_to(out) for path in out.glob('sub-*/anat/*'))
    assert found == names
    for name in names:
        assert (out / name).read_bytes() == (plain / name).read_bytes(), name
        if os.geteuid() == 0:
            assert (out / name).stat().st_uid == USER


def test_docker_writes_what_a_plain_install_writes(
    docker: str, image: str, data: Path, plain: Path, folder: Path
) -> None:
    prepare(folder, data)
    start = 'docker run --rm --read-only --tmpfs /tmp --network none --user 1000:1000 '
    start += '-v "$PWD/data:/data:ro" -v "$PWD/out:/out" bids_segsr /data /out '
    for level in ('participant', 'group'):
        command = documented('container.md', start + level)
        result = run(command.replace('docker', docker, 1), folder)
        assert result.returncode == 0, result.stderr
    assert_same_files(folder / 'out', plain)
    assert (folder / 'out' / 'group_T2w.tsv').read_text().count('\n') == 3


@pytest.mark.parametrize('user', ['1000:1000', '4321:0', '0:0'])
def test_any_user_can_run_the_image(docker: str, image: str, user: str) -> None:
    result = run(
        f'{docker} run --rm --read-only --network none --user {user} {image} --version', ROOT
    )
    assert (result.returncode, result.stdout) == (0, f'bids_segsr {__version__}\n')


def test_what_the_image_holds(docker: str, image: str) -> None:
    inside = f'{docker} run --rm --read-only --tmpfs /tmp --network none --entrypoint'
    assert run(f'{inside} id {image} -u', ROOT).stdout == '1000\n'
    compilers = run(f'{inside} sh {image} -c "command -v cc gcc g++ make pip"', ROOT)
    assert (compilers.returncode, compilers.stdout) == (127, ''), compilers
    verified = run(f'{inside} segsr {image} models verify {DEFAULT_MODEL}', ROOT)
    assert verified.returncode == 0, verified.stderr
    label = '{{index .Config.Labels "org.opencontainers.image.version"}}'
    shown = run(f"{docker} inspect -f '{label}' {image}", ROOT)
    assert shown.stdout == f'{__version__}\n'


def test_a_sif_writes_what_a_plain_install_writes(
    sif: Path, data: Path, plain: Path, folder: Path
) -> None:
    """As an ordinary user without a home, input read-only, nothing of the host inside."""
    prepare(folder, data)
    (folder / 'bids_segsr.sif').symlink_to(sif)
    start = 'apptainer run --containall --cleanenv '
    binds = '-B "$PWD/data:/data:ro" -B "$PWD/out:/out" '
    for rest in ('-B "$PWD/work:/work" ', 'bids_segsr.sif /data /out group'):
        result = run(documented('container.md', start + binds + rest), folder, user=USER)
        assert result.returncode == 0, result.stderr
    assert_same_files(folder / 'out', plain)
    assert (folder / 'out' / 'group_T2w.html').is_file()


def test_a_sif_runs_with_nv_where_there_is_no_gpu(sif: Path, folder: Path) -> None:
    command = f'apptainer run --nv --containall --cleanenv {sif} --version'
    result = run(command, folder, user=USER)
    assert (result.returncode, result.stdout) == (0, f'bids_segsr {__version__}\n')


@full
def test_the_definition_file_gives_the_same(
    docker: str, apptainer: str, data: Path, plain: Path, folder: Path, engines
) -> None:
    """The base image comes from the stand-in, as an archive; all else is the file as it is."""
    context = folder / 'context'
    context.mkdir()
    text = (ROOT / 'singularity.def').read_text()
    archive = text.replace('Bootstrap: docker\n', 'Bootstrap: docker-archive\n')
    archive = archive.replace('From: debian:bookworm-slim\n', 'From: base.tar\n')
    assert archive != text
    (context / 'singularity.def').write_text(archive)
    for line in text.partition('%files\n')[2].partition('\n\n')[0].splitlines():
        source = ROOT / line.split()[0]
        target = context / line.split()[0]
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__'))
        else:
            shutil.copy(source, target)
    run(f'{docker} save -o base.tar debian:bookworm-slim', context)
    prepare(folder, data)
    command = documented('container.md', 'apptainer build bids_segsr.sif singularity.def')
    built = run(command, context, user=USER, timeout=1800, APPTAINER_TMPDIR=str(folder),
                HOME=str(folder))  # fmt: skip
    assert built.returncode == 0, built.stderr[-3000:]
    assert f'bids_segsr {__version__}' in built.stdout + built.stderr, '%test was run'
    (context / 'bids_segsr.sif').rename(folder / 'bids_segsr.sif')
    start = 'apptainer run --containall --cleanenv -B "$PWD/data:/data:ro" -B "$PWD/out:/out" '
    command = documented('container.md', start + '-B "$PWD/work:/work" ')
    result = run(command, folder, user=USER)
    assert result.returncode == 0, result.stderr
    assert_same_files(folder / 'out', plain)
    told = run('apptainer inspect bids_segsr.sif; apptainer run-help bids_segsr.sif', folder)
    assert f'image.version: {__version__}' in told.stdout
    assert 'Research use only' in told.stdout


@full
def test_demonstration_inside_the_image(docker: str, image: str, folder: Path) -> None:
    (folder / 'out').mkdir()
    hand_over(folder)
    command = documented('container.md', 'docker run --rm --read-only --tmpfs /tmp --network none '
                         '--user 1000:1000 -v "$PWD/out:/out" --entrypoint segsr')  # fmt: skip
    result = run(command.replace('docker', docker, 1), folder, timeout=1500)
    assert result.returncode == 0, result.stderr
    assert 'cubic spline' in result.stdout
    plain = subprocess.run(
        [sys.executable, '-m', 'bids_segsr.cli.segsr', 'demo', str(folder / 'plain')],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert plain.returncode == 0, plain.stderr
    images = sorted((folder / 'plain').rglob('derivatives/sub-*/anat/*.nii.gz'))
    assert len(images) > 8
    for path in images:
        inside = folder / 'out' / 'demo' / path.relative_to(folder / 'plain')
        assert inside.read_bytes() == path.read_bytes(), path.name
