"""What `segsr predict` takes, where results go, and what it refuses before any work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from evaluation_phantoms import write_model
from geometry_phantoms import oblique_affine

from bids_segsr.cli.segsr import main
from bids_segsr.imaging.volume import save_volume


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp('model'), 'toy')


def write_scan(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(seed).uniform(100, 900, (18, 16, 8)).astype(np.float32)
    return save_volume(path, data, oblique_affine((1.0, 1.0, 2.0)))


def predict(model: Path, *words: object) -> int:
    flags = ['--model', str(model), '--device', 'cpu', '--skull-strip', 'skip', '--no-report']
    return main(['predict', *map(str, words), *flags, '--patch-size', '16', '--resolution', '1'])


def test_the_report_is_drawn_where_the_output_folder_is_relative(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scan(tmp_path / 'scan.nii.gz')
    monkeypatch.chdir(tmp_path)
    flags = ['--model', str(model), '--device', 'cpu', '--skull-strip', 'skip']
    status = main(['predict', 'scan.nii.gz', 'out', *flags, '--patch-size', '16'])
    assert status == 0
    assert [path.suffix for path in (tmp_path / 'out').glob('*.html')] == ['.html']


def images(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob('*_desc-toy_*.nii.gz'))


def test_a_list_without_header_as_in_the_article(model: Path, tmp_path: Path) -> None:
    write_scan(tmp_path / 'in' / 'one.nii.gz')
    write_scan(tmp_path / 'in' / 'two.nii', 1)
    listed = tmp_path / 'list.csv'
    listed.write_text('in/one.nii.gz,ignored\nin/two.nii\n', encoding='utf-8')
    assert predict(model, listed, tmp_path / 'out') == 0
    names = ['one_res-1mm_desc-toy_image.nii.gz', 'two_res-1mm_desc-toy_image.nii.gz']
    assert images(tmp_path / 'out') == names
    assert predict(model, tmp_path / 'in', tmp_path / 'again') == 0
    assert images(tmp_path / 'again') == names
    one, again = (tmp_path / folder / names[0] for folder in ('out', 'again'))
    assert one.read_bytes() == again.read_bytes()


def test_images_of_one_name_are_kept_apart(model: Path, tmp_path: Path) -> None:
    paths = [write_scan(tmp_path / sub / 'anat' / 'scan.nii.gz', n) for n, sub in enumerate('ab')]
    out = tmp_path / 'out'
    assert predict(model, *paths, out) == 0
    name = 'scan_res-1mm_desc-toy_image.nii.gz'
    assert images(out) == [f'a/anat/{name}', f'b/anat/{name}']
    one, other = ((out / sub / 'anat' / name).read_bytes() for sub in 'ab')
    assert one != other


def test_nothing_is_overwritten_unasked(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write_scan(tmp_path / 'sub-1_T1w.nii.gz'), tmp_path / 'out'
    assert predict(model, path, out) == 0
    (kept,) = out.glob('sub-1_res-1mm_desc-toy_T1w.nii.gz')
    kept.write_bytes(b'mine')
    capsys.readouterr()
    assert predict(model, path, out) == 1
    told = capsys.readouterr().err
    assert '--overwrite' in told
    assert 'bias field' not in told, 'refused before any work'
    assert kept.read_bytes() == b'mine'
    assert predict(model, path, out, '--overwrite') == 0
    assert kept.read_bytes() != b'mine'
    written = kept.read_bytes(), (out / 'sub-1_qc.json').read_bytes()
    other = write_scan(tmp_path / 'sub-1_T2w.nii.gz')
    capsys.readouterr()
    for flags in ((), ('--overwrite',)):
        assert predict(model, other, out, *flags) == 1
        assert 'made from sub-1_T1w, and sub-1_T2w would overwrite it' in capsys.readouterr().err
    assert (kept.read_bytes(), (out / 'sub-1_qc.json').read_bytes()) == written


def test_a_folder_that_cannot_be_written_is_told_before_any_work(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_scan(tmp_path / 'scan.nii.gz')
    assert predict(model, path, '/proc/nothing') == 1
    told = capsys.readouterr().err
    assert '/proc/nothing' in told
    assert 'bias field' not in told


def test_a_broken_image_does_not_stop_the_others(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in' / 'a.nii.gz').write_bytes(b'')
    write_scan(tmp_path / 'in' / 'b.nii.gz')
    assert predict(model, tmp_path / 'in', tmp_path / 'out') == 1
    assert 'a.nii.gz' in capsys.readouterr().err
    assert images(tmp_path / 'out') == ['b_res-1mm_desc-toy_image.nii.gz']


def test_what_may_not_be_read_fails_alone(
    model: Path,
    tmp_path: Path,
    closed: Callable[[Path], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    good = write_scan(tmp_path / 'b.nii.gz')
    folder = write_scan(tmp_path / 'in' / 'c.nii').parent
    image = closed(write_scan(tmp_path / 'a.nii'))
    below = closed(folder) / 'c.nii'
    assert predict(model, folder, below, image, good, tmp_path / 'out') == 1
    told = capsys.readouterr().err
    assert 'Traceback' not in told
    for path in (folder, below, image):
        assert told.count(f'segsr: {path}: may not be accessed (Permission denied); mend') == 1
    assert images(tmp_path / 'out') == ['b_res-1mm_desc-toy_image.nii.gz']
    assert predict(model, below, tmp_path / 'out') == 1
    assert predict(model, good, below / 'out') == 1
    told = capsys.readouterr().err
    assert [line.split(' (')[0] for line in told.splitlines()] == [
        f'segsr: {below}: may not be accessed',
        f'segsr: {below / "out"}: may not be accessed',
    ]
