"""Names of derivatives."""

from __future__ import annotations

import itertools
from pathlib import Path, PurePosixPath

import pytest

from bids_segsr.bids.names import (
    bids_uri,
    derivative_name,
    derivatives_of,
    graph_name,
    label_of_node,
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


def test_what_was_written_of_a_scan_is_found_and_nothing_else(tmp_path: Path) -> None:
    ours = [
        'sub-01_ses-a_run-1_desc-preproc_T2w.nii.gz',
        'sub-01_ses-a_run-1_desc-brain_mask.json',
        'sub-01_ses-a_run-1_res-1mm_desc-othermodel_T2w.nii.gz',
        'sub-01_ses-a_run-1_res-0p5mm_label-CGM_probseg.nii.gz',
        'sub-01_ses-a_run-1_res-1mm_label-CGM_mask.nii.gz',
        'sub-01_ses-a_run-1_res-1mm_dseg.nii.gz',
        'sub-01_ses-a_run-1_seg-regions_res-1mm_dseg.nii.gz',
        'sub-01_ses-a_run-1_res-1mm_desc-entropy_map.nii.gz',
        'sub-01_ses-a_run-1_desc-residual_map.nii.gz',
        'sub-01_ses-a_run-1_qc.json',
    ]
    others = [
        'sub-01_ses-a_qc.json',
        'sub-01_ses-a_run-10_qc.json',
        'sub-01_ses-a_run-1_rec-x_res-1mm_dseg.nii.gz',
        'sub-01_ses-a_run-1_desc-manual_dseg.nii.gz',
        'sub-01_ses-a_run-1_desc-preproc_T1w.nii.gz',
        'sub-01_ses-a_run-1_note.txt',
    ]
    folder = tmp_path / 'sub-01' / 'ses-a' / 'anat'
    folder.mkdir(parents=True)
    for name in (*ours, *others):
        (folder / name).touch()
    found = derivatives_of(tmp_path, 'sub-01_ses-a_run-1_T2w')
    assert [path.name for path in found] == sorted(ours)


@pytest.mark.parametrize('name', map(''.join, itertools.product('a+', repeat=4)))
def test_nodes_tell_the_scan_whatever_plus_its_labels_hold(name: str) -> None:
    label = f'sub-{name}_acq-{name}_T2w'
    assert label_of_node(f'bids_segsr_wf.{graph_name(label)}.image.conform') == label
