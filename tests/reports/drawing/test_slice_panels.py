"""Cuts of a volume, laid out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from test_figures import at

from bids_segsr.reports.drawing import display_volume as views
from bids_segsr.reports.drawing import figures


def test_patients_right_and_anterior_are_at_the_left_and_top() -> None:
    data = np.zeros((9, 11, 5), dtype=np.float32)
    data[8, 10, 2] = 1  # most right, most anterior
    volume = views.read((data, np.diag([1.0, 1.0, 3.0, 1.0])))
    box = tuple(slice(0, n) for n in data.shape)
    panel = figures.Panel(volume, 2, 2, box)  # type: ignore[arg-type]
    plane = panel.plane(volume.data)
    assert plane.shape == (11, 9)
    assert plane[0, 0] == 1
    assert panel.caption == 'Axial · z = +6 mm'
    sagittal = figures.Panel(volume, 0, 8, box)  # type: ignore[arg-type]
    assert sagittal.plane(volume.data)[2, 0] == 1
    assert sagittal.size_mm == (11.0, 15.0)


def test_panels_keep_the_proportions_of_anisotropic_voxels(tmp_path: Path) -> None:
    out = figures.plot_before_after(
        at('scan'), at('smooth'), tmp_path / 'a.svg', before_label='a', after_label='b'
    )
    # matrix(a 0 0 d ..) maps one image pixel to units: 1 mm by 3 mm in the cuts through the slices
    ratios = set()
    for a, d in re.findall(
        r'transform="matrix\(([\d.]+) 0 0 ([\d.]+)', out.read_text(encoding='utf-8')
    ):
        ratios.add(round(float(d) / float(a), 1))
    assert ratios == {1.0, 3.0}
