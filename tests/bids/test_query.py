"""Which images, masks and metadata are taken from a dataset."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from bids_segsr.bids.query import (
    Scan,
    collect_scans,
    load_filters,
    open_layout,
    select_participants,
)
from bids_segsr.exceptions import UserError


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two sessions with runs, a participant without session, and one with a T1w alone."""
    root = tmp_path / 'raw'
    touch(
        root,
        'sub-01/ses-a/anat/sub-01_ses-a_run-01_T2w.nii.gz',
        'sub-01/ses-a/anat/sub-01_ses-a_run-02_T2w.nii.gz',
        'sub-01/ses-b/anat/sub-01_ses-b_acq-sag_T2w.nii',
        'sub-01/ses-b/anat/sub-01_ses-b_T1w.nii.gz',
        'sub-02/anat/sub-02_acq-cor_T2w.nii.gz',
        'sub-02/anat/sub-02_acq-sag_T2w.nii.gz',
        'sub-03/anat/sub-03_T1w.nii.gz',
        'derivatives/other/sub-02/anat/sub-02_desc-preproc_T2w.nii.gz',
        'out/sub-02/anat/sub-02_desc-preproc_T2w.nii.gz',
        'sourcedata/sub-02/anat/sub-02_acq-old_T2w.nii.gz',
    )
    (root / 'dataset_description.json').write_text(
        '{"Name": "x", "BIDSVersion": "1.9.0"}', encoding='utf-8'
    )
    (root / 'T2w.json').write_text('{"EchoTime": 0.1, "SliceThickness": 3.0}', encoding='utf-8')
    (root / 'sub-02/anat/sub-02_acq-sag_T2w.json').write_text(
        '{"SliceThickness": 4.0}', encoding='utf-8'
    )
    return root


def collect(root: Path, **options: Any) -> list[Scan]:
    return collect_scans(open_layout(root), **options)


def labels(scans: list[Scan]) -> list[str]:
    return [scan.label for scan in scans]


def filter_file(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / 'filters.json'
    path.write_text(json.dumps(content), encoding='utf-8')
    return path


def test_all_t2w_images_and_nothing_from_other_folders(dataset: Path) -> None:
    assert labels(collect(dataset)) == [
        'sub-01_ses-a_run-01_T2w',
        'sub-01_ses-a_run-02_T2w',
        'sub-01_ses-b_acq-sag_T2w',
        'sub-02_acq-cor_T2w',
        'sub-02_acq-sag_T2w',
    ]


def test_folders_above_the_dataset_are_no_entities(dataset: Path, tmp_path: Path) -> None:
    study = tmp_path / 'sub-99' / 'ses-old' / 'func' / 'acq-x_run-7'
    study.mkdir(parents=True)
    masks = study / 'masks'
    touch(masks, 'sub-02/anat/sub-02_acq-sag_desc-brain_mask.nii.gz')
    (masks / 'dataset_description.json').write_text(
        '{"Name": "m", "BIDSVersion": "1.9.0", "DatasetType": "derivative", '
        '"GeneratedBy": [{"Name": "m"}]}',
        encoding='utf-8',
    )
    moved = dataset.rename(study / 'raw')
    scans = collect(moved, derivatives={'masks': masks})
    assert labels(scans) == [
        'sub-01_ses-a_run-01_T2w',
        'sub-01_ses-a_run-02_T2w',
        'sub-01_ses-b_acq-sag_T2w',
        'sub-02_acq-cor_T2w',
        'sub-02_acq-sag_T2w',
    ]
    assert [scan.brain_mask is not None for scan in scans] == [False] * 4 + [True]
    assert labels(collect(moved, sessions=['b'])) == ['sub-01_ses-b_acq-sag_T2w']
    with_index = collect_scans(open_layout(moved, tmp_path / 'index'))
    assert labels(with_index) == labels(scans)
    assert labels(collect_scans(open_layout(moved, tmp_path / 'index'))) == labels(scans)


def test_entities_are_text_and_keep_leading_zeros(dataset: Path) -> None:
    scan = collect(dataset)[0]

    assert scan.entities['run'] == '01'
    assert (scan.subject, scan.session) == ('01', 'a')
    assert all(isinstance(value, str) for value in scan.entities.values())


def test_metadata_are_inherited_and_overridden(dataset: Path) -> None:
    cor, sag = collect(dataset, participants=['02'])

    assert cor.metadata['SliceThickness'] == 3.0
    assert sag.metadata == {'EchoTime': 0.1, 'SliceThickness': 4.0}


def test_participants_restrict_the_index(dataset: Path) -> None:
    layout = open_layout(dataset, participants=['02'])

    assert layout.get_subjects() == ['02']
    assert labels(collect_scans(layout, participants=['02'])) == [
        'sub-02_acq-cor_T2w',
        'sub-02_acq-sag_T2w',
    ]


def test_session_and_modality(dataset: Path) -> None:
    assert labels(collect(dataset, sessions=['b'])) == ['sub-01_ses-b_acq-sag_T2w']
    assert labels(collect(dataset, modality='T1w')) == ['sub-01_ses-b_T1w', 'sub-03_T1w']


def test_participant_without_the_modality_is_told_and_left_out(
    dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        scans = collect(dataset, participants=['02', '03'])

    assert {scan.subject for scan in scans} == {'02'}
    assert 'sub-03: no T2w image' in caplog.text


def test_no_such_participant_names_those_present(dataset: Path) -> None:
    with pytest.raises(UserError, match='no such participant: 07; present are 01, 02, 03'):
        collect(dataset, participants=['07'])


def test_dataset_without_participants(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='no sub-XX folder'):
        select_participants(tmp_path)


def test_no_such_session_names_those_present(dataset: Path) -> None:
    with pytest.raises(UserError, match='no such session: z; present are a, b'):
        collect(dataset, sessions=['z'])


def test_no_image_of_the_modality_names_those_found(dataset: Path) -> None:
    with pytest.raises(UserError, match=r'no FLAIR image .*found are T1w, T2w'):
        collect(dataset, modality='FLAIR')


def test_two_files_with_the_same_entities(dataset: Path) -> None:
    touch(dataset, 'sub-02/anat/sub-02_acq-sag_T2w.nii')

    with pytest.raises(UserError, match='same entities as'):
        collect(dataset)


def test_broken_sidecar_is_named(dataset: Path) -> None:
    (dataset / 'T2w.json').write_text('{"EchoTime": ', encoding='utf-8')

    with pytest.raises(UserError, match=r'T2w\.json') as error:
        open_layout(dataset)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('filters', 'expected'),
    [
        ({'acquisition': 'sag'}, ['sub-01_ses-b_acq-sag_T2w', 'sub-02_acq-sag_T2w']),
        ({'acquisition': None}, ['sub-01_ses-a_run-01_T2w', 'sub-01_ses-a_run-02_T2w']),
        ({'run': '*'}, ['sub-01_ses-a_run-01_T2w', 'sub-01_ses-a_run-02_T2w']),
        ({'run': 2}, ['sub-01_ses-a_run-02_T2w']),
        ({'acquisition': ['cor', 'ax']}, ['sub-02_acq-cor_T2w']),
    ],
)
def test_filters(
    dataset: Path, tmp_path: Path, filters: dict[str, Any], expected: list[str]
) -> None:
    loaded = load_filters(filter_file(tmp_path, {'t2w': filters, 't1w': {'run': 9}}))

    assert labels(collect(dataset, filters=loaded)) == expected


def test_filter_that_nothing_passes(dataset: Path, tmp_path: Path) -> None:
    loaded = load_filters(filter_file(tmp_path, {'t2w': {'acquisition': 'ax'}}))

    with pytest.raises(UserError, match=r'no T2w image .* passes the filters'):
        collect(dataset, filters=loaded)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'T2w': {}}, "unknown key 'T2w'; known are t2w, t1w"),
        ({'bold': {}}, "unknown key 'bold'"),
        ({'t2w': {'acq': 'sag'}}, "unknown entity 'acq' under 't2w'; known are .*acquisition"),
        ({'t2w': 'sag'}, 'needs the form'),
        ([], 'needs the form'),
    ],
)
def test_filters_with_mistakes(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_filters(filter_file(tmp_path, content))


def test_filters_that_are_no_json(tmp_path: Path) -> None:
    path = tmp_path / 'filters.json'
    path.write_text('{"t2w": ', encoding='utf-8')

    with pytest.raises(UserError, match=r'filters\.json: not valid JSON'):
        load_filters(path)


def test_index_is_written_and_used_again(dataset: Path, tmp_path: Path) -> None:
    database = tmp_path / 'db'
    first = collect_scans(open_layout(dataset, database, ['02']), participants=['01'])
    touch(dataset, 'sub-01/ses-a/anat/sub-01_ses-a_run-03_T2w.nii.gz')

    again = collect_scans(open_layout(dataset, database), participants=['01'])

    # A new file is not in the old index, which covers all participants from the first time.
    assert labels(again) == labels(first)
    assert len(first) == 3


def test_index_of_another_dataset_is_refused(dataset: Path, tmp_path: Path) -> None:
    other = tmp_path / 'other'
    touch(other, 'sub-09/anat/sub-09_T2w.nii.gz')
    open_layout(other, tmp_path / 'db')

    with pytest.raises(UserError, match='this index belongs to'):
        open_layout(dataset, tmp_path / 'db')


def test_index_that_names_a_lost_file(dataset: Path, tmp_path: Path) -> None:
    open_layout(dataset, tmp_path / 'db')
    (dataset / 'sub-02/anat/sub-02_acq-sag_T2w.nii.gz').unlink()

    with pytest.raises(UserError, match='not on disk'):
        collect_scans(open_layout(dataset, tmp_path / 'db'))


def test_content_that_was_not_fetched_is_left_to_the_reading_of_images(dataset: Path) -> None:
    path = dataset / 'sub-02/anat/sub-02_acq-sag_T2w.nii.gz'
    path.unlink()
    path.symlink_to(dataset / '.git/annex/nothing')

    assert path in [scan.path for scan in collect_scans(open_layout(dataset))]


def test_masks_of_a_broken_dataset(dataset: Path, tmp_path: Path) -> None:
    broken = tmp_path / 'broken'
    broken.mkdir()
    (broken / 'dataset_description.json').write_text('{', encoding='utf-8')

    with pytest.raises(UserError, match='broken: cannot be indexed'):
        collect_scans(open_layout(dataset), derivatives={'m': broken})


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    root = tmp_path / 'masks'
    touch(
        root,
        'sub-01/ses-a/anat/sub-01_ses-a_run-01_desc-brain_mask.nii.gz',
        'sub-01/ses-b/anat/sub-01_ses-b_acq-sag_space-orig_desc-brain_mask.nii.gz',
        'sub-02/anat/sub-02_acq-cor_space-T2w_desc-brain_mask.nii.gz',
        # None of these belongs to a scan:
        'sub-01/ses-a/anat/sub-01_ses-a_run-02_T2w_desc-brain_mask.nii.gz',
        'sub-02/anat/sub-02_acq-sag_res-1_desc-brain_mask.nii.gz',
        'sub-02/anat/sub-02_acq-sag_space-MNI152NLin6Asym_desc-brain_mask.nii.gz',
        'sub-02/anat/sub-02_acq-sag_desc-head_mask.nii.gz',
        'sub-02/anat/sub-02_desc-brain_mask.nii.gz',
    )
    return root


def test_masks_fit_all_entities_of_the_scan(dataset: Path, masks: Path) -> None:
    found = {
        scan.label: scan.brain_mask and scan.brain_mask.name
        for scan in collect(dataset, derivatives={'masks': masks})
    }

    assert found == {
        'sub-01_ses-a_run-01_T2w': 'sub-01_ses-a_run-01_desc-brain_mask.nii.gz',
        'sub-01_ses-a_run-02_T2w': None,
        'sub-01_ses-b_acq-sag_T2w': 'sub-01_ses-b_acq-sag_space-orig_desc-brain_mask.nii.gz',
        'sub-02_acq-cor_T2w': 'sub-02_acq-cor_space-T2w_desc-brain_mask.nii.gz',
        'sub-02_acq-sag_T2w': None,
    }


def test_several_masks_are_named(dataset: Path, masks: Path) -> None:
    touch(masks, 'sub-02/anat/sub-02_acq-cor_desc-brain_mask.nii.gz')

    with pytest.raises(UserError, match='several brain masks fit') as error:
        collect(dataset, derivatives={'masks': masks})
    assert 'sub-02_acq-cor_desc-brain_mask.nii.gz' in str(error.value)
    assert 'sub-02_acq-cor_space-T2w_desc-brain_mask.nii.gz' in str(error.value)
