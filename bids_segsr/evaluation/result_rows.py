"""Rows of results in a file that several runs share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bids_segsr.exceptions import UserError
from bids_segsr.files import make_folder, write_text

ROWS_FILE = 'rows.tsv'
KEYS_FILE = 'keys.json'
FIXED_COLUMNS = ('key', 'dataset', 'person', 'subject', 'system', 'device')
VALUE_COLUMNS = ('metric', 'structure', 'value')


class Store:
    """Rows of all runs that wrote to a folder, and what their keys stand for.

    Args:
        out: The folder; it is made.

    Raises:
        UserError: It cannot be made, or holds files that cannot be read.
    """

    def __init__(self, out: Path) -> None:
        self._path = out / ROWS_FILE
        make_folder(out)
        self._frame = _read(self._path)
        self._known = set(self._frame['key']) if len(self._frame) else set()
        self._keys_path = out / KEYS_FILE
        self._keys = _read_keys(self._keys_path)
        self._order: dict[str, None] = {}

    def expect(self, contents: Mapping[str, Mapping[str, Any]]) -> None:
        """Say which rows this run is about.

        Args:
            contents: Key to the settings that it is the hash of.
        """
        self._order |= dict.fromkeys(contents)
        self._keys |= {key: dict(content) for key, content in contents.items()}

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add the rows of one key, and write the file."""
        self._frame = pd.concat([self._frame, pd.DataFrame(records)], ignore_index=True)
        self._known.add(records[0]['key'])
        self._write()

    def finish(self) -> pd.DataFrame:
        """Write all rows, those of this run first, and return the latter in their order."""
        if not len(self._frame):
            return pd.DataFrame(columns=[*FIXED_COLUMNS, *VALUE_COLUMNS])
        position = {key: number for number, key in enumerate(self._order)}
        places = self._frame['key'].map(position).fillna(len(position))
        self._frame = self._frame.loc[places.sort_values(kind='stable').index]
        self._write()
        # what is kept is read from text, what is new is not: both shall look the same
        frame = _read(self._path)
        return frame[frame['key'].isin(position)].reset_index(drop=True)

    def _write(self) -> None:
        varied = [c for c in self._frame if c not in (*FIXED_COLUMNS, *VALUE_COLUMNS)]
        ordered = self._frame.reindex(columns=[*FIXED_COLUMNS, *varied, *VALUE_COLUMNS])
        # only a value that is no number is written as nan: what is not varied stays empty
        ordered = ordered.assign(value=[f'{value:.10g}' for value in ordered['value']])
        keys = {key: self._keys[key] for key in sorted(self._known & set(self._keys))}
        write_text(self._keys_path, json.dumps(keys, indent=1, sort_keys=True, default=str) + '\n')
        write_text(self._path, ordered.to_csv(sep='\t', index=False, float_format='%.10g'))


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        return pd.DataFrame()
    try:
        frame = pd.read_csv(
            path,
            sep='\t',
            dtype=dict.fromkeys((*FIXED_COLUMNS, 'metric', 'structure'), str),
            keep_default_na=False,
            na_values={'value': ['nan']},
        )
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: cannot be read ({error}); remove it.') from error
    if not {*FIXED_COLUMNS, *VALUE_COLUMNS} <= set(frame.columns):
        raise UserError(f'{path}: not written by this version; give another folder.')
    for column in frame.columns.drop([*FIXED_COLUMNS, *VALUE_COLUMNS]):
        numbers = pd.to_numeric(frame[column], errors='coerce')
        if numbers.notna().equals(frame[column] != ''):
            frame[column] = numbers
    return frame


def _read_keys(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding='utf-8')))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f'{path}: cannot be read ({error}); remove it.') from error
