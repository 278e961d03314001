"""The group level of the App: the QC numbers of all participants on one page."""

from __future__ import annotations

from bids_segsr.app.outcome import Outcome
from bids_segsr.exceptions import UserError
from bids_segsr.execution.logs import complain
from bids_segsr.execution.settings import Settings

MOST_LEFT_OUT = 20
"""Images told of on the terminal; the page and its table hold all."""


def run_group(settings: Settings) -> Outcome:
    """Gather the QC numbers of all participants, and tell of images without a result.

    Args:
        settings: The settings of the run.

    Returns:
        The paths of tables and page; not fine where no image has a sound result.

    Raises:
        UserError: If there are no derivatives.
    """
    root = settings.derivatives_root
    if settings.dry_run:
        return Outcome([f'group: table of the QC numbers under {root}'])
    if not root.is_dir():
        raise UserError(f'{root}: no derivatives yet; run the participant level first, same flags')
    from bids_segsr.reports.group import write_group
    from bids_segsr.reports.missing_results import left_out, qc_records

    records = qc_records(root)
    missing = left_out(root, settings.bids_dir, settings.modality, records)
    paths = write_group(root, settings.modality, missing, settings.bids_dir, records)
    # What the participant level of the same command has told is not told again.
    shown = 0 if 'participant' in settings.analysis_level else MOST_LEFT_OUT
    for item in missing[:shown]:
        complain(f'{item.image} is left out: {item.message}')
    if len(missing) > shown:
        more = 'more ' if shown else ''
        complain(f'{len(missing) - shown} {more}without a result: see {paths[-1]}')
    return Outcome([str(path) for path in paths], fine=any(records.values()))
