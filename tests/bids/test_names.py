"""Names of derivatives."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from bids_segsr.bids.names import (
    bids_uri,
    derivative_name,
    model_label,
    resolution_label,
    scan_entities,
    scan_label,
)

SCAN = {
    'subject': '01',
    'session': '02',
    'acquisition': 'sag',
    'ceagent': 'gd',
    'reconstruction': 'mc',
    'run': '03',
    'echo': '1',
    'part': 'mag',
    'chunk': '2',
    'suffix': 'T2w',
    'datatype': 'anat',
    'extension': '.nii.gz',
}


def test_entities_follow_the_order_of_bids() -> None:
    name = derivative_name(
        SCAN, suffix='mask', space='orig', seg='x', res='0p5mm', label='CGM', desc='y'
    )

    assert name == PurePosixPath(
        'sub-01/ses-02/anat/sub-01_ses-02_acq-sag_ce-gd_rec-mc_run-03_echo-1_part-mag_space-orig_'
        'chunk-2_seg-x_res-0p5mm_label-CGM_desc-y_mask.nii.gz'
    )


def test_order_is_that_of_the_schema() -> None:
    schema = pytest.importorskip('bidsschematools.schema').load_schema()
    prefixes = [schema.objects.entities[key].name for key in schema.rules.entities]

    name = derivative_name(
        dict.fromkeys(scan_entities(), '1'),
        suffix='mask',
        space='orig',
        seg='x',
        res='y',
        label='z',
        desc='w',
    ).name
    used = [part.split('-')[0] for part in name.split('_')[:-1]]

    assert used == sorted(used, key=prefixes.index)


def test_figures_have_no_session_folder() -> None:
    name = derivative_name(
        SCAN, suffix='T2w', extension='.svg', datatype='figures', desc='brainmask'
    )

    assert name.parent == PurePosixPath('sub-01/figures')
    assert name.name.startswith('sub-01_ses-02_acq-sag')
    assert name.name.endswith('_desc-brainmask_T2w.svg')


def test_scan_without_session() -> None:
    name = derivative_name({'subject': '01'}, suffix='T2w', desc='preproc')

    assert str(name) == 'sub-01/anat/sub-01_desc-preproc_T2w.nii.gz'


def test_scan_label_has_the_suffix() -> None:
    assert scan_label({'subject': '01', 'run': '1', 'suffix': 'T2w'}) == 'sub-01_run-1_T2w'


@pytest.mark.parametrize('label', ['a-b', 'a_b', '../x', ''])
def test_label_that_breaks_a_name_is_refused(label: str) -> None:
    with pytest.raises(ValueError, match='alphanumeric'):
        derivative_name({'subject': '01'}, suffix='T2w', desc=label)


def test_extension_without_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match=r'figures.*\.nii\.gz'):
        derivative_name({'subject': '01'}, suffix='T2w', datatype='figures')


@pytest.mark.parametrize(
    ('dataset', 'uri'),
    [('raw', 'bids:raw:sub-01/anat/a.nii.gz'), ('', 'bids::sub-01/anat/a.nii.gz')],
)
def test_bids_uri(dataset: str, uri: str) -> None:
    assert bids_uri(dataset, PurePosixPath('sub-01/anat/a.nii.gz')) == uri


@pytest.mark.parametrize(('mm', 'label'), [(0.5, '0p5mm'), (1.0, '1mm'), (0.8125, '0p8125mm')])
def test_resolution_label(mm: float, label: str) -> None:
    assert resolution_label(mm) == label


def test_model_label_keeps_letters_and_digits() -> None:
    assert model_label('segsrgan-v1.2_T2') == 'segsrganv12T2'
    with pytest.raises(ValueError, match='letter or digit'):
        model_label('--')
