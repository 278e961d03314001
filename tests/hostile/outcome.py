"""What became of a hostile input: four counts that must be 0."""

from __future__ import annotations

import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from bids_segsr.exceptions import UserError

LONGEST_S = 20
"""A small input that takes longer hangs."""


class Tally:
    """Counts tracebacks, hangs, results that are missing or wrong without a word, and other
    images that were lost."""

    FAULTS = ('traceback', 'hang', 'silent', 'lost')

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.told: list[str] = []

    def add(self, kind: str, case: str, detail: str = '') -> None:
        """Count an outcome; a fault is told with its case."""
        self.counts[kind] += 1
        if kind in self.FAULTS:
            self.told.append(f'{case}: {kind}: {detail}')

    def run(self, case: str, work: Callable[[], str | None]) -> None:
        """Do something with an input.

        Args:
            case: Name of the case, for messages.
            work: Returns what is wrong with its result, or None.
        """
        try:
            with _bounded():
                wrong = work()
        except UserError as error:
            lines = str(error).splitlines()
            self.add('refused' if len(lines) == 1 else 'traceback', case, str(error))
        except TimeoutError:
            self.add('hang', case)
        except Exception:
            self.add('traceback', case, traceback.format_exc(limit=-3))
        else:
            self.add('fine' if wrong is None else 'silent', case, wrong or '')

    def check(self) -> None:
        """Fail with all that went wrong."""
        faults = {kind: self.counts[kind] for kind in self.FAULTS}
        assert not any(faults.values()), f'{faults}\n' + '\n'.join(self.told[:20])


@contextmanager
def _bounded() -> Iterator[None]:
    def stop(_: int, __: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONGEST_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
