"""Real engines for the tests of the container and the cluster.

CONTAINER_TESTS=1 runs what fits every change; CONTAINER_TESTS=full adds the long ones. A Docker
engine and Apptainer are used when they are there. Where they are not, root starts them with the
scripts in ../shared/infra and stops them at the end; Slurm is always started so.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from geometry_phantoms import SHARED

ROOT = Path(__file__).resolve().parents[2]
INFRA = SHARED / 'infra'
LEVEL = os.environ.get('CONTAINER_TESTS', '')
# An ordinary user, whose home does not exist.
USER = 1000
CPUS, MEMORY_MB = 12, 64000
"""What the cluster of one node pretends to have, so that the scripts run as they are."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.container)
            if not LEVEL:
                reason = 'CONTAINER_TESTS=1 or full runs the engines'
                item.add_marker(pytest.mark.skip(reason=reason))


full = pytest.mark.skipif(LEVEL != 'full', reason='only with CONTAINER_TESTS=full')


def run(
    command: str, folder: Path, *, user: int | None = None, timeout: float = 900, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a command line of the documents; as an ordinary user whose home does not exist."""
    words = ['bash', '-c', command]
    keep = {k: v for k, v in os.environ.items() if k in ('PATH', 'SLURM_CONF', 'TMPDIR')}
    if user is not None and os.geteuid() == 0:
        words = ['setpriv', f'--reuid={user}', f'--regid={user}', '--clear-groups', *words]
    env = {'HOME': '/nonexistent', **keep, **env}
    return subprocess.run(
        words, cwd=folder, env=env, capture_output=True, text=True, timeout=timeout, check=False
    )


def documented(page: str, start: str) -> str:
    """Return the one command of a page of the documents that starts so, without its prompt."""
    text = re.sub(r' *\\\n *', ' ', (ROOT / 'docs' / page).read_text(encoding='utf-8'))
    found = re.findall(rf'^\$ ({re.escape(start)}.*)$', text, flags=re.MULTILINE)
    assert len(found) == 1, (start, found)
    return found[0]


@dataclass
class Engines:
    """Starts the engines that are missing."""

    folder: Path
    started: bool = False

    def start(self, name: str) -> None:
        script = INFRA / f'up_{name}.sh'
        if os.geteuid() != 0:
            pytest.skip(f'{name} does not run, and root alone can start it')
        if not script.is_file():
            pytest.skip(f'{name} does not run, and there is no ../shared/infra to start it with')
        self.started = True
        log = self.folder / f'{name}.log'
        with log.open('w') as stream:
            result = subprocess.run(
                ['bash', script],
                env=os.environ | {'W': str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                check=False,
            )
        assert result.returncode == 0, log.read_text()[-2000:]


@pytest.fixture(scope='session')
def engines() -> Iterator[Engines]:
    # not below /tmp/pytest-of-root, which an ordinary user cannot enter
    folder = Path(tempfile.mkdtemp(prefix='engines-'))
    folder.chmod(0o755)
    engines = Engines(folder)
    yield engines
    if engines.started:
        down = ['bash', str(INFRA / 'down.sh')]
        subprocess.run(down, env=os.environ | {'W': str(folder)}, check=False)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope='session')
def docker(engines: Engines) -> str:
    """Return the client; the one of the distribution where there are several."""

    def client() -> str | None:
        packaged = '/usr/bin/docker'
        return packaged if Path(packaged).exists() else shutil.which('docker')

    found = client()
    if found is None or subprocess.run([found, 'info'], capture_output=True).returncode:
        engines.start('docker')
        found = client()
    assert found is not None
    return found


@pytest.fixture(scope='session')
def image(docker: str) -> str:
    """Build the image under its documented name."""
    command = documented('container.md', 'docker build -t bids_segsr .')
    # a package index may listen on the host alone
    words = command.replace('docker build', f'{docker} build --network host')
    result = run(words, ROOT, DOCKER_BUILDKIT='1', timeout=1500)
    assert result.returncode == 0, result.stderr[-3000:]
    return 'bids_segsr'


@pytest.fixture(scope='session')
def apptainer(engines: Engines) -> str:
    if shutil.which('apptainer') is None:
        engines.start('apptainer')
    found = shutil.which('apptainer')
    assert found is not None
    return found


@pytest.fixture(scope='session')
def sif(image: str, apptainer: str, engines: Engines) -> Path:
    """Convert the Docker image as documented."""
    command = documented('container.md', 'apptainer build bids_segsr.sif docker-daemon')
    # zstd takes a third of the time of the default compression
    command = command.replace(
        'build ', 'build --mksquashfs-args "-comp zstd -Xcompression-level 1" '
    )
    result = run(command, engines.folder, APPTAINER_TMPDIR=str(engines.folder), timeout=1500)
    assert result.returncode == 0, result.stderr[-3000:]
    path = engines.folder / 'bids_segsr.sif'
    path.chmod(0o755)
    return path


@pytest.fixture
def folder(engines: Engines) -> Iterator[Path]:
    """A folder that belongs to the ordinary user."""
    path = Path(tempfile.mkdtemp(prefix='case-', dir=engines.folder))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def hand_over(path: Path) -> None:
    """Give a folder and what it holds to the ordinary user."""
    if os.geteuid() == 0:
        for item in (path, *path.rglob('*')):
            os.chown(item, USER, USER)


@dataclass
class Cluster:
    """One node with fake GPUs."""

    conf: Path

    def submit(self, command: str, folder: Path, **options: object) -> str:
        result = run(command, folder, SLURM_CONF=str(self.conf), **options)  # type: ignore[arg-type]
        assert result.returncode == 0, result.stderr
        return result.stdout

    def query(self, command: str) -> str:
        return run(command, Path('/'), SLURM_CONF=str(self.conf)).stdout

    def state(self, job: str) -> str:
        shown = self.query(f'scontrol show job -o {job}')
        return (re.findall(r'JobState=(\w+)', shown) or ['UNKNOWN'])[-1]

    def wait(self, job: str, seconds: float, watch: Callable[[], None] = lambda: None) -> str:
        """Wait for the end of a job, calling `watch` meanwhile, and return its state."""
        deadline = time.monotonic() + seconds
        while (state := self.state(job)) in ('PENDING', 'RUNNING', 'CONFIGURING', 'COMPLETING'):
            assert time.monotonic() < deadline, self.query('squeue')
            watch()
            time.sleep(0.5)
        return state


@pytest.fixture(scope='session')
def cluster(engines: Engines) -> Cluster:
    engines.start('slurm')
    conf = engines.folder / 'slurm' / 'slurm.conf'
    environment = os.environ | {'SLURM_CONF': str(conf)}
    subprocess.run(['scontrol', 'shutdown'], env=environment, check=True)
    text = re.sub(r' CPUs=\d+ RealMemory=\d+', f' CPUs={CPUS} RealMemory={MEMORY_MB} Gres=gpu:2',
                  conf.read_text())  # fmt: skip
    conf.write_text(text + 'GresTypes=gpu\nSlurmdParameters=config_overrides\n')
    devices = 'Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n'
    conf.with_name('gres.conf').write_text(devices)
    time.sleep(2)
    for daemon in ('slurmctld', 'slurmd'):
        subprocess.run([daemon], env=environment, check=True, start_new_session=True)
    cluster = Cluster(conf)
    deadline = time.monotonic() + 30
    while 'idle' not in cluster.query('sinfo -h -o %T'):
        assert time.monotonic() < deadline, cluster.query('sinfo -R')
        time.sleep(0.5)
    return cluster
