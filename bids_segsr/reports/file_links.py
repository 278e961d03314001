"""Where the files of each image lie, as links."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from bids_segsr.bids.names import derivatives_of
from bids_segsr.reports.assembly import Image, Reportlet, Section


def files_section(root: Path, images: Sequence[Image]) -> list[Section]:
    """Return the section that lists the files of every image, or none.

    Args:
        root: Root of the derivatives.
        images: What the report shows.
    """
    section = Section('files', 'Files')
    for image in images:
        # a sidecar lies beside its image
        paths = [
            path
            for path in derivatives_of(root, image.label)
            if not path.name.endswith('.json') or path.name.endswith('_qc.json')
        ]
        lines = [
            f'<li><a class="file" href="./{quote(path.relative_to(root).as_posix())}">'
            f'{escape(path.name)}</a></li>'
            for path in sorted(paths)
        ]
        if len(lines) > 1:
            links = f'<ul class="files">{"".join(lines)}</ul>'
            section.reportlets.append(
                Reportlet(f'files-{image.anchor}', [(links, None)], image.title)
            )
    return [section] if section.reportlets else []


def without_links(text: str) -> str:
    """Return the text of a report that is sent: names of files, which lie elsewhere."""
    return re.sub(r'<a class="file" href="[^"]*">([^<]*)</a>', r'<code>\1</code>', text)
