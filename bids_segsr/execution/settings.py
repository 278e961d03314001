"""The settings of one run of the App: one frozen object, from the command line and TOML."""

from __future__ import annotations

import hashlib
import json
import platform
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Literal

from bids_segsr import __version__
from bids_segsr.exceptions import UserError
from bids_segsr.files import write_text
from bids_segsr.inference.processing import CHOICES, Processing, flag
from bids_segsr.strict_toml import parse, read_fields, toml_text
from bids_segsr.zoo.find import AUTO_MODEL

AnalysisLevel = Literal['participant', 'group']
OutputLayout = Literal['bids', 'legacy', 'multiverse']

# What changes the voxels that are written: these name the folder of the multiverse layout.
PROCESSING_PARAMETERS = ('modality', 'model')
# Packages whose versions are noted in the run record.
RECORDED_PACKAGES = ('nipype', 'pybids', 'nibabel', 'simpleitk', 'torch')


def new_run_uuid() -> str:
    """Return the identifier of a run: time in UTC and a random UUID, as fMRIPrep spells it."""
    return f'{datetime.now(UTC):%Y%m%d-%H%M%S}_{uuid.uuid4()}'


@dataclass(frozen=True)
class Settings:
    """Everything that the command line of the App decides.

    Attributes:
        bids_dir: Root of the input dataset.
        output_dir: Output folder as given; see `derivatives_root`.
        analysis_level: 'participant', 'group' or both, in this order.
        participant_label: Labels without `sub-`; empty means all participants.
        session_label: Labels without `ses-`; empty means all sessions.
        bids_filter_file: JSON with pybids filters.
        bids_database_dir: Folder of a pybids index to reuse or create.
        skip_bids_validation: Whether the input is not validated.
        derivatives: Datasets with existing brain masks, by name.
        allow_missing_masks: Whether the brain is looked for in images without a mask there.
        work_dir: Folder of intermediate results.
        trust_work_dir: Whether `work_dir` may be one that others may write to.
        clean_workdir: Whether `work_dir` is emptied before the run.
        nprocs: Processes and threads that may run at once.
        omp_nthreads: Threads of one process.
        mem_gb: Upper bound of memory in GB (1e9 bytes); None for what Nipype takes as default.
        use_plugin: YAML file with `plugin` and `plugin_args` of Nipype.
        stop_on_first_crash: Whether the first failed node ends the run.
        strict: Whether an implausible result fails the run.
        resource_monitor: Whether Nipype records memory and CPU of each node.
        reports_only: Whether only the reports are built, from existing derivatives.
        boilerplate_only: Whether only the methods text is written.
        write_graph: Whether the workflow graph is drawn in `work_dir`.
        dry_run: Whether the files and steps are listed and nothing is written.
        verbose: How often -v was given.
        quiet: Whether nothing is told but what is wrong, and the reports.
        modality: BIDS suffix of the images to be processed.
        model: Name or path of the model; None for the default model.
        processing: What decides the voxels that are written, model and contrast apart.
        output_layout: How the derivatives are laid out under `output_dir`.
        single_file_report: Whether a report with all figures inside one HTML file is added.
        run_uuid: Identifier of this run.

    Raises:
        UserError: If a value is outside its range.
    """

    bids_dir: Path
    output_dir: Path
    analysis_level: tuple[AnalysisLevel, ...] = ('participant',)
    participant_label: tuple[str, ...] = ()
    session_label: tuple[str, ...] = ()
    bids_filter_file: Path | None = None
    bids_database_dir: Path | None = None
    skip_bids_validation: bool = False
    derivatives: dict[str, Path] = field(default_factory=dict)
    allow_missing_masks: bool = False
    work_dir: Path = field(default_factory=lambda: Path('work').absolute())
    trust_work_dir: bool = False
    clean_workdir: bool = False
    nprocs: int = 1
    omp_nthreads: int = 1
    mem_gb: float | None = None
    use_plugin: Path | None = None
    stop_on_first_crash: bool = False
    strict: bool = False
    resource_monitor: bool = False
    reports_only: bool = False
    boilerplate_only: bool = False
    write_graph: bool = False
    dry_run: bool = False
    verbose: int = 0
    quiet: bool = False
    modality: str = 'T2w'
    model: str | None = None
    processing: Processing = field(default_factory=Processing)
    output_layout: OutputLayout = 'bids'
    single_file_report: bool = False
    run_uuid: str = field(default_factory=new_run_uuid)

    def __post_init__(self) -> None:
        for name, least in (('nprocs', 1), ('omp_nthreads', 1), ('verbose', 0)):
            if getattr(self, name) < least:
                raise UserError(f'{flag(name)} is {getattr(self, name)}: give {least} or more')
        if self.mem_gb is not None and self.mem_gb <= 0:
            raise UserError(f'--mem is {self.mem_gb:g} GB: give a positive amount such as 16GB')

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Settings:
        """Make settings from values by the names of flags, those of the processing among them.

        Raises:
            UserError: If a value is outside its range.
        """
        chosen = {name: value for name, value in values.items() if name in CHOICES}
        others = {name: value for name, value in values.items() if name not in CHOICES}
        return cls(processing=Processing(**chosen), **others)

    @property
    def verbosity(self) -> int:
        """How often -v was given, -1 for --quiet."""
        return -1 if self.quiet else self.verbose

    @property
    def derivatives_root(self) -> Path:
        """Root of the derivatives dataset in the layout that was asked for."""
        if self.output_layout == 'legacy':
            return self.output_dir / 'bids_segsr'
        if self.output_layout == 'multiverse':
            return self.output_dir / f'bids_segsr-{__version__}+{self.parameters_hash}'
        return self.output_dir

    @property
    def parameters_hash(self) -> str:
        """Eight hexadecimal digits that stand for the processing parameters."""
        values = {name: getattr(self, name) for name in PROCESSING_PARAMETERS}
        values |= {k: v for k, v in asdict(self.processing).items() if k != 'device'}
        # The participant level names the choice of a model, the group level does not.
        values['model'] = self.model or AUTO_MODEL
        values['derivatives'] = sorted(self.derivatives)
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]

    def log_dir(self, subject: str) -> Path:
        """Return the folder of this run's record and crash files of one participant."""
        return self.derivatives_root / f'sub-{subject}' / 'log' / self.run_uuid


def write_toml(settings: Settings, path: Path) -> Path:
    """Write the settings, with the versions in use, as TOML.

    Args:
        settings: What is written; values that are None are left out.
        path: The file; its folder is made.

    Returns:
        The path.
    """
    values = {item.name: getattr(settings, item.name) for item in fields(settings)}
    choices = asdict(values.pop('processing'))
    return write_text(path, toml_text({**values, **choices, 'environment': _environment()}))


def read_toml(path: Path) -> dict[str, Any]:
    """Read settings from TOML, as values for `Settings.of`.

    Args:
        path: A file as `write_toml` writes it; keys may be missing.

    Returns:
        The values that the file holds, by the names of the flags.

    Raises:
        UserError: If the file cannot be read, holds an unknown key or a value of a wrong type.
    """
    try:
        text = path.read_text(encoding='utf-8')
    except OSError as error:
        raise UserError(
            f'{path}: cannot be read ({error.strerror}); check --config-file'
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f'{path}: no valid TOML ({error})') from None
    table = parse(text, str(path))
    table.pop('environment', None)
    chosen = {name: table.pop(name) for name in CHOICES if name in table}
    table.pop('processing', None)
    return read_fields(Settings, table, str(path)) | read_fields(Processing, chosen, str(path))


@cache
def _environment() -> dict[str, str]:
    """Return the versions in use, from the packages' metadata (nothing is imported).

    Reading it takes a third of a second, and the record of every participant holds it.
    """
    # The name is missing where an uninstallation left an empty folder behind.
    installed = {(item.metadata['Name'] or '').lower(): item.version for item in distributions()}
    packages = {name: installed[name] for name in RECORDED_PACKAGES if name in installed}
    return {'bids_segsr': __version__, 'python': platform.python_version(), **packages}
