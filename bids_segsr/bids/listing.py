"""What lies in the anatomical folders of a dataset, by strict names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from bids_segsr.bids.names import LABEL

EXTENSIONS = ('.nii.gz', '.nii')
# Of these a number is an index: run-1 and run-01 are the same.
INDICES = ('run', 'echo', 'flip', 'inv', 'chunk')
_NAME = re.compile(
    r'(?P<pairs>(?:[a-zA-Z0-9]+-[a-zA-Z0-9+]+_)*)(?P<suffix>[a-zA-Z0-9]+)(?P<extension>\.[^/]+)'
)


@dataclass(frozen=True)
class AnatomicalFile:
    """A file of an anatomical folder.

    Attributes:
        path: The file.
        folders: `sub` and `ses` of its folders.
    """

    path: Path
    folders: dict[str, str]

    @cached_property
    def pairs(self) -> dict[str, str] | None:
        """Short entities and labels of its name, indices without leading zeros; None if no BIDS
        name."""
        match = _NAME.fullmatch(self.path.name)
        if match is None:
            return None
        pairs = [pair.split('-', 1) for pair in match['pairs'].split('_')[:-1]]
        found = {key: _normalised(key, value) for key, value in pairs}
        return found if len(found) == len(pairs) else None

    @property
    def extension(self) -> str:
        """`.nii.gz`, `.json` or the like; '' where the name is no BIDS name."""
        match = _NAME.fullmatch(self.path.name)
        return match['extension'] if match else ''

    @property
    def suffix(self) -> str:
        """Last part of the name before the extension, such as `T2w`."""
        return self.path.name.partition('.')[0].rpartition('_')[2]

    @property
    def stem(self) -> str:
        """Name without extension."""
        return self.path.name.partition('.')[0]

    @property
    def trouble(self) -> str | None:
        """Why the name is none that BIDS allows at this place, in one line, or None."""
        for entity, label in self.folders.items():
            if not LABEL.fullmatch(label):
                return f'{entity}-{label}: no BIDS label (letters and digits only); rename it'
        if self.pairs is None:
            return (
                'no BIDS name (entity-label pairs of letters and digits, then the suffix); '
                'rename it'
            )
        for entity in ('sub', 'ses'):
            named, folder = self.pairs.get(entity), self.folders.get(entity)
            if named != folder:
                return (
                    f'{_told(entity, named)} in the name, but {_told(entity, folder)} in the '
                    'folder; move or rename it'
                )
        return None


def anatomical_files(root: Path, subjects: Iterable[str]) -> Iterator[AnatomicalFile]:
    """List the files in the anatomical folders of participants; nothing else is walked.

    Args:
        root: Root of a dataset.
        subjects: Labels without `sub-`.

    Yields:
        The files, and links to files whether or not they lead anywhere, sorted.
    """
    for subject in subjects:
        folder = root / f'sub-{subject}'
        sessions = sorted(path for path in _entries(folder) if path.name.startswith('ses-'))
        for holder, labels in (
            (folder, {'sub': subject}),
            *((path, {'sub': subject, 'ses': path.name[4:]}) for path in sessions),
        ):
            for path in sorted(_entries(holder / 'anat')):
                if not path.name.startswith('.') and not path.is_dir():
                    yield AnatomicalFile(path, labels)


def read_bidsignore(root: Path) -> list[str]:
    """Return the patterns of `.bidsignore`, which are those of `.gitignore`."""
    try:
        text = (root / '.bidsignore').read_text(encoding='utf-8', errors='replace')
    except OSError:
        return []
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith('#')]


def is_ignored(path: PurePosixPath, patterns: Sequence[str]) -> bool:
    """Tell whether patterns of `.gitignore` leave out a file, or a folder above it.

    Args:
        path: Relative to the root of the dataset.
        patterns: See `read_bidsignore`; the last that fits decides, `!` takes back.
    """
    for candidate in (*reversed(path.parents[:-1]), path):
        ignored = False
        for pattern in patterns:
            taken_back = pattern.startswith('!')
            if _fits(candidate, pattern.removeprefix('!'), is_folder=candidate != path):
                ignored = not taken_back
        if ignored:
            return True
    return False


def _fits(path: PurePosixPath, pattern: str, *, is_folder: bool) -> bool:
    if pattern.endswith('/') and not is_folder:
        return False
    pattern = pattern.rstrip('/')
    if '/' not in pattern:
        return re.fullmatch(_expression(pattern), path.name) is not None
    return re.fullmatch(_expression(pattern.removeprefix('/')), str(path)) is not None


def _expression(pattern: str) -> str:
    """Translate a pattern of `.gitignore` to a regular expression."""
    return ''.join(map(_token, re.findall(r'\*\*/|/\*\*|\*|\?|\[[^\]]+\]|.', pattern)))


def _token(token: str) -> str:
    wild = {'**/': '(?:.*/)?', '/**': '/.*', '*': '[^/]*', '?': '[^/]'}
    if token in wild:
        return wild[token]
    if len(token) > 2:
        return '[' + re.sub('^!', '^', token[1:-1].replace('\\', '\\\\')) + ']'
    return re.escape(token)


def _normalised(key: str, value: str) -> str:
    return str(int(value)) if key in INDICES and value.isdecimal() else value


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _told(entity: str, label: str | None) -> str:
    return f'no {entity}-' if label is None else f'{entity}-{label}'
