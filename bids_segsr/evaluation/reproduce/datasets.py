"""Where the collections of the articles keep their images, and which image is for what."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from bids_segsr.evaluation.reproduce.dhcp import Scan, find_scans
from bids_segsr.exceptions import UserError

TRAIN, VALIDATION, EVALUATION, TEST = BASES = ('Train', 'Validation', 'Evaluation', 'Test')

HCP_PERSONS = {TRAIN: 780, VALIDATION: 111, EVALUATION: 111, TEST: 111}
"""mDCSRN, section 4.1; RRDG, section 3.1."""
NAMIC_CASES = 20


@dataclass(frozen=True)
class Member:
    """An image of a collection.

    Attributes:
        name: Of the person or the scan.
        base: What it is for: one of BASES.
        image: The image file.
        note: What a person should know of it, or nothing.
        scan: Further files of a dHCP scan; None elsewhere.
    """

    name: str
    base: str
    image: Path
    note: str = ''
    scan: Scan | None = None


@dataclass(frozen=True)
class Collection:
    """What was found of a collection.

    Attributes:
        wanted: How many images each base should have.
        members: Those that are there.
        missing: Name (or number) of what is not there to the reason.
    """

    wanted: dict[str, int]
    members: tuple[Member, ...]
    missing: dict[str, str]


@dataclass(frozen=True)
class Layout:
    """A collection that articles are about.

    Attributes:
        title: Its name.
        find: Looks through the folder that was downloaded.
    """

    title: str
    find: Callable[[Path], Collection]


def dhcp_participants() -> dict[str, str]:
    """Read the lists of SegSRGAN (2020), appendix A.4.

    Returns:
        Participant (with prefix) to 'Train' or 'Test', in the order of the article.
    """
    file = resources.files('bids_segsr.evaluation.reproduce') / 'articles/dhcp_participants.tsv'
    rows = csv.DictReader(file.read_text(encoding='utf-8').splitlines(), delimiter='\t')
    return {row['participant_id']: row['base'] for row in rows}


def _dhcp(folder: Path) -> Collection:
    return _dhcp_of(folder, dhcp_participants())


def _dhcp_2019(folder: Path) -> Collection:
    """Thirty and ten images, which the article does not name: the forty of 2020.

    Its eight test images and, so that there are ten, the last two of its training list.
    """
    bases = dhcp_participants()
    for name in [name for name, base in bases.items() if base == TRAIN][-2:]:
        bases[name] = TEST
    return _dhcp_of(folder, bases)


def _dhcp_of(folder: Path, bases: dict[str, str]) -> Collection:
    scans, missing = find_scans(folder, list(bases))
    members = tuple(
        Member(
            scan.participant,
            bases[scan.participant],
            scan.image,
            f'{scan.session}'
            + (f' (not used: {", ".join(scan.other_sessions)})' if scan.other_sessions else ''),
            scan,
        )
        for scan in scans
    )
    return Collection(_counted(bases.values()), members, missing)


def _kirby(folder: Path) -> Collection:
    """Scans 33 to 42 train, 1 to 5 are tested on.

    The article names the ten last images (Figure 13) and scan 2 as one of the five; the published
    code of its authors trains on scans from 33 on and tests on scan 1.
    """
    files = _files(folder, r'(KKI2009-\d\d)-MPRAGE\.nii(?:\.gz)?')
    bases = {f'KKI2009-{n:02}': TRAIN for n in range(33, 43)}
    bases |= {f'KKI2009-{n:02}': TEST for n in range(1, 6)}
    return Collection(
        _counted(bases.values()),
        tuple(Member(name, base, files[name]) for name, base in bases.items() if name in files),
        {name: f'no {name}-MPRAGE.nii(.gz)' for name in bases if name not in files},
    )


def _namic(folder: Path) -> Collection:
    """The first ten cases are tested on, the last ten train.

    The article gives the numbers alone; 01011 and 01018, in its figures, are tests.
    """
    files = _files(folder, r'(?:case)?(\d{5})-t1w\.nii(?:\.gz)?')
    if not files and _files(folder, r'(\d{5})-t1w\.(?:nhdr|nrrd)'):
        raise UserError(
            f'{folder}: holds NRRD images; write them as NIfTI first (CASE-t1w.nii.gz), for '
            'example with SimpleITK.WriteImage(SimpleITK.ReadImage(OLD), NEW).'
        )
    half = max(1, round(len(files) / 2))
    members = tuple(
        Member(name, TEST if number < half else TRAIN, path)
        for number, (name, path) in enumerate(sorted(files.items()))
    )
    lacking = NAMIC_CASES - len(files)
    missing = {f'{lacking} cases': 'no CASE-t1w.nii(.gz)'} if lacking > 0 else {}
    return Collection({TRAIN: NAMIC_CASES // 2, TEST: NAMIC_CASES // 2}, members, missing)


def _hcp(folder: Path) -> Collection:
    """All persons that have the unprocessed T1w image, split by lot.

    The articles give the numbers alone; with fewer persons, the shares stay.
    """
    found = {}
    for person in sorted(path for path in folder.glob('*') if re.fullmatch(r'\d{6}', path.name)):
        image = person / f'unprocessed/3T/T1w_MPR1/{person.name}_3T_T1w_MPR1.nii.gz'
        if image.is_file():
            found[person.name] = image
    total = sum(HCP_PERSONS.values())
    order = np.random.default_rng(0).permutation(sorted(found)).tolist()
    # the small parts first, one at least, so that a few persons make a trial
    members, start = [], 0
    for base in (VALIDATION, EVALUATION, TEST):
        count = max(1, round(len(order) * HCP_PERSONS[base] / total))
        members += [Member(name, base, found[name]) for name in order[start : start + count]]
        start += count
    members += [Member(name, TRAIN, found[name]) for name in order[start:]]
    lacking = total - len(found)
    what = 'no unprocessed/3T/T1w_MPR1/PERSON_3T_T1w_MPR1.nii.gz'
    missing = {f'{lacking} persons': what} if lacking > 0 else {}
    return Collection(dict(HCP_PERSONS), tuple(members), missing)


LAYOUTS = {
    'dhcp': Layout('developing Human Connectome Project', _dhcp),
    'dhcp-2019': Layout('developing Human Connectome Project', _dhcp_2019),
    'kirby': Layout('Kirby 21', _kirby),
    'namic': Layout('NAMIC Brain Multimodality', _namic),
    'hcp': Layout('Human Connectome Project, young adults', _hcp),
}


def find_collection(layout: str, folder: Path) -> Collection:
    """Look for the images of a collection.

    Args:
        layout: Key of LAYOUTS.
        folder: What was downloaded.

    Returns:
        What is there and what is not.

    Raises:
        UserError: The folder is not there, or holds nothing of the collection.
    """
    if layout not in LAYOUTS:
        raise UserError(f'{layout}: no such collection; give one of {", ".join(LAYOUTS)}.')
    if not folder.is_dir():
        raise UserError(f'{folder}: no such folder; give what was downloaded.')
    found = LAYOUTS[layout].find(folder)
    if not found.members and 'dhcp' not in layout:
        reason = next(iter(found.missing.values()))
        raise UserError(f'{folder}: no image of {LAYOUTS[layout].title} ({reason}).')
    return found


def describe(collection: Collection, *, every: bool) -> list[str]:
    """Tell what was found, a line each.

    Args:
        collection: What was found.
        every: Whether each image gets a line; else only those with a note on what is not used.
    """
    lines = []
    for base, wanted in collection.wanted.items():
        own = [member for member in collection.members if member.base == base]
        lines.append(f'{base}: {len(own)} of {wanted} images')
        lines += [
            f'  {member.name} {member.note}'.rstrip()
            for member in own
            if every or 'not used' in member.note
        ]
    lines += [f'  {name} missing: {reason}' for name, reason in collection.missing.items()]
    return lines


def _files(folder: Path, pattern: str) -> dict[str, Path]:
    """First file of each name, by the part of the name that the pattern's group holds."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob('*')):
        match = re.fullmatch(pattern, path.name)
        if match:
            found.setdefault(match[1], path)
    return found


def _counted(bases: Iterable[str]) -> dict[str, int]:
    listed = list(bases)
    return {base: listed.count(base) for base in BASES if base in listed}
