"""The BIDS App: one run from the command line to the reports."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_segsr.cli.parser import parse_settings
from bids_segsr.cli.process import FAILED, FINE, complain, run_command
from bids_segsr.exceptions import UserError
from bids_segsr.execution.logs import IMPORTANT, log_to_file, start_logging
from bids_segsr.execution.plugins import check_scheduler, runs_here
from bids_segsr.execution.progress_line import summary
from bids_segsr.execution.settings import Settings, write_toml
from bids_segsr.execution.workflow_run import (
    WHOLE_WORKFLOW,
    check_device,
    check_memory,
    check_model,
    configure_nipype,
    draw_graph,
    prepare_environment,
    run_workflow,
    uses_gpu,
)
from bids_segsr.files import remove_partial
from bids_segsr.reports.run_errors import Problem, by_image, one_line

if TYPE_CHECKING:
    from bids_segsr.bids.query import Collection, Scan
    from bids_segsr.zoo.card import ModelCard

# by `python -m`, the name of this module is another one
logger = logging.getLogger('bids_segsr.cli.app')

# EX_SOFTWARE of sysexits.h, which fMRIPrep returns when its workflow cannot be built.
NOT_BUILT = 70
NO_RESULT = 'no result and no message; start the same command again with -v'
MOST_LEFT_OUT = 20
"""Images told of on the terminal by the group level; its page and table hold all."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the App.

    Args:
        argv: Arguments without the program's name; None for those of the process.

    Returns:
        Exit status: 0 fine; 1 a mistake of the user, or an image or a report that failed;
        70 the workflow could not be built; 130 interrupted; 143 terminated.
    """
    resumed = '; the same command goes on from the working directory'
    return run_command('bids_segsr', lambda: run(parse_settings(argv)), resumed)


def run(settings: Settings) -> int:
    """Run the analysis levels that were asked for.

    Args:
        settings: The settings of the run.

    Returns:
        Exit status, see `main`.

    Raises:
        UserError: On a mistake that ends the whole run.
    """
    prepare_environment(settings)
    start_logging(settings.verbosity)
    status = FINE
    if 'participant' in settings.analysis_level:
        status = run_participants(settings)
    if 'group' in settings.analysis_level and not settings.boilerplate_only:
        status = max(status, run_group(settings))
    return status


def run_group(settings: Settings) -> int:
    """Gather the QC numbers of all participants, and tell of images without a result.

    Args:
        settings: The settings of the run.

    Returns:
        Exit status.

    Raises:
        UserError: If there are no derivatives.
    """
    root = settings.derivatives_root
    if settings.dry_run:
        print(f'group: table of the QC numbers under {root}')
        return FINE
    if not root.is_dir():
        raise UserError(f'{root}: no derivatives yet; run the participant level first, same flags')
    from bids_segsr.reports.group import write_group
    from bids_segsr.reports.missing_results import left_out

    missing = left_out(root, settings.bids_dir, settings.modality)
    paths = write_group(root, settings.modality, missing, settings.bids_dir)
    # What the participant level of the same command has told is not told again.
    shown = 0 if 'participant' in settings.analysis_level else MOST_LEFT_OUT
    for item in missing[:shown]:
        _complain(f'{item.image} is left out: {item.message}')
    if len(missing) > shown:
        more = 'more ' if shown else ''
        _complain(f'{len(missing) - shown} {more}without a result: see {paths[-1]}')
    for path in paths:
        print(path)
    found = (*root.glob('sub-*/anat/*_qc.json'), *root.glob('sub-*/ses-*/anat/*_qc.json'))
    return FINE if found else FAILED


def run_participants(settings: Settings) -> int:
    """Process the images of all participants that were asked for.

    Args:
        settings: The settings of the run.

    Returns:
        Exit status.

    Raises:
        UserError: On a mistake that ends the whole run.
    """
    from bids_segsr.bids.locking import subject_lock
    from bids_segsr.bids.query import select_participants
    from bids_segsr.bids.validator import validate_dataset
    from bids_segsr.execution.preflight import check_modality, check_suitable
    from bids_segsr.inference.skull_strip_tools import check_tool
    from bids_segsr.zoo.find import candidates

    subjects = select_participants(settings.bids_dir, settings.participant_label)
    if settings.reports_only:
        return _report_again(settings, subjects)
    if runs_here(settings):
        check_device(settings.processing.device)
        check_tool(settings.processing.skull_strip_tool)
    else:
        check_scheduler(settings)
    settings, card = _with_model(settings)
    check_suitable(card)
    with ExitStack() as locks:
        if not settings.dry_run:
            for subject in subjects:
                locks.enter_context(subject_lock(settings.derivatives_root, subject))
                if settings.work_dir != settings.derivatives_root:
                    locks.enter_context(subject_lock(settings.work_dir, subject))
            log_to_file(settings.derivatives_root / 'logs' / f'{settings.run_uuid}.log')
        if not settings.skip_bids_validation:
            validate_dataset(settings.bids_dir, subjects)
        chosen = _collect(settings, subjects)
        check_modality(chosen.scans, settings.derivatives_root)
        if settings.dry_run:
            return _dry_run(settings, chosen)
        if settings.boilerplate_only:
            return _write_methods(settings, chosen)
        check_model(*candidates(str(settings.model)))
        return _process(settings, chosen, card)


def _with_model(settings: Settings) -> tuple[Settings, ModelCard]:
    """Return the settings with the name of the model, and its card or that of the default one."""
    from bids_segsr.zoo.find import AUTO_MODEL, candidates, find_card

    model = settings.model or AUTO_MODEL
    return replace(settings, model=model), find_card(candidates(model)[0])


def _collect(settings: Settings, subjects: Sequence[str]) -> Collection:
    from bids_segsr.bids.filters import load_filters
    from bids_segsr.bids.query import collect_scans, open_layout

    filters = load_filters(settings.bids_filter_file) if settings.bids_filter_file else {}
    chosen = collect_scans(
        open_layout(settings.bids_dir, settings.bids_database_dir, subjects),
        participants=subjects,
        sessions=settings.session_label,
        modality=settings.modality,
        filters=filters,
        derivatives=settings.derivatives,
        allow_missing_masks=settings.allow_missing_masks,
    )
    for scan in chosen.scans:
        logger.log(IMPORTANT, '%s: %s', scan.label, scan.path)
        if settings.derivatives and scan.brain_mask is None:
            logger.log(IMPORTANT, '%s: no brain mask among the derivatives', scan.label)
    return chosen


def _look(settings: Settings, chosen: Collection) -> tuple[list[Scan], list[Problem]]:
    """Return the scans that can be processed, and tell why the others cannot."""
    from bids_segsr.execution.preflight import preflight

    good, problems = preflight(chosen.scans, settings.mem_gb)
    problems += [Problem(item.image, item.message) for item in chosen.unusable]
    for problem in problems:
        _complain(f'{problem.image} is left out: {problem.message}')
    return good, problems


def _dry_run(settings: Settings, chosen: Collection) -> int:
    from bids_segsr.execution.preflight import describe

    good, problems = _look(settings, chosen)
    for scan in good:
        print(describe(scan, settings))
    return FAILED if problems else FINE


def _write_methods(settings: Settings, chosen: Collection) -> int:
    """Write what the graph of the images tells of itself, and run nothing."""
    from bids_segsr.bids.citation import write_citation

    good, problems = _look(settings, chosen)
    if good:
        workflow, unbuilt = _build(settings, good)
        problems += unbuilt
        if len(unbuilt) < len(good):
            for path in write_citation(settings.derivatives_root, workflow.visit_desc()):
                print(path)
    return FAILED if problems else FINE


def _process(settings: Settings, chosen: Collection, card: ModelCard) -> int:
    """Write the frame of the derivatives, run the workflow and build the reports."""
    from bids_segsr.bids.citation import write_citation
    from bids_segsr.bids.description import (
        write_bidsignore,
        write_dataset_description,
        write_dseg_tsv,
    )
    from bids_segsr.bids.names import LABEL

    root, scans = settings.derivatives_root, chosen.scans
    subjects = sorted(
        {scan.subject for scan in scans}
        # a folder that is no label gets none among the results
        | {item.subject for item in chosen.unusable if LABEL.fullmatch(item.subject)}
    )
    write_dataset_description(root, settings.bids_dir, settings.derivatives)
    write_bidsignore(root)
    write_dseg_tsv(root, card.labels)
    if card.regions:
        write_dseg_tsv(root, dict(enumerate(card.regions, start=1)), seg='regions')
    for subject in subjects:
        write_toml(settings, settings.log_dir(subject) / 'bids_segsr.toml')
    if settings.clean_workdir:
        _empty(settings.work_dir)
    good, problems = _look(settings, chosen)
    _record(settings, subjects, problems)
    for subject in subjects:
        remove_partial(root, subject)
    # of a scan whose content is not here (DataLad), what was made of it still holds
    present = [scan.label for scan in scans if scan.path.exists()]
    # a path is that of an image without a name, and without results
    for label in (*present, *(item.image for item in chosen.unusable if '/' not in item.image)):
        _remove_earlier(root, label)
    if good:
        try:
            workflow, unbuilt = _build(settings, good)
        except UserError:
            raise
        except Exception as error:  # Whatever stops the graph is told in one line.
            logger.debug('the workflow could not be built', exc_info=True)
            _complain(f'the workflow could not be built: {one_line(error)}')
            return NOT_BUILT
        if len(unbuilt) < len(good):
            write_citation(root, workflow.visit_desc())
        problems += _execute(workflow, settings, good, unbuilt)
        _record(settings, subjects, problems)
    warned = _tell_warnings(root, good)
    reports = _report([(subject, settings) for subject in subjects])
    failed = list(dict.fromkeys(problem.image for problem in problems))
    line = summary(len(scans) + len(chosen.unusable), warned, failed)
    log = f'logs/{settings.run_uuid}.log'
    logger.log(IMPORTANT, '%s; %s holds the log', line, root / log)
    return FAILED if problems or (warned and settings.strict) else reports


def _build(settings: Settings, scans: Sequence[Scan]) -> tuple[Any, list[Problem]]:
    """Return the Nipype workflow, and why images are not in it.

    The workflow is drawn in the working directory where that was asked for.
    """
    configure_nipype(settings)
    from bids_segsr.workflows.base import init_bids_segsr_wf, init_single_image_wf

    use_gpu = uses_gpu(settings)
    masks = [scan.brain_mask for scan in scans if scan.brain_mask is not None]
    given = [
        name
        for name, root in settings.derivatives.items()
        if any(mask.is_relative_to(root) for mask in masks)
    ]
    problems = []

    def graph(scan: Scan) -> Any:
        try:
            found = init_single_image_wf(
                settings,
                scan,
                masks=given,
                all_masked=len(masks) == len(scans),
                use_gpu=use_gpu,
            )
            if runs_here(settings):
                check_memory(found, settings.mem_gb)
        except Exception as error:  # one image that is gone meanwhile must not stop the others
            logger.debug('%s: no graph', scan.label, exc_info=True)
            problems.append(Problem(scan.label, one_line(error)))
            return None
        return found

    workflow = init_bids_segsr_wf([found for scan in scans if (found := graph(scan))])
    workflow.base_dir = str(settings.work_dir)
    if settings.write_graph:
        settings.work_dir.mkdir(parents=True, exist_ok=True)
        try:
            draw_graph(workflow, settings.work_dir)
        except OSError as error:
            logger.warning('--write-graph: no drawing without Graphviz (%s)', one_line(error))
    return workflow, problems


def _execute(
    workflow: object, settings: Settings, scans: Sequence[Scan], unbuilt: Sequence[Problem]
) -> list[Problem]:
    """Run the workflow, tell of every step that failed and return the problems."""
    logger.log(IMPORTANT, 'working directory %s', settings.work_dir)
    failed = run_workflow(workflow, settings)
    problems = [*unbuilt, *failed]
    told = {problem.image for problem in problems}
    why = next((p.message for p in failed if p.image == WHOLE_WORKFLOW), NO_RESULT)
    if failed and settings.stop_on_first_crash:
        why = 'not processed: a step of another image failed before (--stop-on-first-crash)'
    # Whatever happened, an image without a result is a failure with a name.
    problems += [
        Problem(scan.label, why)
        for scan in scans
        if scan.label not in told and not _qc_path(settings.derivatives_root, scan).is_file()
    ]
    for problem in by_image(problems):
        details = f' (details: {problem.path})' if problem.path else ''
        _complain(f'{problem.image}: {problem.message}{details}')
    if problems:
        _complain(f'the working directory is kept: {settings.work_dir}')
    return problems


def _qc_path(root: Path, scan: Scan) -> Path:
    from bids_segsr.bids.names import derivative_name

    return root / derivative_name(scan.entities, suffix='qc', extension='.json')


def _remove_earlier(root: Path, label: str) -> None:
    """Remove what earlier runs wrote of a scan.

    A step that fails now must not show the picture or the numbers of another file, and tissues of
    another model must not lie beside those of this one.
    """
    from bids_segsr.bids.names import derivatives_of

    start, _, suffix = label.rpartition('_')
    figures = (root / label.split('_')[0] / 'figures').glob(f'{start}_desc-*_{suffix}.*')
    for path in (*figures, *derivatives_of(root, label)):
        path.unlink(missing_ok=True)


def _record(settings: Settings, subjects: Sequence[str], problems: Sequence[Problem]) -> None:
    """Leave what went wrong, where no crash file tells it, for the report."""
    from bids_segsr.execution.preflight import write_errors

    untold = [problem for problem in problems if problem.path is None]
    for subject in subjects:
        # an image, or a path below the folder of the participant
        names = (f'sub-{subject}_', f'sub-{subject}/')
        own = [problem for problem in untold if problem.image.startswith(names)]
        if own:
            try:
                write_errors(settings.log_dir(subject), own)
            except UserError as error:
                _complain(str(error))


def _tell_warnings(root: Path, scans: Sequence[Scan]) -> list[str]:
    """Tell of every result that is implausible, and return the names of the images."""
    from bids_segsr.inference.verdict import USABLE, judge_all
    from bids_segsr.reports.verdict_html import subject_records

    names = {scan.label for scan in scans}
    warned: list[str] = []
    for subject in sorted({scan.subject for scan in scans}):
        # what earlier runs made of the same head counts, too
        records = subject_records(root, subject)
        verdicts = judge_all(records)
        for record in (record for record in records if record.get('bids_name') in names):
            name = str(record['bids_name'])
            verdict = verdicts[name]
            said = (
                [] if verdict.word == USABLE else [f'{verdict.word}: {" ".join(verdict.reasons)}']
            )
            for warning in (*said, *record.get('warnings', [])):
                _complain(f'WARNING: {name}: {warning}')
                warned.append(name)
    return list(dict.fromkeys(warned))


def _report(runs: Sequence[tuple[str, Settings]]) -> int:
    """Build the report of each participant, print their paths and return the exit status."""
    from bids_segsr.reports.subject import count_problems, export_single_file, generate_report

    paths: list[Path] = []
    failed = False
    for subject, settings in runs:
        root = settings.derivatives_root
        try:
            path = generate_report(root, subject, settings.run_uuid, settings)
            paths.append(path)
            failed |= count_problems(path) > 0
            if settings.single_file_report:
                paths.append(export_single_file(path))
        except Exception as error:  # A report that fails must not hide the others.
            logger.debug('report of sub-%s', subject, exc_info=True)
            _complain(f'sub-{subject}: no report: {one_line(error)}')
            failed = True
    for path in paths:
        print(f'Report: {path}')
    return FAILED if failed else FINE


def _report_again(settings: Settings, subjects: Sequence[str]) -> int:
    """Build the reports of earlier runs; a participant without one does not stop the others."""
    latest = {subject: _latest_run(settings, subject) for subject in subjects}
    for subject in (subject for subject, run in latest.items() if run is None):
        _complain(
            f'{settings.derivatives_root}: no earlier run of sub-{subject}; '
            'run it without --reports-only first'
        )
    status = _report([(subject, run) for subject, run in latest.items() if run is not None])
    return FAILED if None in latest.values() else status


def _latest_run(settings: Settings, subject: str) -> Settings | None:
    """Return settings whose run is the one asked for, else the participant's latest, if any."""
    folder = settings.log_dir(subject)
    if folder.is_dir():
        return settings
    runs = sorted(path.name for path in folder.parent.glob('*') if path.is_dir())
    return replace(settings, run_uuid=runs[-1]) if runs else None


def _empty(folder: Path) -> None:
    """Delete what a folder holds."""
    import shutil

    for path in folder.glob('*'):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _complain(line: str) -> None:
    complain('bids_segsr', line)
    logger.warning('%s', line, extra={'told': True})


if __name__ == '__main__':
    sys.exit(main())
