"""The line that tells where a run is."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from bids_segsr.execution import progress_line
from bids_segsr.execution.progress_line import NodeProgress, ProgressLine, summary
from bids_segsr.files import write_share


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    time = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress_line.time, 'monotonic', lambda: time.now)
    return time


def node(folder: Path, name: str) -> SimpleNamespace:
    return SimpleNamespace(fullname=f'run_wf.{name}', output_dir=lambda: str(folder))


def test_share_and_time_left(clock: SimpleNamespace) -> None:
    line = ProgressLine(['sub-01_T2w', 'sub-01_run-1_T2w', 'sub-02_T2w'], stream=io.StringIO())
    line.begin('sub-01_run-1_T2w', 'network')
    assert line.text() == '[2/3 images] sub-01_run-1_T2w · network'
    clock.now += 69.5
    line.advance(0.41)
    assert line.text() == '[2/3 images] sub-01_run-1_T2w · network · 41 % · 01:40 left'
    line.advance(0.2)  # never goes back
    assert '41 %' in line.text()
    line.begin('sub-02_T2w', 'bias field')
    clock.now += 3725
    assert line.text() == '[3/3 images] sub-02_T2w · bias field · 1:02:05'


def test_plain_lines_where_there_is_no_terminal(clock: SimpleNamespace) -> None:
    stream = io.StringIO()
    line = ProgressLine(['a'], stream=stream)
    line.begin('a', 'network')
    for share in (0.1, 0.2, 0.3, 0.4):
        clock.now += 20
        line.follow('a', 'network', share)
    line.close()
    assert stream.getvalue().splitlines() == [
        '[1/1 images] a · network',
        '[1/1 images] a · network · 20 % · 02:40 left',
        '[1/1 images] a · network · 40 % · 02:00 left',
    ]


def test_one_line_moves_on_a_terminal_and_others_stand_above_it() -> None:
    stream = Terminal()
    line = ProgressLine(['a'], stream=stream)
    line.begin('a', 'bias field')
    line.say('a: note')
    line.begin('a', 'network')
    line.close()
    shown = stream.getvalue()
    assert shown.count('\n') == 1
    assert 'a: note\n' in shown
    assert shown.rindex('network') > shown.index('a: note')
    assert shown.endswith('\r'), 'nothing is left of it'


def test_results_on_standard_output_do_not_run_into_the_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = Terminal()
    monkeypatch.setattr('sys.stdout', screen)
    monkeypatch.setattr('sys.stderr', screen)
    line = ProgressLine(['a'])
    line.begin('a', 'network')
    line.say('out/a.nii.gz', screen)
    line.close()
    assert '\rout/a.nii.gz\n' in screen.getvalue()


def test_quiet() -> None:
    for stream in (io.StringIO(), Terminal()):
        line = ProgressLine(['a'], quiet=True, stream=stream)
        line.follow('a', 'network', 0.5)
        line.close()
        assert stream.getvalue() == ''


def test_nodes_of_two_images_at_once(tmp_path: Path, clock: SimpleNamespace) -> None:
    line = ProgressLine(['sub-01_T2w', 'sub-02_T2w'], stream=Terminal())
    told = NodeProgress(line)
    network = node(tmp_path, 'sub-01_T2w_wf.image.superresolve')
    other = node(tmp_path / 'b', 'sub-02_T2w_wf.image.bias_field')
    write_share(tmp_path, 0.9)  # of a run that was killed
    told(network, 'start')
    told(other, 'start')
    told(node(tmp_path, 'sub-01_T2w_wf.image.outputnode'), 'start')
    clock.now += 10
    told.tick()
    assert line.text() == '[1/2 images] sub-01_T2w · network · 00:10'
    write_share(tmp_path, 0.5)
    told.tick()
    assert line.text() == '[1/2 images] sub-01_T2w · network · 50 % · 00:10 left'
    told(network, 'end')
    told.tick()
    assert line.text() == '[2/2 images] sub-02_T2w · bias field · 00:10'
    told(other, 'exception')
    told(node(tmp_path, 'sub-02_T2w_wf.figures.draw_qc'), 'start')
    assert '· report' in line.text()


def test_summary() -> None:
    assert summary(3, [], []) == '3 of 3 images done'
    assert summary(3, ['b'], ['c']) == '2 of 3 images done, 1 with warnings (b); 1 failed (c)'
    many = [f's{n}' for n in range(300)]
    assert summary(300, many, []).endswith('300 with warnings (s0, s1, s2, s3, s4 and 295 more)')
