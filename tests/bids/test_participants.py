"""Ages as data sets tell them, and the brains that they let expect."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bids_segsr.bids.participants import Age, brain_ml_expected, find_age


def write(root: Path, header: str, row: str, units: str | None = None, name: str = '') -> None:
    table = root / (name or 'participants.tsv')
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text(f'{header}\n{row}\n'.replace(' ', '\t'), encoding='utf-8')
    if units:
        table.with_suffix('.json').write_text(json.dumps({'age': {'Units': units}}))


@pytest.mark.parametrize(
    ('column', 'value', 'units', 'weeks'),
    [
        ('age', '34', None, (1814.1, 1814.1)),
        ('age', '89+', 'years', (4684.0, 4684.0)),
        ('age', '6', 'months', (66.1, 66.1)),
        ('Age', '28', 'weeks', (28.0, 68.0)),  # before birth or after it
        ('age', '2', 'wk', (42.0, 42.0)),
        ('age', '3', 'days after birth', (40.4, 40.4)),
        ('age', '40', 'weeks PMA', (40.0, 80.0)),
        ('scan_age', '41.3', None, (41.3, 41.3)),
        ('gestational_age', '30', None, (30.0, 46.0)),
    ],
)
def test_columns_and_units(
    tmp_path: Path, column: str, value: str, units: str | None, weeks: tuple[float, float]
) -> None:
    write(tmp_path, f'participant_id {column}', f'sub-01 {value}', units)
    age = find_age(tmp_path, '01')
    assert age is not None
    assert (age.youngest, age.oldest) == pytest.approx(weeks, abs=0.05)


@pytest.mark.parametrize('value', ['n/a', '', '-3', '400', 'old', 'nan', 'inf'])
def test_what_cannot_be_an_age_is_none(tmp_path: Path, value: str) -> None:
    write(tmp_path, 'participant_id age', f'sub-01 {value}')
    assert find_age(tmp_path, '01') is None
    assert find_age(tmp_path, '02') is None
    assert find_age(tmp_path / 'nowhere', '01') is None


def test_the_session_comes_before_the_participant(tmp_path: Path) -> None:
    write(tmp_path, 'participant_id age', 'sub-01 1')
    write(tmp_path, 'session_id scan_age', 'ses-2 38', name='sub-01/sub-01_sessions.tsv')
    assert find_age(tmp_path, '01', '2') == Age(38, 38, '38 postmenstrual weeks')
    told = find_age(tmp_path, '01', '1')
    assert told is not None
    assert told.text == '1 year'


def test_tables_that_are_broken_tell_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / 'participants.tsv').write_bytes(b'participant_id\tage\nsub-01\t\xff\xfe\n')
    assert find_age(tmp_path, '01') is None
    assert find_age(tmp_path, '01') is None
    assert [
        record.message.count('participants.tsv: cannot be read') for record in caplog.records
    ] == [1]


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'{"age": {"Units": "score"}}', "'score'"),
        (b'{"age": {"Units": "weeks and days"}}', "'weeks and days'"),
        (b'{"age": {"Units": "days"},}', 'not valid JSON'),
        (b'{"age": {"Units": "days", "Description": "\xe4"}}', 'not valid JSON'),
        (b'["days"]', 'no JSON object'),
    ],
)
def test_an_age_in_a_unit_that_is_not_understood_is_no_age(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes, words: str
) -> None:
    write(tmp_path, 'participant_id age', 'sub-01 3')
    (tmp_path / 'participants.json').write_bytes(content)
    assert find_age(tmp_path, '01') is None
    assert find_age(tmp_path, '01') is None
    (record,) = caplog.records
    assert 'participants.json' in record.message
    assert words in record.message


def test_units_behind_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    write(tmp_path, 'participant_id age', 'sub-01 3')
    (tmp_path / 'participants.json').write_bytes(b'\xef\xbb\xbf{"age": {"Units": "days"}}')
    found = find_age(tmp_path, '01')
    assert found is not None
    assert found.text == '3 days'


def test_expected_brains_hold_what_has_been_measured() -> None:
    """Intracranial or brain volumes of atlases and cohorts, by postmenstrual weeks."""
    measured = {21.7: 55, 30: 210, 38: 380, 41: 450, 92: 950, 144: 1150, 1100: 1300, 4000: 1450}
    for weeks, ml in measured.items():
        low, high = brain_ml_expected(Age(weeks, weeks, ''))
        assert low < ml < high, weeks
    # a newborn is no adult, and an adult is no newborn
    assert brain_ml_expected(Age(40, 40, '')) == (250, 700)
    assert brain_ml_expected(Age(2000, 2000, '')) == (900, 2100)
    assert brain_ml_expected(Age(28, 68, ''))[0] < 100
    assert brain_ml_expected(None) == (40.0, 2100.0)
