"""Settings, their ranges and their TOML file."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from bids_segsr import __version__
from bids_segsr.exceptions import UserError
from bids_segsr.execution import settings as settings_module
from bids_segsr.execution.settings import PROCESSING_PARAMETERS, Settings, read_toml, write_toml
from bids_segsr.inference.processing import CHOICES
from bids_segsr.zoo.find import AUTO_MODEL

BASE = {'bids_dir': Path('/data'), 'output_dir': Path('/out')}
# One value that is not the default for every field.
OTHER: dict[str, Any] = {
    'bids_dir': Path('/other'),
    'output_dir': Path('/results'),
    'analysis_level': ('participant', 'group'),
    'participant_label': ('01', '02'),
    'session_label': ('a',),
    'bids_filter_file': Path('/f.json'),
    'bids_database_dir': Path('/db'),
    'skip_bids_validation': True,
    'derivatives': {'masks': Path('/masks')},
    'work_dir': Path('/scratch'),
    'trust_work_dir': True,
    'strict': True,
    'allow_missing_masks': True,
    'clean_workdir': True,
    'nprocs': 4,
    'omp_nthreads': 2,
    'mem_gb': 16.0,
    'use_plugin': Path('/plugin.yml'),
    'stop_on_first_crash': True,
    'resource_monitor': True,
    'reports_only': True,
    'boilerplate_only': True,
    'write_graph': True,
    'dry_run': True,
    'verbose': 2,
    'quiet': True,
    'modality': 'T1w',
    'model': 'other',
    'resolution': 0.7,
    'slice_thickness': 2.5,
    'patch_size': (64, 40, 64),
    'margin': 3,
    'step': 34,
    'blending': 'uniform',
    'threshold': 0.3,
    'keep_largest': True,
    'device': 'cuda:1',
    'bias_correction': 'none',
    'skull_strip': 'force',
    'skull_strip_tool': 'synthstrip',
    'skull_strip_template': 'MNIInfant:cohort-1',
    'output_layout': 'legacy',
    'single_file_report': True,
    'run_uuid': 'x',
}


def test_every_field_survives_toml(tmp_path: Path) -> None:
    own = {item.name for item in fields(Settings)} - {'processing'}
    assert set(OTHER) == own | set(CHOICES)
    tool, template = {'skull_strip_template': None}, {'skull_strip_tool': 'builtin'}
    for settings in map(Settings.of, (BASE, OTHER | tool, OTHER | template)):
        path = write_toml(settings, tmp_path / 'a' / 'bids_segsr.toml')

        assert Settings.of(read_toml(path)) == settings


def test_file_records_the_versions(tmp_path: Path) -> None:
    text = write_toml(Settings.of(BASE), tmp_path / 'c.toml').read_text(encoding='utf-8')

    assert f'bids_segsr = "{__version__}"' in text
    assert 'nipype = ' in text


def test_versions_are_looked_up_once_for_all_participants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[object] = []
    monkeypatch.setattr(settings_module, 'distributions', lambda: looked.append(0) or [])
    settings_module._environment.cache_clear()
    for name in 'ab':
        write_toml(Settings.of(BASE), tmp_path / f'{name}.toml')
    settings_module._environment.cache_clear()
    assert len(looked) == 1


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('treshold = 0.5', "top of the file: unknown key 'treshold'; known are bids_dir"),
        ('threshold = "high"', "threshold: 'high' is not allowed; give a number"),
        ('threshold = true', 'threshold: True is not allowed'),
        ('nprocs = 1.5', r'nprocs: 1\.5 is not allowed; give an integer'),
        ('nprocs = true', 'nprocs: True'),
        ('work_dir = 3', 'work_dir: 3 is not allowed; give a path'),
        (
            'participant_label = "01"',
            "participant_label: '01' is not allowed; give a list, each of it a text",
        ),
        ('participant_label = [1]', 'participant_label: 1'),
        ('derivatives = ["a"]', 'derivatives: '),
        (
            'blending = "median"',
            "blending: 'median' is not allowed; give one of 'gaussian', 'uniform'",
        ),
        ('threshold = ', 'no valid TOML'),
    ],
)
def test_mistake_in_the_file_names_file_and_key(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / 'c.toml'
    path.write_text(line, encoding='utf-8')

    with pytest.raises(UserError, match=rf'c\.toml: {message}'):
        read_toml(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'c\.toml: cannot be read'):
        read_toml(tmp_path / 'c.toml')


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'threshold': -0.1}, '--threshold'),
        ({'threshold': 1.1}, '--threshold'),
        ({'threshold': float('nan')}, '--threshold'),
        ({'resolution': 0.0}, '--resolution'),
        ({'resolution': -1.0}, '--resolution'),
        ({'resolution': float('nan')}, '--resolution'),
        ({'patch_size': 4}, '--patch-size'),
        ({'patch_size': -8}, '--patch-size'),
        ({'patch_size': 66}, '--patch-size'),
        ({'step': 0}, '--step'),
        ({'patch_size': 32, 'step': 33}, '--step'),
        ({'nprocs': 0}, '--nprocs'),
        ({'omp_nthreads': 0}, '--omp-nthreads'),
        ({'mem_gb': 0.0}, '--mem'),
        ({'device': 'gpu'}, '--device'),
        ({'device': 'cuda:'}, '--device'),
    ],
)
def test_value_out_of_range_names_the_flag(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        Settings.of(BASE | values)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'values',
    [
        {'threshold': 0.0},
        {'threshold': 1.0},
        {'patch_size': 0, 'step': 16},
        {'patch_size': 8, 'step': 8},
        {'step': 16},
        {'device': 'cuda:0'},
    ],
)
def test_value_at_the_end_of_the_range(values: dict[str, Any]) -> None:
    settings = Settings.of(BASE | values)

    assert settings.processing.choices(*values) == values


def test_output_layouts() -> None:
    def root(**values: Any) -> Path:
        return Settings.of(BASE | values).derivatives_root

    assert root() == Path('/out')
    assert root(output_layout='legacy') == Path('/out/bids_segsr')
    name = root(output_layout='multiverse').name
    assert name.startswith(f'bids_segsr-{__version__}+')
    assert len(name.rpartition('+')[2]) == 8


def test_hash_follows_the_processing_parameters_alone() -> None:
    written = {*PROCESSING_PARAMETERS, *CHOICES, 'derivatives'} - {'device'}
    default = Settings.of(BASE).parameters_hash
    for name, value in OTHER.items():
        changed = Settings.of(BASE | {name: value}).parameters_hash

        assert (changed != default) == (name in written), name


def test_multiverse_folder_is_the_same_with_the_choice_of_a_model_named() -> None:
    """The participant level names it in its settings, the group level does not."""
    named = Settings(**BASE, model=AUTO_MODEL)

    assert named.parameters_hash == Settings.of(BASE).parameters_hash


def test_log_folder_of_a_participant() -> None:
    settings = Settings(**BASE, run_uuid='run')

    assert settings.log_dir('01') == Path('/out/sub-01/log/run')


def test_runs_have_different_identifiers() -> None:
    assert Settings.of(BASE).run_uuid != Settings.of(BASE).run_uuid
