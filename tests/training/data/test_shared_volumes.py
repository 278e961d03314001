"""Volumes that several processes share."""

from __future__ import annotations

import multiprocessing
import os
import time

import numpy as np

from bids_segsr.training.data.shared_volumes import SharedVolumes


def slow_volume(number):
    time.sleep(0.3)
    return np.array([number, os.getpid()])


def read(arguments):
    folder, wanted = arguments
    volumes = SharedVolumes(folder, slow_volume, keep=10)
    return [int(volumes.get(number)[1]) for number in wanted]


def test_processes_share_the_work(tmp_path):
    wanted = [0, 1, 2, 3, 4, 5, 0, 3]
    start = time.monotonic()
    with multiprocessing.get_context('fork').Pool(2) as pool:
        first, second = pool.map(read, [(tmp_path, wanted)] * 2, chunksize=1)
    # each volume was made once, by one or the other, and not one after the other
    assert first == second
    assert len(set(first)) == 2
    assert time.monotonic() - start < 0.8 * 0.3 * 12
    np.testing.assert_array_equal([np.load(tmp_path / f'{n}.npy')[0] for n in range(6)], range(6))


def test_old_volumes_are_deleted_and_made_again(tmp_path):
    volumes = SharedVolumes(tmp_path, lambda n: np.full(3, n), keep=4)
    for number in range(12):
        volumes.get(number)
    assert sorted(int(path.stem) for path in tmp_path.glob('*.npy')) == [8, 9, 10, 11]
    assert volumes.get(2)[0] == 2


def test_there_are_no_volumes_beyond_the_count(tmp_path):
    made = []
    volumes = SharedVolumes(tmp_path, lambda n: (made.append(n), np.zeros(1))[1], count=2)
    volumes.get(0)
    volumes.get(1)
    assert made == [0, 1]
