"""What is said on the terminal, and what the file of a run holds."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from bids_segsr.execution.logs import (
    FILE_HANDLER,
    HANDLER,
    IMPORTANT,
    complain,
    log_level,
    log_to_file,
    start_logging,
)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    root = logging.getLogger()
    for handler in [h for h in root.handlers if h.get_name() in (HANDLER, FILE_HANDLER)]:
        root.removeHandler(handler)
        handler.close()


def test_nipype_is_silent_without_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(0)
    logging.getLogger('nipype.workflow').error('could not run node')
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize(('verbose', 'level'), [(0, 25), (1, 20), (2, 15), (3, 10), (9, 10)])
def test_log_level_is_that_of_fmriprep(verbose: int, level: int) -> None:
    assert log_level(verbose) == level


def test_log_shows_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(1)
    start_logging(1)
    log = logging.getLogger('nipype.workflow')
    try:
        raise ValueError('inner')
    except ValueError:
        log.exception('Saving crash info\nTraceback (most recent call last):')
    log.debug('hidden')
    logging.getLogger('bids_segsr.x').log(IMPORTANT, 'shown')

    lines = capsys.readouterr().err.splitlines()

    assert [line.partition(' ')[2] for line in lines] == [
        'ERROR: Saving crash info',
        'shown',
    ]


def test_quiet_says_only_what_is_wrong_and_the_file_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'logs' / 'run.log'
    start_logging(-1)
    log_to_file(path)
    log = logging.getLogger('bids_segsr.x')
    log.debug('detail')
    log.info('step')
    log.log(IMPORTANT, 'summary')
    log.warning('wrong')
    complain('of the program')
    logging.getLogger('nipype.workflow').info('node')

    first, second = capsys.readouterr().err.splitlines()
    assert (first[9:], second) == ('WARNING: wrong', 'bids_segsr: of the program')
    written = [line.split(': ', 1)[1] for line in path.read_text().splitlines()]
    assert written == ['step', 'summary', 'wrong', 'of the program', 'node']


def test_the_next_run_has_a_file_of_its_own(tmp_path: Path) -> None:
    for name in ('one', 'two'):
        start_logging(0)
        log_to_file(tmp_path / name)
        logging.getLogger('bids_segsr.x').warning(name)
    assert [len((tmp_path / name).read_text().splitlines()) for name in ('one', 'two')] == [1, 1]


def test_a_file_that_cannot_be_written_stops_nothing() -> None:
    start_logging(0)
    log_to_file(Path('/proc/nothing/run.log'))
    logging.getLogger('bids_segsr.x').warning('told')


def test_a_disk_that_is_full_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(0)
    log_to_file(Path('/dev/full'))
    logging.getLogger('bids_segsr.x').warning('told')
    start_logging(0)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith('told')
