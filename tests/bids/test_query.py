"""Which images, masks and metadata are taken from a dataset."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bids_segsr.bids.filters import load_filters
from bids_segsr.bids.query import (
    Collection,
    Scan,
    collect_scans,
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
    scans, unusable = query(root, **options)
    assert unusable == []
    return scans


def query(root: Path, **options: Any) -> Collection:
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
    with_index = collect_scans(open_layout(moved, tmp_path / 'index')).scans
    assert labels(with_index) == labels(scans)
    assert labels(collect_scans(open_layout(moved, tmp_path / 'index')).scans) == labels(scans)


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
    assert labels(collect_scans(layout, participants=['02']).scans) == [
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

    scans, (item,) = query(dataset)
    assert len(scans) == 4
    assert item.image == 'sub-02_acq-sag_T2w'
    assert 'same entities as' in item.message


BROKEN = {
    'comma': b'{"EchoTime": 1,}',
    'array': b'[1, 2]',
    'number': b'5',
    'null': b'null',
    'empty': b'',
    'latin1': '{"InstitutionName": "Universit\xe4t"}'.encode('latin-1'),
    'deep': b'[' * 100_000,
}


@pytest.mark.parametrize('content', BROKEN.values(), ids=BROKEN)
def test_broken_sidecar_is_that_images_failure(dataset: Path, content: bytes) -> None:
    sidecar = dataset / 'sub-02/anat/sub-02_acq-sag_T2w.json'
    sidecar.write_bytes(content)
    scans, (item,) = query(dataset)
    assert len(scans) == 4
    assert (item.image, item.subject) == ('sub-02_acq-sag_T2w', '02')
    assert item.message.startswith(f'{sidecar}: the sidecar')
    assert '\n' not in item.message


def test_sidecars_of_other_images_are_not_read(dataset: Path) -> None:
    for name in ('sub-01/func/sub-01_task-rest_bold.json', 'sub-02/anat/sub-02_T1w.json'):
        touch(dataset, name)
        (dataset / name).write_bytes(BROKEN['comma'])
    assert len(collect(dataset)) == 5


@pytest.mark.parametrize('kind', ['comma', 'empty', 'latin1', 'array'])
def test_broken_description(dataset: Path, kind: str) -> None:
    (dataset / 'dataset_description.json').write_bytes(BROKEN[kind])
    if kind != 'array':
        assert len(collect(dataset)) == 5
        return
    with pytest.raises(UserError, match=r'description\.json: no JSON object'):
        open_layout(dataset)


def test_sidecar_with_a_byte_order_mark_is_read(dataset: Path) -> None:
    sidecar = dataset / 'sub-02/anat/sub-02_acq-sag_T2w.json'
    sidecar.write_bytes(b'\xef\xbb\xbf{"SliceThickness": 5}')
    assert collect(dataset)[-1].metadata['SliceThickness'] == 5


def test_sidecar_that_was_not_fetched(dataset: Path) -> None:
    sidecar = dataset / 'sub-02/anat/sub-02_acq-sag_T2w.json'
    sidecar.unlink()
    sidecar.symlink_to('../../.git/annex/absent')
    _, (item,) = query(dataset)
    assert 'datalad get' in item.message


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('sub-02/anat/sub-01_T2w.nii.gz', 'sub-01 in the name, but sub-02 in the folder'),
        ('sub-01/ses-a/anat/sub-01_ses-b_T2w.nii.gz', 'ses-b in the name, but ses-a'),
        ('sub-01/ses-a/anat/sub-01_T2w.nii.gz', 'no ses- in the name'),
        ('sub-02/anat/sub-02_ses-a_T2w.nii', 'no ses- in the folder'),
        ('sub-pat_02/anat/sub-pat_02_T2w.nii.gz', 'sub-pat_02: no BIDS label'),
        ('sub-é/anat/sub-é_T2w.nii.gz', 'sub-é: no BIDS label'),
        ('sub-/anat/sub-_T2w.nii.gz', 'sub-: no BIDS label'),
        ('sub-02/ses-pre_1/anat/sub-02_ses-pre_1_T2w.nii.gz', 'ses-pre_1: no BIDS label'),
        ('sub-02/anat/sub-02_acq-0.5_T2w.nii.gz', 'no BIDS name'),
        ('sub-02/anat/sub-02-T2w.nii.gz', 'no BIDS name'),
        ('sub-02/anat/sub-02_acq-é_T2w.nii.gz', 'no BIDS name'),
        ('sub-02/anat/sub-02_acq-a_acq-b_T2w.nii.gz', 'no BIDS name'),
        ('sub-02/anat/sub-02_RUN-1_T2w.nii.gz', 'RUN- is no entity'),
        ('sub-02/anat/sub-02_foo-1_T2w.nii.gz', 'foo- is no entity'),
        ('sub-02/anat/sub-02_acq-a_t2w.nii.gz', 'in these letters'),
        ('sub-02/anat/sub-02_acq-a_T2w.NII.GZ', 'in these letters'),
        ('sub-02/Anat/sub-02_acq-a_T2w.nii.gz', 'BIDS calls the folder "anat"'),
        ('sub-02/sub-02_acq-a_T2w.nii.gz', 'lies in no folder "anat"'),
        ('sub-02/anat/sub-02_acq-a_T2w.nii.gz/x', 'a folder, no file'),
        ('Sub-03/anat/Sub-03_T2w.nii.gz', 'small letters'),
    ],
)
def test_names_that_bids_does_not_allow_there(dataset: Path, name: str, words: str) -> None:
    touch(dataset, name)
    scans, (item,) = query(dataset)
    assert len(scans) == 5
    assert name.startswith(item.image)
    assert item.image.rstrip('/') in item.message
    assert words in item.message


def test_plus_in_a_label(dataset: Path) -> None:
    touch(dataset, 'sub-02/anat/sub-02_acq-a+b_T2w.nii.gz')
    assert 'sub-02_acq-a+b_T2w' in labels(collect(dataset))


def test_links_to_a_folder_above_are_not_followed(dataset: Path) -> None:
    anat = dataset / 'sub-02/anat'
    for link, target in (
        (anat / 'loop', '..'),
        (anat / 'here', '.'),
        (anat / 'itself', 'itself'),
        (dataset / 'sub-02/self', '..'),
        (dataset / 'sub-02/again', '.'),
        (dataset / 'again', '.'),
    ):
        link.symlink_to(target)
    assert len(collect(dataset)) == 5
    (dataset / 'sub-02/ses-x').symlink_to('.')
    (dataset / 'sub-09').symlink_to('sub-02')
    scans, unusable = query(dataset)
    assert len(scans) == 5
    assert len(unusable) == 6


def test_parts_of_complex_images_are_no_scans(
    dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(dataset, *(f'sub-02/anat/sub-02_part-{p}_T2w.nii.gz' for p in ('phase', 'real', 'mag')))
    with caplog.at_level(logging.INFO):
        assert len(collect(dataset)) == 6
    assert 'part-phase' in caplog.text


@pytest.mark.parametrize(
    ('patterns', 'left'),
    [
        ('*_acq-sag_*', 3),
        ('# none\n\n', 5),
        ('sub-01/', 2),
        ('sub-01', 2),
        ('/sub-01/ses-a', 3),
        ('ses-a/', 3),
        ('**/anat/*run-01*', 4),
        ('sub-02/**', 3),
        ('anat/*run*', 5),
        ('*_T2w.*\n!*acq*', 3),
        ('sub-0[12]/anat/*', 3),
        ('sub-0[!1]', 3),
        ('*run-0?_*', 3),
    ],
)
def test_bidsignore_is_read_as_git_reads_its_own(dataset: Path, patterns: str, left: int) -> None:
    (dataset / '.bidsignore').write_text(patterns + '\n', encoding='utf-8')
    assert len(collect(dataset)) == left


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


def test_index_is_written_and_used_again(dataset: Path, tmp_path: Path) -> None:
    database = tmp_path / 'db'
    first = collect_scans(open_layout(dataset, database, ['02']), participants=['01'])
    (file,) = database.glob('*.sqlite')
    before = file.stat().st_mtime_ns
    again = collect_scans(open_layout(dataset, database), participants=['01'])
    assert again == first
    assert len(first.scans) == 3
    assert file.stat().st_mtime_ns == before


@pytest.mark.parametrize('change', ['more', 'less', 'renamed'])
def test_index_of_other_images_is_made_anew(dataset: Path, tmp_path: Path, change: str) -> None:
    open_layout(dataset, tmp_path / 'db')
    path = dataset / 'sub-02/anat/sub-02_acq-sag_T2w.nii.gz'
    if change == 'more':
        touch(dataset, 'sub-02/anat/sub-02_T2w.nii.gz')
    elif change == 'less':
        path.unlink()
    else:
        path.rename(path.with_name('sub-02_acq-ax_T2w.nii.gz'))
    found = collect_scans(open_layout(dataset, tmp_path / 'db'))
    assert found == query(dataset)


def test_index_of_another_dataset_is_refused(dataset: Path, tmp_path: Path) -> None:
    other = tmp_path / 'other'
    touch(other, 'sub-09/anat/sub-09_T2w.nii.gz')
    open_layout(other, tmp_path / 'db')

    with pytest.raises(UserError, match='this index belongs to'):
        open_layout(dataset, tmp_path / 'db')


def test_content_that_was_not_fetched_is_left_to_the_reading_of_images(dataset: Path) -> None:
    path = dataset / 'sub-02/anat/sub-02_acq-sag_T2w.nii.gz'
    path.unlink()
    path.symlink_to(dataset / '.git/annex/nothing')

    assert path in [scan.path for scan in collect(dataset)]


def test_masks_of_no_folder(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match='no such folder; check --derivatives m='):
        query(dataset, derivatives={'m': tmp_path / 'absent'})


def test_masks_need_no_description(dataset: Path, masks: Path) -> None:
    (masks / 'dataset_description.json').write_text('{', encoding='utf-8')
    assert sum(scan.brain_mask is not None for scan in query(dataset, derivatives={'m': masks})[0])


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

    scans, (item,) = query(dataset, derivatives={'masks': masks})
    assert len(scans) == 4
    assert 'several brain masks fit' in item.message
    assert 'sub-02_acq-cor_desc-brain_mask.nii.gz' in item.message
    assert 'sub-02_acq-cor_space-T2w_desc-brain_mask.nii.gz' in item.message


def test_run_is_an_index(dataset: Path, tmp_path: Path) -> None:
    touch(tmp_path / 'm', 'sub-01/ses-a/anat/sub-01_ses-a_run-1_desc-brain_mask.nii.gz')
    scan, *others = collect(dataset, derivatives={'masks': tmp_path / 'm'})
    assert scan.brain_mask is not None
    assert not any(other.brain_mask for other in others)


@pytest.mark.parametrize(
    'name',
    [
        'sub-02_acq-cor_desc-brain_mask.nii.gz',
        'sub-02/anat/sub-02_acq-cor_T2w_desc-brain_mask.nii.gz',
        'sub-02/anat/sub-02_acq-cor_mask.nii.gz',
        'bibsnet/sub-02/anat/sub-02_acq-cor_desc-brain_mask.nii.gz',
        'sub-02/anat/sub-01_acq-cor_desc-brain_mask.nii.gz',
    ],
)
def test_masks_that_fit_nothing_are_named(dataset: Path, tmp_path: Path, name: str) -> None:
    touch(tmp_path / 'm', name)
    options: dict[str, Any] = {'participants': ['02'], 'derivatives': {'masks': tmp_path / 'm'}}
    assert len(collect(dataset, **options)) == 2
    scans, unusable = query(dataset, allow_missing_masks=False, **options)
    assert scans == []
    message = unusable[0].message
    assert message.startswith(str(dataset / 'sub-02/anat/sub-02_acq-cor_T2w.nii.gz'))
    assert 'no brain mask sub-02/anat/sub-02_acq-cor_desc-brain_mask.nii.gz' in message
    assert f'there is {name}' in message
    assert '--allow-missing-masks' in message


def test_a_dataset_may_be_named_from_another_folder(
    dataset: Path, masks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = tmp_path / 'beside'
    beside.mkdir()
    monkeypatch.chdir(beside)
    expected = labels(collect(dataset))
    assert len(expected) > 1
    relative = Path('..') / dataset.relative_to(tmp_path)
    assert labels(collect(relative)) == expected
    assert labels(collect(tmp_path / 'beside' / relative)) == expected
    masked = [bool(scan.brain_mask) for scan in collect(dataset, derivatives={'m': masks})]
    found = collect(relative, derivatives={'m': Path('..') / masks.relative_to(tmp_path)})
    assert any(masked)
    assert [bool(scan.brain_mask) for scan in found] == masked


@pytest.mark.parametrize('index', [None, 'index'])
def test_closed_folders_are_told_and_do_not_stop_the_others(
    dataset: Path, tmp_path: Path, closed: Callable[[Path], Path], index: str | None
) -> None:
    touch(dataset, 'notes/text', 'sub-03/ses-a/anat/sub-03_ses-a_T2w.nii', 'sub-04/anat/x')
    for name in ('notes', 'sub-01', 'sub-02/anat', 'sub-03/ses-a', 'sub-04'):
        closed(dataset / name)
    touch(dataset, 'sub-05/anat/sub-05_T2w.nii')
    (dataset / '.bidsignore').write_text('sub-04/\n', encoding='utf-8')

    layout = open_layout(dataset, tmp_path / index if index else None)

    scans, unusable = collect_scans(layout)
    assert labels(scans) == ['sub-05_T2w']
    assert [(item.image, item.subject) for item in unusable] == [
        ('sub-01/', '01'),
        ('sub-02/anat/', '02'),
        ('sub-03/ses-a/', '03'),
    ]
    assert unusable[0].message.startswith(f'{dataset}/sub-01: cannot be looked through')
    (item,) = collect_scans(layout, participants=['02']).unusable
    assert item.subject == '02'


def test_sessions_that_nobody_asked_for_may_be_closed(
    dataset: Path, closed: Callable[[Path], Path]
) -> None:
    closed(dataset / 'sub-01/ses-b')
    scans = collect(dataset, sessions=['a'])
    assert labels(scans) == ['sub-01_ses-a_run-01_T2w', 'sub-01_ses-a_run-02_T2w']
    assert [item.image for item in query(dataset).unusable] == ['sub-01/ses-b/']
