"""Ratings: one form an image, the last word of each rater in the table."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bids_segsr.exceptions import UserError
from bids_segsr.reports.assembly import Image
from bids_segsr.reports.rating import COLUMNS, rating_section, ratings_tsv, read_ratings


def save(root: Path, name: str, **content: object) -> Path:
    path = root / 'ratings' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {'bids_name': 'sub-01_T2w', 'rating': 'pass', 'rater': 'jd', 'rated_at': '2026'}
    path.write_text(json.dumps({**values, **content}), encoding='utf-8')
    return path


def test_last_rating_of_each_rater_counts(tmp_path: Path) -> None:
    save(tmp_path, 'a.json', rated_at='2026-02-01T10:00:00Z', rating='fail', comment='a\tb\nc')
    save(tmp_path, 'deep/b (1).json', rated_at='2026-01-01T10:00:00Z', rating='pass')
    save(tmp_path, 'c.json', rater='xy', artefacts=['motion', 'other'], rating='doubt')
    save(tmp_path, 'd.json', bids_name='sub-02_T1w')
    found = read_ratings(tmp_path, 'T2w')
    assert [(r['rater'], r['rating']) for r in found] == [('jd', 'fail'), ('xy', 'doubt')]
    rows = [line.split('\t') for line in ratings_tsv(found).splitlines()]
    assert rows[0] == list(COLUMNS)
    assert rows[1][4] == 'a b c'
    assert rows[2][3] == 'motion, other'
    assert rows[2][4] == 'n/a'
    assert {len(row) for row in rows} == {len(COLUMNS)}
    assert [r['bids_name'] for r in read_ratings(tmp_path, 'T1w')] == ['sub-02_T1w']


def test_no_folder_no_ratings(tmp_path: Path) -> None:
    assert read_ratings(tmp_path, 'T2w') == []


@pytest.mark.parametrize('text', ['', '[]', '{"rating": "pass"}', '{"bids_name": 3, "rating": 1}'])
def test_another_file_is_named(text: str, tmp_path: Path) -> None:
    path = save(tmp_path, 'x.json')
    path.write_text(text, encoding='utf-8')
    with pytest.raises(UserError, match=re.escape(str(path))):
        read_ratings(tmp_path, 'T2w')


def test_form_names_its_image_and_escapes() -> None:
    image = Image({'session': '02'}, 'T2w', 'sub-01_ses-02')
    (section,) = rating_section([image], {'sub-01_ses-02_T2w': 'm"<1'})
    ((form, _),) = section.reportlets[0].components
    assert 'data-image="sub-01_ses-02_T2w"' in form
    assert 'data-model="m&quot;&lt;1"' in form
    assert re.findall(r'name="rating" value="(\w+)"', form) == ['pass', 'doubt', 'fail']
    assert rating_section([]) == []
