"""The schemas of cards and recipes: what they refuse, reading refuses, and they are up to date."""

from __future__ import annotations

import importlib.util
import json
import random
import sys
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from bids_segsr.exceptions import UserError
from bids_segsr.strict_toml import read_dataclass
from bids_segsr.training.recipe import Recipe
from bids_segsr.training.recipe_file import source_text
from bids_segsr.zoo.card import ModelCard

FOLDER = Path(__file__).resolve().parents[1] / 'docs' / 'schemas'
ODD: tuple[Any, ...] = (None, True, 0, -1, 1.5, '', 'x', [], [1], ['a', 'b', 'c'], {}, {'a': 1})
CARDS = sorted((files('bids_segsr.zoo') / 'models').glob('*/card.json'))  # type: ignore[attr-defined]
RECIPES = sorted(
    path.name for path in (files('bids_segsr.training') / 'recipes').iterdir()
)  # fmt: skip


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f'{name}.schema.json').read_text('utf-8'))
    jsonschema.Draft202012Validator.check_schema(found)
    return found


def test_files_are_those_of_the_dataclasses() -> None:
    spec = importlib.util.spec_from_file_location('_schemas', FOLDER / 'write.py')
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules['_schemas'] = module
    spec.loader.exec_module(module)
    for name, text in module.texts().items():
        assert (FOLDER / name).read_text('utf-8') == text, 'run python docs/schemas/write.py'


def test_cards_and_recipes_of_the_package_are_allowed() -> None:
    assert CARDS and RECIPES
    for path in CARDS:
        jsonschema.validate(json.loads(path.read_text('utf-8')), schema('card'))
    for name in RECIPES:
        jsonschema.validate(tomllib.loads(source_text(name)), schema('recipe'))


@pytest.mark.parametrize(('name', 'kind'), [('card', ModelCard), ('recipe', Recipe)])
def test_what_the_schema_refuses_is_refused_when_read(name: str, kind: type) -> None:
    rng = random.Random(1)
    validator = jsonschema.Draft202012Validator(schema(name))
    whole = (
        json.loads(CARDS[0].read_text('utf-8'))
        if name == 'card'
        else tomllib.loads(source_text('segsrgan-2020'))
    )
    refused = 0
    for _ in range(300):
        content = json.loads(json.dumps(whole))
        table = content
        while True:
            key = rng.choice(sorted(table))
            if isinstance(table[key], dict) and table[key] and rng.random() < 0.7:
                table = table[key]
                continue
            break
        if rng.random() < 0.2:
            table[rng.choice(('misspelt', key + 's'))] = table.pop(key)
        else:
            table[key] = rng.choice(ODD)
        if not validator.is_valid(content):
            refused += 1
            with pytest.raises(UserError):
                read_dataclass(kind, content, name)
    assert refused > 100
