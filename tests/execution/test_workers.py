"""The local workers: order of the images, and what the death of a process costs."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from bids_segsr.bids.names import graph_name, label_of_node
from bids_segsr.exceptions import UserError
from bids_segsr.execution.settings import Settings
from bids_segsr.execution.workers import LocalPlugin
from bids_segsr.execution.workflow_run import configure_nipype, run_workflow


def write_down(image: str, step: str, log: str, earlier: str = '') -> str:
    """One step: its name goes to a file."""
    import time

    time.sleep(0.05)
    with open(log, 'a', encoding='utf-8') as file:  # noqa: PTH123
        file.write(f'{image} {step}\n')
    return step


def die(image: str, step: str, log: str, earlier: str = '') -> str:
    """The step of one image is killed when the other's has begun, which goes on for a while."""
    import os
    import signal
    import time
    from pathlib import Path

    Path(log).with_name(f'{image}.begun').touch()
    while not (
        Path(log).with_name('a.begun').exists() and Path(log).with_name('b.begun').exists()
    ):
        time.sleep(0.01)
    if image == 'a':
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(1)
    return step


def fail(image: str, step: str, log: str, earlier: str = '') -> str:
    return str(1 / 0)


def settings(root: Path, **values: Any) -> Settings:
    return Settings(bids_dir=root, output_dir=root / 'out', work_dir=root / 'work', **values)


def workflow(
    given: Settings, images: str, function: Callable[..., str] = write_down, n_procs: int = 1
) -> Any:
    """Two steps an image, the second of which waits for the first."""
    from nipype.interfaces.utility import Function
    from nipype.pipeline import engine as pe

    configure_nipype(given)
    whole = pe.Workflow('run', base_dir=str(given.work_dir))
    for image in images:
        graph = pe.Workflow(graph_name(f'sub-{image}_acq-x+y_T2w'))
        steps = []
        for name in ('first', 'second'):
            interface = Function(['image', 'step', 'log', 'earlier'], ['step'], function)
            node = pe.Node(interface, name, n_procs=n_procs if name == 'second' else 1)
            node.inputs.image, node.inputs.step = image, name
            node.inputs.log = str(given.bids_dir / 'log.txt')
            steps.append(node)
        graph.connect(steps[0], 'step', steps[1], 'earlier')
        whole.add_nodes([graph])
    return whole


@pytest.mark.parametrize('nprocs', [1, 2])
def test_an_image_is_finished_before_the_next_begins(tmp_path: Path, nprocs: int) -> None:
    """With two processes, the second step of an image needs both and is not overtaken for ever."""
    given = settings(tmp_path, nprocs=nprocs)

    assert run_workflow(workflow(given, 'dbca', n_procs=nprocs), given) == []

    lines = (tmp_path / 'log.txt').read_text().split('\n')[:-1]
    if nprocs == 1:
        assert lines == [f'{image} {step}' for image in 'abcd' for step in ('first', 'second')]
    else:
        assert lines.index('a second') < lines.index('c first')
        assert lines.index('b second') < lines.index('d first')


def test_rounds_of_waiting_look_for_garbage_among_new_objects_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, frozen = settings(tmp_path, nprocs=1), []
    submit = LocalPlugin._submit_job

    def look(self: Any, node: Any, updatehash: bool = False) -> int:
        frozen.append(gc.get_freeze_count())
        return submit(self, node, updatehash)

    monkeypatch.setattr(LocalPlugin, '_submit_job', look)
    assert run_workflow(workflow(given, 'a'), given) == []

    assert min(frozen) > 10_000
    assert gc.get_freeze_count() == 0


def test_a_killed_worker_costs_no_other_image_its_step(tmp_path: Path) -> None:
    given = settings(tmp_path, nprocs=2)

    (problem,) = run_workflow(workflow(given, 'ab', die), given)

    assert (problem.image, problem.step) == ('sub-a_acq-x+y_T2w', 'first')
    assert 'a worker process was killed' in problem.reason
    assert problem.path is not None


def test_a_step_that_cannot_be_submitted_fails_its_image_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(tmp_path, nprocs=1)
    submit = LocalPlugin._submit_job

    def refuse(self: Any, node: Any, updatehash: bool = False) -> int:
        if label_of_node(node.fullname).startswith('sub-b'):
            raise OSError(28, 'No space left on device')
        return submit(self, node, updatehash)

    monkeypatch.setattr(LocalPlugin, '_submit_job', refuse)
    (problem,) = run_workflow(workflow(given, 'abc'), given)

    assert problem.image == 'sub-b_acq-x+y_T2w'
    assert problem.reason.endswith('no space left on device')
    assert problem.reason.startswith(str(given.work_dir))
    assert (tmp_path / 'log.txt').read_text().count('second') == 2


def test_reason_is_known_where_no_crash_file_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> Path:
        raise UserError(f'{path}: cannot be written (No space left on device)')

    monkeypatch.setattr('bids_segsr.execution.workers.write_text', full)
    given = settings(tmp_path, nprocs=1)

    (problem,) = run_workflow(workflow(given, 'a', fail), given)

    assert problem.path is None
    assert problem.image == 'sub-a_acq-x+y_T2w'
    assert problem.message == 'step first failed: ZeroDivisionError: division by zero'


def test_locks_that_cannot_be_made_are_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr('multiprocessing.synchronize.SemLock.__init__', refuse)
    with pytest.raises(UserError, match=r'^/dev/shm: .*Permission denied'):
        LocalPlugin({'n_procs': 1})


def test_no_worker_outlives_a_main_process_that_is_killed(tmp_path: Path) -> None:
    code = (
        'import sys; sys.path.insert(0, sys.argv[1])\n'
        'from pathlib import Path\n'
        'from test_workers import *\n'
        'given = settings(Path(sys.argv[2]), nprocs=2)\n'
        'run_workflow(workflow(given, "xy", die), given)\n'
    )
    main = subprocess.Popen([sys.executable, '-c', code, str(Path(__file__).parent), tmp_path])
    deadline = time.monotonic() + 60
    workers: list[psutil.Process] = []
    while len(workers) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
        workers = psutil.Process(main.pid).children() if (tmp_path / 'x.begun').exists() else []
    os.kill(main.pid, signal.SIGKILL)
    main.wait()

    assert len(workers) == 2
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []
