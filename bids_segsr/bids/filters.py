"""Filters of a query, as fMRIPrep defines them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bids_segsr.exceptions import UserError

MODALITIES = ('T2w', 'T1w', 'FLAIR', 'PDw', 'T2starw', 'inplaneT1', 'inplaneT2', 'UNIT1')


def load_filters(path: Path) -> dict[str, dict[str, Any]]:
    """Read pybids filters as fMRIPrep defines them.

    Args:
        path: JSON file such as `{"t2w": {"acquisition": "sag", "ceagent": null}}`. The keys are
            modalities in lower case. null means that the entity is absent, "*" that it is
            present; a list means any of its values.

    Returns:
        Filters by modality in lower case, ready for `BIDSLayout.get`.

    Raises:
        UserError: If the file cannot be read, or names an unknown modality or entity.
    """
    try:
        table = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror})') from None
    except ValueError as error:
        raise UserError(f'{path}: not valid JSON ({" ".join(str(error).split())})') from None
    if not isinstance(table, dict) or not all(isinstance(part, dict) for part in table.values()):
        raise UserError(f'{path}: needs the form {{"t2w": {{"acquisition": "sag"}}}}')
    known = [modality.lower() for modality in MODALITIES]
    entities = _entity_names()
    for key, part in table.items():
        if key not in known:
            raise UserError(f'{path}: unknown key {key!r}; known are {", ".join(known)}')
        for entity in part:
            if entity not in entities:
                raise UserError(
                    f'{path}: unknown entity {entity!r} under {key!r}; '
                    f'known are {", ".join(entities)}'
                )
    return {
        key: {entity: _query(value) for entity, value in part.items()}
        for key, part in table.items()
    }


def _entity_names() -> list[str]:
    from bids.layout.models import Config

    return list(Config.load('bids').entities)


def _query(value: Any) -> Any:
    from bids.layout import Query

    if isinstance(value, list):
        return [_query(item) for item in value]
    if value is None:
        return Query.NONE
    return Query.ANY if value == '*' else value
