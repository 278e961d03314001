"""Download of the released SegSRGAN weights: on request only, resumed, verified, imported.

A file counts once its git blob id is the one that the repository of the authors gives it. It is
then imported (see `bids_segsr.zoo.keras_import`) and kept as safetensors with its card.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from filelock import FileLock

from bids_segsr.exceptions import ModelError
from bids_segsr.zoo.card import read_card
from bids_segsr.zoo.find import FOLDER_VARIABLE, local_folder
from bids_segsr.zoo.keras_import import load_keras
from bids_segsr.zoo.released import FOLDER, RELEASED, ReleasedWeights
from bids_segsr.zoo.store import CARD_FILE, WEIGHTS_FILE, file_sha256, save_model

if TYPE_CHECKING:
    from requests import Response

MIRRORS_VARIABLE = 'BIDS_SEGSR_MIRRORS'
"""Environment variable: URLs of folders with the released files, separated by blanks or commas."""
REPOSITORY_URL = f'https://raw.githubusercontent.com/koopa31/SegSRGAN/HEAD/{FOLDER}'
BLOB_URL = 'https://api.github.com/repos/koopa31/SegSRGAN/git/blobs'
DOWNLOAD_LIMIT = 2**26
"""Longest file that is taken, bytes; the 12.6 million weights of a snapshot are 50 million."""
ATTEMPTS = 4
"""How often a source may fail in a row without getting further."""
PAUSE_S = 2.0
TIMEOUT_S = 30
LONGEST_S = 600
"""How long one source may take; what it gave is kept, and the next call goes on from there."""


def fetch(
    name: str,
    folder: Path | None = None,
    mirrors: Sequence[str] = (),
    *,
    progress: bool = False,
) -> Path:
    """Download one of the released weight files and store it as a model.

    What was downloaded before a connection broke is kept in the folder and gone on from, now or
    in the next call. Proxies are those of the environment (HTTPS_PROXY, NO_PROXY).

    Args:
        name: Key of `bids_segsr.zoo.released.RELEASED`.
        folder: Folder of models; `local_folder` when None.
        mirrors: URLs of folders that hold the files under their original names; tried first, then
            those of BIDS_SEGSR_MIRRORS, then the repository of the authors.
        progress: Show a progress bar.

    Returns:
        Folder of the model; at once when it is there already and undamaged.

    Raises:
        ModelError: If the name is unknown, no source gives the file, or the folder cannot be
            written to.
    """
    if name not in RELEASED:
        raise ModelError(f'{name}: not a released model; known are {", ".join(RELEASED)}')
    weights = RELEASED[name]
    folder = folder or local_folder()
    target = folder / name
    if _undamaged(target):
        return target
    sources = list(_sources(weights, mirrors))
    incoming = folder / '.incoming'
    part = incoming / f'{weights.blob}.part'
    try:
        incoming.mkdir(parents=True, exist_ok=True)
        with FileLock(incoming / f'{name}.lock'):
            if _undamaged(target):
                return target
            _download(weights, part, sources, progress)
            network, card = load_keras(part)
            made = save_model(incoming / name, network, weights.card(card))
            shutil.rmtree(target, ignore_errors=True)
            made.replace(target)
            part.unlink()
    except OSError as error:
        raise ModelError(
            f'{folder}: cannot be written ({error.strerror or error}); give another folder with '
            f'--output or {FOLDER_VARIABLE}'
        ) from error
    return target


def git_blob_id(path: Path) -> str:
    """Name that git gives to the content of a file.

    Args:
        path: The file.

    Returns:
        SHA-1 of ``blob <size>\\0`` and the content, hexadecimal.
    """
    # To find another content for a given SHA-1 is out of reach, and it is what was published.
    digest = hashlib.sha1(f'blob {path.stat().st_size}\0'.encode(), usedforsecurity=False)
    with path.open('rb') as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


@dataclass(frozen=True)
class _Source:
    url: str
    headers: dict[str, str] = field(default_factory=dict)


def _sources(weights: ReleasedWeights, mirrors: Sequence[str]) -> Iterator[_Source]:
    for mirror in (*mirrors, *re.split(r'[\s,]+', os.environ.get(MIRRORS_VARIABLE, ''))):
        if mirror and not re.match('https?://', mirror):
            raise ModelError(f'{mirror}: not a mirror; give a URL that starts with https://')
        if mirror:
            yield _Source(f'{mirror.rstrip("/")}/{weights.file}')
    yield _Source(f'{REPOSITORY_URL}/{weights.file}')
    # By content, wherever the file may have been moved to.
    yield _Source(f'{BLOB_URL}/{weights.blob}', {'Accept': 'application/vnd.github.raw+json'})


def _undamaged(target: Path) -> bool:
    try:
        return read_card(target / CARD_FILE).sha256 == file_sha256(target / WEIGHTS_FILE)
    except (ModelError, OSError):
        return False


def _download(
    weights: ReleasedWeights, part: Path, sources: Sequence[_Source], progress: bool
) -> None:
    if _size(part) and git_blob_id(part) == weights.blob:
        return
    problems = []
    for source in sources:
        problem = _complete(part, weights.blob, source, progress)
        if problem is None:
            return
        problems.append(f'{source.url}: {problem}')
    if not _size(part):
        part.unlink(missing_ok=True)
    raise ModelError(
        f'{weights.name}: not fetched ({"; ".join(problems)}); try again later, or give a mirror '
        f'with --mirror or {MIRRORS_VARIABLE}'
    )


def _complete(part: Path, blob: str, source: _Source, progress: bool) -> str | None:
    """Bring a partial file to its end; return what went wrong, None if it is the one wanted."""
    import requests

    foreign = _size(part) > 0
    failures, furthest, problem = 0, _size(part), ''
    end = time.monotonic() + LONGEST_S
    while failures < ATTEMPTS:
        time.sleep(PAUSE_S * failures)
        before = _size(part)
        try:
            _append(part, source, progress, end - time.monotonic())
        except TimeoutError:
            return f'too slow, {_size(part)} bytes in {LONGEST_S:g} s; they are kept'
        except _UnsuitableError as error:
            part.unlink()
            return f'{error}; removed'
        except requests.HTTPError as error:
            status = error.response.status_code
            if status == requests.codes.requested_range_not_satisfiable and before:
                part.unlink()
            elif status < 500:
                return f'HTTP {status} {error.response.reason}'
            failures, problem = failures + 1, f'HTTP {status} {error.response.reason}'
        except requests.RequestException as error:
            if isinstance(error, ValueError):
                return 'not a valid URL'
            size, reason = _size(part), type(error).__name__
            failures = failures + 1 if size <= furthest else 0
            furthest = max(furthest, size)
            problem = f'connection lost at {size} bytes' if size else f'no connection ({reason})'
        except ValueError as error:
            return f'no proper answer ({error})'
        else:
            if git_blob_id(part) == blob:
                return None
            part.unlink()
            if not foreign:
                return 'not the released file, or damaged (its git blob id differs); removed'
            # What another source or run had left may have been at fault.
            foreign = False
    return problem


def _append(part: Path, source: _Source, progress: bool, seconds: float) -> None:
    """Ask a source for what a partial file lacks, and add it; TimeoutError after some seconds."""
    from pooch import HTTPDownloader

    with part.open('ab') as file:
        output = _PartialFile(file, _size(part))

        def check(response: Response, **_: Any) -> None:
            # A server that ignores the range sends the file from its start.
            if response.status_code == 200:
                output.restart()
            if response.ok:
                output.expect(int(response.headers.get('Content-Length', 0)))

        headers = {**source.headers, 'Accept-Encoding': 'identity'}
        if output.size:
            headers['Range'] = f'bytes={output.size}-'
        download = HTTPDownloader(
            progressbar=progress,
            chunk_size=2**16,
            headers=headers,
            timeout=TIMEOUT_S,
            hooks={'response': check},
        )
        _within(seconds, lambda: download(source.url, output, None))


def _within(seconds: float, action: Callable[[], object]) -> None:
    """Do something that may wait for a server for ever, a byte at a time.

    Args:
        seconds: How long it may take.
        action: What is done, in a thread of its own, which is left to itself after that.

    Raises:
        TimeoutError: If it has not ended.
    """
    failures: list[Exception] = []

    def run() -> None:
        try:
            action()
        except Exception as error:  # raised again where it is waited for
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(max(seconds, 0))
    if thread.is_alive():
        raise TimeoutError
    if failures:
        raise failures[0]


class _UnsuitableError(Exception):
    """A source sends something that cannot be the file."""


class _PartialFile:
    """A file that is added to and does not grow beyond DOWNLOAD_LIMIT."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self.size = size

    def restart(self) -> None:
        self._file.truncate(0)
        self.size = 0

    def expect(self, more: int) -> None:
        if self.size + more > DOWNLOAD_LIMIT:
            raise _UnsuitableError(f'more than {DOWNLOAD_LIMIT} bytes')

    def write(self, chunk: bytes) -> None:
        self.expect(len(chunk))
        self._file.write(chunk)
        self.size += len(chunk)

    def flush(self) -> None:
        self._file.flush()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
