"""What lies in the anatomical folders of a dataset, by strict names."""

from __future__ import annotations

import errno
import os
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
        misplaced: Why it cannot lie there, or be called so; empty for most.
    """

    path: Path
    folders: dict[str, str]
    misplaced: str = ''

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
        if self.misplaced:
            return self.misplaced
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
    for holder, labels in _holders(root, subjects):
        for path in sorted(_entries(holder / 'anat')):
            if not path.name.startswith('.') and not path.is_dir():
                yield AnatomicalFile(path, labels)


def misplaced_images(
    root: Path, subjects: Iterable[str], modality: str
) -> Iterator[AnatomicalFile]:
    """List what is meant to be an image, and which no reader of BIDS would find.

    Args:
        root: Root of a dataset.
        subjects: Labels without `sub-`.
        modality: BIDS suffix of the images.

    Yields:
        Files beside the folder `anat` or in one that is spelt otherwise, with a suffix or
        extension in other letters, and folders called as an image.
    """
    wanted = tuple(f'_{modality}{extension}' for extension in EXTENSIONS)
    lower = tuple(ending.lower() for ending in wanted)
    for holder, labels in _holders(root, subjects):
        for path in sorted(_entries(holder)):
            if path.name.lower().endswith(lower):
                yield AnatomicalFile(path, labels, 'lies in no folder "anat"; move it there')
            if path.name.lower() != 'anat':
                continue
            for image in sorted(_entries(path)):
                if not image.name.lower().endswith(lower) or image.name.startswith('.'):
                    continue
                if path.name != 'anat':
                    why = f'lies in "{path.name}"; BIDS calls the folder "anat"'
                elif not image.name.endswith(wanted):
                    why = f'BIDS names end with {" or ".join(wanted)}, in these letters; rename it'
                elif image.is_dir():
                    why = 'a folder, no file; put the image in its place'
                else:
                    continue
                yield AnatomicalFile(image, labels, why)


def closed_folders(root: Path, subjects: Iterable[str]) -> Iterator[AnatomicalFile]:
    """List the folders of participants whose files cannot be listed or reached.

    Args:
        root: Root of a dataset.
        subjects: Labels without `sub-`.

    Yields:
        Folders of participants and sessions, and anatomical ones; none below another. All the
        other listings take them for empty.
    """
    for holder, labels in _holders(root, subjects):
        for folder in (holder, holder / 'anat'):
            found = _listed(folder)
            if isinstance(found, OSError):
                why = f'cannot be looked through ({found.strerror}); make it readable'
                yield AnatomicalFile(folder, labels, why)
                break


def _holders(root: Path, subjects: Iterable[str]) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield the folders of participants and sessions, with their labels."""
    for subject in subjects:
        folder = root / f'sub-{subject}'
        yield folder, {'sub': subject}
        for path in sorted(_entries(folder)):
            if path.name.startswith('ses-'):
                yield path, {'sub': subject, 'ses': path.name[4:]}


def read_bidsignore(root: Path) -> list[str]:
    """Return the patterns of `.bidsignore`, which are those of `.gitignore`."""
    try:
        text = (root / '.bidsignore').read_text(encoding='utf-8-sig', errors='replace')
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
    found = _listed(folder)
    return [] if isinstance(found, OSError) else found


def _listed(folder: Path) -> list[Path] | OSError:
    """Return what lies in a folder, nothing where there is none, or why that is not known."""
    try:
        found = list(folder.iterdir())
        if not os.access(folder, os.X_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        return error
    return found


def _told(entity: str, label: str | None) -> str:
    return f'no {entity}-' if label is None else f'{entity}-{label}'
