"""One dictionary for the QC record: nodes, reports and documentation agree on it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bids_segsr.inference.qc import DICTIONARY, KEYS, QUANTITIES, qc_record

DOCS = Path(__file__).resolve().parents[2] / 'docs' / 'qc.md'


def test_documentation_lists_every_entry_as_it_is():
    page = DOCS.read_text(encoding='utf-8')
    table = page[page.index('| key | unit |') :].split('\n\n')[0].splitlines()[2:]
    rows = [
        f'| `{entry.key}` | {entry.unit} | {entry.text} | {entry.plausible} |'
        for entry in DICTIONARY
    ]
    assert table == [' '.join(row.replace('|  |', '| |').split()) for row in rows]


def test_record_has_the_order_of_the_dictionary_and_numbers_that_json_knows():
    record = qc_record(
        warnings=['w'], brain_volume_ml=1234.56789, bids_name='a', fidelity_nrmse=math.nan
    )
    assert list(record.items()) == [
        ('bids_name', 'a'),
        ('brain_volume_ml', 1234.57),
        ('fidelity_nrmse', None),
        ('warnings', ['w']),
    ]
    assert list(qc_record(**dict.fromkeys(reversed(KEYS), 1))) == list(KEYS)
    assert qc_record(brain_volume_ml=None) == {}


def test_a_number_that_is_in_no_dictionary_is_refused():
    with pytest.raises(KeyError, match='brain_volume'):
        qc_record(brain_volume=3.0)


def test_plausible_ranges_are_told_where_a_value_lies_outside():
    entries = {entry.key: entry for entry in QUANTITIES}
    assert entries['brain_volume_ml'].implausible(10.0) == 'expected 40 to 2100'
    assert entries['brain_volume_ml'].implausible(1300.0) is None
    assert entries['components_after'].implausible(0) == 'expected 1 or more'
    assert entries['euler_number'].implausible(-1000) is None
    assert entries['fidelity_nrmse'].implausible(None) is None
    assert entries['slice_axis'].implausible('k') is None
    ranges = ('brain_volume_ml', 'components_after', 'lost_slices', 'euler_number')
    assert [entries[key].plausible for key in ranges] == ['40 to 2100', '1 or more', '0', '']
    newborn = entries['brain_volume_ml'].of({'brain_volume_expected_ml': [250, 700]})
    assert newborn.plausible == '250 to 700'
