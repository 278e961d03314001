"""What became of a level of the App."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What a level gives to whoever started it.

    Attributes:
        shown: Paths of reports and tables, or what would be done: one line or more each.
        fine: Whether every image has a result and every participant a report.
        built: Whether the workflow could be built.
    """

    shown: Sequence[str] = ()
    fine: bool = True
    built: bool = True
