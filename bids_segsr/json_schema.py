"""JSON Schema of a dataclass, for editors and other programs; `strict_toml` checks the same."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

DIALECT = 'https://json-schema.org/draft/2020-12/schema'

_PLAIN = {int: 'integer', float: 'number', str: 'string', bool: 'boolean', Path: 'string'}


def json_schema(kind: type) -> dict[str, Any]:
    """Describe the files that `strict_toml.read_dataclass` takes for a dataclass.

    Types, known and necessary keys are those that are checked when a file is read; ranges and what
    must fit together are told by the descriptions, and are checked by the dataclass.

    Args:
        kind: A dataclass whose docstring has a paragraph for each of its attributes.

    Returns:
        A JSON Schema (draft 2020-12).
    """
    return {'$schema': DIALECT, 'title': kind.__name__, **_schema(kind)}


def _schema(hint: Any) -> dict[str, Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return {}
    if hint in _PLAIN:
        return {'type': _PLAIN[hint]}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _table(hint)
    if origin in (Union, types.UnionType):
        kinds = [_schema(kind) for kind in arguments if kind is not type(None)]
        return kinds[0] if len(kinds) == 1 else {'anyOf': kinds}
    if origin is Literal:
        return {'enum': list(arguments)}
    if origin is tuple and arguments[-1] is Ellipsis:
        return {'type': 'array', 'items': _schema(arguments[0])}
    if origin is tuple:
        items, count = [_schema(kind) for kind in arguments], len(arguments)
        return {'type': 'array', 'prefixItems': items, 'minItems': count, 'maxItems': count}
    if origin is not None and issubclass(origin, Mapping):
        keys = {'propertyNames': {'pattern': r'^-?\d{1,9}$'}} if arguments[0] is int else {}
        return {'type': 'object', 'additionalProperties': _schema(arguments[1]), **keys}
    raise TypeError(f'{hint}: no such type in a file')


def _table(kind: type) -> dict[str, Any]:
    hints, told = get_type_hints(kind), _attributes(kind)
    fields = dataclasses.fields(kind)
    none = dataclasses.MISSING
    return {
        'description': inspect.cleandoc(kind.__doc__ or '')
        .partition('\n\n')[0]
        .replace('\n', ' '),
        'type': 'object',
        'properties': {
            field.name: {**_schema(hints[field.name]), 'description': told[field.name]}
            for field in fields
        },
        'required': [f.name for f in fields if f.default is none and f.default_factory is none],
        'additionalProperties': False,
    }


def _attributes(kind: type) -> dict[str, str]:
    """Return what a docstring tells of each attribute."""
    text = inspect.cleandoc(kind.__doc__ or '').partition('Attributes:\n')[2]
    section = re.split(r'^\S', text, maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(r'^ {4}(\w+): ((?:.+\n?(?: {8}.+\n?)*))', section, flags=re.MULTILINE)
    return {name: ' '.join(words.split()) for name, words in found}
