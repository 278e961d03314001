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

from bids_segsr.bids.names import LABEL
from bids_segsr.exceptions import UserError

logger = logging.getLogger(__name__)

VALIDATOR = 'bids-validator-deno'
MOST_ERRORS = 5
# What is wrong with one image, its name or its sidecar is told when it is chosen or read, and that
# image is left out; the others go on.
OF_ONE_IMAGE = (
    'EMPTY_FILE',
    'INVALID_JSON_ENCODING',
    'INVALID_LOCATION',
    'JSON_INVALID',
    'JSON_NOT_AN_OBJECT',
    'NIFTI_HEADER_UNREADABLE',
    'SYMLINK_BROKEN',
)
IN_FOLDER = re.compile(r'/sub-(?P<subject>[^/]+)/(?:ses-[^/]+/)?(?:(?P<datatype>[^/]+)/)?')


def validate_dataset(bids_dir: Path, participants: Sequence[str]) -> None:
    """Validate a dataset with `bids-validator-deno`.

    Warnings are left out, and so are errors in the folders of other participants and of other data
    than anatomical images, and those that concern one image alone (`OF_ONE_IMAGE`). Without the
    validator nothing is done but a line in the log.

    Args:
        bids_dir: Root of the dataset.
        participants: Labels without `sub-` of those that will be processed.

    Raises:
        UserError: If the dataset is invalid, with the first errors.
    """
    program = _find_validator()
    if program is None:
        logger.info('%s is not installed: the input is not validated', VALIDATOR)
        return
    loop = _link_upwards(bids_dir)
    if loop is not None:
        logger.warning('%s: links to a folder above: the input is not validated', loop)
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


def _link_upwards(root: Path) -> Path | None:
    """Return a link to a folder above itself, which the validator would follow for ever."""
    for place, folders, _ in os.walk(root):
        for folder in folders:
            path = Path(place, folder)
            if path.is_symlink() and path.parent.resolve().is_relative_to(path.resolve()):
                return path
    return None


def _find_validator() -> str | None:
    """Look on PATH, and beside the interpreter when its environment is not activated."""
    return shutil.which(VALIDATOR) or shutil.which(
        VALIDATOR, path=str(Path(sys.executable).parent)
    )


def _counts(issue: dict[str, Any], participants: Sequence[str]) -> bool:
    """Return whether an issue is an error in what will be processed."""
    if issue.get('severity', 'error') != 'error':
        return False
    folder = IN_FOLDER.match(issue.get('location', ''))
    if folder is None:
        return True
    if folder['subject'] not in participants or not LABEL.fullmatch(folder['subject']):
        return False
    return folder['datatype'] in (None, 'anat') and issue.get('code') not in OF_ONE_IMAGE


def _line(issue: dict[str, Any]) -> str:
    parts = [issue.get('code', ''), issue.get('subCode', ''), issue.get('location', '')]
    return ' '.join(part for part in parts if part)
