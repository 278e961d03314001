"""Can a result be trusted? The verdict on an image, from its QC record."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bids_segsr.inference.qc import DICTIONARY

USABLE, LOOK, FAILED = 'usable', 'look', 'failed'

REPEATS_DIFFER = 0.2
"""Share of their median by which brain volumes of one participant and session may lie apart:
manual masks of five stacks of one fetus do by 0.08, networks on scans of one adult by 0.1."""


@dataclass(frozen=True)
class Verdict:
    """What is to be done with a result.

    Attributes:
        word: `usable`, `look` (a person must look before it is used) or `failed`.
        reasons: Why it is not usable without a look, one sentence each.
    """

    word: str
    reasons: tuple[str, ...] = ()


def judge(record: Mapping[str, Any]) -> Verdict:
    """Judge one image by itself.

    Every entry of the QC dictionary that has a `sign` is compared with its plausible range; the
    brain volume with the one that the record holds for the age of the participant.

    Args:
        record: QC record, see `inference.qc.qc_record`; what it lacks is not judged.

    Returns:
        `failed` where a number says that nothing can be done with the result, `look` where one is
        implausible.
    """
    reasons, failed = [], False
    for entry in DICTIONARY:
        value, known, whose = record.get(entry.key), entry.of(record), ''
        expected = known.implausible(value)
        if known is not entry:
            whose = f' at an age of {record["age"]}' if record.get('age') else ' at any age'
        if not entry.sign or expected is None or value is None:
            continue
        unit = f' {entry.unit}' if entry.unit else ''
        shown = f'{value:.0f}' if value >= 100 else f'{value:.3g}'
        reasons.append(f'{entry.sign}: {shown}{unit}, {expected}{whose}.')
        failed |= entry.hopeless(value)
    if not reasons:
        return Verdict(USABLE)
    return Verdict(FAILED if failed else LOOK, tuple(reasons))


def judge_all(records: Sequence[Mapping[str, Any]]) -> dict[str, Verdict]:
    """Judge images by themselves and beside the others of the same participant and session.

    Args:
        records: QC records, of one participant or of many.

    Returns:
        The verdict by name of the image. Where brain volumes of one head lie apart, one at least
        is wrong, and all are to be looked at.
    """
    verdicts = {str(record.get('bids_name')): judge(record) for record in records}
    heads: dict[tuple[str, ...], dict[str, float]] = {}
    for record in records:
        name, volume = str(record.get('bids_name')), record.get('brain_volume_ml')
        if isinstance(volume, (int, float)):
            heads.setdefault(_head(name), {})[name] = float(volume)
    for volumes in heads.values():
        middle = statistics.median(volumes.values())
        if max(abs(v - middle) for v in volumes.values()) <= REPEATS_DIFFER * middle:
            continue
        told = ', '.join(f'{_short(name)} {v:.0f} mL' for name, v in sorted(volumes.items()))
        reason = f'Scans of one head disagree in the size of its brain: {told}.'
        for name in volumes:
            found = verdicts[name]
            word = LOOK if found.word == USABLE else found.word
            verdicts[name] = Verdict(word, (*found.reasons, reason))
    return verdicts


def _head(name: str) -> tuple[str, ...]:
    """Return participant and session of an image."""
    return tuple(part for part in name.split('_') if part.startswith(('sub-', 'ses-')))


def _short(name: str) -> str:
    """Return what tells an image from others of its participant and session."""
    return ' '.join(p for p in name.split('_') if not p.startswith(('sub-', 'ses-'))) or name
