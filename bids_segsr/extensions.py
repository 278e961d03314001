"""What other installed packages add, found by their entry points.

A package declares them in its `pyproject.toml`, a network for example as ``my-network =
"my_package:MyNetwork"`` in the table ``[project.entry-points."bids_segsr.networks"]``. What this
package has itself comes first: no other one can replace it. `docs/extending.md` tells what each
kind must take and give.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from bids_segsr.exceptions import UserError

Kind = Literal['networks', 'readers', 'interpolations', 'normalisations']


def extension_names(kind: Kind) -> list[str]:
    """Return the names that other packages give to what they add, sorted."""
    return sorted({point.name for point in _points(kind)})


def load_extension(kind: Kind, name: str) -> Callable[..., Any] | None:
    """Import what another package adds.

    Args:
        kind: Of what.
        name: Its name.

    Returns:
        The class or function; None where no package has one of that name.

    Raises:
        UserError: Two packages have one, or it cannot be imported.
    """
    found = [point for point in _points(kind) if point.name == name]
    if not found:
        return None
    packages = ' and '.join(sorted({_package(point) for point in found}))
    if len({point.value for point in found}) > 1:
        raise UserError(f'{name}: {packages} both bring {kind} of this name; uninstall one.')
    try:
        loaded: Callable[..., Any] = found[0].load()
    except Exception as error:
        raise UserError(
            f'{name}: cannot be imported from {packages} ({type(error).__name__}: {error}); '
            'mend that package, or uninstall it.'
        ) from error
    return loaded


def _points(kind: Kind) -> tuple[EntryPoint, ...]:
    return _installed(kind, tuple(sys.path))


@cache
def _installed(kind: Kind, _path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Look through all installed packages, which takes 30 ms: once for a search path."""
    return tuple(entry_points(group=f'bids_segsr.{kind}'))


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.module
