"""The methods text of a run and its bibliography, as files."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from bids_segsr.files import write_text

KEY = re.compile(r'@([a-z][a-z0-9_]*)')


def write_citation(root: Path, text: str) -> tuple[Path, Path]:
    """Write `logs/CITATION.md` and `logs/CITATION.bib`.

    Args:
        root: Root of the derivatives.
        text: Methods text with citation keys, see `inference.methods_text`.

    Returns:
        Paths of the text and of the bibliography, which holds the cited entries alone.
    """
    entries = bibliography()
    keys = dict.fromkeys(KEY.findall(text))
    bib = '\n\n'.join(entries[key] for key in keys) + '\n'
    return (
        write_text(root / 'logs' / 'CITATION.md', text),
        write_text(root / 'logs' / 'CITATION.bib', bib),
    )


def bibliography() -> dict[str, str]:
    """Return the BibTeX entries of the papers and the software, by key."""
    text = files('bids_segsr.bids').joinpath('boilerplate.bib').read_text(encoding='utf-8')
    entries = [entry.strip() for entry in re.split(r'\n(?=@)', text) if entry.strip()]
    return {entry[entry.index('{') + 1 : entry.index(',')]: entry for entry in entries}
