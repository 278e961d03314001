"""TOML to dataclasses: values of the right type, and mistakes named with table and key."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from bids_segsr.exceptions import UserError
from bids_segsr.strict_toml import parse, read_dataclass, read_fields, toml_text


@dataclass(frozen=True)
class Inner:
    rate: float
    kind: Literal['a', 'b'] = 'a'

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ValueError('rate is below 0')


@dataclass(frozen=True)
class Outer:
    inner: Inner
    sizes: tuple[int, ...] = ()
    pair: tuple[float, float] | None = None
    path: Path | None = None
    names: dict[int, str] = field(default_factory=dict)
    edge: int | tuple[int, int, int] = 8


WHOLE = """
sizes = [1, 2]
pair = [1, 2.5]
path = "x/y"
[inner]
rate = 3
kind = "b"
[names]
4 = "four"
"""


def test_values_get_the_types_of_their_fields_and_survive_writing() -> None:
    read = read_dataclass(Outer, parse(WHOLE, 'f'), 'f')
    assert read == Outer(Inner(3.0, 'b'), (1, 2), (1.0, 2.5), Path('x/y'), {4: 'four'})
    assert isinstance(read.inner.rate, float)
    plain = Outer(Inner(1.0), edge=(4, 6, 8))
    written = toml_text(asdict(plain))
    assert 'pair' not in written  # None is left out
    assert read_dataclass(Outer, parse(written, 'f'), 'f') == plain


@pytest.mark.parametrize(
    ('text', 'told'),
    [
        ('[inner', 'no valid TOML'),
        ('sizes = [1]', 'top of the file: inner must be given'),
        ('[inner]', r'\[inner\]: rate must be given'),
        ('[inner]\nrat = 1', r"\[inner\]: unknown key 'rat'; known are rate, kind"),
        ('[inner]\nrate = true', r'\[inner\] rate: True is not allowed; give a number'),
        ('[inner]\nrate = -1', r'\[inner\]: rate is below 0'),
        ('[inner]\nrate = 1\nkind = "c"', r"kind: 'c' is not allowed; give one of 'a', 'b'"),
        ('sizes = [1.5]\n[inner]\nrate = 1', 'sizes: 1.5 is not allowed; give an integer'),
        ('pair = [1]\n[inner]\nrate = 1', 'give a list of 2, each of it a number'),
        (
            'edge = [1, 2]\n[inner]\nrate = 1',
            'give an integer or a list of 3, each of it an integer',
        ),
        ('edge = 1.5\n[inner]\nrate = 1', 'edge: 1.5 is not allowed; give an integer or a list'),
        ('[inner]\nrate = 1\n[names]\nx = "y"', r"\[names\] 'x' is not allowed as a key"),
    ],
)
def test_a_mistake_is_named_with_file_table_and_key(text: str, told: str) -> None:
    with pytest.raises(UserError, match=f'^run.toml: .*{told}'):
        read_dataclass(Outer, parse(text, 'run.toml'), 'run.toml')


def test_some_fields_alone_may_be_read() -> None:
    assert read_fields(Outer, {'sizes': [7]}, 'f') == {'sizes': (7,)}
    with pytest.raises(UserError, match="unknown key 'size'"):
        read_fields(Outer, {'size': [7]}, 'f')
