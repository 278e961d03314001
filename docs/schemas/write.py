"""Write the JSON Schemas of model cards and recipes beside this file."""

from __future__ import annotations

import json
from pathlib import Path

from bids_segsr.json_schema import json_schema
from bids_segsr.training.recipe import Recipe
from bids_segsr.zoo.card import ModelCard

KINDS: dict[str, type] = {'card': ModelCard, 'recipe': Recipe}


def texts() -> dict[str, str]:
    """Return the text of each file by its name."""
    return {
        f'{name}.schema.json': json.dumps(json_schema(kind), indent=2, ensure_ascii=False) + '\n'
        for name, kind in KINDS.items()
    }


if __name__ == '__main__':
    for name, text in texts().items():
        Path(__file__).with_name(name).write_text(text, encoding='utf-8')
