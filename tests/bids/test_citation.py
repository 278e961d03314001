"""The bibliography of the methods text."""

from __future__ import annotations

from pathlib import Path

from bids_segsr.bids.citation import bibliography, write_citation


def test_five_papers_are_in_the_bibliography() -> None:
    entries = bibliography()

    assert {'segsrgan', 'segsrgan_isbi', 'recnn', 'mdcsrn', 'rrdg'} <= set(entries)
    for key, entry in entries.items():
        assert entry.count('{') == entry.count('}'), key


def test_the_cited_entries_alone_are_written_in_the_order_of_the_text(tmp_path: Path) -> None:
    text, bib = write_citation(tmp_path, 'Made by mDCSRN [@mdcsrn] after N4 [@n4]; see [@mdcsrn].')

    assert text == tmp_path / 'logs' / 'CITATION.md'
    entries = bibliography()
    assert bib.read_text(encoding='utf-8') == f'{entries["mdcsrn"]}\n\n{entries["n4"]}\n'
