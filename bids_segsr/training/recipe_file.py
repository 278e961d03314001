"""Reading and writing of recipes as TOML, strictly: a misspelt key is an error, not a default."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from bids_segsr.exceptions import UserError
from bids_segsr.strict_toml import parse, read_dataclass, toml_text
from bids_segsr.training.recipe import Recipe

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
    return parse_recipe(source_text(name_or_path), str(name_or_path))


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
    return read_dataclass(Recipe, parse(text, name), name)


def recipe_text(recipe: Recipe) -> str:
    """Return a recipe as TOML, every value that is not None written out."""
    return toml_text(dataclasses.asdict(recipe))


def source_text(name_or_path: str | Path) -> str:
    """Return the text of a recipe as it was written, comments and all.

    Args:
        name_or_path: See `read_recipe`.

    Raises:
        UserError: If it cannot be found or read.
    """
    name, path = str(name_or_path), Path(name_or_path)
    try:
        if path.is_file():
            return path.read_text(encoding='utf-8')
        packaged = path.stem if path.suffix == '.toml' else path.name
        if path.parent in (Path(), Path(_FOLDER)) and packaged in recipe_names():
            file = resources.files('bids_segsr.training') / _FOLDER / f'{packaged}.toml'
            return file.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{name}: cannot be read ({error}); give a recipe') from None
    near = difflib.get_close_matches(path.stem, recipe_names(), n=1)
    meant = f' (did you mean {near[0]}?)' if near else ''
    raise UserError(
        f'{name}: no such recipe{meant}; give a name of "segsr recipes list", or a TOML file'
    )


def changed_recipe(recipe: Recipe, changes: Mapping[str, Any], name: str) -> Recipe:
    """Return a recipe with some other values.

    Args:
        recipe: The recipe.
        changes: Tables of a recipe with the values that differ.
        name: For messages.

    Returns:
        The recipe.

    Raises:
        UserError: A key is unknown, or a value of the wrong type or refused.
    """
    return read_dataclass(Recipe, merged(parse(recipe_text(recipe), name), changes), name)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Put changes into a table of tables, value by value."""
    found = dict(base)
    for key, value in changes.items():
        inner = found.get(key)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        found[key] = merged(inner, value) if both else value  # type: ignore[arg-type]
    return found
