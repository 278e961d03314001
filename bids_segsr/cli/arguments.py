"""An argument parser that answers a mistake in two lines, with the nearest thing it knows."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable, Iterator
from typing import NoReturn

from bids_segsr.imaging.patch_size import PatchSize

USAGE_ERROR = 2
_GIGABYTES = {'': 1e-3, 'B': 1e-9, 'K': 1e-6, 'M': 1e-3, 'G': 1.0, 'T': 1e3}


class Parser(argparse.ArgumentParser):
    """`argparse` prints the usage of all flags, dozens of lines, above the one that matters."""

    def error(self, message: str) -> NoReturn:
        """End the program with status 2, the mistake and where help is found."""
        self.exit(
            USAGE_ERROR, f'{self.prog}: error: {message}{self._nearest(message)}\n'
            f'{self.prog}: see {self.prog} --help\n',
        )  # fmt: skip

    def _nearest(self, message: str) -> str:
        unknown = re.match('unrecognized arguments: (.+)', message)
        choice = re.search(r"invalid choice: '([^']*)' \(choose from (.+)\)$", message)
        if unknown:
            given = next((word for word in unknown[1].split() if word.startswith('-')), '')
            return _suggestion(given.partition('=')[0], flags(self))
        if choice:
            return _suggestion(choice[1], re.findall(r"[^\s',]+", choice[2]))
        return ''


MOST_IN_A_RANGE = 10_000
"""A label image has fewer structures; a slip of the finger would fill the memory."""


def structure_numbers(text: str) -> tuple[str, tuple[int, ...]]:
    """Convert NAME=NUMBER[,NUMBER...], where a number may be a range; `argparse` calls it.

    Raises:
        ArgumentTypeError: If the text has another form.
    """
    name, _, numbers = text.partition('=')
    found: list[int] = []
    for part in numbers.split(','):
        match = re.fullmatch(r'(\d{1,9})(?:-(\d{1,9}))?', part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not name or not 0 <= last - first < MOST_IN_A_RANGE:
            raise argparse.ArgumentTypeError(
                f'{text}: give NAME=NUMBER[,NUMBER...], such as cortex=1001-1035,2001-2035'
            )
        found += range(first, last + 1)
    return name, tuple(found)


def patch_size(text: str) -> PatchSize:
    """Convert `70` or `64x40x64` to voxels; `argparse` calls it.

    Raises:
        ArgumentTypeError: If the text is neither.
    """
    try:
        edges = [int(part) for part in text.split('x')]
    except ValueError:
        edges = []
    if len(edges) == 1:
        return edges[0]
    if len(edges) != 3:
        raise argparse.ArgumentTypeError(f'{text!r} is neither 96 nor three edges as 64x40x64')
    return edges[0], edges[1], edges[2]


def flags(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the flags of a parser and of its commands."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from flags(command)


def _suggestion(given: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(given, set(known), n=1)
    return f'; did you mean {found[0]}?' if found else ''


def gigabytes(text: str) -> float:
    """Convert '16GB', '0.5T' or '16000' (MB) to GB, with decimal units as fMRIPrep does.

    Raises:
        ArgumentTypeError: If the text is no such amount.
    """
    match = re.fullmatch(r'(\d+(?:\.\d+)?)\s*([KMGT]?)(I?B)?', text.strip().upper())
    if match is None:
        raise argparse.ArgumentTypeError(f'{text!r} is no amount of memory such as 16GB')
    amount, prefix, byte = match.groups()
    return float(amount) * _GIGABYTES[prefix or byte or '']
