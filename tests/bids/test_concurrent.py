"""Parallel runs into one output folder: nothing is lost, nothing is half written."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

from bids_segsr.bids.database import INDEX_FILE

PROCESSES = 6


def at_once(code: str, *arguments: Path) -> list[subprocess.CompletedProcess[str]]:
    """Run code in several processes that start together; `number` is their number."""
    start = arguments[0] / 'start'
    wait = (
        'import sys, time\nfrom pathlib import Path\n'
        'number, start, *paths = int(sys.argv[1]), *map(Path, sys.argv[2:])\n'
    )
    barrier = 'while not start.exists(): time.sleep(0.001)\n'
    imports, _, body = code.partition('---\n')
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', wait + imports + 'print("ready", flush=True)\n' + barrier
             + body, str(number), start, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(PROCESSES)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == 'ready\n'
    start.touch()
    results = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        results.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    return results


def test_links_of_parallel_runs_are_all_kept(tmp_path: Path) -> None:
    """Each run brings a dataset of masks of its own, twenty times."""
    raw, out = tmp_path / 'raw', tmp_path / 'out'
    raw.mkdir()
    results = at_once(
        'from bids_segsr.bids.description import write_bidsignore, write_dataset_description\n'
        '---\n'
        'for turn in range(20):\n'
        '    masks = {f"masks{number}x{turn}": paths[1]}\n'
        '    write_dataset_description(paths[2], paths[1], masks)\n'
        '    write_bidsignore(paths[2])\n',
        tmp_path, raw, out,
    )  # fmt: skip
    assert [result.stderr for result in results] == [''] * PROCESSES
    description = json.loads((out / 'dataset_description.json').read_text(encoding='utf-8'))
    expected = {f'masks{n}x{turn}' for n in range(PROCESSES) for turn in range(20)}
    assert set(description['DatasetLinks']) == {'raw', *expected}
    lines = (out / '.bidsignore').read_text(encoding='utf-8').splitlines()
    assert len(lines) == len(set(lines))
    assert sorted(path.name for path in out.iterdir()) == [
        '.bidsignore', 'dataset_description.json', 'logs',
    ]  # fmt: skip


def test_parallel_runs_share_one_index(tmp_path: Path) -> None:
    raw, index = tmp_path / 'raw', tmp_path / 'index'
    for number in range(40):
        folder = raw / f'sub-{number:02d}' / 'anat'
        folder.mkdir(parents=True)
        (folder / f'sub-{number:02d}_T2w.nii.gz').touch()
        (folder / f'sub-{number:02d}_T2w.json').write_text('{"SliceThickness": 3}')
    (raw / 'dataset_description.json').write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    results = at_once(
        'from bids_segsr.bids.query import collect_scans, open_layout\n'
        'import bids\n'
        '---\n'
        'scans, _ = collect_scans(open_layout(*paths[1:]), participants=[f"{number:02d}"])\n'
        'print([(scan.label, scan.metadata) for scan in scans])\n',
        tmp_path, raw, index,
    )  # fmt: skip
    assert [result.stderr for result in results] == [''] * PROCESSES
    assert [result.stdout.splitlines()[-1] for result in results] == [
        f"[('sub-{number:02d}_T2w', {{'SliceThickness': 3}})]" for number in range(PROCESSES)
    ]
    assert sorted(path.name for path in index.iterdir()) == ['.lock', INDEX_FILE]
    with sqlite3.connect(index / INDEX_FILE) as database:
        ((count,),) = database.execute("select count(*) from files where path like '%T2w.nii.gz'")
    assert count == 40
