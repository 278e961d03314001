"""Figures of the report: what they show, where, and that nothing breaks them."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import pytest
from geometry_phantoms import all_orientations, oblique_affine
from PIL import Image

from bids_segsr.reports.drawing import figures

SHAPE = (40, 44, 14)
LIMIT = 1_500_000


def phantom(spacing: tuple[float, float, float] = (1.0, 1.0, 3.0)) -> dict[str, np.ndarray]:
    """Nested ellipsoids, brighter to the anterior right, with the maps that belong to them."""
    x, y, z = np.meshgrid(
        *(((np.arange(n) - (n - 1) / 2) / (0.42 * n)) for n in SHAPE), indexing='ij'
    )
    radius = np.sqrt(x**2 + y**2 + z**2)
    scan = 120.0 * (radius < 1) + 80.0 * (radius < 0.75) + 100.0 * (radius < 0.3)
    scan += 60.0 * ((x - 0.4) ** 2 + (y - 0.5) ** 2 + z**2 < 0.05)
    noise = np.random.default_rng(7).normal(0, 4, SHAPE)
    brain = radius < 1
    probability = np.exp(-(((radius - 0.86) / 0.08) ** 2))
    return {
        'scan': ((scan + noise) * (radius < 1.1)).astype(np.float32),
        'smooth': scan.astype(np.float32),
        'mask': brain.astype(np.uint8),
        'probability': probability.astype(np.float32),
        'label': (probability > 0.5).astype(np.uint8),
        'residual': (noise * brain).astype(np.float32),
        'entropy': (1 - np.abs(2 * probability - 1)).astype(np.float32),
        'empty': np.zeros(SHAPE, dtype=np.float32),
    }


DATA = phantom()
AFFINE = oblique_affine((1.0, 1.0, 3.0), (12, -7, 20))


def at(name: str) -> tuple[np.ndarray, np.ndarray]:
    return DATA[name], AFFINE


FIGURES: dict[str, Callable[[Path], Path]] = {
    'before_after': lambda out: figures.plot_before_after(
        at('scan'), at('smooth'), out, before_label='Scan', after_label='Corrected <N4>'
    ),
    'mask': lambda out: figures.plot_mask_contours(at('scan'), at('mask'), out),
    'segmentation': lambda out: figures.plot_segmentation(at('scan'), at('probability'), out),
    'fidelity': lambda out: figures.plot_fidelity(at('residual'), at('scan'), out),
    'uncertainty': lambda out: figures.plot_uncertainty(
        at('entropy'), at('probability'), at('scan'), out
    ),
}


def pictures(svg: str) -> list[np.ndarray]:
    """Decode the images of a file, in their order."""
    found = re.findall(r'data:image/png;base64,([^"]+)"', svg)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(f))).convert('RGB')) for f in found]


def outlines(svg: str) -> list[str]:
    return re.findall(r'<g id="(after-[\d-]+)"', svg)


@pytest.mark.parametrize('name', FIGURES)
def test_figure_is_valid_small_and_the_same_each_time(name: str, tmp_path: Path) -> None:
    text = FIGURES[name](tmp_path / 'a.svg').read_text(encoding='utf-8')
    assert FIGURES[name](tmp_path / 'b.svg').read_text(encoding='utf-8') == text
    root = ElementTree.fromstring(text)  # noqa: S314 - our own file
    assert root.tag.endswith('svg')
    assert root.get('width') is None
    assert root.get('viewBox')
    assert text.startswith('<svg ')
    assert len(text) < LIMIT
    assert 'dc:date' not in text
    assert 'mm' in text
    assert '>R<' in text
    assert '>L<' in text


@pytest.mark.parametrize('name', FIGURES)
def test_nireports_leaves_the_bytes(name: str, tmp_path: Path) -> None:
    # its assembler rewrites figures in place, and they are hard links to the cache of Nipype
    text = FIGURES[name](tmp_path / 'a.svg').read_text(encoding='utf-8')
    lines = text.splitlines()
    assert '\n'.join(lines) == text
    assert not re.search(r' (height|width)=["\'][0-9.]+[a-z]*["\']', lines[0])


def test_every_orientation_gives_the_same_picture(tmp_path: Path) -> None:
    reference = pictures(figures.plot_mask_contours(
        (DATA['scan'], AFFINE), (DATA['mask'], AFFINE), tmp_path / 'r.svg'
    ).read_text(encoding='utf-8'))  # fmt: skip
    for number, (shape, affine) in enumerate(all_orientations(SHAPE, AFFINE)[::7]):
        to = nib.orientations.ornt_transform(
            nib.io_orientation(AFFINE), nib.io_orientation(affine)
        )
        turned = [nib.orientations.apply_orientation(DATA[n], to) for n in ('scan', 'mask')]
        assert turned[0].shape == shape
        svg = figures.plot_mask_contours(
            (turned[0], affine), (turned[1], affine), tmp_path / f'{number}.svg'
        ).read_text(encoding='utf-8')
        for ours, theirs in zip(pictures(svg), reference, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_through_plane_views_are_the_large_ones(tmp_path: Path) -> None:
    fine = np.repeat(DATA['scan'], 3, axis=2), oblique_affine((1, 1, 1))
    text = figures.plot_before_after(
        fine, fine, tmp_path / 'a.svg', before_label='Spline', after_label='SR', slice_axis=2
    ).read_text(encoding='utf-8')
    scale = [float(a) for a in re.findall(r'transform="matrix\(([\d.]+) 0 0', text)]
    assert [c[0] for c in re.findall(r'>(Coronal|Sagittal|Axial) ·', text)] == list('CSACSA')
    coronal, sagittal, axial = scale[0], scale[2], scale[4]
    assert coronal == pytest.approx(sagittal, rel=1e-3)
    assert axial == pytest.approx(0.6 * coronal, rel=1e-3)


def test_before_and_after_share_one_window(tmp_path: Path) -> None:
    double = DATA['smooth'] * 2
    text = figures.plot_before_after(
        at('smooth'), (double, AFFINE), tmp_path / 'a.svg', before_label='a', after_label='b'
    ).read_text(encoding='utf-8')
    before, after = pictures(text)[:2]
    assert 1.6 < after.mean() / before.mean() < 2.4


@pytest.mark.parametrize('name', ['mask', 'segmentation'])
def test_empty_overlay_is_told(name: str, tmp_path: Path) -> None:
    out = tmp_path / 'a.svg'
    if name == 'mask':
        figures.plot_mask_contours(at('scan'), at('empty'), out)
    else:
        figures.plot_segmentation(at('scan'), at('empty'), out)
    text = out.read_text(encoding='utf-8')
    assert 'is empty' in text
    assert pictures(text)
    assert not outlines(text)


def test_overlays_are_drawn(tmp_path: Path) -> None:
    mask = FIGURES['mask'](tmp_path / 'm.svg').read_text(encoding='utf-8')
    assert len(outlines(mask)) == len(pictures(mask)) == 12
    segmentation = FIGURES['segmentation'](tmp_path / 's.svg').read_text(encoding='utf-8')
    assert len(outlines(segmentation)) == 12
    assert '>\N{BLACK SQUARE} Cortex<' in segmentation
    labels = DATA['label'].astype(np.int16) + 4 * (DATA['smooth'] > 250)
    named = figures.plot_segmentation(
        at('scan'), (labels, AFFINE), tmp_path / 'l.svg', names={1: 'Cortex', 4: 'Ventricle'}
    ).read_text(encoding='utf-8')
    assert '>\N{BLACK SQUARE} Cortex<' in named
    assert '>\N{BLACK SQUARE} Ventricle<' in named


def test_residual_is_in_percent_of_the_robust_range(tmp_path: Path) -> None:
    scan = np.zeros(SHAPE, dtype=np.float32)
    scan[5:-5, 5:-5, 2:-2] = np.linspace(0, 1000, SHAPE[1] - 10)[None, :, None]
    inside = np.zeros(SHAPE, dtype=np.uint8)
    inside[5:-5, 5:-5, 2:-2] = 1
    low, high = np.percentile(scan[inside > 0], (2, 98))
    residual = np.where(inside, 0.2 * (high - low), 0)
    text = figures.plot_fidelity(
        (residual, AFFINE), (scan, AFFINE), tmp_path / 'a.svg', mask=(inside, AFFINE)
    ).read_text(encoding='utf-8')
    assert '% of robust range' in text
    ticks = re.findall(r'>(\u2212?\d+)<', text)
    assert {'20', '\u221220'} <= set(ticks)  # 20 percent everywhere: the bar ends there
    assert '40' not in ticks


@pytest.mark.parametrize(
    'data',
    [np.ones(SHAPE), np.zeros(SHAPE), np.full(SHAPE, np.nan), np.full(SHAPE, -3.0)],
    ids=['ones', 'zeros', 'nan', 'negative'],
)
def test_odd_images_still_give_a_figure(data: np.ndarray, tmp_path: Path) -> None:
    image = (data.astype(np.float32), AFFINE)
    for number, draw in enumerate((
        lambda out: figures.plot_before_after(
            image, image, out, before_label='a', after_label='b', mask=at('empty')
        ),
        lambda out: figures.plot_mask_contours(image, at('mask'), out),
        lambda out: figures.plot_segmentation(image, image, out),
        lambda out: figures.plot_fidelity(at('empty'), image, out),
        lambda out: figures.plot_uncertainty(image, at('empty'), image, out),
    )):  # fmt: skip
        ElementTree.fromstring(draw(tmp_path / f'{number}.svg').read_text(encoding='utf-8'))  # noqa: S314


def test_thin_images_have_fewer_cuts(tmp_path: Path) -> None:
    thin = DATA['scan'][:, :, :2], AFFINE
    text = figures.plot_mask_contours(
        thin, (np.ones((40, 44, 2)), AFFINE), tmp_path / 'a.svg'
    ).read_text(encoding='utf-8')
    assert len(pictures(text)) == 2


def test_noisy_fine_image_stays_below_the_size_limit(tmp_path: Path) -> None:
    noise = np.random.default_rng(3).normal(500, 200, (200, 240, 180)).astype(np.float32)
    image = (noise, np.diag([0.6, 0.6, 0.6, 1.0]))
    out = figures.plot_before_after(
        image, image, tmp_path / 'a.svg', before_label='a', after_label='b'
    )
    assert out.stat().st_size < LIMIT


def test_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='shapes differ'):
        figures.plot_mask_contours(at('scan'), (np.ones((3, 3, 3)), AFFINE), tmp_path / 'a.svg')


def test_labels_are_escaped(tmp_path: Path) -> None:
    text = FIGURES['before_after'](tmp_path / 'a.svg').read_text(encoding='utf-8')
    assert 'Corrected &lt;N4&gt;' in text
    assert '<N4>' not in text


def test_sides_and_scale_are_in_every_view(tmp_path: Path) -> None:
    text = FIGURES['segmentation'](tmp_path / 's.svg').read_text(encoding='utf-8')
    letters = re.findall(r'>([LRAPSI])</text>', text)
    # four axial, four coronal and four sagittal cuts
    assert {letter: letters.count(letter) for letter in 'LRAPSI'} == dict.fromkeys('LRAPSI', 8)
    assert len(re.findall(r'>\d+ mm</text>', text)) == 3


def test_each_tissue_has_its_colour_of_the_label_table(tmp_path: Path) -> None:
    data = np.zeros((20, 20, 20), dtype=np.float32)
    data[4:10, 4:16, 4:16], data[10:16, 4:16, 4:16] = 1, 2
    out = figures.plot_segmentation(
        (data + 1, np.eye(4)),
        (data, np.eye(4)),
        tmp_path / 's.svg',
        names={1: 'cortical grey matter', 2: 'white matter'},
    )
    text = out.read_text(encoding='utf-8')
    assert '>\N{BLACK SQUARE} Cortical Gray Matter<' in text
    for colour in ('#00bfff', '#ffb000'):
        assert f'stroke: {colour}' in text


def test_one_patch_has_no_disagreement_to_show(tmp_path: Path) -> None:
    none = np.zeros_like(at('entropy')[0])
    out = figures.plot_uncertainty(
        at('entropy'), (none, at('entropy')[1]), at('scan'), tmp_path / 'u.svg'
    )
    text = out.read_text(encoding='utf-8')
    assert 'Entropy (bits)' in text
    assert 'Disagreement' not in text
