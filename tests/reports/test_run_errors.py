"""Crash files, refused images, and what is told of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bids_segsr.reports.run_errors import discreet, last_line, read_problems


@pytest.mark.parametrize(
    ('text', 'line'),
    [
        ('Traceback:\n  File "x"\nValueError: bad thing\n\n', 'ValueError: bad thing'),
        (
            'Traceback:\n\tTraceback\n\tpackage.module.SomeError: bad: thing',
            'SomeError: bad: thing',
        ),
        ('bids_segsr.exceptions.ImageError: a.nii: empty', 'a.nii: empty'),
        ('Traceback:\nValueError: first line\nand another', 'ValueError: first line'),
        ('something else', 'something else'),
        (
            'Traceback (most recent call last):\n  File "x"\ngzip.BadGzipFile: CRC',
            'BadGzipFile: CRC',
        ),
        ('', ''),
    ],
)
def test_last_line_of_a_traceback(text: str, line: str) -> None:
    assert last_line(text) == line


@pytest.mark.parametrize(
    'content', [b'', b'Node', b'\x80\x04pickle', b'Node: x\n= \n=', b'Traceback (most recent'],
    ids=['empty', 'word', 'binary', 'equals', 'cut'],
)  # fmt: skip
def test_odd_crash_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / 'crash-20261121-101010-me-node-1.txt').write_bytes(content)
    (tmp_path / 'crash-20261121-101010-me-node-2.pklz').write_bytes(content)
    problems = read_problems(tmp_path, {})
    assert len(problems) == 2
    assert all(problem.message for problem in problems)


def test_a_full_disk_is_one_problem_an_image(tmp_path: Path) -> None:
    for number, image in enumerate(('sub_01_T2w', 'sub_01_T2w', 'sub_01_T2w', 'sub_02_T2w')):
        name = image.replace('sub_', 'sub-')
        text = (
            f'Node: bids_segsr_wf.{name}_wf.save_{number}\nTraceback (most recent call last):\n'
            f'  File "x"\nbids_segsr.exceptions.UserError: /out/{number}: no space\n'
        )
        (tmp_path / f'crash-20261121-101010-save_{9 - number}.txt').write_text(text)
    assert [problem.message for problem in read_problems(tmp_path, {})] == [
        'step save_0 failed: /out/0: no space (and 2 further steps)',
        'step save_3 failed: /out/3: no space',
    ]
    assert '/out/2: no space' in read_problems(tmp_path, {})[0].detail


@pytest.mark.parametrize('content', ['', '{', '{"a": 1}', '[1, 2]', 'null', '[{"image": 1}]'])
def test_odd_errors_json(content: str, tmp_path: Path) -> None:
    (tmp_path / 'errors.json').write_text(content, encoding='utf-8')
    problems = read_problems(tmp_path, {})
    assert [problem.image for problem in problems] == ['errors.json']


def test_folders_get_names() -> None:
    folders = {'<output>': Path('/data/out'), '<input>': Path('/data/out/raw')}
    text = '/data/out/raw/x /data/out/y /data/outer /Users/jo/z /env/lib/site-packages/a.py'
    assert discreet(text, folders) == '<input>/x <output>/y /data/outer ~/z a.py'
