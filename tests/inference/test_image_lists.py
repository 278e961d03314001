"""Lists of images: what is read of them, and what is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from bids_segsr.exceptions import UserError
from bids_segsr.inference.image_lists import listed_images, result_folders
from bids_segsr.inference.one_image import Source
from bids_segsr.training.data.subjects import read_csv


@pytest.mark.parametrize(
    'text',
    [
        'image,mask\na.nii,m.nii\n',
        'Image , MASK\r\n a.nii , m.nii \r\n',
        '\ufeffimage,mask\n"a.nii","m.nii"\n\n',
        'mask,image\nm.nii,a.nii,\n',
    ],
    ids=['plain', 'case and spaces', 'Excel', 'order'],
)
def test_columns_are_found_as_people_write_them(tmp_path: Path, text: str) -> None:
    path = tmp_path / 'list.csv'
    path.write_text(text, encoding='utf-8', newline='')
    (source,) = listed_images(path)
    assert (source.image, source.mask) == (tmp_path / 'a.nii', tmp_path / 'm.nii')


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('image,image\na.nii,b.nii\n', 'image is there twice'),
        ('image,mask\nmy,scan.nii,m.nii\n', 'more cells'),
        ('image\na\0.nii\n', 'no text'),
        ('image\n', 'lists no image'),
        ('scan\na.nii\n', 'no column "image"'),
    ],
)
def test_lists_that_cannot_be_meant(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / 'list.csv'
    path.write_text(text, encoding='utf-8')
    with pytest.raises(UserError, match=words):
        listed_images(path)


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('image,maks\na.nii,m.nii\n', 'not read: maks'),
        ('a.nii,m.nii\n', 'only the first one is read'),
    ],
)
def test_what_is_not_read_of_a_list_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, words: str
) -> None:
    path = tmp_path / 'list.csv'
    path.write_text(text, encoding='utf-8')
    assert [source.mask for source in listed_images(path)] == [None]
    assert words in caplog.text


def test_bytes_that_are_no_text_in_a_list_of_a_training(tmp_path: Path) -> None:
    path = tmp_path / 'list.csv'
    path.write_text('HR_image,Base\na\0.nii,Train\n', encoding='utf-8')
    with pytest.raises(UserError, match='no text'):
        read_csv(path)


@pytest.mark.parametrize(
    ('images', 'folders'),
    [
        (['d/a_T2w.nii', 'd/b_T2w.nii'], ['', '']),
        (['d/a_T2w.nii', 'e/a_T2w.nii'], ['d', 'e']),
        # their masks and tissues would have the same names
        (['d/a_T1w.nii', 'd/a_T2w.nii', 'd/b.nii'], ['a_T1w', 'a_T2w', '']),
        (['d/a_T1w.nii', 'd/a_T2w.nii', 'e/a_T2w.nii'], ['d/a_T1w', 'd/a_T2w', 'e/a_T2w']),
        (['d/a.nii', 'd/a_T2w.nii'], ['a', 'a_T2w']),
        (['d/../e/a.nii', 'd/a.nii'], ['e', 'd']),
    ],
)
def test_results_lie_apart_and_inside_the_output(
    tmp_path: Path, images: list[str], folders: list[str]
) -> None:
    for folder in 'de':
        (tmp_path / folder).mkdir()
    out = tmp_path / 'out'
    found = result_folders([Source(tmp_path / image) for image in images], out)
    assert found == [out / folder for folder in folders]


@pytest.mark.parametrize(
    ('images', 'words'),
    [
        (['a.nii', 'a.nii'], 'listed twice'),
        (['a.nii', 'd/../a.nii'], 'listed twice'),
        (['a.nii', 'a.nii.gz'], 'lies beside another image of its name'),
    ],
)
def test_one_image_is_not_two(tmp_path: Path, images: list[str], words: str) -> None:
    (tmp_path / 'd').mkdir()
    with pytest.raises(UserError, match=words):
        result_folders([Source(tmp_path / image) for image in images], tmp_path / 'out')


def test_names_tell_the_contrast() -> None:
    assert [Source(Path(f'{name}.nii')).modality for name in ('a_T2w', 'T2w', 'aT2w', 'b')] == [
        'T2w',
        'T2w',
        None,
        None,
    ]
    assert [Source(Path(f'{name}.nii')).stem for name in ('a_T2w', 'T2w')] == ['a', 'T2w']
