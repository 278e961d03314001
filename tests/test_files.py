"""Files are there completely or not at all; a lock belongs to one run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_card import make_card

from bids_segsr.exceptions import UserError
from bids_segsr.files import complete, locked, remove_partial, writable, write_text
from bids_segsr.networks import create
from bids_segsr.zoo.find import load_model
from bids_segsr.zoo.store import save_model


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / 'new' / 'a.txt'
    with complete(path) as part:
        part.write_text('half')
        assert part.name == path.name
        assert not path.exists()
        part.write_text('whole')
    assert path.read_text() == 'whole'
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / 'a.txt'
    path.write_text('old')

    def fail() -> None:
        with complete(path) as part:
            part.write_text('half')
            raise ValueError('halfway')

    with pytest.raises(ValueError, match='halfway'):
        fail()
    assert path.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / 'a.txt'
    path.write_text('old')
    code = (
        'import os, sys; from pathlib import Path; from bids_segsr.files import complete\n'
        'with complete(Path(sys.argv[1])) as part:\n'
        '    part.write_text("half"); os.kill(os.getpid(), 9)'
    )
    ended = subprocess.run([sys.executable, '-c', code, str(path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert path.read_text() == 'old'
    assert len(list(tmp_path.iterdir())) == 2
    with complete(tmp_path / 'b.txt') as part:
        part.write_text('being written')
        write_text(path, 'new')
        assert part.exists()
    assert path.read_text() == 'new'
    assert sorted(tmp_path.iterdir()) == [path, tmp_path / 'b.txt']


def test_files_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / 'a.txt', 'x')
    finally:
        os.umask(before)
    assert (tmp_path / 'a.txt').stat().st_mode & 0o777 == 0o640


def test_what_holds_the_text_is_left_alone(tmp_path: Path) -> None:
    path = write_text(tmp_path / 'a.txt', 'x')
    os.utime(path, (1, 1))
    write_text(path, 'x')
    assert path.stat().st_mtime == 1
    write_text(path, 'y')
    assert path.stat().st_mtime > 1


def test_a_place_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    for path in (tmp_path / 'file' / 'a.txt', tmp_path):
        with pytest.raises(UserError, match=f'^{tmp_path}[^\n]*$'):
            write_text(path, 'x')


def test_full_disk(tmp_path: Path) -> None:
    """/dev/full takes no byte."""
    told = 'a.txt: cannot be written .No space left on device.; free some space'
    with pytest.raises(UserError, match=told), complete(tmp_path / 'a.txt') as part:
        part.symlink_to('/dev/full')
        part.write_text('x')
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_leaves_of_a_participant_is_removed(tmp_path: Path) -> None:
    for name in (
        'sub-01/anat/.part-0/a.json',
        'sub-01/anat/a.json',
        'sub-011/anat/.part-1/a.json',
        '.part-2/sub-01.html',
        '.part-3/sub-011.html',
    ):
        write_text(tmp_path / name, 'x')

    remove_partial(tmp_path, '01')

    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob('*') if p.is_file())
    assert left == ['.part-3/sub-011.html', 'sub-01/anat/a.json', 'sub-011/anat/.part-1/a.json']


def test_a_model_that_cannot_be_saved_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = make_card()
    torch.manual_seed(0)
    folder = save_model(tmp_path / 'model', create(card.architecture, **card.options), card)
    before = load_model(folder).network.state_dict()

    def full(self: Path, content: bytes) -> int:
        with self.open('wb') as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Path, 'write_bytes', full)
    with pytest.raises(UserError, match='No space left on device'):
        save_model(folder, create(card.architecture, **card.options), card)
    monkeypatch.undo()
    after = load_model(folder).network.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_a_lock_that_is_taken_is_told(tmp_path: Path) -> None:
    path = tmp_path / 'folder' / '.lock'
    with (
        locked(path, 'taken'),
        pytest.raises(UserError, match='taken'),
        locked(path, 'taken', 0.05),
    ):
        pytest.fail('held twice')
    with locked(path):
        pass


def test_a_folder_that_may_be_missing_is_tried(tmp_path: Path) -> None:
    assert writable(tmp_path)
    assert writable(tmp_path / 'a' / 'b')
    assert not list(tmp_path.iterdir())
    (tmp_path / 'file').touch()
    assert not writable(tmp_path / 'file' / 'below')
    # root may write there by its permissions, and nobody can
    assert not writable(Path('/proc/nothing'))
