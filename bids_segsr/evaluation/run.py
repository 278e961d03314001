"""Every system on every image: rows of a table, kept between runs, one line for what failed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bids_segsr import __version__
from bids_segsr.evaluation.anatomical_fidelity import load_parcellation
from bids_segsr.evaluation.cases import Case, Imaging, Reference, load_reference, make_case
from bids_segsr.evaluation.checks import model_warnings
from bids_segsr.evaluation.pictures import save_picture
from bids_segsr.evaluation.result_rows import Store
from bids_segsr.evaluation.scores import METRICS, Score, Scorer, check_metrics
from bids_segsr.evaluation.systems import Output, System, run_system
from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.imaging.measures.naturalness import (
    NaturalModel,
    brain_slices,
    fit_natural_model,
    fitting_patch,
)
from bids_segsr.imaging.nifti import read_header
from bids_segsr.inference.predict import resolve_device
from bids_segsr.inference.processing import Processing
from bids_segsr.training.data.subjects import Subject
from bids_segsr.zoo.store import file_sha256

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What holds for every protocol.

    Attributes:
        out: Folder of the results.
        imaging: How low-resolution images are made, where the protocol does not vary it.
        processing: How networks are put over a volume, where the protocol does not vary it: patch
            size, step, blending and device.
        metrics: What is measured; None for what the article's tables show.
        labels: Structure to its numbers in the label images.
        parcellation: TorchScript or ONNX file, for M_h.
        parcellation_spacing_mm: Spacing that it sees images at; None for their own.
        seed: Of the noise and of ranges in the forward model.
        tell: Takes a line about each image.
    """

    out: Path
    imaging: Imaging
    processing: Processing = dataclasses.field(default_factory=Processing)
    metrics: tuple[str, ...] | None = None
    labels: Mapping[str, tuple[int, ...]] = dataclasses.field(
        default_factory=lambda: {'cortex': (1,)}
    )
    parcellation: Path | None = None
    parcellation_spacing_mm: float | None = None
    seed: int = 0
    tell: Callable[[str], None] = logger.info


@dataclass(frozen=True)
class Job:
    """One system under one condition, for every image.

    Attributes:
        system: What is run.
        imaging: How the low-resolution image is made.
        processing: How the networks are put over it.
        varied: Columns of the table that tell what the protocol varies, and their values.
    """

    system: System
    imaging: Imaging
    processing: Processing
    varied: Mapping[str, str | float] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """What came out.

    Attributes:
        table: One row an image, system, condition and measure: key, dataset, person, subject
            (the person, or one image of several of that person), system, device, what the
            protocol varies, metric, structure, value.
        failures: One line for every image that failed.
    """

    table: pd.DataFrame
    failures: tuple[str, ...]


def run_jobs(
    datasets: Mapping[str, Sequence[Subject]], jobs: Sequence[Job], settings: Settings
) -> Rows:
    """Run systems over the test images of datasets.

    Rows that an earlier run wrote to the same folder under the same settings (files, models,
    forward model, measures, version) are not computed again. Rows of other systems and settings
    stay in its file, but are not returned.

    Args:
        datasets: Name to subjects; those of the split `test` are used.
        jobs: What is run on each; those that do not suit the forward model are left out.
        settings: The rest.

    Returns:
        The rows, and what failed.

    Raises:
        UserError: There is no test image, or a measure lacks what it needs.
    """
    metrics = _metrics(datasets, settings)
    tests = [
        (dataset, person, subject)
        for dataset, subjects in datasets.items()
        for person, subject in _one_name_each([s for s in subjects if s.split == 'test'])
    ]
    if not tests:
        raise UserError('no row of the list has Base "Test"; mark the images to test on.')
    natural, parcellation = None, None
    if settings.parcellation is not None:
        parcellation = load_parcellation(
            settings.parcellation, resolve_device(settings.processing.device)
        )
    if 'niqe' in metrics:
        natural = _natural_model(datasets, settings)
    scorer = Scorer(metrics, natural, parcellation, settings.parcellation_spacing_mm)
    common = _common_identity(datasets, metrics, settings)
    jobs = [job for job in jobs if job.system.suits(job.imaging.forward)]
    store = Store(settings.out)
    run = _Run(settings, scorer, store)
    shown: set[str] = set()
    for dataset, person, subject in tests:
        try:
            hashes = _subject_identity(subject)
            contents = [_content(common, dataset, subject.name, hashes, job) for job in jobs]
            keyed = {_key(content): job for content, job in zip(contents, jobs, strict=True)}
            store.expect({_key(content): content for content in contents})
            todo = {key: job for key, job in keyed.items() if key not in store}
            if not todo:
                settings.tell(f'{subject.name}: kept, nothing to do')
                shown.add(dataset)
                continue
            reference = load_reference(subject, settings.labels)
        except UserError as error:
            run.fail(_line(subject, error))
            continue
        picture = dataset not in shown
        shown.add(dataset)
        image = _TrueImage(dataset, person, subject.image, reference, picture)
        for imaging in dict.fromkeys(job.imaging for job in todo.values()):
            group = {key: job for key, job in todo.items() if job.imaging == imaging}
            run.score(image, imaging, group)
    return Rows(store.finish(), tuple(run.failures))


@dataclass(frozen=True)
class _TrueImage:
    """A test image and where it comes from; `picture` where its slices are kept."""

    dataset: str
    person: str
    path: Path | None
    reference: Reference
    picture: bool


class _Run:
    """Scores systems on one image after another, and tells of it."""

    def __init__(self, settings: Settings, scorer: Scorer, store: Store) -> None:
        self.failures: list[str] = []
        self._settings = settings
        self._scorer = scorer
        self._store = store
        self._warned: set[str] = set()

    def fail(self, line: str) -> None:
        self.failures.append(line)
        self._settings.tell(line)

    def score(self, image: _TrueImage, imaging: Imaging, jobs: Mapping[str, Job]) -> None:
        """Run what shares one simulated scan."""
        name, settings = image.reference.name, self._settings
        try:
            case = make_case(image.reference, imaging, settings.seed)
            if not case.inside.any():
                raise ImageError('no voxel of the brain is left to score')
        except UserError as error:
            self.fail(f'{name}: {error}')
            return
        for key, job in jobs.items():
            self._warn(job.system, case, image.path)
            try:
                output = run_system(job.system, case, job.processing)
                scores = self._scorer.score(job.system, case, output)
            except (UserError, ValueError, RuntimeError) as error:
                reason = str(error).strip().partition('\n')[0]
                self.fail(f'{name}, {_condition(job)}: {reason}')
                continue
            if not scores:
                continue
            self._store.add(_records(key, image, job, output, scores))
            if image.picture:
                save_picture(settings.out, key, case, output)
            settings.tell(f'{name}, {_condition(job)}: {_short(scores)}')

    def _warn(self, system: System, case: Case, path: Path | None) -> None:
        """Say once what a model was not made for, however often and by how much it is missed."""
        for warning in model_warnings(system, case, path):
            expected = warning.rpartition(',')[0]
            if expected not in self._warned:
                self._warned.add(expected)
                self._settings.tell(f'warning: {warning}')


def _records(
    key: str, image: _TrueImage, job: Job, output: Output, scores: Sequence[Score]
) -> list[dict[str, Any]]:
    return [
        {
            'key': key,
            'dataset': image.dataset,
            'person': image.person,
            'subject': image.reference.name,
            'system': job.system.name,
            'device': output.device,
            **job.varied,
            'metric': score.metric,
            'structure': score.structure,
            'value': score.value,
        }
        for score in scores
    ]


def _metrics(datasets: Mapping[str, Sequence[Subject]], settings: Settings) -> tuple[str, ...]:
    pristine = any(s.split == 'train' for subjects in datasets.values() for s in subjects)
    return check_metrics(
        settings.metrics or (), natural=pristine, parcellation=settings.parcellation is not None
    )


def _natural_model(datasets: Mapping[str, Sequence[Subject]], settings: Settings) -> NaturalModel:
    """Learn NIQE's idea of an image from the training images, cut as the tests are.

    One volume is held at a time: the slices of the 780 of mDCSRN would fill 160 GB. So the patch
    is no larger than the shortest axis of any of them, which their headers tell.
    """
    trained = [s for subjects in datasets.values() for s in subjects if s.split == 'train']

    def slices() -> Iterator[np.ndarray]:
        for subject in trained:
            reference = load_reference(subject, {})
            case = make_case(reference, settings.imaging, settings.seed)
            yield from brain_slices(reference.image, case.across, reference.brain)

    patch = fitting_patch(read_header(s.image).shape for s in trained if s.image is not None)
    try:
        return fit_natural_model(slices(), patch)
    except ValueError as error:
        raise UserError(f'--metrics niqe: the training images hold {error}.') from error


def _common_identity(
    datasets: Mapping[str, Sequence[Subject]], metrics: tuple[str, ...], settings: Settings
) -> dict[str, Any]:
    identity: dict[str, Any] = {
        'version': __version__,
        'metrics': sorted(metrics),
        'labels': {name: list(numbers) for name, numbers in settings.labels.items()},
        'seed': settings.seed,
        'device': resolve_device(settings.processing.device),
    }
    if settings.parcellation is not None:
        identity['parcellation'] = file_sha256(settings.parcellation)
        identity['parcellation_spacing_mm'] = settings.parcellation_spacing_mm
    if 'niqe' in metrics:
        identity['pristine'] = [
            _subject_identity(subject)
            for subjects in datasets.values()
            for subject in subjects
            if subject.split == 'train'
        ]
    return identity


def _subject_identity(subject: Subject) -> dict[str, str]:
    found = {}
    files = {kind: getattr(subject, kind) for kind in ('image', 'label', 'mask')}
    files |= {f'guide {number}': path for number, path in enumerate(subject.guides, start=1)}
    for kind, path in files.items():
        if path is not None:
            try:
                found[kind] = file_sha256(path)
            except OSError as error:
                raise ImageError(f'{path}: cannot be read ({error.strerror}).') from error
    return found


def _content(
    common: Mapping[str, Any], dataset: str, name: str, hashes: Mapping[str, str], job: Job
) -> dict[str, Any]:
    """All that the rows of a job on an image depend on."""
    content = {
        **common,
        'dataset': dataset,
        'subject': name,
        'files': hashes,
        'system': job.system.name,
        'models': job.system.identity,
        'imaging': dataclasses.asdict(job.imaging),
        'tiling': dataclasses.asdict(job.processing.tiling),
        'varied': dict(job.varied),
    }
    if Path(job.imaging.forward.profile).is_file():
        content['profile'] = file_sha256(Path(job.imaging.forward.profile))
    return content


def _key(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _one_name_each(subjects: Sequence[Subject]) -> list[tuple[str, Subject]]:
    """Person and image; the images of a person that has several are named after their files."""
    names = [subject.name for subject in subjects]
    return [
        (
            subject.name,
            dataclasses.replace(subject, name=f'{subject.name} {subject.image.name}')
            if subject.image is not None and names.count(subject.name) > 1
            else subject,
        )
        for subject in subjects
    ]


def _line(subject: Subject, error: UserError) -> str:
    text = str(error)
    return text if subject.name in text else f'{subject.name}: {text}'


def _condition(job: Job) -> str:
    return ', '.join([job.system.name, *(f'{k} {v}' for k, v in job.varied.items() if v != '')])


def _short(scores: Sequence[Score]) -> str:
    told = [s for s in scores if s.metric in ('psnr', 'dice', 'seconds')]
    return ', '.join(
        f'{METRICS[s.metric].label} {s.value:.{METRICS[s.metric].digits}f}' for s in told
    )
