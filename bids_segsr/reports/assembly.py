"""The sections of a subject report that show figures, assembled by nireports."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bids_segsr.reports.page import data_text

LOGGER = logging.getLogger(__name__)

_FIGURE = re.compile(r'(?P<image>sub-.+?)_desc-(?P<desc>[a-zA-Z0-9]+)_(?P<suffix>[a-zA-Z0-9]+)$')
_PLAIN = re.compile(r'[\w.+-]+')
_LONG_NAMES = {
    'ses': 'session',
    'acq': 'acquisition',
    'ce': 'ceagent',
    'rec': 'reconstruction',
    'dir': 'direction',
    'mod': 'modality',
}
_ENTITIES = (
    *('session', 'task', 'acquisition', 'ceagent', 'reconstruction', 'direction', 'run'),
    *('modality', 'echo', 'flip', 'inv', 'mt', 'part', 'space'),
)
_WORDS = {'ceagent': 'contrast agent', 'inv': 'inversion', 'mt': 'magnetisation transfer'}


@dataclass(frozen=True)
class Image:
    """One image that has figures.

    Attributes:
        entities: BIDS entities but the subject, long name to value.
        suffix: BIDS suffix.
        prefix: Start of the names of its figures, up to `_desc-`.
    """

    entities: Mapping[str, str]
    suffix: str
    prefix: str

    @property
    def label(self) -> str:
        """Name of the image, such as `sub-01_run-1_T2w`."""
        return f'{self.prefix}_{self.suffix}'

    @property
    def anchor(self) -> str:
        """Identifier of the image within a page."""
        return re.sub(r'[^a-zA-Z0-9-]', '-', self.label)

    @property
    def title(self) -> str:
        """What the image is called in headings, such as `Session 02, run 1, T2w`."""
        words = [f'{_WORDS.get(k, k)} {v}' for k, v in self.entities.items()]
        text = ', '.join([*words, self.suffix])
        return text[0].upper() + text[1:]


@dataclass
class Reportlet:
    """Part of a section: heading, text and (HTML, caption) pairs, as the template expects it."""

    name: str
    components: list[tuple[str, str | None]]
    title: str | None = None
    description: str | None = None


@dataclass
class Section:
    """A section of the page, as the template expects it."""

    name: str
    title: str
    reportlets: list[Reportlet] = field(default_factory=list)


def find_images(figures: Path) -> list[Image]:
    """Find the images that have figures, ordered by session, acquisition, run, then the rest.

    Args:
        figures: `sub-X/figures`; it may be missing.

    Returns:
        One entry an image.
    """
    images = {}
    for path in figures.glob('sub-*'):
        match = _FIGURE.match(path.stem)
        if match and path.suffix in {'.svg', '.html'}:
            pairs = (part.split('-', 1) for part in match['image'].split('_')[1:] if '-' in part)
            entities = {_LONG_NAMES.get(key, key): value for key, value in pairs}
            image = Image(entities, match['suffix'], match['image'])
            images[image.label] = image

    def order(image: Image) -> list[Any]:
        keys = [image.entities.get(key, '') for key in ('session', 'acquisition', 'run')]
        return [_natural(text) for text in [*keys, image.label]]

    return sorted(images.values(), key=order)


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(t), '') if t.isdigit() else (-1, t) for t in re.split(r'(\d+)', text) if t]


def figure_sections(
    root: Path, subject: str, run_uuid: str, images: Sequence[Image]
) -> tuple[list[Any], str]:
    """Assemble the sections of `data/reports-spec.yml`.

    nireports finds its figures by the entities in their paths; where that or anything else fails
    (an unreadable figure, a folder above that looks like an entity), the same sections are made
    from the names of the files.

    Args:
        root: Root of the derivatives, absolute.
        subject: Label without `sub-`.
        run_uuid: Identifier of the run.
        images: The images that have figures.

    Returns:
        The sections, and why nireports failed (empty when it did not).
    """
    spec, files = _expanded_spec(root / f'sub-{subject}' / 'figures', images)
    if not files:
        return [], ''
    why = ''
    if not all(_PLAIN.fullmatch(path.name) for path in files.values()):
        return _plain_sections(root, spec, files), why  # nireports does not escape names
    try:
        sections = _assembled(root, subject, run_uuid, spec)
        if sum(len(section.reportlets) for section in sections) == len(files):
            return sections, ''
        LOGGER.info('sub-%s: figures were taken by their file names', subject)
    except Exception as error:  # a report that is missing would hide what went wrong before
        why = f'nireports failed ({type(error).__name__}: {error})'
        LOGGER.warning('sub-%s: %s', subject, why)
    return _plain_sections(root, spec, files), why


def _expanded_spec(
    figures: Path, images: Sequence[Image]
) -> tuple[dict[str, Any], dict[str, Path]]:
    # nireports' own `ordering` drops an image without session, acquisition and run beside one
    # that has them, so each image gets reportlets of its own
    import yaml

    spec: dict[str, Any] = yaml.safe_load(data_text('reports-spec.yml'))
    files = {}
    for section in spec['sections']:
        expanded = []
        for image in images:
            for reportlet in section['reportlets']:
                wanted = reportlet['bids']
                stem = f'{image.prefix}_desc-{wanted["desc"]}_{image.suffix}'
                path = figures / f'{stem}{wanted["extension"][0]}'
                # nireports skips an empty file as well
                if not path.is_file() or not path.stat().st_size:
                    continue
                name = f'{section["name"]}-{image.anchor}'
                files[name] = path
                query = {**_query(image), **wanted}
                expanded.append({**reportlet, 'name': name, 'title': image.title, 'bids': query})
        section['reportlets'] = expanded
    return spec, files


def _query(image: Image) -> dict[str, Any]:
    # null means that the name must not hold the entity
    query: dict[str, Any] = {key: image.entities.get(key) for key in _ENTITIES}
    if query['run'] is not None:
        query['run'] = int(query['run'])
    return {**query, 'suffix': image.suffix}


def _assembled(root: Path, subject: str, run_uuid: str, spec: dict[str, Any]) -> list[Any]:
    import yaml
    from nireports.assembler.report import Report

    with tempfile.TemporaryDirectory() as folder:
        bootstrap = Path(folder, 'spec.yml')
        bootstrap.write_text(yaml.safe_dump(spec, sort_keys=False), encoding='utf-8')
        report = Report(
            root,
            run_uuid,
            bootstrap_file=bootstrap,
            out_filename=f'sub-{subject}.html',
            reportlets_dir=root / f'sub-{subject}',
            subject=subject,
        )
    sections: list[Any] = report.sections
    return sections


def _plain_sections(root: Path, spec: dict[str, Any], files: Mapping[str, Path]) -> list[Section]:
    sections = []
    for part in spec['sections']:
        section = Section(part['name'], part['title'])
        for reportlet in part['reportlets']:
            path = files[reportlet['name']]
            content = _content(path, path.relative_to(root), reportlet.get('static', True))
            caption = reportlet.get('caption')
            section.reportlets.append(
                Reportlet(
                    reportlet['name'],
                    [(content, caption)],
                    reportlet['title'],
                    reportlet.get('description'),
                )
            )
        if section.reportlets:
            sections.append(section)
    return sections


def _content(path: Path, relative: Path, static: bool) -> str:
    name = f'./{quote(relative.as_posix())}'
    if path.suffix == '.html':
        return path.read_text(encoding='utf-8', errors='replace')
    if static:
        return f'<div class="reportlet"><img class="svg-reportlet" src="{name}" /></div>'
    return (
        '<div class="reportlet"><object class="svg-reportlet" type="image/svg+xml" '
        f'data="{name}">The figure cannot be shown.</object></div>'
    )
