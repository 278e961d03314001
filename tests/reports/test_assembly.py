"""Sections of figures, with nireports and without."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from test_subject import RUN, SECTIONS, FakeSettings, body

from bids_segsr.reports.assembly import Image, find_images
from bids_segsr.reports.subject import count_problems, generate_report


def test_report_when_nireports_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tree: tuple[Path, FakeSettings]
) -> None:
    from nireports.assembler import report as assembler

    def fail(*args: object, **kwargs: object) -> None:
        raise ValueError('no layout <x>')

    monkeypatch.setattr(assembler.Report, 'index', fail)
    root = tmp_path / 'out'
    shutil.copytree(tree[0], root)
    report = generate_report(root, '01', RUN, tree[1])
    text = body(report)
    assert re.findall(r'<section id="([\w-]+)"', text) == SECTIONS
    assert len(re.findall(r'\b(?:src|data)="\./([^"]+)"', text)) == 21
    assert 'nireports failed (ValueError: no layout &lt;x&gt;)' in text
    assert count_problems(report) == 4


def test_folder_above_that_looks_like_an_entity(
    tmp_path: Path, tree: tuple[Path, FakeSettings]
) -> None:
    root = tmp_path / 'sub-lab' / 'anat' / 'out'
    shutil.copytree(tree[0], root)
    report = generate_report(root, '01', RUN, tree[1])
    assert len(re.findall(r'\b(?:src|data)="\./([^"]+)"', body(report))) == 21
    assert count_problems(report) == 3


def test_images_are_found_by_their_figures_and_ordered_as_counted(tmp_path: Path) -> None:
    for name in (
        'sub-01_ses-2_run-10_desc-qc_T2w.html',
        'sub-01_ses-2_run-9_desc-n4_T2w.svg',
        'sub-01_ses-2_run-9_desc-qc_T2w.html',
        'sub-01_ses-1_acq-tse_desc-n4_T1w.svg',
        'sub-01_ses-1_desc-thumbnail_T2w.jpg',
        'sub-01_notes.html',
    ):
        (tmp_path / name).touch()
    found = find_images(tmp_path)
    assert [image.label for image in found] == [
        'sub-01_ses-1_acq-tse_T1w', 'sub-01_ses-2_run-9_T2w', 'sub-01_ses-2_run-10_T2w',
    ]  # fmt: skip
    assert found[0].title == 'Session 1, acquisition tse, T1w'
    assert found[0].entities == {'session': '1', 'acquisition': 'tse'}
    assert find_images(tmp_path / 'missing') == []


def test_names_that_are_no_identifiers_become_some() -> None:
    assert Image({}, 'T2w', 'sub-01_acq-a+b').anchor == 'sub-01-acq-a-b-T2w'
