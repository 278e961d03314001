"""Nipype's plugins, made to finish one image after the other and to survive what fails.

Nipype 1.11 ends the whole run when a step cannot be submitted (its input is gone, a disk is full)
or when its result cannot be read, takes images in the order of their steps (every image has its
bias field corrected before the first one is restored), and loses all running steps with one
worker.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import strftime
from traceback import format_exc
from typing import Any

from nipype.pipeline.plugins.base import DistributedPluginBase
from nipype.pipeline.plugins.multiproc import MultiProcPlugin, process_initializer

from bids_segsr.bids.names import graph_of_node
from bids_segsr.environment import end_with
from bids_segsr.exceptions import UserError
from bids_segsr.files import write_text
from bids_segsr.reports.run_errors import Problem, read_crash

KILLED = (
    'MemoryError: a worker process was killed, most often since the memory ran out: '
    'give less --mem or fewer --nprocs and start the same command again\n'
)


class ImageByImage(DistributedPluginBase):
    """What is changed of every plugin that hands out steps.

    Attributes:
        problems: The steps that failed so far, in order.
        interrupted: What a signal has raised. Nipype makes it a failure of the step that runs in
            this process, and would go on.
    """

    problems: list[Problem]
    interrupted: KeyboardInterrupt | None = None
    procs: list[Any]
    depidx: Any
    refidx: Any
    _submitting: int | None
    _status_callback: Any

    def run(self, graph: Any, config: Any, updatehash: bool = False) -> None:
        """Run the workflow.

        Args:
            graph: The expanded graph.
            config: Nipype's configuration.
            updatehash: As Nipype defines it.
        """
        self.problems = []
        super().run(graph, config, updatehash=updatehash)

    def _generate_dependency_list(self, graph: Any) -> None:
        """List the steps image by image, each image's in the order of the graph."""
        super()._generate_dependency_list(graph)
        order = sorted(
            range(len(self.procs)), key=lambda index: graph_of_node(self.procs[index].fullname)
        )
        self.procs = [self.procs[index] for index in order]
        self.depidx = self.depidx[order][:, order]
        self.refidx = self.refidx[order][:, order]

    def _local_hash_check(self, jobid: int, graph: Any) -> bool:
        self._submitting = jobid
        return bool(super()._local_hash_check(jobid, graph))

    def _send_procs_to_workers(self, updatehash: bool = False, graph: Any = None) -> None:
        """Submit what is ready; a step that cannot be submitted has failed, and the others go on.

        Called in every round of waiting, which moves the line that tells of it.

        Args:
            updatehash: As Nipype defines it.
            graph: The expanded graph.
        """
        tick = getattr(self._status_callback, 'tick', None)
        if tick is not None:
            tick()
        while True:
            self._submitting = None
            before = len(self.problems)
            try:
                super()._send_procs_to_workers(updatehash=updatehash, graph=graph)
                return
            except UserError:  # nothing can be submitted
                raise
            except Exception:
                # A crash that has been told of ends the run: --stop-on-first-crash.
                if self._submitting is None or len(self.problems) > before:
                    raise
                self._clean_queue(self._submitting, graph)

    def _report_crash(self, node: Any, result: dict[str, Any] | None = None) -> str | None:
        """Write the crash file where it can be written, and remember the reason in any case."""
        if self.interrupted is not None:
            raise self.interrupted
        traceback = format_exc() if result is None else ''.join(result['traceback'])
        text = (
            f'Node: {node.fullname}\nWorking directory: {node.output_dir()}\n\n'
            f'Node inputs:\n{node.inputs}\n{traceback}'
        )
        name = f'crash-{strftime("%Y%m%d-%H%M%S")}-{node._id}-{uuid.uuid4()}.txt'
        path: Path | None
        try:
            path = write_text(Path(node.config['execution']['crashdump_dir'], name), text)
        except UserError:
            path = None
        self.problems.append(read_crash(text, path))
        return str(path) if path else None


class LocalPlugin(ImageByImage, MultiProcPlugin):
    """MultiProc for which a killed worker is a failed step, and costs no other image anything.

    Nipype 1.11 raises the pool's exception inside a callback of the future, where nobody sees it,
    and waits for the result of the dead worker for ever.

    Args:
        plugin_args: As Nipype takes them.

    Raises:
        UserError: If no workers can be started.
    """

    def __init__(self, plugin_args: dict[str, Any]) -> None:
        try:
            super().__init__(plugin_args=plugin_args)
        except OSError as error:
            raise UserError(
                f'/dev/shm: the workers need locks, which cannot be made ({error.strerror}); '  # noqa: S108
                'let it be written (in a container, mount it)'
            ) from None
        self.pool = _Workers(
            partial(
                ProcessPoolExecutor,
                max_workers=1,
                initializer=start_worker,
                initargs=(self._cwd, os.getpid()),
                mp_context=multiprocessing.get_context(plugin_args.get('mp_context', 'fork')),
            )
        )

    def run(self, graph: Any, config: Any, updatehash: bool = False) -> None:
        """Run the workflow, and leave no worker behind.

        Args:
            graph: The expanded graph.
            config: Nipype's configuration.
            updatehash: As Nipype defines it.
        """
        # Nipype collects garbage in every round of waiting; what is there now is none
        gc.freeze()
        try:
            super().run(graph, config, updatehash=updatehash)
        finally:
            gc.unfreeze()
            self.pool.shutdown()

    def _sort_jobs(self, jobids: Sequence[int], **_: Any) -> list[int]:
        """Take earlier images first: no later one overtakes a step that waits for room."""
        memory, processors, _ = self._check_resources(self.pending_tasks)
        chosen: list[int] = []
        waiting = None
        for jobid in jobids:
            node = self.procs[jobid]
            image = graph_of_node(node.fullname)
            if waiting not in (None, image):
                break
            chosen.append(jobid)
            needs = min(node.mem_gb, self.memory_gb), min(node.n_procs, self.processors)
            if needs[0] > memory or needs[1] > processors:
                waiting = image
            else:
                memory, processors = memory - needs[0], processors - needs[1]
        return chosen

    def _submit_job(self, node: Any, updatehash: bool = False) -> int:
        self._taskid += 1
        self._task_obj[self._taskid] = self.pool.submit(run_step, node, updatehash, self._taskid)
        return int(self._taskid)

    def _get_result(self, taskid: int) -> dict[str, Any] | None:
        future = self._task_obj[taskid]
        if not future.done():
            return None
        if isinstance(future.exception(), BrokenProcessPool):
            return {'result': None, 'traceback': [KILLED], 'taskid': taskid}
        result: dict[str, Any] = future.result()
        return result


def start_worker(cwd: str, parent: int) -> None:
    """Prepare a worker: it ends with the main process, even where that is killed.

    Args:
        cwd: Folder it starts in.
        parent: The main process.
    """
    process_initializer(cwd)
    end_with(parent)


def run_step(node: Any, updatehash: bool, taskid: int) -> dict[str, Any]:
    """Run a step in a worker.

    Nipype's own asks a step that failed for its result, and tells that there is none instead of
    why.

    Args:
        node: The node.
        updatehash: As Nipype defines it.
        taskid: Number of the task.

    Returns:
        What Nipype expects of a task: `result`, `traceback` and `taskid`.
    """
    try:
        return {'result': node.run(updatehash=updatehash), 'traceback': None, 'taskid': taskid}
    except Exception:
        return {'result': None, 'traceback': [format_exc()], 'taskid': taskid}


class _Workers:
    """Processes that take one step at a time, so that none loses its step by another's death.

    Args:
        start: Makes a pool of one process.
    """

    def __init__(self, start: Callable[[], ProcessPoolExecutor]) -> None:
        self._start = start
        self._idle: list[ProcessPoolExecutor] = []
        self._all: list[ProcessPoolExecutor] = []

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Give a step to a process that has none."""
        if self._idle:
            with suppress(BrokenProcessPool):  # it died while it had nothing to do
                return self._submit(self._idle.pop(), function, *arguments)
        worker = self._start()
        self._all.append(worker)
        return self._submit(worker, function, *arguments)

    def shutdown(self) -> None:
        """End the processes."""
        for worker in self._all:
            worker.shutdown()

    def _submit(
        self, worker: ProcessPoolExecutor, function: Callable[..., Any], *arguments: Any
    ) -> Future[Any]:
        future = worker.submit(function, *arguments)

        def release(done: Future[Any]) -> None:
            if not isinstance(done.exception(), BrokenProcessPool):
                self._idle.append(worker)

        future.add_done_callback(release)
        return future
