"""TOML to dataclasses and back, strictly: a misspelt key is an error, not a default."""

from __future__ import annotations

import dataclasses
import re
import tomllib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from bids_segsr.exceptions import UserError

T = TypeVar('T')


def parse(text: str, name: str) -> dict[str, Any]:
    """Read TOML.

    Args:
        text: TOML.
        name: Of its file, for messages.

    Returns:
        Tables and values.

    Raises:
        UserError: If it is not valid.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f'{name}: no valid TOML ({error})') from None


def read_dataclass(kind: type[T], content: Mapping[str, Any], name: str) -> T:
    """Make a dataclass of dataclasses from a table of tables.

    Args:
        kind: The dataclass.
        content: What `parse` gave.
        name: Of the file, for messages.

    Returns:
        The object; values have the types of its fields.

    Raises:
        UserError: If a key is unknown or missing, or a value of the wrong type or refused by the
            dataclass; names file, table and key, and what is allowed.
    """
    try:
        made: T = _dataclass(kind, content)
    except ValueError as error:
        raise UserError(f'{name}: {error}') from None
    return made


def read_fields(kind: type, content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Read some of the fields of a dataclass.

    Args:
        kind: The dataclass.
        content: What `parse` gave; keys may be missing.
        name: Of the file, for messages.

    Returns:
        Keyword arguments of the dataclass.

    Raises:
        UserError: If a key is unknown or a value of the wrong type.
    """
    try:
        return _typed(kind, content)
    except ValueError as error:
        raise UserError(f'{name}: {error}') from None


def toml_text(values: Mapping[str, Any]) -> str:
    """Write values as TOML.

    Args:
        values: Tables and values; those that are None are left out.

    Returns:
        TOML.
    """
    import tomli_w

    return tomli_w.dumps(_plain(values))


def _typed(kind: type, content: Mapping[str, Any], table: str = '') -> dict[str, Any]:
    """Check the keys and values of a table against the fields of a dataclass."""
    hints = get_type_hints(kind)
    known = [f.name for f in dataclasses.fields(kind)]
    for key in content:
        if key not in known:
            raise ValueError(f'{_place(table)}: unknown key {key!r}; known are {", ".join(known)}')
    return {
        key: _value(hints[key], value, f'{table}.{key}' if table else key)
        for key, value in content.items()
    }


def _dataclass(kind: type, content: Mapping[str, Any], table: str = '') -> Any:
    values, where = _typed(kind, content, table), _place(table)
    required = [
        f.name
        for f in dataclasses.fields(kind)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in values]
    if missing:
        raise ValueError(f'{where}: {", ".join(missing)} must be given')
    try:
        return kind(**values)
    except (ValueError, UserError) as error:
        raise ValueError(f'{where}: {error}') from None


def _place(table: str) -> str:
    return f'[{table}]' if table else 'top of the file'


def _value(hint: Any, value: Any, key: str) -> Any:
    """Check a value of TOML against a type hint; returns it as that type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        kinds = [kind for kind in arguments if kind is not type(None)]
        listed = [k for k in kinds if (get_origin(k) is tuple) == isinstance(value, list)]
        try:
            return _value((listed or kinds)[0], value, key)
        except ValueError:
            if len(kinds) == 1:
                raise
            raise ValueError(_wrong(hint, value, key)) from None
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, dict):
            return _dataclass(hint, value, key)
    elif origin is Literal:
        if value in arguments:
            return value
    elif origin is tuple:
        if isinstance(value, list):
            return _tuple(hint, arguments, value, key)
    elif origin is not None and issubclass(origin, Mapping):
        if isinstance(value, dict):
            return {
                _key(arguments[0], k, key): _value(arguments[1], v, f'{key}.{k}')
                for k, v in value.items()
            }
    elif hint is Any:
        return value
    elif hint is Path:
        if isinstance(value, str):
            return Path(value)
    elif hint is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    elif type(value) is hint:
        return value
    raise ValueError(_wrong(hint, value, key))


def _key(hint: Any, key: str, table: str) -> Any:
    """Check the key of a table, which a file holds as a text."""
    if hint is not int:
        return key
    if not re.fullmatch(r'-?\d{1,9}', key):
        raise ValueError(f'[{table}] {key!r} is not allowed as a key; give an integer')
    return int(key)


def _tuple(hint: Any, arguments: tuple[Any, ...], value: list[Any], key: str) -> tuple[Any, ...]:
    if arguments[-1] is Ellipsis:
        return tuple(_value(arguments[0], item, key) for item in value)
    if len(value) != len(arguments):
        raise ValueError(_wrong(hint, value, key))
    return tuple(_value(kind, item, key) for kind, item in zip(arguments, value, strict=True))


def _wrong(hint: Any, value: Any, key: str) -> str:
    table, _, name = key.rpartition('.')
    where = f'[{table}] ' if table else ''
    return f'{where}{name}: {value!r} is not allowed; give {_described(hint)}'


def _described(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    names = {
        int: 'an integer',
        float: 'a number',
        str: 'a text',
        bool: 'true or false',
        Path: 'a path',
    }
    if hint in names:
        return names[hint]
    if origin is Literal:
        return f'one of {", ".join(map(repr, arguments))}'
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f'a list, each of it {_described(arguments[0])}'
        return f'a list of {len(arguments)}, each of it {_described(arguments[0])}'
    if origin in (Union, types.UnionType):
        return ' or '.join(_described(kind) for kind in arguments if kind is not type(None))
    return 'a table'


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
