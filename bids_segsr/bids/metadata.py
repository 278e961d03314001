"""The sidecars of an image, inherited as BIDS defines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bids_segsr.bids.listing import AnatomicalFile
from bids_segsr.exceptions import UserError


def read_metadata(image: AnatomicalFile, root: Path) -> dict[str, Any]:
    """Read the sidecars of an image, the closer ones last.

    pybids reads the sidecars of all files of a dataset to answer for one, and stops at the first
    that is broken; here those of the image alone are read (Inheritance Principle of BIDS: a
    sidecar in the folder of the image or above whose suffix is the image's and whose entities the
    image has).

    Args:
        image: The image, with a BIDS name.
        root: Root of the dataset.

    Returns:
        The values.

    Raises:
        UserError: A sidecar cannot be read, or holds no JSON object; it is named.
    """
    values: dict[str, Any] = {}
    folder = image.path.parent
    above = [folder, *folder.parents]
    for place in reversed(above[: above.index(root) + 1]):
        for sidecar in _applicable(image, place):
            values |= read_sidecar(sidecar.path)
    return values


def _applicable(image: AnatomicalFile, folder: Path) -> list[AnatomicalFile]:
    """Return the sidecars of an image in one folder, the most specific last."""
    sidecars = [
        AnatomicalFile(path, image.folders) for path in folder.glob(f'*{image.suffix}.json')
    ]
    own = (image.pairs or {}).items()
    found = [
        sidecar
        for sidecar in sidecars
        if sidecar.suffix == image.suffix
        and sidecar.pairs is not None
        and sidecar.pairs.items() <= own
    ]
    return sorted(found, key=lambda sidecar: (len(sidecar.pairs or {}), sidecar.path))


def read_sidecar(path: Path) -> dict[str, Any]:
    """Read one sidecar.

    Raises:
        UserError: It cannot be read, or holds no JSON object; it is named.
    """
    if path.is_symlink() and not path.exists():
        raise UserError(
            f'{path}: a broken link, the sidecar is not here; fetch it (DataLad: datalad get '
            f'{path.name}), or mend the link'
        )
    try:
        # some editors begin a file with a byte order mark
        content = json.loads(path.read_text(encoding='utf-8-sig'))
    except OSError as error:
        raise UserError(f'{path}: the sidecar cannot be read ({error.strerror})') from None
    except (ValueError, RecursionError) as error:
        text = ' '.join(str(error).split())
        raise UserError(f'{path}: the sidecar is not valid JSON ({text}); mend it') from None
    if not isinstance(content, dict):
        raise UserError(f'{path}: the sidecar is no JSON object ({{"name": value}}); mend it')
    return content
