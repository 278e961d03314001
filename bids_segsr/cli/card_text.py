"""The card of a model as text: one screen, or all of it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bids_segsr.zoo.card import NORMALISATIONS, OTHER_SLICES, other_slices_text

if TYPE_CHECKING:
    from bids_segsr.zoo.card import ModelCard

RESEARCH_USE = 'Research use only: not for diagnosis.'
UNMEASURED = 'none: nobody measured it'
LABEL_WIDTH = 14
LINE_WIDTH = 99
SHORT = (
    'Contrast',
    'Output grid',
    'Slices',
    'Shown',
    'Guides',
    'Scores',
    'Limitations',
    'Licence',
)
"""What is told where not all is."""

COLUMNS = {
    'psnr_spline': 'spline',
    'psnr_ibp': 'IBP',
    'psnr_network': 'model',
    'dice_network': 'Dice CGM',
    'dice_tissues': 'Dice all',
    'dice': 'Dice',
}
"""Scores of a card to the heads of their columns: PSNR in dB of spline, of back-projection
without a network (IBP) and of the model; Dice."""


def describe(card: ModelCard, *, full: bool = False) -> str:
    """Tell a person what is on a card.

    Args:
        card: The card.
        full: Whether all is told; else what a person needs who chooses a model: what it is for,
            its scores beside those of no network, its limits.

    Returns:
        Lines of at most 99 characters, the last one says that it is for research only.
    """
    contract = card.contract
    options = ', '.join(f'{name} {value}' for name, value in card.options.items())
    rows: list[tuple[str, Any]] = [
        ('Architecture', f'{card.architecture} ({options or "default options"})'),
        ('Contrast', ', '.join(contract.modalities)),
        ('Output grid', _range(contract.spacing_mm)),
        ('Slices', _range(contract.slice_thickness_mm)),
        ('Shown', 'the brain alone' if contract.skull_stripped else 'the whole head'),
        ('Interpolation', contract.interpolation),
        ('Intensities', NORMALISATIONS.get(contract.normalisation, contract.normalisation)),
        ('Guides', _guides(contract.guides)),
        ('Channels', ', '.join(card.channels)),
        ('Labels', ', '.join(f'{value} {name}' for value, name in card.labels.items())),
        ('Training', card.training),
        ('Scores', card.scores or UNMEASURED),
        ('Limitations', card.limitations),
        ('Licence', card.licence or 'not told'),
        ('Cite', card.citation),
        ('SHA-256', card.sha256),
    ]
    if not full:
        rows = [row for row in rows if row[0] in SHORT]
    lines = [f'{card.name}, version {card.version}', *_wrapped('', card.description, indent=0), '']
    for label, value in rows:
        table = _score_table(card.scores) if label == 'Scores' and not full else []
        if table:
            lines += [f'{name:{LABEL_WIDTH}}{row}' for name, row in table]
            lines += _wrapped('', other_slices_text(card.scores), indent=LABEL_WIDTH)
            continue
        for text in _flat(value):
            lines += _wrapped(label, text, indent=LABEL_WIDTH)
            label = ''
    more = [] if full else [f'More: segsr models show {card.name} --full']
    return '\n'.join([*lines, '', *more, RESEARCH_USE])


def _score_table(scores: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return label and line of each kind of images that a model was measured on."""
    rows = [
        row
        for key, entries in scores.items()
        if key != OTHER_SLICES and isinstance(entries, (list, tuple))
        for row in entries
        if isinstance(row, Mapping) and 'on' in row
    ]
    shown = [key for key in COLUMNS if any(key in row for row in rows)]
    if not shown:
        return []
    names = [
        f'{row["on"]} ({row[key]})' for row in rows for key in ('subjects', 'images') if key in row
    ]
    if len(names) < len(rows):
        names = [str(row['on']) for row in rows]
    width = max(map(len, names))
    heads = {key: f'  {COLUMNS[key]:>5}' for key in shown}
    lines = [' ' * width + ''.join(heads.values())]
    for name, row in zip(names, rows, strict=True):
        cells = ((f'{row[key]:.2f}' if key in row else '').rjust(len(heads[key])) for key in shown)
        lines.append(f'{name:{width}}{"".join(cells)}'.rstrip())
    return [('Scores' if number == 0 else '', line) for number, line in enumerate(lines)]


def _guides(number: int) -> str:
    if not number:
        return ''
    images = '1 image' if number == 1 else f'{number} images'
    return f'{images} of other contrasts needed, registered: segsr predict --guide'


def _range(limits: tuple[float, float]) -> str:
    low, high = limits
    return f'{low:g} mm' if low == high else f'{low:g} to {high:g} mm'


def _flat(value: Any) -> list[str]:
    """Lines for what a card holds, nested or not."""
    if isinstance(value, Mapping):
        return [
            f'{str(name).replace("_", " ")}: {line}'
            for name, inner in value.items()
            for line in _flat(inner)
        ]
    if isinstance(value, (list, tuple)):
        if all(isinstance(item, (str, int, float)) for item in value):
            long = any(len(str(item)) > LABEL_WIDTH * 2 for item in value)
            return [str(item) for item in value] if long else [', '.join(map(str, value))]
        return [', '.join(_flat(item)) for item in value]
    return [str(value)]


def _wrapped(label: str, text: str, indent: int) -> list[str]:
    return textwrap.wrap(
        text,
        LINE_WIDTH,
        initial_indent=label.ljust(indent),
        subsequent_indent=' ' * indent,
        break_on_hyphens=False,
    )
