"""Mistakes on the command line: two lines, and the nearest flag."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from bids_segsr.cli import parser, segsr
from bids_segsr.cli.arguments import structure_numbers
from bids_segsr.training.recipe_file import recipe_names


@pytest.mark.parametrize(
    ('build', 'argv', 'told'),
    [
        (
            parser.build_parser,
            ['a', 'b', 'participant', '--participant-labels', '01'],
            'unrecognized arguments: --participant-labels 01; did you mean --participant-label?',
        ),
        (
            parser.build_parser,
            ['a', 'b', 'particpant'],
            'did you mean participant?',
        ),
        (parser.build_parser, ['a', 'b', 'participant', '--nprocs', 'x'], 'invalid int value'),
        (parser.build_parser, ['a'], 'the following arguments are required'),
        (segsr.build_parser, ['predcit', 'x'], 'did you mean predict?'),
        (segsr.build_parser, ['predict', 'a', 'b', '--modle', 'x'], 'did you mean --model?'),
    ],
)
def test_two_lines(build, argv, told, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build().parse_args(argv)

    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert len(lines) == 2
    assert told in lines[0]
    assert '--help' in lines[1]


@pytest.mark.parametrize(
    'words',
    [
        ['train', 'nosuch', '--data', 'x', '--out', 'y'],
        ['train', 'segsrgan-2020', '--data', 'nosuch', '--out', 'y'],
        ['train', 'segsrgan-2020', '--init', 'nosuch', '--data', 'x', '--out', 'y'],
        ['predict', 'a.nii.gz', 'out', '--model', 'nosuch'],
        ['predict', 'nosuch.nii.gz', 'out'],
        ['evaluate', 'compare', '--data', 'nosuch', '--out', 'y'],
        ['models', 'verify', 'nosuch'],
    ],
)
def test_a_name_that_is_none_is_told_without_torch(words: list[str], tmp_path: Path) -> None:
    code = (
        'import sys; from bids_segsr.cli.segsr import main; '
        f'assert main({words!r}) == 1; print(*({{"torch", "monai", "nipype"}} & set(sys.modules)))'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout.split() == []
    assert 'nosuch' in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_recipes_are_listed_shown_and_copied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert segsr.main(['recipes', 'list']) == 0
    listed = capsys.readouterr().out
    assert [line.split()[0] for line in listed.splitlines()] == recipe_names()
    with pytest.raises(SystemExit) as ended:
        segsr.main(['train', '--list'])
    assert ended.value.code == 0
    assert capsys.readouterr().out == listed
    assert segsr.main(['recipes', 'show', 'segsrgan-2020']) == 0
    shown = capsys.readouterr().out
    assert '# SegSRGAN 2020, section' in shown
    copy = tmp_path / 'mine.toml'
    assert segsr.main(['recipes', 'copy', 'segsrgan-2020', str(copy)]) == 0
    assert copy.read_text(encoding='utf-8') == shown
    assert segsr.main(['recipes', 'copy', 'segsrgan-2020', str(copy)]) == 1


def test_a_model_is_told_on_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    told = {}
    for flag in ('', '--full'):
        assert segsr.main(['models', 'show', 'tissue-unet', *flag.split()]) == 0
        told[flag] = capsys.readouterr().out.splitlines()
    assert len(told['']) < 45
    assert len(told['--full']) > 150
    (row,) = [line for line in told[''] if 'ICBM 152' in line]
    assert row.split()[-3:] == ['29.35', '31.34', '32.19']


def test_numbers_of_a_structure_may_be_ranges() -> None:
    assert structure_numbers('cortex=2') == ('cortex', (2,))
    assert structure_numbers('cortex=1001-1003,7,9-9') == ('cortex', (1001, 1002, 1003, 7, 9))
    for wrong in (
        'cortex',
        'cortex=',
        '=1',
        'cortex=1,',
        'cortex=3-1',
        'cortex=a',
        'x=0-99999999',
    ):
        with pytest.raises(argparse.ArgumentTypeError, match=r'such as cortex=1001-1035'):
            structure_numbers(wrong)
