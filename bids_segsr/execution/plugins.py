"""Which of Nipype's plugins runs the steps: the local workers, or a scheduler."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_segsr.exceptions import UserError
from bids_segsr.execution.settings import Settings
from bids_segsr.memory import memory_limit

if TYPE_CHECKING:
    from nipype.pipeline.plugins.base import PluginBase

USUAL_SHARE = 0.9
"""Share of the memory that is taken without --mem."""
PLUGIN_KEYS = ('plugin', 'plugin_args', 'gpu_plugin_args')
# Plugins that run the steps on this machine, so that its GPU counts.
LOCAL_PLUGINS = ('LegacyMultiProc', 'Linear', 'MultiProc')
COMMANDS = {'SLURM': ('sbatch', 'squeue')}


def check_scheduler(settings: Settings) -> None:
    """Make sure that jobs can be handed to the scheduler that --use-plugin names.

    Args:
        settings: The settings of the run.

    Raises:
        UserError: If its commands are not there, as inside a container.
    """
    name = plugin_settings(settings)['plugin']
    missing = [program for program in COMMANDS.get(name, ()) if shutil.which(program) is None]
    if missing:
        raise UserError(
            f'{settings.use_plugin}: plugin {name} needs {" and ".join(missing)}, which is not '
            'on PATH; run where jobs can be submitted, outside of a container'
        )


def runs_here(settings: Settings) -> bool:
    """Return whether the steps run on this machine and not on the nodes of a cluster.

    Args:
        settings: The settings of the run.

    Raises:
        UserError: If the plugin file cannot be used.
    """
    return plugin_settings(settings)['plugin'] in LOCAL_PLUGINS


def plugin_settings(settings: Settings) -> dict[str, Any]:
    """Return what runs the steps.

    Args:
        settings: The settings of the run.

    Returns:
        `plugin`, `plugin_args`, and `gpu_plugin_args` for the network step alone; from
        --use-plugin where it is given.

    Raises:
        UserError: If the plugin file cannot be used.
    """
    if settings.use_plugin is not None:
        return _read_plugin(settings.use_plugin)
    arguments: dict[str, Any] = {
        'n_procs': settings.nprocs,
        'n_gpu_procs': 1,
        'raise_insufficient': False,
        'memory_gb': settings.mem_gb or USUAL_SHARE * memory_limit().gb,
    }
    return {'plugin': 'MultiProc', 'plugin_args': arguments, 'gpu_plugin_args': {}}


def survivor(
    plugin: str, plugin_args: dict[str, Any], progress: Callable[[Any, str], None] | None = None
) -> PluginBase:
    """Return a plugin that goes on with the other images when a worker or a job is lost.

    Args:
        plugin: Nipype's name of it.
        plugin_args: Its arguments.
        progress: Takes each node and its status.
    """
    plugin_args = {'status_callback': progress, **plugin_args}
    if plugin == 'MultiProc':
        from bids_segsr.execution.workers import LocalPlugin

        return LocalPlugin(plugin_args)
    from bids_segsr.execution.cluster import cluster_plugin

    return cluster_plugin(plugin, plugin_args)


def _read_plugin(path: Path) -> dict[str, Any]:
    import yaml

    try:
        table = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        raise UserError(f'{path}: not readable as YAML; check --use-plugin') from None
    if not isinstance(table, dict) or not isinstance(table.get('plugin'), str):
        raise UserError(f'{path}: needs a key plugin, such as plugin: SLURM; check --use-plugin')
    unknown = set(table) - set(PLUGIN_KEYS)
    if unknown:
        raise UserError(
            f'{path}: unknown key {min(unknown)!r}; known are {", ".join(PLUGIN_KEYS)}'
        )
    from nipype.pipeline import plugins

    if not hasattr(plugins, f'{table["plugin"]}Plugin'):
        raise UserError(f'{path}: Nipype has no plugin {table["plugin"]!r}; check --use-plugin')
    if table['plugin'] == 'Debug':
        raise UserError(
            f'{path}: Debug takes a function of Python, which no file holds; take Linear'
        )
    if table['plugin'].endswith('Graph'):
        raise UserError(
            f'{path}: {table["plugin"]} ends before its jobs do, without a report; '
            f'take {table["plugin"].removesuffix("Graph")}'
        )
    return {name: table.get(name) or {} for name in PLUGIN_KEYS}
