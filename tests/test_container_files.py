"""The files of the container and the cluster, without an engine."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bids_segsr import __version__
from bids_segsr.cli.parser import parse_settings

ROOT = Path(__file__).resolve().parents[1]


def tool(name: str) -> str:
    """Find a program on PATH or beside the interpreter."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip(f'{name} is not installed')
    return found


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding='utf-8')


def test_dockerfile_passes_hadolint() -> None:
    result = subprocess.run(
        [tool('hadolint'), ROOT / 'Dockerfile'], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (0, '')


def test_scripts_pass_shellcheck() -> None:
    scripts = [ROOT / 'container' / 'install.sh', *(ROOT / 'docs' / 'hpc').glob('*s*')]
    assert len(scripts) == 5
    result = subprocess.run(
        [tool('shellcheck'), *scripts], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (0, '')


def test_both_images_are_labelled_with_the_version() -> None:
    assert f'\nARG VERSION={__version__}\n' in read('Dockerfile')
    assert f'image.version {__version__}\n' in read('singularity.def')


def test_both_images_hold_the_same_files_and_variables() -> None:
    """What one of them copies or sets, the other does too."""
    docker, definition = read('Dockerfile'), read('singularity.def')
    copied = re.findall(r'^COPY (?!--)(.+) \S+$', docker, flags=re.MULTILINE)
    files = {name for line in copied for name in line.split()}
    section = definition.partition('%files\n')[2].partition('\n\n')[0]
    assert {line.split()[0] for line in section.splitlines()} == files
    assert all((ROOT / name).exists() for name in files)
    kept = set(re.findall(r'^!(.+)$', read('.dockerignore'), flags=re.MULTILINE))
    assert kept == files

    def variables(text: str) -> set[str]:
        return set(re.findall(r'\b([A-Z_]+)=', text))

    own = {'BIDS_SEGSR_DOCKER_TAG', 'BIDS_SEGSR_SINGULARITY_URL'}
    inside = variables(docker.partition('\nENV ')[2].partition('\nUSER')[0])
    environment = definition.partition('%environment\n')[2].partition('\n\n')[0]
    assert inside - own == variables(environment) - own


def test_dependencies_come_before_the_code() -> None:
    docker = read('Dockerfile')
    assert docker.index('install.sh dependencies') < docker.index('COPY bids_segsr')
    result = subprocess.run(
        [sys.executable, ROOT / 'container' / 'requirements.py', ROOT / 'pyproject.toml'],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = result.stdout.splitlines()
    assert any(re.match(r'torch\b', line) for line in lines), result.stderr
    assert any(re.match(r'bids-validator-deno\b', line) for line in lines)


@pytest.mark.parametrize('path', sorted((ROOT / 'docs' / 'hpc').iterdir()), ids=lambda p: p.name)
def test_document_shows_the_scripts_that_are_tested(path: Path) -> None:
    assert f'\n{path.read_text(encoding="utf-8")}```\n' in read('docs/hpc.md')


def test_boutiques_descriptor_is_that_of_the_command_line() -> None:
    spec = importlib.util.spec_from_file_location('_', ROOT / 'container' / 'boutiques.py')
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    assert json.loads(read('boutiques.json')) == module.descriptor()


def test_boutiques_validator_takes_the_descriptor(tmp_path: Path) -> None:
    result = subprocess.run(
        [tool('bosh'), 'validate', '--bids', ROOT / 'boutiques.json'],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert 'BIDS validation OK' in result.stdout + result.stderr


def test_boutiques_makes_a_command_that_the_app_takes(tmp_path: Path) -> None:
    raw = tmp_path / 'raw'
    (raw / 'sub-01').mkdir(parents=True)
    invocation = tmp_path / 'invocation.json'
    values = {
        'bids_dir': str(raw), 'output_dir': str(tmp_path / 'out'),
        'analysis_level': 'participant', 'participant_label': ['01'], 'step': 32,
        'derivatives': [f'masks={raw}'], 'keep_largest': True, 'resolution': 'auto',
    }  # fmt: skip
    invocation.write_text(json.dumps(values), encoding='utf-8')
    result = subprocess.run(
        [tool('bosh'), 'exec', 'simulate', ROOT / 'boutiques.json', '-i', invocation],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    (line,) = [x for x in result.stdout.splitlines() if x.startswith('mkdir -p')]
    settings = parse_settings(shlex.split(line.partition('bids_segsr ')[2]))
    assert settings.participant_label == ('01',)
    assert (settings.processing.step, settings.processing.keep_largest) == (32, True)
    assert settings.derivatives == {'masks': raw}
