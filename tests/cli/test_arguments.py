"""Mistakes on the command line: two lines, and the nearest flag."""

from __future__ import annotations

import pytest

from bids_segsr.cli import parser, segsr


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
