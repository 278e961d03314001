"""What a person thinks of a result: the form in the report, and the ratings of all as a table.

The questions are those of MRIQC's and fMRIPrep's reports. Their form (nireports' `rating-widget`)
holds one image a page, asks a network for jQuery and pictures, and sends to a server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from bids_segsr.exceptions import UserError
from bids_segsr.reports.assembly import Image, Reportlet, Section

FOLDER = 'ratings'
"""Where the saved ratings are put, below the root of the derivatives."""

RATINGS = {'pass': 'Pass', 'doubt': 'Doubt', 'fail': 'Fail'}
ARTEFACTS = {
    'motion': 'Motion within slices',
    'slice-motion': 'Motion between slices',
    'missing-slices': 'Dark or missing slices',
    'stripes': 'Stripes across the slices',
    'bias-field': 'Uneven brightness',
    'ghosting': 'Ghosts or wrap-around',
    'brain-mask': 'Brain mask',
    'invented': 'Anatomy that the scan does not show',
    'lost': 'Anatomy that got lost',
    'segmentation': 'Segmentation',
    'other': 'Other (see comment)',
}
COLUMNS = ('bids_name', 'rating', 'rater', 'artefacts', 'comment', 'rated_at', 'model', 'time_sec')


def rating_section(
    images: Sequence[Image], models: Mapping[str, str] | None = None
) -> list[Section]:
    """Return the section of a report in which each of its images is rated.

    Args:
        images: The images.
        models: Which model made the result, by label of the image.

    Returns:
        One section, or none where there is no image.
    """
    models = models or {}
    section = Section('rating', 'Rating')
    for image in images:
        name = escape(image.label)
        choices = ''.join(
            f'<label><input type="radio" name="rating" value="{key}" /> {text}</label>'
            for key, text in RATINGS.items()
        )
        boxes = ''.join(
            f'<label><input type="checkbox" name="artefact" value="{key}" /> {text}</label>'
            for key, text in ARTEFACTS.items()
        )
        form = (
            f'<form class="rating" data-image="{name}" '
            f'data-model="{escape(models.get(image.label, ""))}" '
            f'aria-label="Rating of {name}">'
            f'<fieldset><legend>Can the result be used?</legend>{choices}</fieldset>'
            f'<fieldset><legend>What is wrong with it</legend>{boxes}</fieldset>'
            '<div class="words"><label>Comment <textarea name="comment" rows="2" '
            'class="form-control"></textarea></label><label>Your initials <input name="rater" '
            'class="form-control" maxlength="12" autocomplete="off" /></label>'
            '<button class="btn btn-primary" disabled>Save</button></div>'
            '<div role="status"></div></form>'
        )
        section.reportlets.append(
            Reportlet(
                f'rating-{image.anchor}',
                [(form, None)],
                image.title,
                'Saves a small file. Put it into the folder "ratings" of the derivatives: the '
                'group level gathers all of them.',
            )
        )
    return [section] if section.reportlets else []


def read_ratings(root: Path, modality: str) -> list[dict[str, Any]]:
    """Read the ratings of all images of a modality.

    Args:
        root: Root of the derivatives, whose folder `FOLDER` holds the files (any name, any depth).
        modality: BIDS suffix of the images.

    Returns:
        The last rating of each image by each rater, sorted by image and rater; keys are `COLUMNS`.

    Raises:
        UserError: A file is no rating.
    """
    last: dict[tuple[str, str], dict[str, Any]] = {}
    for path in sorted((root / FOLDER).rglob('*.json')):
        found = _rating(path)
        key = (str(found['bids_name']), str(found['rater']))
        if key not in last or str(found['rated_at']) >= str(last[key]['rated_at']):
            last[key] = found
    return [last[key] for key in sorted(last) if key[0].endswith(f'_{modality}')]


def ratings_tsv(ratings: Sequence[Mapping[str, Any]]) -> str:
    """Return ratings as a table with the columns `COLUMNS`, one row an image and rater."""
    rows = ['\t'.join(COLUMNS)]
    for rating in ratings:
        texts = (' '.join(str(rating[key]).split()) for key in COLUMNS)
        rows.append('\t'.join(text or 'n/a' for text in texts))
    return '\n'.join(rows) + '\n'


def _rating(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        if content['rating'] not in RATINGS or not isinstance(content['bids_name'], str):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f'{path}: is no rating as a report saves it; remove it from the folder'
        ) from None
    found = {key: '' if content.get(key) is None else content[key] for key in COLUMNS}
    artefacts = content.get('artefacts')
    found['artefacts'] = ', '.join(map(str, artefacts)) if isinstance(artefacts, list) else ''
    return found
