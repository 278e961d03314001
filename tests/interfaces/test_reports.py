"""Nipype interfaces of the report: files in, one file in the working directory out."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from geometry_phantoms import oblique_affine
from test_figures import AFFINE, DATA
from test_subject import QC

from bids_segsr.interfaces import reports


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    paths = {}
    for name, data in DATA.items():
        paths[name] = str(tmp_path / f'{name}.nii.gz')
        nib.save(nib.Nifti1Image(data, AFFINE), paths[name])
    fine = np.repeat(DATA['scan'], 3, axis=2)
    paths['fine'] = str(tmp_path / 'fine.nii.gz')
    nib.save(nib.Nifti1Image(fine, oblique_affine((1, 1, 1), (12, -7, 20))), paths['fine'])
    paths['qc'] = str(tmp_path / 'qc.json')
    Path(paths['qc']).write_text(json.dumps(QC), encoding='utf-8')
    return paths


def run(interface: object, tmp_path: Path) -> Path:
    folder = tmp_path / 'node'
    folder.mkdir()
    result = interface.run(cwd=str(folder))  # type: ignore[attr-defined]
    out = Path(result.outputs.out_report)
    assert out.is_absolute()
    assert out.parent == folder
    return out


def test_figures(files: dict[str, str], tmp_path: Path) -> None:
    interfaces = [
        reports.BeforeAfterReport(
            before=files['scan'],
            after=files['smooth'],
            before_label='Scan',
            after_label='N4',
            mask_file=files['mask'],
        ),
        reports.MaskReport(in_file=files['scan'], mask_file=files['mask']),
        reports.SegmentationReport(
            in_file=files['scan'], segmentation_file=files['label'], names={1: 'Cortical plate'}
        ),
        reports.FidelityReport(
            residual_file=files['residual'], in_file=files['scan'], mask_file=files['mask']
        ),
        reports.UncertaintyReport(
            entropy_file=files['entropy'],
            disagreement_file=files['residual'],
            in_file=files['scan'],
        ),
    ]
    texts = []
    for number, interface in enumerate(interfaces):
        folder = tmp_path / str(number)
        folder.mkdir()
        texts.append(run(interface, folder).read_text(encoding='utf-8'))
    assert all(text.startswith('<svg') for text in texts)
    assert '>N4</text>' in texts[0]
    assert 'Cortical plate' in texts[2]


def test_scan_tells_the_slice_direction_of_the_fine_grid(
    files: dict[str, str], tmp_path: Path
) -> None:
    thick_along_first = tmp_path / 'coronal.nii.gz'
    nib.save(nib.Nifti1Image(np.ones((14, 44, 40)), np.diag([3.0, 1, 1, 1])), thick_along_first)
    views = []
    for number, scan in enumerate((files['scan'], str(thick_along_first))):
        folder = tmp_path / str(number)
        folder.mkdir()
        text = run(
            reports.BeforeAfterReport(
                before=files['fine'],
                after=files['fine'],
                before_label='a',
                after_label='b',
                scan_file=scan,
            ),
            folder,
        ).read_text(encoding='utf-8')
        views.append([v for v in ('Coronal', 'Sagittal', 'Axial') if text.count(f'>{v} ·') == 2])
        small = text.rindex(' · ')
        views[-1].append(text[text.rindex('>', 0, small) + 1 : small])
    assert [view[-1] for view in views] == ['Axial', 'Sagittal']


def test_fragments(files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / 'qc').mkdir()
    table = run(reports.QCTable(qc_file=files['qc']), tmp_path / 'qc').read_text(encoding='utf-8')
    assert 'Euler number' in table
    (tmp_path / 'summary').mkdir()
    summary = run(
        reports.ImageSummary(
            file_name='sub-01/anat/sub-01_T2w.nii.gz',
            metadata={'Manufacturer': 'Siemens', 'EchoTime': 0.158},
            qc_file=files['qc'],
            scan_file=files['scan'],
            fine_file=files['fine'],
        ),
        tmp_path / 'summary',
    ).read_text(encoding='utf-8')
    assert '40 \N{MULTIPLICATION SIGN} 44 \N{MULTIPLICATION SIGN} 14 voxels' in summary
    assert '40 \N{MULTIPLICATION SIGN} 44 \N{MULTIPLICATION SIGN} 42 voxels' in summary
    assert 'inferior\N{EN DASH}superior' in summary
    assert '<dt>Scanner</dt><dd>Siemens</dd>' in summary
    assert 'TE 158 ms' in summary


def test_viewer_and_its_thumbnail(files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / 'node').mkdir()
    result = reports.Viewer(
        title='sub-01_T2w',
        in_file=files['smooth'],
        interpolated_file=files['scan'],
        mask_file=files['mask'],
        segmentation_file=files['label'],
        scan_file=files['scan'],
        residual_file=files['residual'],
        names={1: 'Cortical plate'},
    ).run(cwd=str(tmp_path / 'node'))
    page = Path(result.outputs.out_report).read_text(encoding='utf-8')
    assert page.startswith('<!DOCTYPE html>')
    assert 'Cortical plate' in page
    assert Path(result.outputs.thumbnail).read_bytes()[:2] == b'\xff\xd8'
