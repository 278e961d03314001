"""What a command does when its surroundings are not as usual."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bids_segsr.cli.process import FAILED, ensure_home, run_command
from bids_segsr.exceptions import INTERRUPTED, TERMINATED, UserError

PRINT = """
import sys
from bids_segsr.cli.process import run_command
def command():
    for number in range(20_000):
        print(number)
    open(sys.argv[1], 'w').write('to its end')
    return 0
sys.exit(run_command('program', command))
"""


@pytest.mark.parametrize(
    ('redirected', 'told'),
    [
        ('| head -1', ''),
        ('> /dev/full', 'program: standard output cannot be written (No space left on device)'),
        ('>&-', ''),
        ('>&- 2>&- <&-', ''),
    ],
)
def test_work_is_done_whatever_becomes_of_standard_output(
    tmp_path: Path, redirected: str, told: str
) -> None:
    done = tmp_path / 'done'
    line = f'"{sys.executable}" -c "$CODE" {done} {redirected}; exit ${{PIPESTATUS[0]}}'
    result = subprocess.run(
        ['bash', '-c', line], env={**os.environ, 'CODE': PRINT}, capture_output=True, check=False
    )

    assert result.returncode == 0
    assert done.read_text() == 'to its end'
    lines = result.stderr.decode().splitlines()
    assert len(lines) == bool(told)
    assert ''.join(lines).startswith(told)


def test_neither_home_nor_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, 'environ', {})
    monkeypatch.setattr('pwd.getpwuid', lambda number: {}[number])
    ensure_home()
    assert os.environ == {'HOME': '/nonexistent', 'LOGNAME': f'uid{os.getuid()}'}


def end(error: BaseException) -> int:
    def command() -> int:
        raise error

    return run_command('program', command, '; go on')


def test_ends_in_one_line_and_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert end(UserError('file: bad')) == FAILED
    assert end(KeyboardInterrupt()) == INTERRUPTED
    assert end(PermissionError(13, 'Permission denied', 'file')) == FAILED
    assert end(PermissionError('not\nallowed')) == FAILED
    before = signal.getsignal(signal.SIGTERM)
    assert run_command('program', lambda: os.kill(os.getpid(), signal.SIGTERM) or 0) == TERMINATED
    assert signal.getsignal(signal.SIGTERM) is before
    assert capsys.readouterr().err.splitlines() == [
        'program: file: bad',
        'program: interrupted; go on',
        'program: file: may not be accessed (Permission denied); mend its permissions, or those '
        'of the folders above it',
        'program: not allowed',
        'program: terminated',
    ]
