"""The command line of the App: flags spelled as users know them from fMRIPrep and MRIQC."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bids_segsr import __version__
from bids_segsr.bids.filters import MODALITIES
from bids_segsr.cli.arguments import Parser, gigabytes
from bids_segsr.cli.processing_flags import add_processing_flags
from bids_segsr.environment import count_cores
from bids_segsr.execution.folders import check_folders
from bids_segsr.execution.settings import Settings, read_toml
from bids_segsr.zoo.find import absolute_model

# Past this number the steps of one image gain little from more threads (fMRIPrep's bound as well).
MOST_THREADS = 8
# Flags that ask for one kind of run: a record of an earlier run does not ask for them again.
ONE_RUN_ONLY = ('analysis_level', 'bids_dir', 'output_dir', 'dry_run', 'clean_workdir')


def parse_settings(argv: Sequence[str] | None = None) -> Settings:
    """Read the command line and, with --config-file, the values of a file below it.

    Args:
        argv: The arguments without the program's name; None for those of the process.

    Returns:
        The settings, with absolute paths.

    Raises:
        UserError: If a value is out of range, or a folder is missing, unsuitable or not writable.
        SystemExit: With status 2 on a usage error, 0 after --help and --version.
    """
    parser = build_parser()
    given = vars(parser.parse_args(_hyphenated(sys.argv[1:] if argv is None else argv)))
    given.pop('notrack', None)
    for name in ('participant_label', 'session_label'):
        if name in given:
            given[name] = tuple(dict.fromkeys(given[name]))
    # The group level gathers what the participant level writes.
    given['analysis_level'] = tuple(sorted(set(given['analysis_level']), reverse=True))
    if 'derivatives' in given:
        paths = dict(given['derivatives'])
        if len(paths) < len(given['derivatives']):
            parser.error('argument --derivatives: each dataset needs a name of its own')
        given['derivatives'] = paths
    config_file = given.pop('config_file', None)
    values: dict[str, Any] = {}
    if config_file is not None:
        values = {k: v for k, v in read_toml(config_file).items() if k not in ONE_RUN_ONLY}
        if not given.get('reports_only'):
            values.pop('run_uuid', None)
    values.update(given)
    values.setdefault('nprocs', count_cores())
    values.setdefault('omp_nthreads', min(values['nprocs'], MOST_THREADS))
    # The steps run in folders of their own, where a relative path means something else.
    if values.get('model'):
        values['model'] = absolute_model(values['model'])
    for name, value in values.items():
        if isinstance(value, Path):
            values[name] = value.absolute()
    if 'derivatives' in values:
        values['derivatives'] = {
            name: path.absolute() for name, path in values['derivatives'].items()
        }
    settings = Settings.of(values)
    check_folders(settings)
    return settings


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; a flag that is not given leaves no attribute behind."""
    parser = Parser(
        prog='bids_segsr',
        description=f'bids_segsr {__version__}: isotropic super-resolution and cortex '
        'segmentation of thick-slice brain MRI. For research use only.',
        argument_default=argparse.SUPPRESS,
        # A shortened flag would change its meaning as soon as another flag is added.
        allow_abbrev=False,
    )
    parser.add_argument(
        'bids_dir',
        type=Path,
        help='root folder of the BIDS dataset (holds the sub-XX folders)',
    )
    parser.add_argument(
        'output_dir', type=Path, help='folder for the derivatives and the HTML reports'
    )
    parser.add_argument(
        'analysis_level',
        nargs='+',
        choices=('participant', 'group'),
        help='participant: process each image; group: one table of all QC numbers; '
        'both may be given',
    )
    _add_query_flags(parser.add_argument_group('Options for filtering BIDS queries'))
    _add_performance_flags(parser.add_argument_group('Options to handle performance'))
    _add_subset_flags(
        parser.add_argument_group('Options for performing only a subset of the workflow')
    )
    _add_workflow_flags(parser.add_argument_group('Workflow configuration'))
    _add_model_flags(parser.add_argument_group('Options for the network'))
    add_processing_flags(parser, 'a mask from --derivatives')
    _add_output_flags(parser.add_argument_group('Options for the outputs'))
    _add_other_flags(parser.add_argument_group('Other options'))
    return parser


def _add_query_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        '--skip-bids-validation',
        action='store_true',
        help='assume that the input is valid BIDS',
    )
    group.add_argument(
        '--participant-label',
        nargs='+',
        action='extend',
        type=_participant,
        metavar='LABEL',
        help='participants to be processed, with or without sub- (default: all)',
    )
    group.add_argument(
        '--session-label',
        '--session-id',
        dest='session_label',
        nargs='+',
        action='extend',
        type=_session,
        metavar='LABEL',
        help='sessions to be processed, with or without ses- (default: all)',
    )
    group.add_argument(
        '--bids-filter-file',
        type=Path,
        metavar='FILE',
        help='JSON file with pybids filters per modality, such as '
        '{"t2w": {"acquisition": "sag"}}; null: the entity is absent, "*": it is present; '
        'unknown keys are an error',
    )
    group.add_argument(
        '-d',
        '--derivatives',
        nargs='+',
        action='extend',
        type=_named_path,
        metavar='NAME=PATH',
        help='datasets whose brain masks (*_desc-brain_mask.nii.gz) are taken; an image without '
        'one there is left out',
    )
    group.add_argument(
        '--allow-missing-masks',
        action='store_true',
        help='look for the brain in images that have no mask in --derivatives',
    )
    group.add_argument(
        '--bids-database-dir',
        type=Path,
        metavar='PATH',
        help='folder of a pybids index, reused when it exists and written when not',
    )


def _add_performance_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        '--nprocs',
        '--nthreads',
        '--n-cpus',
        dest='nprocs',
        type=int,
        metavar='N',
        help='most threads across all processes (default: all CPUs)',
    )
    group.add_argument(
        '--omp-nthreads',
        type=int,
        metavar='N',
        help=f'most threads of one process (default: as --nprocs, up to {MOST_THREADS})',
    )
    group.add_argument(
        '--mem',
        '--mem-mb',
        dest='mem_gb',
        type=gigabytes,
        metavar='MEMORY',
        help='most memory of all processes, with unit (16GB, 500M); a plain number is MB '
        '(default: 90 %% of the memory of the machine, container or job)',
    )
    group.add_argument(
        '--use-plugin',
        '--nipype-plugin-file',
        dest='use_plugin',
        type=Path,
        metavar='FILE',
        help='YAML file with plugin and plugin_args of Nipype',
    )


def _add_subset_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        '--boilerplate-only',
        '--boilerplate',
        dest='boilerplate_only',
        action='store_true',
        help='write the methods text (logs/CITATION.md and .bib) and stop',
    )
    group.add_argument(
        '--reports-only',
        action='store_true',
        help='build the reports again from existing derivatives and stop',
    )
    group.add_argument(
        '--dry-run',
        action='store_true',
        help='list the files chosen and what would be done; nothing is written',
    )


def _add_workflow_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        '--modality',
        choices=MODALITIES,
        help='suffix of the images to be processed (default: T2w)',
    )


def _add_model_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        '--model',
        metavar='NAME|PATH|auto',
        help='trained model (default: auto, the packaged one for the contrast and, by age or size '
        'of the brain, for newborns)',
    )


def _add_output_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        '--output-layout',
        choices=('bids', 'legacy', 'multiverse'),
        help='bids: into OUTPUT_DIR; legacy: into OUTPUT_DIR/bids_segsr; multiverse: one folder '
        'a version and set of parameters (default: bids)',
    )
    group.add_argument(
        '--single-file-report',
        action='store_true',
        help='add a report with all figures inside, that can be mailed',
    )


def _add_other_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument('--version', action='version', version=f'bids_segsr {__version__}')
    group.add_argument(
        '-v',
        '--verbose',
        dest='verbose',
        action='count',
        help='more log lines each time it is given; -vvv is the debug level',
    )
    group.add_argument(
        '-q',
        '--quiet',
        action='store_true',
        help='tell nothing but what is wrong, and the paths of the reports; '
        'OUTPUT_DIR/logs holds a log of each run in any case',
    )
    group.add_argument(
        '-w',
        '--work-dir',
        type=Path,
        metavar='PATH',
        help='folder of intermediate results, from which a run restarts (default: ./work)',
    )
    group.add_argument(
        '--trust-work-dir',
        action='store_true',
        help='take a working directory although anybody may write into it (file systems without '
        'permissions, such as those of Windows, show all folders so)',
    )
    group.add_argument(
        '--clean-workdir',
        action='store_true',
        help='empty the working directory first; not while another run uses it',
    )
    group.add_argument(
        '--resource-monitor',
        action='store_true',
        help='let Nipype record memory and CPU of each step',
    )
    group.add_argument(
        '--config-file',
        type=Path,
        metavar='FILE',
        help='TOML file of an earlier run (sub-XX/log/<run>/bids_segsr.toml) as defaults; '
        'the command line wins',
    )
    group.add_argument(
        '--write-graph',
        action='store_true',
        help='draw the workflow graph in the working directory',
    )
    group.add_argument(
        '--stop-on-first-crash',
        action='store_true',
        help='stop at the first step that fails',
    )
    group.add_argument(
        '--strict',
        action='store_true',
        help='exit with status 1 when a result is implausible: whatever is told as WARNING',
    )
    group.add_argument(
        '--notrack',
        action='store_true',
        help='accepted for scripts; there is no telemetry to turn off',
    )


def _participant(text: str) -> str:
    return text.removeprefix('sub-')


def _session(text: str) -> str:
    return text.removeprefix('ses-')


def _named_path(text: str) -> tuple[str, Path]:
    """Convert NAME=PATH; a path alone is named by its folder."""
    name, separator, path = text.partition('=')
    if not separator:
        name, path = Path(text).absolute().name, text
    if not re.fullmatch(r'[\w.-]+', name) or not path:
        raise argparse.ArgumentTypeError(f'{text!r} is not of the form NAME=PATH')
    if name == 'raw':
        raise argparse.ArgumentTypeError('raw is the name of the input; take another NAME')
    return name, Path(path).absolute()


def _hyphenated(argv: Sequence[str]) -> list[str]:
    """Spell `--work_dir` as `--work-dir`: peers and older scripts write flags with underscores."""
    return [re.sub(r'^--[a-z_-]+', lambda flag: flag[0].replace('_', '-'), text) for text in argv]
