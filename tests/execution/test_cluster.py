"""The SLURM plugin against commands that answer as Slurm does."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from bids_segsr.exceptions import UserError
from bids_segsr.execution.cluster import cluster_plugin
from bids_segsr.execution.plugins import check_scheduler
from bids_segsr.execution.settings import Settings
from bids_segsr.execution.workflow_run import configure_nipype, run_workflow

# Runs the job at once; a script whose name holds a word of $LOSE is not run, as if cancelled.
SBATCH = """#!/bin/bash
echo "$@" >> "$STATE/sbatch"
number=$(wc -l < "$STATE/sbatch")
while [ $# -gt 1 ]; do [ "$1" = -o ] && log=$2; shift; done
if [ -n "$REFUSE" ] && ! { [[ "$REFUSE" == *timed* ]] && [ "$number" = 3 ]; }; then
  echo "sbatch: error: $REFUSE" >&2
  exit 1
fi
if [ -n "$LOSE" ] && [[ "$1" == *"$LOSE"* ]]; then
  said="CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT"
  echo "slurmstepd: error: *** JOB $number ON n1 $said ***" > "$log"
elif [ -z "$HOLD" ]; then
  bash "$1" > "$log" 2>&1
fi
echo "Submitted batch job $number"
"""
# Slurm is away when it is asked for the second time.
SQUEUE = """#!/bin/bash
echo x >> "$STATE/squeue"
[ -z "$HOLD" ] || seq 9
[ "$(wc -l < "$STATE/squeue")" != 2 ] || { echo "squeue: error: Unable to contact" >&2; exit 1; }
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    scancel = '#!/bin/bash\necho "$@" > "$STATE/scancel"\n'
    for name, text in (('sbatch', SBATCH), ('squeue', SQUEUE), ('scancel', scancel)):
        program = tmp_path / 'bin' / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path / "bin"}:/usr/bin:/bin')
    monkeypatch.setenv('STATE', str(tmp_path))
    for name in ('LOSE', 'REFUSE', 'HOLD'):
        monkeypatch.setenv(name, '')
    monkeypatch.delenv('LOGNAME', raising=False)
    return tmp_path


def settings(root: Path) -> Settings:
    plugin = root / 'plugin.yml'
    plugin.write_text(
        'plugin: SLURM\nplugin_args: {sbatch_args: "--mem=1G", retry_timeout: 0, max_tries: 2}\n'
    )
    return Settings(
        bids_dir=root, output_dir=root / 'out', work_dir=root / 'work', use_plugin=plugin
    )


def double(value: int) -> int:
    return 2 * value


def workflow(root: Path) -> Any:
    """Two images of two steps each."""
    from nipype import config
    from nipype.interfaces.utility import Function
    from nipype.pipeline import engine as pe

    configure_nipype(settings(root))
    config.set('execution', 'job_finished_timeout', '0.1')
    config.set('execution', 'poll_sleep_duration', '0.01')
    whole = pe.Workflow('run', base_dir=str(root / 'work'))
    for label in ('01', '02'):
        one = pe.Workflow(f'sub-{label}_T2w_wf')
        first, second = (
            pe.Node(Function(input_names=['value'], output_names=['value'], function=double), name)
            for name in ('first', 'second')
        )
        first.inputs.value = int(label)
        one.connect(first, 'value', second, 'value')
        whole.add_nodes([one])
    return whole


def test_lost_job_fails_its_image_alone_and_the_same_run_completes_it(
    slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('bids_segsr.execution.cluster.ASK_EVERY', 0)
    monkeypatch.setenv('LOSE', 'sub-02_T2w_wf_first')
    given = settings(slurm)
    (problem,) = run_workflow(workflow(slurm), given)

    assert (problem.image, problem.step) == ('sub-02_T2w', 'first')
    assert problem.path is not None
    assert problem.path.parent == given.log_dir('02')
    expected = (
        r'RuntimeError: job \d ended without a result \(.*DUE TO TIME LIMIT\); give its step'
    )
    assert re.match(expected, problem.reason)
    submitted = (slurm / 'sbatch').read_text().splitlines()
    assert len(submitted) == 3
    assert all('--mem=1G' in line for line in submitted)
    assert len((slurm / 'squeue').read_text().split()) > 2

    monkeypatch.setenv('LOSE', '')
    assert run_workflow(workflow(slurm), given) == []
    again = (slurm / 'sbatch').read_text().splitlines()[3:]
    assert [line.rpartition('_')[2] for line in again] == ['first.sh', 'second.sh']
    assert all('sub-02' in line for line in again)


def test_refused_request_is_told_in_the_words_of_slurm(
    slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('REFUSE', 'invalid partition specified: nowhere')
    (problem,) = run_workflow(workflow(slurm), settings(slurm))
    assert problem.reason.startswith(
        'failed: SLURM takes no job: sbatch: error: invalid partition specified'
    )
    assert len((slurm / 'sbatch').read_text().splitlines()) == 1


def test_busy_scheduler_is_asked_again(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third request is taken, the fourth one meets its end of patience."""
    monkeypatch.setenv('REFUSE', 'Socket timed out on send/recv operation')
    (problem,) = run_workflow(workflow(slurm), settings(slurm))
    assert problem.reason.startswith('failed: SLURM takes no job: sbatch: error: Socket timed out')
    assert len((slurm / 'sbatch').read_text().splitlines()) == 6


def test_result_of_an_earlier_run_is_not_taken_for_that_of_a_lost_job(
    slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(slurm)
    assert run_workflow(workflow(slurm), given) == []
    monkeypatch.setenv('LOSE', 'sub-01')
    changed = workflow(slurm)
    changed.get_node('sub-01_T2w_wf.first').inputs.value = 77
    assert [problem.image for problem in run_workflow(changed, given)] == ['sub-01_T2w']


def test_jobs_of_an_interrupted_run_are_cancelled(
    slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('HOLD', '1')

    def interrupt() -> None:
        while not (slurm / 'squeue').exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_workflow(workflow(slurm), settings(slurm))
    thread.join()
    assert (slurm / 'scancel').read_text().split() == ['1', '2']


def test_missing_commands_are_told_before_any_work(
    slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(slurm)
    check_scheduler(given)
    monkeypatch.setenv('PATH', str(Path(sys.executable).parent))
    with pytest.raises(UserError, match=r'plugin SLURM needs sbatch and squeue, which is not on'):
        check_scheduler(given)


@pytest.mark.parametrize('name', ['PBS', 'SGE', 'LSF', 'OAR'])
def test_other_batch_systems_survive_a_lost_job_too(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nipype asks it ten times, 5 s apart, where there is none
    qstat = tmp_path / 'qstat'
    qstat.write_text('#!/bin/sh\necho "<detailed_job_info><job_info/></detailed_job_info>"\n')
    qstat.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    plugin: Any = cluster_plugin(name, {})
    plugin._config = {'execution': {'job_finished_timeout': '0.01'}}
    plugin._pending = {5: str(tmp_path)}
    plugin._is_pending = lambda taskid: False

    result = plugin._get_result(5)

    assert result['traceback'] == [
        'RuntimeError: job 5 ended without a result (cancelled, out of time or out of memory); '
        'give its step more time or memory (plugin_args, gpu_plugin_args) and start the same '
        'command again\n'
    ]
