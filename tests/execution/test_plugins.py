"""What runs the steps: the local workers, or what a plugin file names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bids_segsr.exceptions import UserError
from bids_segsr.execution.plugins import plugin_settings, runs_here
from bids_segsr.execution.settings import Settings
from bids_segsr.memory import memory_limit


def settings_of(tmp_path: Path, **values: Any) -> Settings:
    folders = {'bids_dir': tmp_path, 'output_dir': tmp_path / 'out', 'work_dir': tmp_path / 'work'}
    return Settings.of(folders | values)


def test_multiproc_is_the_default(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, nprocs=3, mem_gb=7.5)

    assert plugin_settings(settings) == {
        'plugin': 'MultiProc',
        'plugin_args': {
            'n_procs': 3,
            'n_gpu_procs': 1,
            'raise_insufficient': False,
            'memory_gb': 7.5,
        },
        'gpu_plugin_args': {},
    }
    default = plugin_settings(settings_of(tmp_path))['plugin_args']
    assert default['memory_gb'] == pytest.approx(0.9 * memory_limit().gb)


def test_plugin_file(tmp_path: Path) -> None:
    path = tmp_path / 'p.yml'
    path.write_text('plugin: SLURM\nplugin_args: {sbatch_args: "--mem 8G"}\n', encoding='utf-8')

    assert plugin_settings(settings_of(tmp_path, use_plugin=path)) == {
        'plugin': 'SLURM',
        'plugin_args': {'sbatch_args': '--mem 8G'},
        'gpu_plugin_args': {},
    }


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('plugin: [', 'not readable as YAML'),
        ('- SLURM', 'needs a key plugin'),
        ('plugin_args: {}', 'needs a key plugin'),
        ('plugin: Slurm', "Nipype has no plugin 'Slurm'"),
        ('plugin: SLURM\nargs: {}', "unknown key 'args'"),
        ('plugin: SLURMGraph', 'SLURMGraph ends before its jobs do, without a report; take SLURM'),
        ('plugin: Debug', 'Debug takes a function of Python, which no file holds; take Linear'),
    ],
)
def test_plugin_file_with_mistakes(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / 'p.yml'
    path.write_text(text, encoding='utf-8')

    with pytest.raises(UserError, match=rf'p\.yml: {message}'):
        plugin_settings(settings_of(tmp_path, use_plugin=path))


@pytest.mark.parametrize(('name', 'here'), [('Linear', True), ('SLURM', False), ('PBS', False)])
def test_the_plugin_tells_whether_steps_run_on_this_machine(
    tmp_path: Path, name: str, here: bool
) -> None:
    path = tmp_path / 'p.yml'
    path.write_text(f'plugin: {name}', encoding='utf-8')

    assert runs_here(settings_of(tmp_path, use_plugin=path)) is here
    assert runs_here(settings_of(tmp_path))
