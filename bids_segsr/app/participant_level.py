"""The participant level of the App: from the images of a dataset to results and reports."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_segsr.app.outcome import Outcome
from bids_segsr.app.participant_reports import (
    report_again,
    tell_warnings,
    write_problems,
    write_reports,
)
from bids_segsr.exceptions import UserError
from bids_segsr.execution.logs import IMPORTANT, complain, log_to_file
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
    run_workflow,
    uses_gpu,
)
from bids_segsr.files import remove_partial
from bids_segsr.reports.run_errors import Problem, by_image, one_line

if TYPE_CHECKING:
    from bids_segsr.bids.query import Collection, Scan
    from bids_segsr.zoo.card import ModelCard

logger = logging.getLogger(__name__)

NO_RESULT = 'no result and no message; start the same command again with -v'


def run_participants(settings: Settings) -> Outcome:
    """Process the images of all participants that were asked for.

    Args:
        settings: The settings of the run.

    Returns:
        What became of it: reports, or what would be done.

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
        return report_again(settings, subjects)
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
        participants=settings.participant_label,
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
        complain(f'{problem.image} is left out: {problem.message}')
    return good, problems


def _dry_run(settings: Settings, chosen: Collection) -> Outcome:
    from bids_segsr.execution.preflight import describe

    good, problems = _look(settings, chosen)
    return Outcome([describe(scan, settings) for scan in good], fine=not problems)


def _write_methods(settings: Settings, chosen: Collection) -> Outcome:
    """Write what the graph of the images tells of itself, and run nothing."""
    from bids_segsr.bids.citation import write_citation

    shown: list[str] = []
    good, problems = _look(settings, chosen)
    if good:
        workflow, unbuilt = _build(settings, good)
        problems += unbuilt
        if len(unbuilt) < len(good):
            paths = write_citation(settings.derivatives_root, workflow.visit_desc())
            shown = [str(path) for path in paths]
    return Outcome(shown, fine=not problems)


def _process(settings: Settings, chosen: Collection, card: ModelCard) -> Outcome:
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
    write_problems(settings, subjects, problems)
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
            complain(f'the workflow could not be built: {one_line(error)}')
            return Outcome(fine=False, built=False)
        if len(unbuilt) < len(good):
            write_citation(root, workflow.visit_desc())
        problems += _execute(workflow, settings, good, unbuilt)
        write_problems(settings, subjects, problems)
    warned = tell_warnings(root, good)
    reports = write_reports([(subject, settings) for subject in subjects])
    failed = list(dict.fromkeys(problem.image for problem in problems))
    line = summary(len(scans) + len(chosen.unusable), warned, failed)
    log = f'logs/{settings.run_uuid}.log'
    logger.log(IMPORTANT, '%s; %s holds the log', line, root / log)
    fine = reports.fine and not problems and not (warned and settings.strict)
    return replace(reports, fine=fine)


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
        complain(f'{problem.image}: {problem.message}{details}')
    if problems:
        complain(f'the working directory is kept: {settings.work_dir}')
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


def _empty(folder: Path) -> None:
    """Delete what a folder holds."""
    for path in folder.glob('*'):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
