"""Nipype's local worker pool, made to survive the death of a worker."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from nipype.pipeline.plugins.multiproc import MultiProcPlugin, process_initializer

KILLED = (
    'MemoryError: a worker process was killed, most often since the memory ran out: '
    'give less --mem or fewer --nprocs and start the same command again\n'
)


class SurvivingMultiProcPlugin(MultiProcPlugin):
    """MultiProc that records a killed worker as a failed node and goes on with new workers.

    Nipype 1.11 raises the pool's exception inside a callback of the future, where nobody sees it,
    and waits for the result of the dead worker for ever.
    """

    def _async_callback(self, args: Any) -> None:
        """Leave the result in its future; `_get_result` looks there."""

    def _get_result(self, taskid: int) -> dict[str, Any] | None:
        future = self._task_obj[taskid]
        if not future.done():
            return None
        if isinstance(future.exception(), BrokenProcessPool):
            return {'result': None, 'traceback': [KILLED], 'taskid': taskid}
        result: dict[str, Any] = future.result()
        return result

    def _submit_job(self, node: Any, updatehash: bool = False) -> int:
        try:
            return int(super()._submit_job(node, updatehash))
        except BrokenProcessPool:
            self.pool = ProcessPoolExecutor(
                max_workers=self.processors,
                initializer=process_initializer,
                initargs=(self._cwd,),
                mp_context=multiprocessing.get_context(self.plugin_args.get('mp_context')),
            )
            return int(super()._submit_job(node, updatehash))
