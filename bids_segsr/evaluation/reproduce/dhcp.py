"""Where the releases of the developing Human Connectome Project keep their neonatal images.

All three have a folder ``sub-<participant>/ses-<session>/anat`` with a T2w image of 0.5 mm,
corrected for bias, a Draw-EM segmentation into nine tissues and brain masks, under other names:
release 1 (2017), 2 (2019) and 3 (2021), as their release notes list them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bids_segsr.exceptions import UserError

CORTEX = 2
"""Cortical grey matter among the tissues of Draw-EM; 1 is cerebrospinal fluid, 3 white matter."""

_IMAGES = ('T2w_restore', 'desc-restore_T2w')
_TISSUES = ('drawem_tissue_labels', 'desc-drawem9_space-T2w_dseg', 'desc-drawem9_dseg')
# BET's mask first, the one that all releases have.
_MASKS = (
    'brainmask_bet',
    'desc-bet_space-T2w_brainmask',
    'desc-brain_mask',
    'brainmask_drawem',
    'desc-drawem_space-T2w_brainmask',
)
_KINDS = {'bias-corrected T2w image': _IMAGES, 'tissue labels': _TISSUES, 'brain mask': _MASKS}
_FOLDERS = ('derivatives', '*anat_pipeline', 'derivatives/*anat_pipeline')


@dataclass(frozen=True)
class Scan:
    """Files of one scan, all on one grid.

    Attributes:
        participant: With prefix, e.g. ``sub-CC00122XX07``.
        session: With prefix.
        image: T2w, bias field corrected, 0.5 mm, with what lies around the brain.
        tissues: Draw-EM tissue labels.
        mask: Brain mask.
        other_sessions: Further sessions of the participant that have these files.
    """

    participant: str
    session: str
    image: Path
    tissues: Path
    mask: Path
    other_sessions: tuple[str, ...] = ()


def find_scans(release: Path, participants: Sequence[str]) -> tuple[list[Scan], dict[str, str]]:
    """Find the scans of participants in a release as downloaded.

    The article names participants, no sessions; of several, the first is taken.

    Args:
        release: The release, its folder ``derivatives`` or that of its anatomical pipeline.
        participants: With prefix ``sub-``.

    Returns:
        The scans that are there, in the order of the participants, and why others are not.

    Raises:
        UserError: If the folder holds no participant at all.
    """
    roots = _roots(release)
    scans, missing = [], {}
    for participant in participants:
        found = _scan(roots, participant)
        if isinstance(found, Scan):
            scans.append(found)
        else:
            missing[participant] = found
    return scans, missing


def _roots(release: Path) -> list[Path]:
    if not release.is_dir():
        raise UserError(f'{release}: no such folder; give that of a dHCP release.')
    inner = (folder for pattern in _FOLDERS for folder in sorted(release.glob(pattern)))
    roots = [folder for folder in (release, *inner) if any(folder.glob('sub-*/ses-*/anat'))]
    if not roots:
        raise UserError(
            f'{release}: no dHCP release (no sub-*/ses-*/anat in it, in derivatives or in '
            'dhcp_anat_pipeline); give the folder that was downloaded.'
        )
    return roots


def _scan(roots: Sequence[Path], participant: str) -> Scan | str:
    """The first complete session of a participant, or what is missing."""
    sessions = sorted(path for root in roots for path in root.glob(f'{participant}/ses-*'))
    if not sessions:
        return 'no such folder'
    complete: list[Scan] = []
    lacking: dict[str, None] = {}
    for session in sessions:
        files = {kind: _file(session, participant, names) for kind, names in _KINDS.items()}
        image, tissues, mask = files.values()
        if image and tissues and mask:
            complete.append(Scan(participant, session.name, image, tissues, mask))
        else:
            lacking |= dict.fromkeys(kind for kind, path in files.items() if path is None)
    if not complete:
        return f'no {" and no ".join(lacking)} in {sessions[0] / "anat"}'
    first, *others = complete
    return Scan(
        first.participant,
        first.session,
        first.image,
        first.tissues,
        first.mask,
        tuple(other.session for other in others),
    )


def _file(session: Path, participant: str, names: Sequence[str]) -> Path | None:
    for name in names:
        path = session / 'anat' / f'{participant}_{session.name}_{name}.nii.gz'
        if path.is_file():
            return path
    return None
