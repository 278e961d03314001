"""Where a run is, in one line: a moving one on a terminal, plain ones elsewhere."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, TextIO

from tqdm import tqdm

from bids_segsr.bids.names import label_of_node
from bids_segsr.files import SHARE_FILE, read_share

STEPS = {
    'conform': 'reading',
    'bias_field': 'bias field',
    'brain_mask': 'brain mask',
    'interpolate': 'interpolation',
    'superresolve': 'network',
    'fidelity': 'fidelity check',
    'collect_qc': 'QC',
    'draw': 'report',
}
"""Nodes of an image to what a person calls them."""

logger = logging.getLogger(__name__)

_STEP = re.compile(r'\.image\.(?P<step>\w+)$|\.figures\.(?P<draw>draw)_')
_PLAIN_EVERY = 30.0
"""Seconds between two plain lines about one step."""
_MOVES_EVERY = 0.2
_MOST_NAMED = 5


class _Bar(tqdm):
    # a thread of its own would be forked into the workers
    monitor_interval = 0


class ProgressLine:
    """`[2/3 images] sub-01_run-1_T2w · network · 41 % · 01:40 left`.

    Args:
        images: Names, in the order in which they are counted.
        quiet: Whether nothing is shown.
        stream: Where to; None for standard error.
    """

    def __init__(
        self, images: Sequence[str], *, quiet: bool = False, stream: TextIO | None = None
    ) -> None:
        self._numbers = {image: number for number, image in enumerate(images, start=1)}
        self._stream = sys.stderr if stream is None else stream
        self._quiet = quiet
        self._bar = (
            _Bar(bar_format='{desc}', file=self._stream, leave=False, dynamic_ncols=True)
            if self._stream.isatty() and not quiet
            else None
        )
        self._begun: dict[tuple[str, str], float] = {}
        self._shown: tuple[str, str] | None = None
        self._share = 0.0
        self._last = 0.0

    def begin(self, image: str, step: str) -> None:
        """Tell of a step, unless it is the one that is shown."""
        if (image, step) == self._shown:
            return
        new = (image, step) not in self._begun
        self._shown, self._share = (image, step), 0.0
        self._begun.setdefault((image, step), time.monotonic())
        if self._bar is not None or new:
            self._write()

    def advance(self, share: float) -> None:
        """Tell how much of the step is done, 0 to 1."""
        self._share = min(max(share, self._share), 1.0)
        self.tick()

    def follow(self, image: str, step: str, share: float) -> None:
        """Tell of a step and of the share of it that is done."""
        self.begin(image, step)
        self.advance(share)

    def tick(self) -> None:
        """Move, where it is time to."""
        every = _PLAIN_EVERY if self._bar is None else _MOVES_EVERY
        if self._shown is not None and time.monotonic() - self._last >= every:
            self._write()

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Move while a step computes, in a thread; nothing may be forked meanwhile."""
        ended = Event()

        def move() -> None:
            while not ended.wait(_MOVES_EVERY):
                self.tick()

        mover = Thread(target=move, daemon=True)
        mover.start()
        try:
            yield
        finally:
            ended.set()
            mover.join()
            self.close()

    def say(self, line: str, stream: TextIO | None = None) -> None:
        """Write a line above the moving one.

        Args:
            line: The line.
            stream: Where to; None for that of the moving line.
        """
        target = self._stream if stream is None else stream
        with tqdm.external_write_mode(file=target):
            target.write(f'{line}\n')
            target.flush()

    def close(self) -> None:
        """Take the moving line away."""
        self._shown = None
        if self._bar is not None:
            self._bar.close()

    def text(self) -> str:
        """Return the line."""
        if self._shown is None:
            return ''
        image, step = self._shown
        passed = time.monotonic() - self._begun[self._shown]
        parts = [f'[{self._numbers.get(image, 1)}/{len(self._numbers)} images] {image}', step]
        if self._share > 0:
            left = passed * (1 - self._share) / self._share
            parts += [f'{self._share:.0%}'.replace('%', ' %'), f'{_clock(left)} left']
        elif passed >= 1:
            parts.append(_clock(passed))
        return ' · '.join(parts)

    def _write(self) -> None:
        self._last = time.monotonic()
        if self._bar is not None:
            self._bar.set_description_str(self.text())
        elif not self._quiet:
            self.say(self.text())


class NodeProgress:
    """Tells a line of Nipype's nodes; a plugin calls it, and `tick` while it waits.

    Args:
        line: What shows it.
    """

    def __init__(self, line: ProgressLine) -> None:
        self._line = line
        self._running: dict[str, tuple[str, str, Path]] = {}

    def __call__(self, node: Any, status: str) -> None:
        """Take note of a node.

        Args:
            node: Named `<run>.<image>_wf.image.<step>`, or `.figures.draw_...`.
            status: 'start', 'end' or 'exception'.
        """
        name, found = node.fullname, _STEP.search(node.fullname)
        step = STEPS.get((found['step'] or found['draw']) if found else '')
        if step is None:
            return
        if status == 'start':
            folder = Path(node.output_dir())
            with suppress(OSError):  # of a run that was killed
                (folder / SHARE_FILE).unlink(missing_ok=True)
            self._running[name] = label_of_node(name), step, folder
            self._line.begin(*self._running[name][:2])
        else:
            self._running.pop(name, None)
        logger.info('%s: %s, %s', label_of_node(name), step, status)

    def tick(self) -> None:
        """Show what has run longest."""
        if not self._running:
            self._line.tick()
            return
        image, step, folder = next(iter(self._running.values()))
        self._line.begin(image, step)
        self._line.advance(read_share(folder))


def summary(images: int, warned: Sequence[str], failed: Sequence[str]) -> str:
    """Return the last line of a run.

    Args:
        images: How many there were.
        warned: Names of those that are done and were warned of.
        failed: Names of those without a result.
    """
    done = f'{images - len(failed)} of {images} images done'
    if warned:
        done += f', {len(warned)} with warnings ({_listed(warned)})'
    return f'{done}; {len(failed)} failed ({_listed(failed)})' if failed else done


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ', '.join(names[:_MOST_NAMED]) + (f' and {more} more' if more > 0 else '')


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{rest:02}' if hours else f'{minutes:02}:{rest:02}'
