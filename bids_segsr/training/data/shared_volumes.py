"""Volumes that cost much to make, shared by the workers that cut patches from them."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from torch import Tensor

from bids_segsr.files import complete

AHEAD = 64
"""So many numbers further on a worker looks for a volume to make while others make its own."""

WAIT_SECONDS = 0.02


class DeviceVolumes:
    """Numbered volumes in the memory of a GPU, made when they are asked for.

    Args:
        make: Number to volume; the same one always.
        keep: How many are kept; the one that was not asked for the longest goes first.
    """

    def __init__(self, make: Callable[[int], Tensor], keep: int) -> None:
        self.get = lru_cache(maxsize=keep)(make)


class SharedVolumes:
    """Numbered volumes in a folder; each is made by one process and read by all.

    A process whose volume is just being made by another one makes one of the next in the
    meantime, so that no work is done twice and nobody waits as long as there is any.

    Args:
        folder: Where they lie; made. Its name must tell apart what `make` gives.
        make: Number to array; the same one always.
        keep: Volume n - keep is deleted when volume n is made; None keeps all.
        count: How many there are at most; None for no end.
    """

    def __init__(
        self,
        folder: Path,
        make: Callable[[int], np.ndarray],
        keep: int | None = None,
        count: int | None = None,
    ) -> None:
        self.folder = folder
        self.make = make
        self.keep = keep
        self.count = count

    def get(self, number: int) -> np.ndarray:
        """Return volume `number`, mapped into memory, read-only."""
        while (volume := self._existing(number)) is None:
            if not self._make_one_of(range(number, self._end(number))):
                time.sleep(WAIT_SECONDS)
        return volume

    def _end(self, number: int) -> int:
        end = number + 1 + AHEAD
        return end if self.count is None else max(min(end, self.count), number + 1)

    def _existing(self, number: int) -> np.ndarray | None:
        try:
            volume: np.ndarray = np.load(self._path(number), mmap_mode='r')
        except FileNotFoundError:
            return None
        return volume

    def _make_one_of(self, numbers: range) -> bool:
        self.folder.mkdir(parents=True, exist_ok=True)
        missing = (number for number in numbers if not self._path(number).exists())
        return any(self._made(number) for number in missing)

    def _made(self, number: int) -> bool:
        """Make a volume unless another process does."""
        path = self._path(number)
        try:
            with FileLock(self._lock(number), timeout=0):
                if not path.exists():
                    volume = self.make(number)
                    with complete(path) as part:
                        np.save(part, volume)
        except Timeout:
            return False
        if self.keep is not None:
            self._path(number - self.keep).unlink(missing_ok=True)
            self._lock(number - self.keep).unlink(missing_ok=True)
        return True

    def _path(self, number: int) -> Path:
        return self.folder / f'{number}.npy'

    def _lock(self, number: int) -> Path:
        return self.folder / f'{number}.lock'
