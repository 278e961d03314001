"""How a workflow is run: environment, log, Nipype's plugin, crash files."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from bids_segsr.bids.names import label_of_node
from bids_segsr.environment import (
    bound_threads,
    end_with,
    keep_caches_in,
    set_torch_threads,
    use_large_pages,
)
from bids_segsr.exceptions import INTERRUPTED, Terminated, UserError
from bids_segsr.execution.logs import set_nipype_level
from bids_segsr.execution.plugins import plugin_settings, runs_here, survivor
from bids_segsr.execution.progress_line import NodeProgress, ProgressLine
from bids_segsr.execution.settings import Settings
from bids_segsr.reports.run_errors import Problem, one_line, read_crash

logger = logging.getLogger(__name__)

WHOLE_WORKFLOW = 'the workflow'
"""What a problem is about that belongs to no image."""

T = TypeVar('T')


def prepare_environment(settings: Settings) -> None:
    """Set what the libraries read from the environment when they are imported.

    Threads are bounded, nothing is sent, and caches go to the working directory, since the home
    folder may be read-only in a container.

    Args:
        settings: The settings of the run.
    """
    bound_threads(settings.omp_nthreads)
    use_large_pages()
    keep_caches_in(settings.work_dir / '.cache')


def count_gpus() -> int:
    """Return the number of CUDA devices that torch finds; 0 where a driver fails."""
    try:
        return apart(_count_gpus)
    except RuntimeError:
        return 0


def apart(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function that computes with torch in a process of its own, forked from this one.

    Torch's threads, or a CUDA context, would break the workers that are forked from this process
    later. Torch itself is imported here, once for all of them.

    Args:
        function: Its result can be pickled.
        arguments: Of the function.

    Returns:
        What the function returns.

    Raises:
        UserError: The function raised it.
        RuntimeError: It raised something else, or its process was killed.
    """
    import torch  # noqa: F401

    context = multiprocessing.get_context('fork')
    receiver, sender = context.Pipe(duplex=False)
    with receiver, sender:
        process = context.Process(
            target=_answer, args=(sender, os.getpid(), function, *arguments), daemon=True
        )
        try:
            process.start()
            sender.close()
            result = receiver.recv()
        except EOFError:
            raise RuntimeError('its process was killed') from None
        finally:
            if process.pid:  # a signal may come in the midst of the start
                process.kill()
                process.join()
    if isinstance(result, Exception):
        raise result
    found: T = result
    return found


def _answer(
    sender: Connection, parent: int, function: Callable[..., Any], *arguments: Any
) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    end_with(parent)
    try:
        sender.send(function(*arguments))
    except Exception as error:  # raised where it was asked
        sender.send(error if isinstance(error, UserError) else RuntimeError(one_line(error)))


def _count_gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def check_device(device: str) -> None:
    """Make sure that a GPU that was asked for is there.

    Args:
        device: 'auto', 'cpu', 'cuda' or 'cuda:N'.

    Raises:
        UserError: If there is no such CUDA device.
    """
    if not device.startswith('cuda'):
        return
    count = count_gpus()
    if count == 0:
        raise UserError(
            f'--device {device}: torch finds no CUDA device; '
            'check the driver (nvidia-smi) and the torch build, or give --device cpu'
        )
    index = int(device.partition(':')[2] or 0)
    if index >= count:
        raise UserError(f'--device {device}: there are {count} CUDA devices, counted from 0')


def check_model(*models: str) -> None:
    """Make sure that models can be loaded and run, before any image is read.

    Args:
        models: As `bids_segsr.zoo.find.load_model` takes them.

    Raises:
        UserError: If its hash, shapes or output are not those of its card.
    """
    for model in models:
        try:
            apart(_verify, model)
        except UserError:
            raise
        except RuntimeError as error:
            raise UserError(f'{model}: cannot be loaded ({error})') from error


def _verify(model: str) -> None:
    from bids_segsr.zoo.verify import verify_model

    set_torch_threads(1)  # those of a parent that has computed are not here
    verify_model(model)


def check_memory(workflow: Any, mem_gb: float | None) -> None:
    """Refuse a workflow with a step that takes more memory than there is.

    Args:
        workflow: The Nipype workflow, whose nodes declare what they take.
        mem_gb: What the user allows (--mem), GB; None for what the machine or container allows.

    Raises:
        UserError: If a step does not fit.
    """
    from bids_segsr.inference.step_memory import check_fits

    nodes = [workflow.get_node(name) for name in workflow.list_node_names()]
    check_fits({node.name: node.mem_gb for node in nodes}, mem_gb)


def uses_gpu(settings: Settings) -> bool:
    """Return whether the network will take one of the GPU slots of this machine.

    Args:
        settings: The settings of the run, the device checked by `check_device`.
    """
    if settings.processing.device == 'cpu' or not runs_here(settings):
        return False
    return settings.processing.device != 'auto' or count_gpus() > 0


def configure_nipype(settings: Settings) -> None:
    """Set Nipype's configuration for this run.

    Args:
        settings: The settings of the run.
    """
    from nipype import config

    here = runs_here(settings)
    config.update_config(
        {
            'execution': {
                'crashdump_dir': str(settings.derivatives_root / 'logs'),
                'crashfile_format': 'txt',
                'hash_method': 'content',
                # a scheduler is asked about each job; a file that a job wrote on another machine
                # may show here after some seconds
                'poll_sleep_duration': '0.1' if here else '2',
                'job_finished_timeout': '5' if here else '15',
                'stop_on_first_crash': str(settings.stop_on_first_crash).lower(),
                'create_report': 'false',
                'check_version': 'false',
            },
            'monitoring': {
                'enabled': str(settings.resource_monitor).lower(),
                'sample_frequency': '0.5',
                'summary_append': 'true',
            },
        }
    )
    if settings.resource_monitor:
        config.enable_resource_monitor()
    # Importing nipype adds a handler that prints whole tracebacks; what it logs reaches ours.
    logging.getLogger('nipype').handlers.clear()
    set_nipype_level(settings.verbosity)


def run_workflow(workflow: Any, settings: Settings) -> list[Problem]:
    """Run a workflow; crash files go to the log folder of their participant.

    Args:
        workflow: The Nipype workflow, a graph an image in it (`bids.names.graph_name`).
        settings: The settings of the run.

    Returns:
        The steps that failed; where the whole workflow did, one problem that says so.

    Raises:
        UserError: If the plugin cannot be used.
        KeyboardInterrupt: When the user interrupts the run.
    """
    arguments = plugin_settings(settings)
    gpu_arguments = arguments.pop('gpu_plugin_args')
    for name in workflow.list_node_names():
        node = workflow.get_node(name)
        label = label_of_node(name)
        if label:
            subject = label.partition('_')[0].removeprefix('sub-')
            node.config = {'execution': {'crashdump_dir': str(settings.log_dir(subject))}}
        if gpu_arguments and hasattr(node.inputs, 'use_gpu'):
            node.plugin_args = gpu_arguments
    labels = dict.fromkeys(map(label_of_node, workflow.list_node_names()))
    line = ProgressLine([label for label in labels if label], quiet=settings.quiet)
    plugin = survivor(**arguments, progress=NodeProgress(line))
    failure = None
    with _silent_workers(plugin):
        try:
            workflow.run(plugin=plugin)
        except Exception as error:  # Nipype raises what a node raised, of any class.
            failure = Problem(WHOLE_WORKFLOW, f'failed: {one_line(error)}')
        finally:
            line.close()
    problems = plugin.problems if hasattr(plugin, 'problems') else find_crashes(settings)
    return problems or ([failure] if failure else [])


def draw_graph(workflow: Any, folder: Path) -> Path:
    """Draw a workflow with Graphviz.

    Nipype 1.11 leaves the names of images, which hold hyphens, without the quotes that they need,
    and does not tell that Graphviz refuses them.

    Args:
        workflow: The Nipype workflow.
        folder: Its `base_dir`.

    Returns:
        `graph.svg` in the folder of the workflow.

    Raises:
        OSError: Graphviz is not there, or refuses.
    """
    workflow.write_graph(graph2use='colored', format='dot', simple_form=True)
    dot = folder / workflow.name / 'graph.dot'
    text = re.sub(
        r'^(\s*(?:subgraph )?)([A-Za-z_][\w-]*)(?=\[| ->| \{)',
        r'\1"\2"',
        dot.read_text(encoding='utf-8'),
        flags=re.MULTILINE,
    )
    dot.write_text(re.sub(r'-> ([\w-]+);', r'-> "\1";', text), encoding='utf-8')
    svg = dot.with_suffix('.svg')
    done = subprocess.run(
        ['dot', '-Tsvg', '-o', svg, dot], capture_output=True, encoding='utf-8', check=False
    )
    if done.returncode:
        raise OSError(done.stderr.strip())
    return svg


def find_crashes(settings: Settings) -> list[Problem]:
    """Read the crash files that a plugin of Nipype's own has written in this run.

    Args:
        settings: The settings of the run.
    """
    paths = sorted(settings.derivatives_root.glob(f'sub-*/log/{settings.run_uuid}/crash-*.txt'))
    return [read_crash(path.read_text(encoding='utf-8', errors='replace'), path) for path in paths]


@contextmanager
def _silent_workers(plugin: Any) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM, which schedulers send, end the workers at once and silently."""
    import psutil

    parent = os.getpid()

    def stop(number: int, _: Any) -> None:
        if os.getpid() != parent:
            os._exit(INTERRUPTED)
        for worker in psutil.Process().children(recursive=True):
            # One that ends meanwhile must not take the place of the interrupt.
            with suppress(psutil.NoSuchProcess):
                worker.kill()
        plugin.interrupted = Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
        raise plugin.interrupted

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
