"""Reading and writing of recipes as TOML, strictly: a misspelt key is an error, not a default."""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import tomli_w

from bids_segsr.exceptions import UserError
from bids_segsr.training.recipe import Recipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FOLDER = 'recipes'


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package, sorted."""
    folder = resources.files('bids_segsr.training') / _FOLDER
    if not folder.is_dir():
        return []
    names = (Path(item.name) for item in folder.iterdir())
    return sorted(path.stem for path in names if path.suffix == '.toml')


def read_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe.

    Args:
        name_or_path: TOML file; or the name of a packaged recipe, also as ``recipes/NAME.toml``.

    Returns:
        The recipe.

    Raises:
        UserError: If it cannot be found or read, or a key is unknown, of the wrong type or out of
            its range; names file, table and key, and what is allowed.
    """
    return parse_recipe(_text(str(name_or_path)), str(name_or_path))


def parse_recipe(text: str, name: str) -> Recipe:
    """Read a recipe from the text of its file.

    Args:
        text: TOML.
        name: Of the file, for messages.

    Returns:
        The recipe.

    Raises:
        UserError: As `read_recipe`.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f'{name}: no valid TOML ({error})') from None
    try:
        recipe: Recipe = _dataclass(Recipe, content, '')
    except ValueError as error:
        raise UserError(f'{name}: {error}') from None
    return recipe


def recipe_text(recipe: Recipe) -> str:
    """Return a recipe as TOML, every value that is not None written out."""
    return tomli_w.dumps(_without_none(dataclasses.asdict(recipe)))


def _text(name: str) -> str:
    path = Path(name)
    try:
        if path.is_file():
            return path.read_text(encoding='utf-8')
        packaged = path.stem if path.suffix == '.toml' else path.name
        if path.parent in (Path(), Path(_FOLDER)) and packaged in recipe_names():
            file = resources.files('bids_segsr.training') / _FOLDER / f'{packaged}.toml'
            return file.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{name}: cannot be read ({error}); give a recipe') from None
    known = ', '.join(recipe_names()) or 'none'
    raise UserError(f'{name}: no such recipe; give a TOML file or one of: {known}')


def _dataclass(kind: type, content: Mapping[str, Any], table: str) -> Any:
    hints = get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    where = f'[{table}]' if table else 'top of the file'
    for key in content:
        if key not in fields:
            raise ValueError(f'{where}: unknown key {key!r}; known are {", ".join(fields)}')
    values = {
        key: _value(hints[key], value, f'{table}.{key}' if table else key)
        for key, value in content.items()
    }
    required = [
        name
        for name, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in values]
    if missing:
        raise ValueError(f'{where}: {", ".join(missing)} must be given')
    try:
        return kind(**values)
    except (ValueError, UserError) as error:
        raise ValueError(f'{where}: {error}') from None


def _value(hint: Any, value: Any, key: str) -> Any:
    """Check a value of TOML against a type hint; returns it as that type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        kinds = [kind for kind in arguments if kind is not type(None)]
        if len(kinds) == 1:
            return _value(kinds[0], value, key)
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
            return {k: _value(arguments[1], v, f'{key}.{k}') for k, v in value.items()}
    elif hint is Any:
        return value
    elif hint is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    elif type(value) is hint:
        return value
    raise ValueError(f'[{key.rpartition(".")[0] or "top of the file"}] {_wrong(hint, value, key)}')


def _tuple(hint: Any, arguments: tuple[Any, ...], value: list[Any], key: str) -> tuple[Any, ...]:
    if arguments[-1] is Ellipsis:
        return tuple(_value(arguments[0], item, key) for item in value)
    if len(value) != len(arguments):
        raise ValueError(f'[{key.rpartition(".")[0]}] {_wrong(hint, value, key)}')
    return tuple(_value(kind, item, key) for kind, item in zip(arguments, value, strict=True))


def _wrong(hint: Any, value: Any, key: str) -> str:
    return f'{key.rpartition(".")[2]}: {value!r} is not allowed; give {_described(hint)}'


def _described(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    names = {int: 'an integer', float: 'a number', str: 'a text', bool: 'true or false'}
    if hint in names:
        return names[hint]
    if origin is Literal:
        return f'one of {", ".join(map(repr, arguments))}'
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f'a list, each of it {_described(arguments[0])}'
        return f'a list of {len(arguments)}, each of it {_described(arguments[0])}'
    if origin in (Union, types.UnionType):
        return _described(next(kind for kind in arguments if kind is not type(None)))
    return 'a table'


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(item) for item in value]
    return value
