"""The documentation tells what is: messages, versions, pages, and a notebook that runs."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / 'docs'


def sources() -> str:
    """All our code as one text, its literals joined as Python joins them."""
    files = [*(ROOT / 'bids_segsr').rglob('*.py'), *(ROOT / 'workflows').glob('*.py')]
    text = '\n'.join(path.read_text(encoding='utf-8') for path in files)
    return re.sub(r"'\s*\n\s*f?'", '', text)


def test_messages_that_are_explained_are_told() -> None:
    page = (DOCS / 'troubleshooting.md').read_text(encoding='utf-8')
    table = page.split('| exit status |')[0]
    known = sources()
    messages = [m for row in re.findall(r'^\|([^|]*)\|', table, re.MULTILINE) for m in
                re.findall('`([^`]+)`', row)]  # fmt: skip
    assert len(messages) > 15
    parts = [part.strip() for message in messages for part in message.split('...')]
    assert [part for part in parts if part not in known] == []


def test_every_page_is_in_the_navigation() -> None:
    named = re.findall(r'[\w/-]+\.md', (ROOT / 'mkdocs.yml').read_text(encoding='utf-8'))
    pages = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob('*.md')]
    assert sorted(named) == sorted(pages)


def test_the_range_of_python_is_told_alike() -> None:
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['project']
    low, high = re.fullmatch(r'>=3\.(\d+),<3\.(\d+)', project['requires-python']).groups()  # type: ignore[union-attr]
    told = f'3.{low} to 3.{int(high) - 1}'
    for name in ('README.md', 'docs/quickstart.md', 'docs/releasing.md', 'Makefile'):
        assert told in (ROOT / name).read_text(encoding='utf-8'), name
    classified = {c.rpartition(' ')[2] for c in project['classifiers'] if 'Python :: 3.' in c}
    assert classified == {f'3.{n}' for n in range(int(low), int(high))}


@pytest.mark.slow
def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr('webbrowser.open', opened.append)
    path = DOCS / 'notebooks' / 'first-image.ipynb'
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    assert all(not cell.get('outputs') for cell in cells), 'outputs are not kept'
    space: dict[str, object] = {}
    for cell in cells:
        if cell['cell_type'] == 'code':
            exec(''.join(cell['source']), space)  # noqa: S102
    scores = space['scores']
    assert isinstance(scores, dict)
    assert scores['network'] > scores['back-projection'] > scores['cubic spline']
    assert len(opened) == 1
    assert Path(str(space['files']['report'])).stat().st_size > 1e6  # type: ignore[index]


def test_every_promise_names_a_test_that_is_there() -> None:
    text = (ROOT / 'docs' / 'reliability.md').read_text(encoding='utf-8')
    file, named = '', []
    for path, name in re.findall(r'`((?:[\w/]+\.py)?)::(\w+)', text):
        file = path or file
        named.append((file, name))
    assert len(named) > 20
    missing = [
        f'{file}::{name}'
        for file, name in named
        if f'def {name}(' not in (ROOT / 'tests' / file).read_text(encoding='utf-8')
    ]
    assert not missing


def test_rows_of_tables_have_the_columns_of_their_heads() -> None:
    wrong, tables = [], 0
    for path in [*DOCS.rglob('*.md'), ROOT / 'README.md', ROOT / 'CHANGELOG.md']:
        text = re.sub(r'```.*?```', '', path.read_text(encoding='utf-8'), flags=re.DOTALL)
        for table in re.findall(r'(?:^\|.*\n)+', text, re.MULTILINE):
            rows = [re.sub(r'`[^`]*`', '', row).count('|') for row in table.splitlines()]
            tables += 1
            wrong += [(path.name, row) for row, n in enumerate(rows) if n != rows[0]]
    assert tables > 50
    assert wrong == []
