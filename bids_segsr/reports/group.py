"""The group level: what is known of all images of a modality, as tables and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_segsr.bids.metadata import read_sidecar
from bids_segsr.exceptions import UserError
from bids_segsr.files import write_text
from bids_segsr.inference.qc import KEYS
from bids_segsr.inference.verdict import judge_all
from bids_segsr.reports.cohort import tell_reports
from bids_segsr.reports.group_page import group_page
from bids_segsr.reports.missing_results import LeftOut, left_out_tsv, qc_records
from bids_segsr.reports.rating import ratings_tsv, read_ratings

if TYPE_CHECKING:
    import pandas as pd

MOST_WORDS = 8
"""A column of `participants.tsv` with more different texts is no group, and may name a person."""


def write_group(
    root: Path,
    modality: str,
    missing: Sequence[LeftOut] = (),
    bids_dir: Path | None = None,
    found: Mapping[Path, dict[str, Any]] | None = None,
) -> list[Path]:
    """Collect what is known of all images of a modality, and tell their reports their places.

    Args:
        root: Root of the derivatives.
        modality: BIDS suffix of the images, such as `T2w`.
        missing: Images without a result, see `reports.missing_results`.
        bids_dir: Root of the input, for its `participants.tsv` and `sub-X_sessions.tsv`.
        found: What `qc_records` has read already.

    Returns:
        `group_<modality>.tsv` (one row an image, sorted by name, `n/a` where a number is missing),
        `group_<modality>.html`, `group_<modality>_ratings.tsv` (one row an image and rater), and
        `group_<modality>_left-out.tsv` with the images without a result.

    Raises:
        UserError: There is no image of this modality, or a table or rating cannot be read.
    """
    import pandas as pd

    found = qc_records(root) if found is None else found
    read = [record for record in found.values() if record]
    # scans of other modalities show the same head
    verdicts = judge_all(read)
    records = [
        _flat(record) | {'verdict': verdict.word, 'reasons': ' '.join(verdict.reasons) or None}
        for record in read
        if (name := str(record.get('bids_name'))).endswith(f'_{modality}')
        for verdict in (verdicts[name],)
    ]
    if not records and not missing:
        raise UserError(
            f'{root}: holds no QC file of a {modality} image; run the participant level first'
        )
    table = pd.DataFrame.from_records(records, columns=None if records else ['bids_name'])
    table = table.sort_values('bids_name', ignore_index=True)[_columns(list(table.columns))]
    people = participants(bids_dir, list(table['bids_name'])) if bids_dir else pd.DataFrame()
    units = column_units(bids_dir, list(map(str, people))) if bids_dir else {}
    named = {str(c): f'participant_{c}' if c in table else str(c) for c in people}
    people = people.rename(columns=named)
    ratings = read_ratings(root, modality)
    page = group_page(
        root,
        modality,
        _objects(table),
        people=_objects(people),
        units={named[column]: unit for column, unit in units.items()},
        ratings=ratings,
        missing=missing,
    )
    joined = pd.concat([table, people], axis=1)
    tsv = joined.to_csv(sep='\t', index=False, na_rep='n/a', float_format='%.6g')
    paths = [
        write_text(root / f'group_{modality}.tsv', tsv),
        write_text(root / f'group_{modality}.html', page),
        write_text(root / f'group_{modality}_ratings.tsv', ratings_tsv(ratings)),
        write_text(root / f'group_{modality}_left-out.tsv', left_out_tsv(missing)),
    ]
    tell_reports(root, read)
    return paths


def participants(bids_dir: Path, names: Sequence[str]) -> pd.DataFrame:
    """Look up what the dataset tells of the participant, at the session, of each image.

    Args:
        bids_dir: Root of the dataset.
        names: Names of images.

    Returns:
        One row an image, in the order of `names`. Columns are those of `participants.tsv` and of
        the `sub-X_sessions.tsv`, which come first where both have one: numbers, and texts of at
        most `MOST_WORDS` kinds, each on two images on average; any other column is left out.
    """
    import pandas as pd

    everyone = _by_first_column(bids_dir / 'participants.tsv')
    sessions: dict[str, dict[str, dict[str, str]]] = {}
    rows = []
    for name in names:
        parts = name.split('_')
        subject = parts[0]
        session = next((part for part in parts if part.startswith('ses-')), '')
        row = dict(everyone.get(subject, {}))
        if session:
            if subject not in sessions:
                sessions[subject] = _by_first_column(
                    bids_dir / subject / f'{subject}_sessions.tsv'
                )
            row |= sessions[subject].get(session, {})
        rows.append(row)
    table = pd.DataFrame.from_records(rows, index=range(len(names)))
    kept = {}
    for column in table:
        known = table[column].dropna()
        numbers = pd.to_numeric(known, errors='coerce')
        if known.empty:
            continue
        if numbers.notna().all():
            kept[column] = pd.to_numeric(table[column], errors='coerce')
        elif known.nunique() <= min(MOST_WORDS, len(names) / 2):
            kept[column] = table[column]
    return pd.DataFrame(kept, index=range(len(names)))


def column_units(bids_dir: Path, columns: Sequence[str]) -> dict[str, str]:
    """Return the units that `participants.json` tells of columns, where it tells any."""
    try:
        told = read_sidecar(bids_dir / 'participants.json')
    except UserError:
        return {}
    found = {}
    for column in columns:
        entry = told.get(column)
        if isinstance(entry, dict) and isinstance(entry.get('Units'), str):
            found[column] = entry['Units']
    return found


def _by_first_column(path: Path) -> dict[str, dict[str, str]]:
    import pandas as pd

    if not path.is_file():
        return {}
    try:
        table = pd.read_csv(path, sep='\t', dtype=str, na_values=['n/a'], encoding='utf-8-sig')
    except (OSError, ValueError) as error:
        reason = ' '.join(str(error).split())
        raise UserError(f'{path}: cannot be read as a table ({reason}); mend it') from None
    table = table.drop_duplicates(table.columns[0]).set_index(table.columns[0])
    return {
        str(name): {str(k): v for k, v in row.items() if isinstance(v, str)}
        for name, row in table.to_dict('index').items()
    }


def _objects(table: pd.DataFrame) -> list[dict[str, Any]]:
    records = table.astype(object).where(table.notna(), None).to_dict('records')
    return [{str(key): value for key, value in record.items()} for record in records]


def _flat(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with one text or number an entry, without line breaks and tabs."""
    flat = {
        key: ' | '.join(str(item) for item in value) if isinstance(value, list) else value
        for key, value in content.items()
        if not isinstance(value, dict)
    }
    texts = {
        key: ' '.join(value.split()) or None
        for key, value in flat.items()
        if isinstance(value, str)
    }
    return {**flat, **texts}


def _columns(present: list[str]) -> list[str]:
    known = ['bids_name', 'verdict', 'reasons', *KEYS[1:]]
    return [c for c in known if c in present] + sorted(c for c in present if c not in known)
