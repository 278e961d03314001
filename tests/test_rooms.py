"""The house: no circles among its modules, each room knows only those before it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

SHARED_NAMES = {'__init__'}
"""Names that files of several rooms may have."""


def rooms() -> list[str]:
    """Rooms in the order of docs/development.md, below them what all may use."""
    text = (ROOT / 'docs' / 'development.md').read_text(encoding='utf-8')
    table = re.findall(r'^\| `([a-z/_.]+?)(?:/|\.py)`', text, re.MULTILINE)
    return [room.replace('/', '.') for room in table]


def modules() -> dict[str, Path]:
    found = {}
    for folder, package in (
        (ROOT / 'bids_segsr', 'bids_segsr'),
        (ROOT / 'workflows', 'bids_segsr.workflows'),
    ):
        for path in folder.rglob('*.py'):
            parts = [package, *path.relative_to(folder).with_suffix('').parts]
            found['.'.join(parts).removesuffix('.__init__')] = path
    return found


MODULES = modules()


def imported(name: str) -> set[str]:
    """Modules of ours that a module imports, inside functions and for type hints, too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{name}: relative import'
            for alias in node.names:
                inner = f'{node.module}.{alias.name}'
                found.add(inner if inner in MODULES else str(node.module))
    return (found & MODULES.keys()) - {name}


def room_of(name: str) -> str:
    inner = name.removeprefix('bids_segsr').removeprefix('.')
    return max((r for r in rooms() if f'{inner}.'.startswith(f'{r}.')), key=len, default='')


def test_every_module_has_a_room() -> None:
    assert MODULES.keys() > {'bids_segsr.cli.app', 'bids_segsr.workflows.base'}
    assert [name for name in MODULES if not room_of(name)] == ['bids_segsr']


def test_every_room_is_installed() -> None:
    text = (ROOT / 'pyproject.toml').read_text(encoding='utf-8')
    packages = re.search(r'^packages = \[(.*?)\]', text, re.MULTILINE | re.DOTALL)
    assert packages
    found = {name for name, path in MODULES.items() if path.name == '__init__.py'}
    assert set(re.findall(r'"([\w.]+)"', packages[1])) == found


def test_modules_do_not_import_each_other_in_circles() -> None:
    # the package itself offers what lies above all, and imports it when it is asked for
    graph = {name: imported(name) for name in MODULES if name != 'bids_segsr'}
    order = list(TopologicalSorter(graph).static_order())
    assert order.index('bids_segsr.files') < order.index('bids_segsr.cli.app')


def test_a_room_knows_only_those_before_it() -> None:
    order = rooms()
    upward = [
        f'{name} imports {other}'
        for name in MODULES
        for other in imported(name)
        if room_of(name) and room_of(other)
        if order.index(room_of(other)) > order.index(room_of(name))
    ]
    assert not upward


def test_no_two_files_have_one_name() -> None:
    counts = Counter(path.stem for path in MODULES.values())
    assert {stem for stem, count in counts.items() if count > 1} <= SHARED_NAMES


@pytest.mark.parametrize(
    ('code', 'unwanted'),
    [
        (
            'from bids_segsr.training.recipe_file import read_recipe as r; r("default-model")',
            'torch lightning_fabric monai torchio bids nipype',
        ),
        ('import bids_segsr; dir(bids_segsr)', 'torch numpy nibabel scipy nipype monai'),
        ('import bids_segsr.imaging.volume', 'torch bids nipype monai matplotlib'),
        ('from bids_segsr.zoo.find import find_card; find_card("tissue-unet")', 'torch h5py'),
    ],
)
def test_what_is_not_needed_is_not_imported(code: str, unwanted: str) -> None:
    check = f'import sys; {code}; print(*(set({unwanted!r}.split()) & set(sys.modules)))'
    done = subprocess.run(
        [sys.executable, '-c', check], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == []
