"""The interactive viewer of one image: one page that holds its volumes and asks for nothing."""

from __future__ import annotations

import base64
import gzip
import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np

from bids_segsr.reports.assembly import Image, Reportlet, Section
from bids_segsr.reports.drawing.display_volume import Canonical, Source, box_around, read, window
from bids_segsr.reports.drawing.figures import label_legend
from bids_segsr.reports.page import data_text, rendered

MOST_BYTES = 4_500_000
"""Of compressed volumes: 6 MB as text of the page."""

_MARGIN_MM = 3.0
_THUMBNAIL_HEIGHT = 112
_OVERLAY = 0.3


class Volumes:
    """What the viewer shows of one image, in bytes, on one grid.

    Attributes:
        superresolved: Array (x, y, z) to right, anterior, superior, 0 to 255 over `window`.
        interpolated: The same of the scan interpolated by cubic splines.
        residual: 128 where there is none, 255 at `extreme`; None without a residual.
        labels: Segmentation; None without one.
        legend: Value, name and colour of each label.
        affine: Voxel to RAS+ mm (4 x 4).
        window: Intensities at 0 and 255.
        extreme: Residual at 255, in percent of the robust range of the scan.
    """

    def __init__(
        self,
        superresolved: Source,
        interpolated: Source,
        mask: Source,
        *,
        scan: Source | None = None,
        residual: Source | None = None,
        segmentation: Source | None = None,
        names: Mapping[int, str] | None = None,
    ) -> None:
        """Cut the brain out of the volumes.

        Args:
            superresolved: Super-resolved image.
            interpolated: Scan interpolated by cubic splines, on the same grid.
            mask: Brain mask on the same grid. Nothing outside is shown: a head shows a face.
            scan: Scan as it was acquired.
            residual: On the grid of the scan, in its intensities.
            segmentation: Labels on the grid of the super-resolved image.
            names: What the labels are called.

        Raises:
            ValueError: Volumes of one grid differ in shape.
        """
        fine = read(superresolved)
        brain = _on(fine, mask) > 0.5
        where = brain & (fine.data != 0)
        where = where if where.any() else np.ones(fine.data.shape, dtype=bool)
        box = box_around(where, fine.spacing, _MARGIN_MM)
        self.window = window(where, fine.data)
        self.affine = fine.affine.copy()
        self.affine[:3, 3] += fine.affine[:3, :3] @ [part.start for part in box]
        brain = brain[box]
        self.superresolved = _bytes(np.where(brain, fine.data[box], 0), *self.window)
        self.interpolated = _bytes(np.where(brain, _on(fine, interpolated)[box], 0), *self.window)
        self.residual, self.extreme = None, 0.0
        if residual is not None and scan is not None:
            percent = _percent(read(residual), read(scan))
            differing = np.abs(percent.data[percent.data != 0])
            self.extreme = max(float(np.percentile(differing, 99.5)) if differing.size else 0, 0.1)
            near = _nearest(percent, self.affine, self.superresolved.shape)
            self.residual = _bytes(np.where(brain, near, 0), -self.extreme, self.extreme)
        self.labels, self.legend = None, list[dict[str, Any]]()
        if segmentation is not None:
            self.labels = np.where(brain, _on(fine, segmentation)[box], 0).astype(np.uint8)
            values = [int(value) for value in np.unique(self.labels) if value]
            self.legend = [
                {'value': value, 'name': name, 'colour': colour}
                for value, (colour, name) in zip(
                    values, label_legend(values, names or {}), strict=True
                )
            ]

    def layers(self) -> dict[str, np.ndarray]:
        """Return the arrays by name, those that there are."""
        names = ('superresolved', 'interpolated', 'residual', 'labels')
        found = {name: getattr(self, name) for name in names}
        return {name: array for name, array in found.items() if array is not None}


def viewer_page(volumes: Volumes, title: str) -> str:
    """Return the viewer of one image as a page of its own.

    Args:
        volumes: What is shown.
        title: Name of the image.

    Returns:
        HTML without a link to anything. Volumes that are too large for a page (see `MOST_BYTES`)
        are shown with voxels of two, three, ... times the edge, which the page tells.
    """
    packed, step = _packed(volumes.layers())
    affine = volumes.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.full(3, (step - 1) / 2)
    affine[:3, :3] *= step
    facts = {
        'shape': [n // step for n in volumes.superresolved.shape],
        'affine': np.round(affine, 6).tolist(),
        'window': volumes.window,
        'extreme': volumes.extreme,
        'labels': volumes.legend,
        'layers': list(packed),
    }
    return rendered(
        'viewer.html',
        title=title,
        step=step,
        packed={k: base64.b64encode(v).decode() for k, v in packed.items()},
        labels=volumes.legend,
        css=data_text('viewer.css'),
        script=data_text('viewer.js'),
        facts=facts,
    )


def thumbnail(volumes: Volumes) -> bytes:
    """Return the middle of the brain in three planes, its tissues tinted, as JPEG."""
    from PIL import Image

    grey = volumes.superresolved
    colours = np.zeros((256, 3))
    for label in volumes.legend:
        colours[label['value']] = _rgb(label['colour'])
    planes = []
    for axis in (2, 1, 0):
        others = tuple(a for a in range(3) if a != axis)
        filled = np.asarray(np.count_nonzero(grey, axis=others))
        weight: np.ndarray = np.cumsum(filled)
        cut = int(np.searchsorted(weight, weight[-1] / 2))
        picture = np.repeat(np.take(grey, cut, axis=axis)[..., None], 3, axis=2).astype(float)
        if volumes.labels is not None:
            labels = np.take(volumes.labels, cut, axis=axis)
            tinted = (1 - _OVERLAY) * picture + _OVERLAY * colours[labels]
            picture = np.where(labels[..., None] > 0, tinted, picture)
        upright = picture[::-1, ::-1].transpose(1, 0, 2).round().astype(np.uint8)
        width = max(round(upright.shape[1] * _THUMBNAIL_HEIGHT / upright.shape[0]), 1)
        planes.append(Image.fromarray(upright).resize((width, _THUMBNAIL_HEIGHT)))
    strip = Image.new('RGB', (sum(p.width for p in planes), _THUMBNAIL_HEIGHT))
    for number, plane in enumerate(planes):
        strip.paste(plane, (sum(p.width for p in planes[:number]), 0))
    buffer = io.BytesIO()
    strip.save(buffer, 'JPEG', quality=80)
    return buffer.getvalue()


def viewer_section(root: Path, subject: str, images: Sequence[Image]) -> list[Section]:
    """Return the section of a report that holds the viewers of its images, or none.

    A viewer lies in a file of its own, so that the report opens at once, and is loaded when it
    comes into view; `embedded` puts it inside a report that is sent.
    """
    section = Section('viewer', 'Viewer')
    for image in images:
        page = (
            root / f'sub-{subject}' / 'figures' / f'{image.prefix}_desc-viewer_{image.suffix}.html'
        )
        if not page.is_file():
            continue
        link = quote(page.relative_to(root).as_posix())
        frame = (
            f'<iframe class="viewer" loading="lazy" title="Viewer of {escape(image.label)}" '
            f'src="./{link}"></iframe>'
            f'<p class="alone"><a href="./{link}" target="_blank">Open it alone</a></p>'
        )
        section.reportlets.append(
            Reportlet(f'viewer-{image.anchor}', [(frame, None)], image.title)
        )
    return [section] if section.reportlets else []


def embedded(text: str, root: Path) -> str:
    """Return the text of a report with its viewers inside it."""

    def inside(match: re.Match[str]) -> str:
        path = root / unquote(match.group(2))
        if not path.is_file():
            return match.group(0)
        page = path.read_text(encoding='utf-8').replace('&', '&amp;').replace('"', '&quot;')
        return f'{match.group(1)}srcdoc="{page}"></iframe>'

    return re.sub(
        r'(<iframe class="viewer" [^>]*?)src="\./([^"]+)"></iframe><p class="alone">.*?</p>',
        inside,
        text,
    )


def _on(fine: Canonical, source: Source) -> np.ndarray:
    data = read(source).data
    if data.shape != fine.data.shape:
        raise ValueError(f'shapes differ: {fine.data.shape} and {data.shape}')
    return data


def _bytes(data: np.ndarray, low: float, high: float) -> np.ndarray:
    scaled = (data.astype(np.float32) - low) * (255 / (high - low))
    return np.clip(np.round(scaled), 0, 255).astype(np.uint8)


def _percent(residual: Canonical, scan: Canonical) -> Canonical:
    where = residual.data != 0
    inside = scan.data[where if where.any() else np.ones_like(where)]
    low, high = np.percentile(inside, (2, 98))
    percent = 100 * residual.data / max(float(high - low), 1e-6)
    return Canonical(percent, residual.affine, residual.slice_axis)


def _nearest(volume: Canonical, affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return the values of the nearest voxels: thick slices stay as thick as they are."""
    from scipy.ndimage import affine_transform

    matrix = np.linalg.inv(volume.affine) @ affine
    return affine_transform(
        volume.data.astype(np.float32), matrix, output_shape=tuple(shape), order=0
    )


def _packed(layers: Mapping[str, np.ndarray]) -> tuple[dict[str, bytes], int]:
    step = 1
    while True:
        packed = {
            name: _deflated(_coarser(array, step, name == 'labels'))
            for name, array in layers.items()
        }
        if sum(map(len, packed.values())) <= MOST_BYTES:
            return packed, step
        step += 1


def _coarser(array: np.ndarray, step: int, labels: bool) -> np.ndarray:
    if step == 1:
        return array
    shape = [n // step for n in array.shape]
    cut = array[tuple(slice(0, n * step) for n in shape)]
    if labels:
        return cut[step // 2 :: step, step // 2 :: step, step // 2 :: step]
    blocks = cut.reshape(shape[0], step, shape[1], step, shape[2], step)
    return np.round(blocks.mean(axis=(1, 3, 5))).astype(np.uint8)


def _deflated(array: np.ndarray) -> bytes:
    # differences of neighbours along x compress better by a quarter than the values
    steps = np.diff(array, axis=0, prepend=np.uint8(0))
    # level 9 takes three times as long for 0.7 % less
    return gzip.compress(steps.tobytes(order='F'), 6, mtime=0)


def _rgb(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
