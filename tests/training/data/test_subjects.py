"""Lists of training data."""

from __future__ import annotations

import os

import numpy as np
import pytest
from training_phantoms import AFFINE, write

from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.training.data.subjects import Subject, content_digest, read_csv


def listed(folder, text):
    path = folder / 'data.csv'
    path.write_text(text, encoding='utf-8-sig')
    return path


def test_columns_of_the_original_program(files):
    path = listed(
        files,
        'HR_image,Label_image,Base,Guide_image\n'
        'sub-01_T2w.nii.gz,label.nii.gz,Train,sub-01_FLAIR.nii.gz\n'
        f'{files / "sub-02_T2w.nii.gz"},label.nii.gz, TEST,sub-01_FLAIR.nii.gz\n',
    )
    first, second = read_csv(path)
    assert first == Subject(
        'sub-01',
        files / 'sub-01_T2w.nii.gz',
        files / 'label.nii.gz',
        'train',
        guides=(files / 'sub-01_FLAIR.nii.gz',),
    )
    assert (second.name, second.split, second.mask) == ('sub-02', 'test', None)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (
            'HR_image,Label_image\nsub-01_T2w.nii.gz,\n',
            r'no column Base; .* \(HR_image, Label_image found\)',
        ),
        ('HR_image,hr_image,Base\nx,y,Train\n', 'column HR_image is there twice'),
        (
            'HR_image,Base,Subject\nsub-01_T2w.nii.gz,Train,x\n./sub-01_T2w.nii.gz,Test,y\n',
            r'sub-01_T2w\.nii\.gz is in train \(subject x\) and in test \(subject y\)',
        ),
        ('HR_image,Base\n', 'names no image'),
        ('HR_image,Base\n,Train\n', 'line 2 names no HR_image'),
        ('HR_image,Base\nsub-01_T2w.nii.gz,Training\n', "Base 'training'"),
        ('HR_image,Base\nsub-09_T2w.nii.gz,Train\n', r'sub-09_T2w\.nii\.gz: no such file'),
        (
            'HR_image,Base\nsub-01_T2w.nii.gz,Train\nsub-01_FLAIR.nii.gz,Test\n',
            'sub-01 is in train and in test',
        ),
        (
            'HR_image,Base,Subject\nsub-01_T2w.nii.gz,Train,x\nsub-02_T2w.nii.gz,Test,x\n',
            'subject x is in train and in test',
        ),
        (
            'HR_image,Base,Guide_image\n'
            'sub-01_T2w.nii.gz,Train,sub-01_FLAIR.nii.gz\nsub-02_T2w.nii.gz,Train,\n',
            'sub-02 has 0 guide images',
        ),
    ],
)
def test_mistakes_in_the_list_are_told_in_one_line(files, text, message):
    with pytest.raises(UserError, match=message) as caught:
        read_csv(listed(files, text))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('change', ['shape', 'affine', 'text'])
def test_label_on_another_grid_names_both_files(files, change):
    data, affine = np.zeros((20, 22, 24), np.uint8), AFFINE.copy()
    if change == 'shape':
        data = data[:-1]
    affine[0, 3] += 0.5 * (change == 'affine')
    write(files / 'label.nii.gz', data, affine)
    expected = r'label\.nii\.gz: lies on another grid .* than .*sub-01_T2w\.nii\.gz'
    if change == 'text':
        (files / 'label.nii.gz').write_text('x', encoding='utf-8')
        expected = r'label\.nii\.gz: not readable'
    text = 'HR_image,Label_image,Base\nsub-01_T2w.nii.gz,label.nii.gz,Train\n'
    with pytest.raises(ImageError, match=expected):
        read_csv(listed(files, text))


def test_case_of_the_columns_does_not_matter_and_others_are_told(files, caplog):
    path = listed(
        files,
        'hr_image,LABEL_IMAGE ,base,guide_image,Mask\n'
        'sub-01_T2w.nii.gz,label.nii.gz,Train,sub-01_FLAIR.nii.gz,label.nii.gz\n',
    )
    (subject,) = read_csv(path, labelled=True)
    assert subject.label == files / 'label.nii.gz'
    assert subject.guides == (files / 'sub-01_FLAIR.nii.gz',)
    assert subject.mask is None
    assert 'columns that are not read: Mask;' in caplog.text
    path = listed(files, 'HR_image,Labels,Base\nsub-01_T2w.nii.gz,label.nii.gz,Train\n')
    with pytest.raises(UserError, match=r'no column Label_image; .*HR_image, Labels, Base found'):
        read_csv(path, labelled=True)


@pytest.mark.parametrize('name', ['a.nii.gz', 'a.nii'])
def test_content_is_told_wherever_a_file_lies(tmp_path, name):
    data = np.random.default_rng(0).integers(0, 900, (60, 60, 60)).astype(np.int16)
    digests = []
    for folder, value in (('here', 0), ('there', 0), ('other', 1)):
        (tmp_path / folder).mkdir()
        data[30, 30, 30] = value
        path = write(tmp_path / folder / name, data)
        assert path.stat().st_size > 3 * 2**16
        os.utime(path, (value, 5))
        digests.append(content_digest(path))
    assert digests[0] == digests[1] != digests[2]
