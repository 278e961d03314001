"""What the reports of the participant level need to know, and when they are written."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bids_segsr.app.outcome import Outcome
from bids_segsr.exceptions import UserError
from bids_segsr.execution.logs import complain
from bids_segsr.execution.settings import Settings
from bids_segsr.reports.run_errors import Problem, one_line

if TYPE_CHECKING:
    from bids_segsr.bids.query import Scan

logger = logging.getLogger(__name__)


def write_problems(
    settings: Settings, subjects: Sequence[str], problems: Sequence[Problem]
) -> None:
    """Leave what went wrong, where no crash file tells it, for the report.

    Args:
        settings: The settings of the run.
        subjects: Labels of the participants.
        problems: Of all of them.
    """
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
                complain(str(error))


def tell_warnings(root: Path, scans: Sequence[Scan]) -> list[str]:
    """Tell of every result that is implausible.

    Args:
        root: Root of the derivatives.
        scans: What was processed.

    Returns:
        The names of the images.
    """
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
                complain(f'WARNING: {name}: {warning}')
                warned.append(name)
    return list(dict.fromkeys(warned))


def write_reports(runs: Sequence[tuple[str, Settings]]) -> Outcome:
    """Build the report of each participant.

    Args:
        runs: Labels, each with the settings of the run that is reported.

    Returns:
        The paths. It is not fine where a report tells of a problem, or could not be written.
    """
    from bids_segsr.reports.subject import count_problems, export_single_file, generate_report

    paths: list[Path] = []
    fine = True
    for subject, settings in runs:
        root = settings.derivatives_root
        try:
            path = generate_report(root, subject, settings.run_uuid, settings)
            paths.append(path)
            fine &= count_problems(path) == 0
            if settings.single_file_report:
                paths.append(export_single_file(path))
        except Exception as error:  # A report that fails must not hide the others.
            logger.debug('report of sub-%s', subject, exc_info=True)
            complain(f'sub-{subject}: no report: {one_line(error)}')
            fine = False
    return Outcome([f'Report: {path}' for path in paths], fine=fine)


def report_again(settings: Settings, subjects: Sequence[str]) -> Outcome:
    """Build the reports of earlier runs; a participant without one does not stop the others.

    Args:
        settings: The settings of the run.
        subjects: Labels of the participants.

    Returns:
        As `write_reports`.
    """
    latest = {subject: _latest_run(settings, subject) for subject in subjects}
    for subject in (subject for subject, run in latest.items() if run is None):
        complain(
            f'{settings.derivatives_root}: no earlier run of sub-{subject}; '
            'run it without --reports-only first'
        )
    made = write_reports([(subject, run) for subject, run in latest.items() if run is not None])
    return replace(made, fine=made.fine and None not in latest.values())


def _latest_run(settings: Settings, subject: str) -> Settings | None:
    """Return settings whose run is the one asked for, else the participant's latest, if any."""
    folder = settings.log_dir(subject)
    if folder.is_dir():
        return settings
    runs = sorted(path.name for path in folder.parent.glob('*') if path.is_dir())
    return replace(settings, run_uuid=runs[-1]) if runs else None
