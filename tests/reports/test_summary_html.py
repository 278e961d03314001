"""The summary of an image and its table of QC numbers."""

from __future__ import annotations

import re

from test_subject import QC, summary

from bids_segsr.reports.summary_html import image_summary, qc_table


def test_qc_table_names_units_and_gaps() -> None:
    table = qc_table({**QC, 'holes': None})
    assert '<td class="number">98.51</td><td>mL</td>' in table
    assert re.search(r'>Holes</th><td class="number">n/a</td>', table)
    assert '<td>mL</td><td class="plausible">5 to 1200</td>' in table
    assert 'title="expected 500 to 900">431.3<' in qc_table({
        **QC, 'brain_volume_expected_ml': [500, 900],
    })  # fmt: skip
    assert '\N{MINUS SIGN}57' in table


def test_summary_tells_what_was_done_with_a_scan() -> None:
    text = summary('sub-01_ses-01', {**QC, 'skull_strip': '<i>given</i>'})
    assert '&lt;i&gt;given&lt;/i&gt;' in text
    assert 'inferior\N{EN DASH}superior' in text
    assert '1 \N{MULTIPLICATION SIGN} 1 \N{MULTIPLICATION SIGN} 3 mm' in text
    assert 'Look at the mask' not in text
    assert 'Look at the mask' in summary('sub-01', {**QC, 'skull_strip': 'network brain-mask 3'})


def test_scanner_and_sequence_are_told_and_no_plumbing() -> None:
    told = image_summary(
        file='x',
        qc=QC,
        metadata={
            'Manufacturer': 'GE <b>',
            'MagneticFieldStrength': 1.5,
            'ScanningSequence': 'SE',
            'EchoTime': 0.0995,
            'RepetitionTime': 4,
            'FlipAngle': 90,
            'InversionTime': 'n/a',
            'ConversionSoftware': 'dcm2niix',
        },
    )
    assert '<dt>Scanner</dt><dd>GE &lt;b&gt;, 1.5 T</dd>' in told
    assert '<dd>SE, TE 99.5 ms, TR 4000 ms, flip angle 90\N{DEGREE SIGN}</dd>' in told
    assert 'dcm2niix' not in told
    assert 'Scanner' not in image_summary(file='x', qc=QC, metadata={'EchoTime': True})
