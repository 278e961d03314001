"""The scripts of docs/hpc on a cluster of one node, as they are."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import yaml
from test_app_end_to_end import write_dataset, write_scan

from .conftest import ROOT, USER, Cluster, full, hand_over

SCRIPTS = ROOT / 'docs' / 'hpc'


def prepare(folder: Path, count: int) -> None:
    """Phantoms, the last one empty, beside the scripts."""
    write_dataset(folder / 'data')
    for number in range(1, count + 1):
        write_scan(folder / 'data', f'sub-{number:02d}_T2w', number % 3)
    (folder / 'out').mkdir()
    (folder / 'work').mkdir()
    shutil.copytree(SCRIPTS, folder / 'hpc')


def paths(folder: Path) -> dict[str, str]:
    return {name.upper(): str(folder / name) for name in ('data', 'out', 'work')}


def results(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / 'out').glob('sub-*/anat/*_qc.json'))


def test_array_of_participants_then_the_group(cluster: Cluster, sif: Path, folder: Path) -> None:
    """One of six images is broken: five are finished, and the group job tells of the sixth."""
    prepare(folder, 6)
    (folder / 'data' / 'sub-06' / 'anat' / 'sub-06_T2w.nii.gz').write_bytes(b'')
    hand_over(folder)
    environment = paths(folder) | {'IMAGE': str(sif), 'FLAGS': '--omp-nthreads 1'}
    told = cluster.submit('bash hpc/submit.sh', folder, user=USER, **environment)
    found = re.fullmatch(r'6 participants: job (\d+), tasks 1-6; then group: job (\d+)\n', told)
    assert found is not None, told
    array, group = found.groups()
    assert cluster.wait(group, 900) == 'COMPLETED'

    states = {task: cluster.state(f'{array}_{task}') for task in range(1, 7)}
    assert states == dict.fromkeys(range(1, 6), 'COMPLETED') | {6: 'FAILED'}
    assert results(folder) == [f'sub-{number:02d}_qc.json' for number in range(1, 6)]
    assert all((folder / 'out' / f'sub-{number:02d}.html').is_file() for number in range(1, 7))
    description = json.loads((folder / 'out' / 'dataset_description.json').read_text())
    assert description['DatasetType'] == 'derivative'

    logs = {path.name: path.read_text() for path in (folder / 'work' / 'logs').iterdir()}
    assert 'Traceback' not in ''.join(logs.values())
    assert 'sub-06_T2w is left out: /data/sub-06' in logs[f'segsr-{array}_6.out']
    assert 'sub-06_T2w is left out: <input>/sub-06' in logs[f'segsr-group-{group}.out']
    assert (folder / 'out' / 'group_T2w.tsv').read_text().count('\n') == 6
    table = (folder / 'out' / 'group_T2w_left-out.tsv').read_text().splitlines()
    assert [line.split('\t')[0] for line in table] == ['participant_id', 'sub-06']
    assert 'the file is empty' in (folder / 'out' / 'group_T2w.html').read_text()
    # the folders of intermediate results are gone where all went well
    assert sorted(path.name for path in (folder / 'work').glob('sub-*')) == ['sub-06']


def control(
    cluster: Cluster,
    folder: Path,
    watch: Callable[[], None] = lambda: None,
    *,
    step: int | None = None,
) -> tuple[str, str]:
    """Run controller.sbatch to its end; return its state and what it wrote."""
    environment = paths(folder) | {
        'VENV': sys.prefix, 'PLUGIN': str(folder / 'hpc' / 'plugin.yml'), 'THREADS': '1',
        'FLAGS': f'--patch-size 32 --step {step}' if step else '',
    }  # fmt: skip
    log = folder / 'control.out'
    job = cluster.submit(
        f'sbatch --parsable --output={log} hpc/controller.sbatch', folder, **environment
    ).strip()
    state = cluster.wait(job, 1200, watch)
    return state, log.read_text()


def jobs(cluster: Cluster) -> list[tuple[str, str, str]]:
    """Return number, name and what was asked of GPUs of all jobs since the start."""
    lines = cluster.query('squeue -h -t all -o "%i|%j|%b"').splitlines()
    return [(parts[0], parts[1], parts[2]) for parts in (line.split('|') for line in lines)]


def test_a_job_for_each_step_and_one_of_them_cancelled(cluster: Cluster, folder: Path) -> None:
    """The image of the cancelled job fails with a clear message; the same command completes it."""
    prepare(folder, 2)
    before = {number for number, *_ in jobs(cluster)}
    cancelled: list[str] = []

    def cancel() -> None:
        for number, name, _ in jobs(cluster):
            wanted = 'superresolve' in name and 'sub-02' in name
            if number not in before and wanted and not cancelled:
                cancelled.append(number)
                cluster.query(f'scancel {number}')

    state, log = control(cluster, folder, cancel)

    assert cancelled
    assert state == 'FAILED', log
    assert 'Traceback' not in log
    lines = [line for line in log.splitlines() if 'step superresolve failed' in line]
    assert lines, log
    told = [line for line in lines if line.startswith('bids_segsr: sub-02_T2w: ')]
    assert len(told) == 1, lines
    assert f'job {cancelled[0]} ended without a result (' in lines[0]
    assert 'start the same command again' in lines[0]
    assert results(folder) == ['sub-01_qc.json']
    first = [job for job in jobs(cluster) if job[0] not in before]
    asked = {name.split('.')[0] for _, name, gpu in first if 'gpu' in gpu}
    assert asked == {'superresolve'}
    assert len(first) > 20
    assert 'superresolve' in (folder / 'out' / 'group_T2w_left-out.tsv').read_text()

    before = {number for number, *_ in jobs(cluster)}
    state, log = control(cluster, folder)

    assert (state, 'failed' in log) == ('COMPLETED', False), log
    assert results(folder) == ['sub-01_qc.json', 'sub-02_qc.json']
    second = [name for number, name, _ in jobs(cluster) if number not in before]
    steps = {name.split('.')[0] for name in second if 'sub-02' in name}
    assert 'superresolve' in steps
    assert not steps & {'conform', 'bias_field', 'brain_mask', 'interpolate'}
    assert (folder / 'out' / 'group_T2w_left-out.tsv').read_text().count('\n') == 1


@full
def test_a_job_out_of_time_is_completed_with_more_time(cluster: Cluster, folder: Path) -> None:
    prepare(folder, 1)
    plugin = folder / 'hpc' / 'plugin.yml'
    documented = plugin.read_text()
    table = yaml.safe_load(documented)
    table['gpu_plugin_args']['sbatch_args'] += ' --time=1'
    plugin.write_text(yaml.safe_dump(table))

    # more than 4000 patches cannot be done in a minute
    state, log = control(cluster, folder, step=1)
    assert state == 'FAILED'
    assert 'DUE TO TIME LIMIT' in log
    assert 'Traceback' not in log
    assert results(folder) == []

    plugin.write_text(documented)
    state, log = control(cluster, folder)
    assert state == 'COMPLETED', log
    assert results(folder) == ['sub-01_qc.json']


def test_a_request_that_the_scheduler_refuses(cluster: Cluster, folder: Path) -> None:
    prepare(folder, 1)
    plugin = folder / 'hpc' / 'plugin.yml'
    arguments = '{sbatch_args: "--partition=nowhere", max_tries: 0}'
    plugin.write_text(f'plugin: SLURM\nplugin_args: {arguments}\n')
    state, log = control(cluster, folder)
    assert state == 'FAILED'
    assert 'Traceback' not in log
    assert re.search(r'SLURM takes no job: .*invalid partition', log), log
