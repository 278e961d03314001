"""Nipype's plugins for schedulers, made to survive what happens on a cluster.

Nipype 1.11 ends the whole run in a `TypeError`, without a crash file, when a job leaves no result:
cancelled, out of time or out of memory. It looks at no exit status of `sbatch` and `squeue`: a
request that is refused ends in an `IndexError`, and a scheduler that is away for a moment makes
running jobs pass for lost ones.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

from nipype.pipeline import plugins
from nipype.pipeline.plugins.base import (
    DistributedPluginBase,
    PluginBase,
    SGELikeBatchManagerBase,
)

from bids_segsr.exceptions import UserError
from bids_segsr.execution.workers import ImageByImage

logger = logging.getLogger(__name__)

ASK_EVERY = 2.0
"""Seconds between two questions to Slurm, which answers for all jobs at once."""
PATIENCE = {'max_tries': 6, 'retry_timeout': 2}
"""A submission that Slurm is too busy for is tried again, after 2, 4, 8 ... seconds."""
BUSY = re.compile(
    r'timed out|contact|temporar|try again|limit|zero bytes|not responding', re.IGNORECASE
)


def cluster_plugin(name: str, plugin_args: dict[str, Any]) -> PluginBase:
    """Return a plugin for which a lost job is a failed step, not the end of the run.

    Args:
        name: Nipype's name of it, such as 'SLURM'.
        plugin_args: Its arguments.
    """
    kind = getattr(plugins, f'{name}Plugin')
    if name == 'SLURM':
        kind = SurvivingSLURMPlugin
    elif issubclass(kind, SGELikeBatchManagerBase):
        kind = type(f'Surviving{name}Plugin', (_SurvivingBatchManager, kind), {})
    elif issubclass(kind, DistributedPluginBase):
        kind = type(f'Surviving{name}Plugin', (ImageByImage, kind), {})
    plugin: PluginBase = kind(plugin_args=plugin_args)
    return plugin


class _SurvivingBatchManager(ImageByImage, SGELikeBatchManagerBase):
    """What is changed of every batch plugin."""

    def _submit_job(self, node: Any, updatehash: bool = False) -> int:
        # A job that never starts must not pass for done by the result of an earlier run.
        for stale in Path(node.output_dir()).glob('result_*.pklz'):
            stale.unlink()
        return int(super()._submit_job(node, updatehash=updatehash))

    def _get_result(self, taskid: int) -> dict[str, Any] | None:
        result: dict[str, Any] | None = super()._get_result(taskid)
        if result is not None and isinstance(result['traceback'], str):
            message = (
                f'job {taskid} ended without a result ({self._reason(taskid)}); give its step '
                'more time or memory (plugin_args, gpu_plugin_args) and start the same command '
                'again'
            )
            result['traceback'] = [f'RuntimeError: {message}\n']
        return result

    def _reason(self, taskid: int) -> str:  # noqa: ARG002
        return 'cancelled, out of time or out of memory'


class SurvivingSLURMPlugin(_SurvivingBatchManager, plugins.SLURMPlugin):
    """Slurm, whose commands are asked by their exit status.

    Args:
        plugin_args: As Nipype takes them: `sbatch_args`, `max_jobs`, `template`, `retry_timeout`
            and `max_tries`.
    """

    def __init__(self, plugin_args: dict[str, Any]) -> None:
        super().__init__(plugin_args=PATIENCE | plugin_args)
        self._logs: dict[int, Path] = {}
        self._alive: set[str] = set()
        self._asked = 0.0

    def run(self, graph: Any, config: Any, updatehash: bool = False) -> None:
        """Run the workflow; the jobs of a run that is interrupted are cancelled.

        Those that went on alone would meet the jobs of the next run in the same folders.

        Args:
            graph: The expanded graph.
            config: Nipype's configuration.
            updatehash: As Nipype defines it.
        """
        try:
            super().run(graph, config, updatehash=updatehash)
        except BaseException:
            if self._pending:
                subprocess.run(['scancel', *map(str, self._pending)], check=False)
            raise

    def _submit_batchtask(self, scriptfile: str, node: Any) -> int:
        log = Path(scriptfile).with_suffix('.out')
        own = node.plugin_args
        general = '' if own.get('overwrite') else self._sbatch_args or ''
        name = '.'.join(reversed(f'{node._hierarchy}.{node._id}'.split('.')))
        command = [
            'sbatch',
            '-o',
            str(log),
            *shlex.split(f'{general} {own.get("sbatch_args", "")}'),
        ]
        command += ['-J', name, scriptfile]
        for attempt in range(self._max_tries + 1):
            if attempt:
                time.sleep(self._retry_timeout * 2 ** (attempt - 1))
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            submitted = re.search(self._jobid_re, result.stdout)
            if result.returncode == 0 and submitted:
                taskid = int(submitted[1])
                self._pending[taskid] = node.output_dir()
                self._logs[taskid] = log
                self._asked = 0.0
                return taskid
            if not BUSY.search(result.stderr):
                break
        raise UserError(
            f'SLURM takes no job: {" ".join(result.stderr.split())}; '
            'check plugin_args and gpu_plugin_args of --use-plugin'
        )

    def _is_pending(self, taskid: int) -> bool:
        if time.monotonic() - self._asked > ASK_EVERY:
            command = ['squeue', '-h', '-u', str(os.getuid()), '-o', '%i']
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                logger.warning('squeue failed, asked again: %s', ' '.join(result.stderr.split()))
                return True
            self._alive, self._asked = set(result.stdout.split()), time.monotonic()
        return str(taskid) in self._alive

    def _reason(self, taskid: int) -> str:
        """Return why a job left no result, in the scheduler's words where its log has them."""
        log = self._logs[taskid]
        text = log.read_text(errors='replace') if log.is_file() else ''
        told = [line for line in text.splitlines() if 'CANCELLED' in line or 'oom' in line.lower()]
        return told[-1].strip('* ') if told else super()._reason(taskid)
