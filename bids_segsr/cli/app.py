"""The BIDS App: one run from the command line to the reports."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bids_segsr.app.group_level import run_group
from bids_segsr.app.outcome import Outcome
from bids_segsr.app.participant_level import run_participants
from bids_segsr.cli.parser import parse_settings
from bids_segsr.cli.process import FAILED, FINE, run_command
from bids_segsr.execution.logs import start_logging
from bids_segsr.execution.settings import Settings
from bids_segsr.execution.workflow_run import prepare_environment

# EX_SOFTWARE of sysexits.h, which fMRIPrep returns when its workflow cannot be built.
NOT_BUILT = 70


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
        status = _shown(run_participants(settings))
    if 'group' in settings.analysis_level and not settings.boilerplate_only:
        status = max(status, _shown(run_group(settings)))
    return status


def _shown(outcome: Outcome) -> int:
    """Print what a level gives, and return the exit status."""
    for line in outcome.shown:
        print(line)
    if not outcome.built:
        return NOT_BUILT
    return FINE if outcome.fine else FAILED


if __name__ == '__main__':
    sys.exit(main())
