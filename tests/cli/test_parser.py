"""The command line."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bids_segsr import __version__
from bids_segsr.cli.parser import build_parser, parse_settings
from bids_segsr.exceptions import UserError
from bids_segsr.execution.settings import Settings, write_toml
from bids_segsr.inference.processing import Processing


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A parent with the input dataset `raw`, which is the current folder."""
    (tmp_path / 'raw').mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parse(*flags: str) -> Settings:
    return parse_settings(['raw', 'out', 'participant', *flags])


def test_defaults(folders: Path) -> None:
    settings = parse()

    assert settings.bids_dir == folders / 'raw'
    assert settings.output_dir == folders / 'out'
    assert settings.work_dir == folders / 'work'
    assert settings.analysis_level == ('participant',)
    assert settings.nprocs == len(os.sched_getaffinity(0))
    assert settings.omp_nthreads == min(settings.nprocs, 8)
    assert (settings.modality, settings.model, settings.processing.resolution) == (
        'T2w',
        None,
        None,
    )


@pytest.mark.parametrize('flags', ['--nprocs 4', '--nprocs 4 --participant-label 00'])
def test_threads_do_not_follow_the_other_participants(folders: Path, flags: str) -> None:
    """The bytes of an image depend on the threads of its network."""
    for number in range(3):
        (folders / 'raw' / f'sub-{number:02d}').mkdir()
    assert parse(*flags.split()).omp_nthreads == 4


@pytest.mark.parametrize(
    ('flags', 'expected'),
    [
        ('--participant-label sub-01 02 01', {'participant_label': ('01', '02')}),
        ('--participant_label 01', {'participant_label': ('01',)}),
        ('--session-label ses-a', {'session_label': ('a',)}),
        ('--session-id a b', {'session_label': ('a', 'b')}),
        ('--session_id a', {'session_label': ('a',)}),
        ('--skip_bids_validation', {'skip_bids_validation': True}),
        ('--nprocs 3', {'nprocs': 3, 'omp_nthreads': 3}),
        ('--nthreads 3', {'nprocs': 3}),
        ('--n-cpus 3', {'nprocs': 3}),
        ('--n_cpus=12', {'nprocs': 12, 'omp_nthreads': 8}),
        ('--omp-nthreads 2', {'omp_nthreads': 2}),
        ('--mem 16GB', {'mem_gb': 16.0}),
        ('--mem 16gib', {'mem_gb': 16.0}),
        ('--mem 1.5T', {'mem_gb': 1500.0}),
        ('--mem 500M', {'mem_gb': 0.5}),
        ('--mem 16000', {'mem_gb': 16.0}),
        ('--mem_mb 8000', {'mem_gb': 8.0}),
        ('--mem 2000000000B', {'mem_gb': 2.0}),
        ('--clean-workdir --write-graph', {'clean_workdir': True, 'write_graph': True}),
        ('--stop-on-first-crash', {'stop_on_first_crash': True}),
        ('--resource-monitor', {'resource_monitor': True}),
        ('--reports-only', {'reports_only': True}),
        ('--boilerplate', {'boilerplate_only': True}),
        ('--dry-run --notrack', {'dry_run': True}),
        ('-vv', {'verbose': 2}),
        ('-v --verbose -v', {'verbose': 3}),
        ('--modality T1w', {'modality': 'T1w'}),
        ('--resolution 0.7', {'resolution': 0.7}),
        ('--resolution auto', {'resolution': None}),
        ('--patch-size 64 --step 32', {'patch_size': 64, 'step': 32}),
        ('--blending uniform', {'blending': 'uniform'}),
        ('--patch-size 64x40x64 --margin 3', {'patch_size': (64, 40, 64), 'margin': 3}),
        ('--slice-thickness 2', {'slice_thickness': 2.0}),
        ('--threshold 0.4', {'threshold': 0.4}),
        ('--keep-largest', {'keep_largest': True}),
        ('--no-keep-largest', {'keep_largest': False}),
        ('--device cpu', {'device': 'cpu'}),
        ('--skull-strip skip', {'skull_strip': 'skip'}),
        ('--output-layout multiverse', {'output_layout': 'multiverse'}),
        ('--single-file-report', {'single_file_report': True}),
        ('--model segsrgan', {'model': 'segsrgan'}),
    ],
)
def test_flags(folders: Path, flags: str, expected: dict[str, Any]) -> None:
    settings = parse(*flags.split())

    chosen = vars(settings) | vars(settings.processing)
    assert {name: chosen[name] for name in expected} == expected


def test_paths_become_absolute(folders: Path) -> None:
    (folders / 'a').mkdir()
    (folders / 'f.json').touch()

    settings = parse('-w', 'scratch', '-d', 'm=a', '--bids-filter-file', 'f.json')

    assert settings.work_dir == folders / 'scratch'
    assert settings.derivatives == {'m': folders / 'a'}
    assert settings.bids_filter_file == folders / 'f.json'
    assert parse('--model', './card.json').model == str(folders / 'card.json')


def test_derivatives_add_up_and_need_no_name(folders: Path) -> None:
    for name in 'abc':
        (folders / name).mkdir()

    settings = parse('-d', 'x=a', 'b', '--derivatives', 'y=c')

    assert settings.derivatives == {'x': folders / 'a', 'b': folders / 'b', 'y': folders / 'c'}


def test_both_levels_run_in_their_order(folders: Path) -> None:
    settings = parse_settings(['raw', 'out', 'group', 'participant'])

    assert settings.analysis_level == ('participant', 'group')


@pytest.mark.parametrize(
    'argv',
    [
        ['raw', 'out'],
        ['raw', 'out', 'session'],
        ['raw', 'out', 'participant', '--unknown'],
        ['raw', 'out', 'participant', '--mem', 'much'],
        ['raw', 'out', 'participant', '--resolution', 'fine'],
        ['raw', 'out', 'participant', '--blending', 'median'],
        ['raw', 'out', 'participant', '--nprocs', 'all'],
        ['raw', 'out', 'participant', '-d', 'x=raw', 'x=out'],
        ['raw', 'out', 'participant', '-d', 'x='],
        ['raw', 'out', 'participant', '--particip', '01'],
    ],
)
def test_usage_error_exits_with_2(
    folders: Path, capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        parse_settings(argv)

    assert error.value.code == 2
    assert 'bids_segsr: error:' in capsys.readouterr().err


def test_command_line_wins_over_the_file(folders: Path) -> None:
    earlier = Settings(
        bids_dir=Path('/elsewhere'),
        output_dir=Path('/elsewhere'),
        processing=Processing(threshold=0.3, resolution=0.6),
        nprocs=5,
        omp_nthreads=3,
        dry_run=True,
        clean_workdir=True,
        run_uuid='earlier',
    )
    write_toml(earlier, folders / 'c.toml')

    settings = parse('--config-file', 'c.toml', '--nprocs', '2', '--resolution', 'auto')

    assert settings.bids_dir == folders / 'raw'
    assert (settings.processing.threshold, settings.nprocs, settings.omp_nthreads) == (0.3, 2, 3)
    assert settings.processing.resolution is None
    assert not settings.dry_run
    assert not settings.clean_workdir
    assert settings.run_uuid != 'earlier'
    again = parse('--config-file', 'c.toml', '--reports-only')
    assert again.run_uuid == 'earlier'


@pytest.mark.parametrize(
    ('argv', 'words'),
    [
        (['none', 'out', 'participant'], ['none: no such folder']),
        (
            ['raw', 'raw', 'participant'],
            ['the input dataset itself', f'raw/derivatives/bids_segsr-{__version__}'],
        ),
        (['raw', 'raw/../raw', 'participant'], ['the input dataset itself']),
        (['raw', 'out', 'participant', '-w', 'raw/work'], ['inside the input', 'suggestion:']),
        (['raw', 'file/out', 'participant'], ['file/out', 'cannot be written', 'suggestion:']),
        (['raw', 'out', 'participant', '-w', 'file/work'], ['working directory cannot']),
        (['raw', 'out', 'participant', '-d', 'm=gone'], ['gone: no such folder', '--derivatives']),
        (
            ['raw', 'out', 'participant', '--bids-filter-file', 'gone'],
            ['gone: no such file', '--bids-filter-file'],
        ),
        (['raw', 'out', 'participant', '--use-plugin', 'gone'], ['gone', '--use-plugin']),
        (
            ['raw', 'out', 'participant', '-w', 'out', '--clean-workdir'],
            ['--clean-workdir would delete'],
        ),
        (['raw', 'out', 'participant', '-w', '.', '--clean-workdir'], ['would delete']),
    ],
)
def test_folder_that_will_not_do(folders: Path, argv: list[str], words: list[str]) -> None:
    (folders / 'file').touch()

    with pytest.raises(UserError) as error:
        parse_settings(argv)

    assert all(word in str(error.value) for word in words), str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('mode', [0o500, 0o600, 0])
def test_output_folder_without_permission(
    folders: Path, closed: Callable[[Path], Path], mode: int
) -> None:
    (folders / 'locked').mkdir()
    closed(folders / 'locked').chmod(mode)

    with pytest.raises(UserError, match='locked/out: the output folder cannot be written'):
        parse_settings(['raw', 'locked/out', 'participant'])


def test_output_folder_on_a_read_only_file_system(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, 'access', lambda path, mode, **_: Path(path) != folders)

    with pytest.raises(UserError, match='out: the output folder cannot be written'):
        parse()


def test_nothing_is_written_while_parsing(folders: Path) -> None:
    parse()

    assert [path.name for path in folders.iterdir()] == ['raw']


def test_help_is_grouped_and_quick() -> None:
    start = time.perf_counter()
    result = subprocess.run(
        [sys.executable, '-m', 'bids_segsr.cli.app', '--help'],
        capture_output=True,
        text=True,
        check=True,
    )
    elapsed = time.perf_counter() - start

    assert 'Options for filtering BIDS queries:' in result.stdout
    assert 'Options to handle performance:' in result.stdout
    assert elapsed < 1.5


def test_help_imports_nothing_heavy() -> None:
    code = (
        'import sys; from bids_segsr.cli.app import main\n'
        'try: main(["--help"])\n'
        'except SystemExit: pass\n'
        'print(sorted({name.split(".")[0] for name in sys.modules}), file=sys.stderr)'
    )
    result = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    )
    loaded = set(result.stderr.replace("'", '').strip('[]\n').split(', '))

    assert 'bids_segsr' in loaded
    assert not loaded & {'torch', 'nipype', 'bids', 'numpy', 'nibabel', 'SimpleITK', 'ants'}


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        build_parser().parse_args(['--version'])

    assert error.value.code == 0
    assert capsys.readouterr().out == f'bids_segsr {__version__}\n'
