"""The viewer holds the volumes where they lie in space, the brain alone, and within its budget."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geometry_phantoms import all_orientations, oblique_affine
from PIL import Image

from bids_segsr.reports import viewer
from bids_segsr.reports.viewer import Volumes, thumbnail, viewer_page

SHAPE = (24, 20, 18)


def parts(page: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read facts and volumes out of a page, as its script does."""
    facts = json.loads(re.search(r'const FACTS = (.*);', page).group(1))  # type: ignore[union-attr]
    volumes = {}
    for name, text in re.findall(r'id="data-(\w+)">([^<]+)<', page):
        steps = np.frombuffer(gzip.decompress(base64.b64decode(text)), np.uint8)
        volumes[name] = np.cumsum(steps.reshape(facts['shape'], order='F'), axis=0, dtype=np.uint8)
    return facts, volumes


def brain(spot: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return an image of 100 with a spot of 200, and its mask, within a bright surrounding."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:20, 4:17, 3:15] = 1
    image = np.where(mask, 100.0, 5000.0)
    image[spot] = 200
    return image.astype(np.float32), mask


SPOT = (9, 12, 7)
AFFINE = oblique_affine((0.7, 0.7, 0.7), (11, -8, 23))


@pytest.mark.parametrize(('shape', 'affine'), all_orientations(SHAPE, AFFINE))
def test_a_known_point_lies_where_it_was(shape: tuple[int, int, int], affine: np.ndarray) -> None:
    image, mask = brain(SPOT)
    world = (AFFINE @ [*SPOT, 1])[:3]
    voxels = np.linalg.inv(AFFINE) @ affine
    at = np.indices(shape).reshape(3, -1)
    index = tuple(np.rint(voxels[:3, :3] @ at + voxels[:3, 3:]).astype(int))
    source = (image[index].reshape(shape), affine)
    inside = (mask[index].reshape(shape), affine)
    page = viewer_page(Volumes(source, source, inside), 'sub-01_T2w')
    facts, volumes = parts(page)
    shown = volumes['superresolved']
    found = np.argwhere(shown == shown.max())
    assert len(found) == 1
    np.testing.assert_allclose((np.array(facts['affine']) @ [*found[0], 1])[:3], world, atol=1e-3)


def test_nothing_outside_the_brain_is_held() -> None:
    image, mask = brain((9, 12, 7))
    source = (image, np.eye(4))
    scan, labels = np.where(mask, 100.0, 4000.0), np.full(SHAPE, 3)
    volumes = Volumes(
        source,
        source,
        (mask, np.eye(4)),
        scan=(scan, np.eye(4)),
        residual=(scan / 10, np.eye(4)),
        segmentation=(labels, np.eye(4)),
    )
    inside = viewer.box_around(mask > 0, (1, 1, 1), 3.0)
    outside = mask[inside] == 0
    assert outside.any()
    for name, array in volumes.layers().items():
        assert set(np.unique(array[outside])) == {128 if name == 'residual' else 0}, name
    assert (volumes.labels[~outside] == 3).all()


def test_residual_keeps_its_sign_its_place_and_the_thickness_of_its_slices() -> None:
    image, mask = brain((9, 12, 7))
    affine = oblique_affine((1, 1, 1), (11, -8, 23))
    thick = affine @ np.diag([1, 1, 3, 1])
    thick[:3, 3] = (affine @ [0, 0, 1, 1])[:3]
    residual = np.zeros((24, 20, 6), np.float32)
    residual[4:20, 4:17, 1:5] = 0.01
    residual[9:12, 9:12, 2] = 20
    residual[9:12, 9:12, 3] = -20
    scan = np.zeros(residual.shape)
    scan[4:20, 4:17, 1:5] = np.linspace(0, 100, 16)[:, None, None]
    volumes = Volumes(
        (image, affine), (image, affine), (mask, affine), scan=(scan, thick),
        residual=(residual, thick),
    )  # fmt: skip
    start = [part.start for part in viewer.box_around(mask > 0, (1, 1, 1), 3.0)]
    column = volumes.residual[10 - start[0], 10 - start[1]]
    z = np.arange(len(column)) + start[2]
    np.testing.assert_array_equal(z[column > 130], [6, 7, 8])
    np.testing.assert_array_equal(z[column < 125], [9, 10, 11])
    low, high = np.percentile(scan[4:20, 4:17, 1:5], (2, 98))
    told = (float(column.max()) - 127.5) / 127.5 * volumes.extreme
    assert told == pytest.approx(min(2000 / (high - low), volumes.extreme), rel=0.01)


def test_values_come_back_within_a_grey_level() -> None:
    rng = np.random.default_rng(3)
    image = rng.uniform(50, 150, SHAPE).astype(np.float32)
    source = (image, np.eye(4))
    facts, volumes = parts(viewer_page(Volumes(source, source, (image > 0, np.eye(4))), 'x'))
    low, high = facts['window']
    back = low + volumes['interpolated'] / 255 * (high - low)
    clipped = np.clip(image, low, high)
    assert np.abs(back - clipped).max() <= 0.51 * (high - low) / 255


def test_a_large_image_is_shown_coarser_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    image = rng.uniform(50, 150, (40, 40, 40)).astype(np.float32)
    source = (image, np.eye(4))
    volumes = Volumes(source, source, (image > 0, np.eye(4)), segmentation=source)
    assert 'times the edge' not in viewer_page(volumes, 'x')
    monkeypatch.setattr(viewer, 'MOST_BYTES', 40_000)
    page = viewer_page(volumes, 'x')
    assert 'voxels of 2 times the edge' in page
    facts, shown = parts(page)
    assert facts['shape'] == [20, 20, 20]
    np.testing.assert_allclose(np.array(facts['affine'])[:3, 3], 0.5)
    block = volumes.superresolved[2:4, 4:6, 6:8].mean()
    assert shown['superresolved'][1, 2, 3] == pytest.approx(block, abs=0.51)


def test_same_bytes_and_no_address() -> None:
    image, mask = brain((9, 12, 7))
    source = (image, np.eye(4))
    pages = [
        viewer_page(
            Volumes(
                source,
                source,
                (mask, np.eye(4)),
                segmentation=(mask, np.eye(4)),
                names={1: '</script>'},
            ),
            '<b>sub</b>',
        )
        for _ in range(2)
    ]
    assert pages[0] == pages[1]
    assert not re.search(r'(?:src|href)=|https?:', pages[0])
    assert '<b>sub' not in pages[0]
    assert pages[0].count('</script>') == len(re.findall(r'<script', pages[0]))


def test_thumbnail_is_upright_with_the_right_of_the_scanner_at_the_left(tmp_path: Path) -> None:
    image = np.zeros(SHAPE, np.float32)
    image[4:20, 4:17, 3:15] = 60
    image[14:20, 10:17, 3:15] = 200  # right anterior
    source = (image, np.eye(4))
    picture = thumbnail(Volumes(source, source, (image > 0, np.eye(4))))
    assert picture[:2] == b'\xff\xd8'
    grey = np.asarray(Image.open(io.BytesIO(picture)).convert('L'), float)
    width = round(112 * 22 / 19)  # the axial plane, with its margin
    rows, columns = np.nonzero(grey[:, :width] > 150)
    assert rows.mean() < 0.5 * 112
    assert columns.mean() < 0.5 * width


def test_shapes_that_differ_are_refused() -> None:
    image, mask = brain((9, 12, 7))
    with pytest.raises(ValueError, match='shapes differ'):
        Volumes((image, np.eye(4)), (image[1:], np.eye(4)), (mask, np.eye(4)))
