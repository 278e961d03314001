"""Validation of the input with the official validator, where it is installed."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bids_segsr.exceptions import UserError

logger = logging.getLogger(__name__)

VALIDATOR = 'bids-validator-deno'
MOST_ERRORS = 5
# A broken image is told of, and left out, when it is read; the other images go on.
CONTENT_OF_IMAGES = ('EMPTY_FILE', 'NIFTI_HEADER_UNREADABLE')


def validate_dataset(bids_dir: Path, participants: Sequence[str]) -> None:
    """Validate a dataset with `bids-validator-deno`.

    Warnings, and errors in the folders of other participants, are left out. Without the
    validator nothing is done but a line in the log.

    Args:
        bids_dir: Root of the dataset.
        participants: Labels without `sub-` of those that will be processed.

    Raises:
        UserError: If the dataset is invalid, with the first errors.
    """
    program = _find_validator()
    if program is None:
        logger.warning('%s is not installed: the input is not validated', VALIDATOR)
        return
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            [
                program,
                str(bids_dir),
                '--format',
                'json',
                '--ignoreWarnings',
                '--ignoreNiftiHeaders',
                '--prune',
            ],
            capture_output=True,
            encoding='utf-8',
            check=False,
            # Deno keeps a cache, by default under the home folder.
            env={**os.environ, 'DENO_DIR': folder, 'DENO_NO_UPDATE_CHECK': '1'},
        )
    try:
        issues = json.loads(result.stdout)['issues']['issues']
    except (ValueError, KeyError, TypeError):
        logger.warning('%s failed (status %s): not validated', VALIDATOR, result.returncode)
        return
    errors = [_line(issue) for issue in issues if _counts(issue, participants)]
    if errors:
        more = f' and {len(errors) - MOST_ERRORS} more' if len(errors) > MOST_ERRORS else ''
        raise UserError(
            f'{bids_dir}: not valid BIDS: {"; ".join(errors[:MOST_ERRORS])}{more}; '
            'mend it, or give --skip-bids-validation'
        )


def _find_validator() -> str | None:
    """Look on PATH, and beside the interpreter when its environment is not activated."""
    return shutil.which(VALIDATOR) or shutil.which(
        VALIDATOR, path=str(Path(sys.executable).parent)
    )


def _counts(issue: dict[str, Any], participants: Sequence[str]) -> bool:
    """Return whether an issue is an error in what will be processed."""
    location = issue.get('location', '')
    if issue.get('severity', 'error') != 'error':
        return False
    if issue.get('code') in CONTENT_OF_IMAGES and location.endswith(('.nii', '.nii.gz')):
        return False
    folder = re.match(r'/sub-([^/]+)/', location)
    return folder is None or folder[1] in participants


def _line(issue: dict[str, Any]) -> str:
    parts = [issue.get('code', ''), issue.get('subCode', ''), issue.get('location', '')]
    return ' '.join(part for part in parts if part)
