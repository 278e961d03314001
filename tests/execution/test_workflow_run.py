"""Environment, devices and signals of a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from test_plugins import settings_of

from bids_segsr.exceptions import ModelError, Terminated, UserError
from bids_segsr.execution import workflow_run as execution
from bids_segsr.execution.workflow_run import (
    check_device,
    check_memory,
    check_model,
    configure_nipype,
    prepare_environment,
    run_workflow,
    uses_gpu,
)


def test_step_that_cannot_fit_is_refused() -> None:
    from nipype.interfaces.utility import IdentityInterface
    from nipype.pipeline import engine as pe

    workflow = pe.Workflow('sub-01_T2w_wf')
    for name, mem_gb in (('small', 1), ('superresolve', 9)):
        workflow.add_nodes([pe.Node(IdentityInterface(['x']), name, mem_gb=mem_gb)])
    check_memory(workflow, 9)
    with pytest.raises(UserError, match='superresolve takes 9 GB, and --mem is 8 GB; give more'):
        check_memory(workflow, 8)


def test_environment_bounds_threads_and_spares_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, 'environ', {'HOME': str(tmp_path / 'home')})

    prepare_environment(settings_of(tmp_path, omp_nthreads=2))

    assert os.environ['OMP_NUM_THREADS'] == '2'
    assert os.environ['NIPYPE_CONFIG_DIR'].startswith(str(tmp_path / 'work'))


@pytest.mark.parametrize(
    ('device', 'count', 'message'),
    [
        ('cuda', 0, 'finds no CUDA device.*--device cpu'),
        ('cuda:2', 2, '--device cuda:2: there are 2 CUDA devices'),
    ],
)
def test_missing_gpu(
    monkeypatch: pytest.MonkeyPatch, device: str, count: int, message: str
) -> None:
    with_gpus(monkeypatch, count)

    with pytest.raises(UserError, match=message):
        check_device(device)


def test_gpu_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 2)

    check_device('cuda:1')


@pytest.mark.parametrize(
    ('device', 'count', 'expected'),
    [('auto', 1, True), ('auto', 0, False), ('cuda:0', 1, True), ('cpu', 1, False)],
)
def test_gpu_slots(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str, count: int, expected: bool
) -> None:
    with_gpus(monkeypatch, count)

    assert uses_gpu(settings_of(tmp_path, device=device)) is expected
    cluster = tmp_path / 'cluster.yml'
    cluster.write_text('plugin: SLURM', encoding='utf-8')
    assert not uses_gpu(settings_of(tmp_path, device=device, use_plugin=cluster))


def test_only_the_network_step_takes_the_arguments_for_a_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from nipype.interfaces.base import Undefined
    from nipype.pipeline import engine as pe

    from bids_segsr.interfaces.imaging import Conform
    from bids_segsr.interfaces.inference import SuperResolve

    cluster = tmp_path / 'cluster.yml'
    cluster.write_text(
        'plugin: SLURM\ngpu_plugin_args: {sbatch_args: "--gres=gpu:1"}\n', encoding='utf-8'
    )
    workflow, image = pe.Workflow('run'), pe.Workflow('sub-01_T2w_wf')
    image.add_nodes([pe.Node(Conform(), 'conform'), pe.Node(SuperResolve(), 'superresolve')])
    workflow.add_nodes([image])
    ran = []
    monkeypatch.setattr(workflow, 'run', lambda **arguments: ran.append(arguments))

    assert run_workflow(workflow, settings_of(tmp_path, use_plugin=cluster)) == []
    assert [type(item['plugin']).__name__ for item in ran] == ['SurvivingSLURMPlugin']
    node = workflow.get_node('sub-01_T2w_wf.superresolve')
    assert node.plugin_args == {'sbatch_args': '--gres=gpu:1'}
    assert workflow.get_node('sub-01_T2w_wf.conform').plugin_args in ({}, None, Undefined)


@pytest.mark.parametrize('device', ['cpu', 'auto'])
def test_no_question_is_asked_without_need(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(execution, 'apart', lambda *_: pytest.fail('asked'))

    check_device(device)


def with_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let torch find so many devices, and see none of them in this process."""
    here = os.getpid()
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: os.getpid() != here)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: count)


@pytest.mark.parametrize('killed', [False, True])
def test_a_driver_that_fails_is_no_gpu(monkeypatch: pytest.MonkeyPatch, killed: bool) -> None:
    def fail() -> int:
        if killed:
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError('driver too old')

    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', fail)
    with pytest.raises(UserError, match='torch finds no CUDA device'):
        check_device('cuda')


def test_models_are_checked_in_another_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = os.getpid()

    def verify(model: str) -> None:
        assert os.getpid() != here
        if model == 'damaged':
            raise ModelError(f'{model}: not what its card says')
        if model == 'strange':
            raise ValueError('of a library')
        if model == 'huge':
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr('bids_segsr.zoo.verify.verify_model', verify)
    check_model('fine', 'fine too')
    with pytest.raises(ModelError, match=r'^damaged: not what its card says$'):
        check_model('fine', 'damaged')
    with pytest.raises(UserError, match=r'strange: cannot be loaded \(ValueError: of a library\)'):
        check_model('fine', 'strange')
    with pytest.raises(UserError, match=r'huge: cannot be loaded \(its process was killed\)'):
        check_model('huge')


CHECK = """
import sys, time
import bids_segsr.zoo.verify
from bids_segsr.cli.process import run_command
from bids_segsr.execution.workflow_run import check_model
bids_segsr.zoo.verify.verify_model = lambda model: time.sleep(60)
sys.exit(run_command('test', lambda: check_model('m')))
"""


@pytest.mark.parametrize(
    ('number', 'status'), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_whatever_ends_the_run_ends_the_check_of_a_model(number: int, status: int) -> None:
    with subprocess.Popen([sys.executable, '-c', CHECK], stderr=subprocess.PIPE) as program:
        run = psutil.Process(program.pid)
        while not (children := run.children()):
            assert program.poll() is None
            time.sleep(0.001)
        program.send_signal(number)
        assert program.wait(20) == status
        assert program.stderr is not None
        assert b'Traceback' not in program.stderr.read()
    assert not psutil.wait_procs(children, 20)[1]


def test_models_are_run_where_torch_has_threads() -> None:
    torch.ones(1_000_000).exp()  # makes them

    check_model('tissue-unet')


def test_interrupt_reaches_the_caller(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)

    def interrupt(**_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    workflow = SimpleNamespace(list_node_names=list, run=interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_workflow(workflow, settings_of(tmp_path))

    assert signal.getsignal(signal.SIGINT) is before


def test_interrupt_of_a_step_in_this_process_is_no_failure_of_that_step(tmp_path: Path) -> None:
    from nipype.interfaces.utility import Function
    from nipype.pipeline import engine as pe

    def interrupted() -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGTERM)

    def later() -> None:
        raise AssertionError('goes on')

    settings = settings_of(tmp_path)
    configure_nipype(settings)
    workflow = pe.Workflow('run', base_dir=str(tmp_path / 'work'))
    for label, function in (('01', interrupted), ('02', later)):
        image = pe.Workflow(f'sub-{label}_T2w_wf')
        step = pe.Node(Function(function=function), 'save', run_without_submitting=True)
        image.add_nodes([step])
        workflow.add_nodes([image])
    with pytest.raises(Terminated):
        run_workflow(workflow, settings)
    assert not list(tmp_path.rglob('crash*'))


def test_interrupt_is_not_lost_when_a_worker_has_just_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = subprocess.Popen(['true'])
    ended = psutil.Process(program.pid)
    program.wait()
    monkeypatch.setattr(psutil.Process, 'children', lambda *_, **__: [ended])

    def interrupt(**_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    workflow = SimpleNamespace(list_node_names=list, run=interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_workflow(workflow, settings_of(tmp_path))
