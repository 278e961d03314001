"""Pieces of HTML in the report: the summary of an image and its table of QC numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from bids_segsr.inference.qc import QUANTITIES, Entry
from bids_segsr.reports.page import formatted
from bids_segsr.zoo.contract import mask_note

SHOWN_METADATA = (
    *('Manufacturer', 'ManufacturersModelName', 'MagneticFieldStrength', 'MRAcquisitionType'),
    *('PulseSequenceType', 'ScanningSequence', 'EchoTime', 'RepetitionTime', 'InversionTime'),
    *('FlipAngle', 'EchoTrainLength', 'SpacingBetweenSlices'),
)
"""Fields of a sidecar that a reader judges a scan by."""

_AXES = ('left\N{EN DASH}right', 'posterior\N{EN DASH}anterior', 'inferior\N{EN DASH}superior')


def qc_table(qc: Mapping[str, Any]) -> str:
    """Return the QC numbers of one image as an HTML table.

    Args:
        qc: Content of the QC JSON. An entry that does not apply, and is missing, has no row.

    Returns:
        HTML fragment; every text from `qc` is escaped.
    """
    parts = ['<div class="qc scroller" tabindex="0" role="region" aria-label="QC numbers">']
    groups = dict.fromkeys(q.group for q in QUANTITIES if q.key in qc)
    parts.append(
        '<table class="table table-sm align-middle qc-table"><thead><tr><th scope="col">Quantity'
        '</th><th scope="col" class="number">Value</th><th scope="col">Unit</th>'
        '<th scope="col">Plausible</th><th scope="col">How to read it</th></tr></thead>'
    )
    for group in groups:
        parts.append(
            f'<tbody><tr class="group"><th colspan="5" scope="rowgroup">{group}</th></tr>'
        )
        parts += [
            f'<tr data-key="{q.key}"><th scope="row">{q.name}</th>'
            f'{_value_cell(q.of(qc), qc.get(q.key))}<td>{q.unit}</td>'
            f'<td class="plausible">{q.of(qc).plausible}</td>'
            f'<td class="meaning">{q.text}</td></tr>'
            for q in QUANTITIES
            if q.group == group and q.key in qc
        ]
        parts.append('</tbody>')
    parts.append('</table></div>')
    return '\n'.join(parts)


def image_summary(
    *,
    file: str,
    qc: Mapping[str, Any],
    metadata: Mapping[str, Any] | None = None,
    shape: Sequence[int] | None = None,
    fine_shape: Sequence[int] | None = None,
    slice_direction: int | None = None,
) -> str:
    """Return what was done with one image, as HTML.

    Args:
        file: Path of the scan relative to its dataset.
        qc: Content of the QC JSON.
        metadata: What the sidecars tell; `SHOWN_METADATA` are taken of it.
        shape: Voxels of the scan along its array axes.
        fine_shape: Voxels of the super-resolved image.
        slice_direction: Canonical axis (0 right, 1 anterior, 2 superior) closest to the slice
            axis.

    Returns:
        HTML fragment; every text is escaped.
    """
    spacing = [qc.get(f'spacing_{axis}') for axis in 'ijk']
    scan = [
        ('File', f'<code>{escape(file)}</code>'),
        ('Grid', _grid(shape, spacing)),
        ('Slices', _slices(qc, slice_direction)),
        *_acquisition(metadata or {}),
    ]
    notes = [str(note) for note in qc.get('header_notes') or []]
    resolution = qc.get('resolution_mm')
    model = f'{qc.get("model", "n/a")} {qc.get("model_version", "")}'.strip()
    reason = f' ({qc["model_reason"]})' if qc.get('model_reason') else ''
    method = str(qc.get('skull_strip', 'n/a'))
    note = mask_note(method)
    steps = [
        ('Model', escape(f'{model}{reason}')),
        ('Output grid', _grid(fine_shape, [resolution] * 3)),
        ('Brain mask', escape(f'{method}. {note}' if note else method)),
        ('Computed on', escape(str(qc.get('device', 'n/a')))),
        ('Header repairs', _list(notes) if notes else 'none'),
    ]
    return '\n'.join(
        [
            '<div class="summary row g-3">',
            _block('Scan', scan),
            _block('Processing', steps),
            '</div>',
        ]
    )


def _value_cell(entry: Entry, value: Any) -> str:
    expected = entry.implausible(value)
    mark = f' outlier" title="{expected}"' if expected else '"'
    return f'<td class="number{mark}>{escape(formatted(value))}</td>'


def _block(title: str, rows: Iterable[tuple[str, str]]) -> str:
    body = ''.join(f'<dt>{name}</dt><dd>{content}</dd>' for name, content in rows)
    return f'<div class="col-lg-6"><div class="panel"><h4>{title}</h4><dl>{body}</dl></div></div>'


def _grid(shape: Sequence[int] | None, spacing: Sequence[Any]) -> str:
    times = ' \N{MULTIPLICATION SIGN} '
    sizes = times.join(formatted(float(s)) if s is not None else 'n/a' for s in spacing)
    voxels = f'{times.join(str(n) for n in shape)} voxels of ' if shape is not None else ''
    return f'{voxels}{escape(sizes)} mm'


def _slices(qc: Mapping[str, Any], direction: int | None) -> str:
    axis = escape(str(qc.get('slice_axis', 'n/a')))
    where = f' ({_AXES[direction]})' if direction is not None else ''
    thickness = qc.get('slice_thickness_mm')
    thick = f', {escape(formatted(thickness))} mm thick' if thickness is not None else ''
    return f'along array axis {axis}{where}{thick}'


def _acquisition(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    def words(*keys: str) -> str:
        return ' '.join(str(metadata[key]) for key in keys if metadata.get(key))

    def number(key: str, unit: str, scale: float = 1) -> str:
        value = metadata.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return ''
        return f'{formatted(scale * float(value))} {unit}'.strip()

    scanner = [
        words('Manufacturer', 'ManufacturersModelName'),
        number('MagneticFieldStrength', 'T'),
    ]
    sequence = [words('MRAcquisitionType', 'PulseSequenceType') or words('ScanningSequence')]
    times = [
        f'{name} {text}'
        for name, text in (
            ('TE', number('EchoTime', 'ms', 1000)),
            ('TR', number('RepetitionTime', 'ms', 1000)),
            ('TI', number('InversionTime', 'ms', 1000)),
            ('flip angle', number('FlipAngle', '\N{DEGREE SIGN}').replace(' ', '')),
            ('echo train', number('EchoTrainLength', '')),
            ('distance of slices', number('SpacingBetweenSlices', 'mm')),
        )
        if text
    ]
    for name, parts in (('Scanner', scanner), ('Sequence', [*sequence, *times])):
        if told := ', '.join(filter(None, parts)):
            yield name, escape(told)


def _list(items: Iterable[Any]) -> str:
    content = ''.join(f'<li>{escape(str(item))}</li>' for item in items)
    return f'<ul>{content}</ul>' if content else ''
