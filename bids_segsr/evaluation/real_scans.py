"""Scans as they are acquired, without any truth: what can still be measured of a model.

SegSRGAN 2020 (section 4.5, Table 6, Figure 13): pieces of the cortex for several trainings and
steps of the patches. mDCSRN (Table 4): scores of naturalness.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bids_segsr import __version__
from bids_segsr.evaluation import article_figures as figures
from bids_segsr.evaluation.article_tables import paired_tests, paper_table, summarise
from bids_segsr.evaluation.protocols import Result
from bids_segsr.evaluation.result_rows import Store
from bids_segsr.evaluation.surface_picture import draw_surfaces
from bids_segsr.evaluation.systems import BASELINES, IBP, System
from bids_segsr.exceptions import UserError
from bids_segsr.files import complete
from bids_segsr.imaging.back_projection import Slices, back_projection_alone
from bids_segsr.imaging.components import topology
from bids_segsr.imaging.conform import acquired_axis, spacing_of, to_canonical
from bids_segsr.imaging.measures.naturalness import (
    NaturalModel,
    brain_slices,
    fit_natural_model,
    fitting_patch,
    niqe,
    piqe,
)
from bids_segsr.imaging.nifti import read_header
from bids_segsr.imaging.patch_size import PatchSize, patch_text
from bids_segsr.imaging.volume import Volume, load_mask, load_volume
from bids_segsr.inference import steps
from bids_segsr.inference.one_image import Source
from bids_segsr.inference.processing import Processing
from bids_segsr.zoo.contract import check_guides
from bids_segsr.zoo.store import file_sha256

SURFACES = 'surfaces'
MEASURES = ('ncc', 'euler', 'piqe', 'niqe', 'seconds')

Natural = Callable[[int], NaturalModel]
"""From the axis across the slices, of those that run to the right, forwards and up."""


@dataclass(frozen=True)
class ScanSettings:
    """What holds for all scans.

    Attributes:
        out: Folder of the results.
        processing: Choices of the processing, but for patch size and step.
        patch_sizes: Of the patches, one after the other.
        distances: Steps of the patches in voxels.
        pristine: Fine images of other persons that NIQE learns from; none leaves it out.
        tell: Takes a line about each result.
    """

    out: Path
    processing: Processing = dataclasses.field(default_factory=Processing)
    patch_sizes: tuple[PatchSize | None, ...] = (None,)
    distances: tuple[int | None, ...] = (None,)
    pristine: tuple[Path, ...] = ()
    tell: Callable[[str], None] = print


@dataclass(frozen=True)
class _Prepared:
    """A scan, bias-corrected and on the isotropic grid, and the settled choices."""

    source: Source
    corrected: Volume
    fine: steps.Fine
    settled: Processing

    @property
    def spacing(self) -> tuple[float, float, float]:
        return spacing_of(self.fine.affine)

    @property
    def slices(self) -> Slices:
        return Slices(
            self.corrected.data,
            self.corrected.affine,
            self.fine.affine,
            self.settled.slice_thickness,
        )


def evaluate_scans(
    scans: Sequence[Source], systems: Sequence[System], settings: ScanSettings
) -> Result:
    """Run models over scans, with every patch size and step.

    What an earlier run wrote to the same folder (same files, models, choices) is kept.

    Args:
        scans: The images.
        systems: Models, one network each; `spline` and `ibp` are added.
        settings: The rest.

    Returns:
        Rows, the table of pieces of the cortex in the form of Table 6, one of all measures, and
        the surfaces of the cortex in the first scan, with the least step of each model and patch.

    Raises:
        UserError: A model is a pipeline or wants guides, a patch does not fit a step, or the
            images for NIQE cannot be used.
    """
    for system in systems:
        if len(system.models) != 1:
            raise UserError(f'{system.name}: give single models for scans without truth.')
        check_guides(system.models[0].card, 0, 'models without guides')
    ways = [
        dataclasses.replace(settings.processing, patch_size=patch, step=step)
        for patch, step in itertools.product(settings.patch_sizes, settings.distances)
    ]
    natural = _natural_models(settings.pristine) if settings.pristine else None
    store = Store(settings.out)
    failures: list[str] = []
    held: list[tuple[str, Path]] = []
    for number, source in enumerate(scans):
        name = (
            source.name if [s.name for s in scans].count(source.name) == 1 else str(source.image)
        )
        try:
            _score_scan(
                source, name, systems, ways, natural, store, settings, held if not number else None
            )
        except (UserError, ValueError, RuntimeError) as error:
            reason = str(error).strip().partition('\n')[0]
            failures.append(reason if name in reason else f'{name}: {reason}')
            settings.tell(failures[-1])
    rows = store.finish()
    return _result(rows, held, tuple(failures))


def _score_scan(
    source: Source,
    name: str,
    systems: Sequence[System],
    ways: Sequence[Processing],
    natural: Natural | None,
    store: Store,
    settings: ScanSettings,
    held: list[tuple[str, Path]] | None,
) -> None:
    """Score every system on one scan; the scan is prepared if anything is left to do."""
    jobs: list[tuple[System, Processing]] = [
        *((System(baseline), ways[0]) for baseline in BASELINES),
        *itertools.product(systems, ways),
    ]
    contents = [_content(source, name, system, way, settings) for system, way in jobs]
    keys = [
        hashlib.sha256(json.dumps(c, sort_keys=True, default=str).encode()).hexdigest()[:16]
        for c in contents
    ]
    store.expect(dict(zip(keys, contents, strict=True)))
    prepared: _Prepared | None = None
    for key, (system, way) in zip(keys, jobs, strict=True):
        patch, step = way.patches
        varied = {'patch': patch_text(patch), 'step': step} if system.models else {}
        told = ', '.join([system.name, *(f'{k} {v}' for k, v in varied.items())])
        file = settings.out / SURFACES / f'{key}.npz'
        if key not in store:
            prepared = prepared or _prepare(source, settings.processing)
            values, cortex = _measured(prepared, system, way, natural)
            if cortex is not None and held is not None:
                with complete(file) as part:
                    np.savez_compressed(part, mask=cortex, spacing=prepared.spacing)
            common = {'key': key, 'dataset': 'scans', 'person': name, 'subject': name}
            store.add(
                [
                    common
                    | {'system': system.name, 'device': way.device, 'patch': '', 'step': ''}
                    | varied
                    | {'metric': metric, 'structure': '', 'value': value}
                    for metric, value in values.items()
                ]
            )
            pieces = f', {values["ncc"]:.0f} pieces of cortex' if 'ncc' in values else ''
            settings.tell(f'{name}, {told}: {values["seconds"]:.1f} s{pieces}')
        if held is not None and file.is_file():
            held.append((told, file))


def _prepare(source: Source, processing: Processing) -> _Prepared:
    scan = steps.conform(source.image)
    existing = load_mask(source.mask, scan) if source.mask is not None else None
    settled, _ = steps.settle(processing, scan, source.metadata())
    corrected = steps.correct(scan, settled, existing)
    brain, _ = steps.find_brain(corrected, settled, existing=existing, modality=source.modality)
    return _Prepared(source, corrected, steps.interpolate(corrected, brain, settled), settled)


def _measured(
    prepared: _Prepared, system: System, way: Processing, natural: Natural | None
) -> tuple[dict[str, float], np.ndarray | None]:
    """Return the measures of one result, and its cortex where it has one."""
    patch, step = way.patches
    chosen = dataclasses.replace(prepared.settled, patch_size=patch, step=step)
    started = time.perf_counter()
    cortex = None
    if system.models:
        (model,) = system.models
        found = steps.restore(model, prepared.corrected, prepared.fine, chosen)
        image = found.image
        if len(found.probabilities):
            parts = steps.segment(found.probabilities, prepared.spacing, model.card, chosen)
            cortex = parts.cortex
    elif system.name == IBP:
        image = back_projection_alone(prepared.slices, prepared.fine.mask)
    else:
        image = prepared.fine.image
    values = {'seconds': time.perf_counter() - started}
    if cortex is not None:
        shape = topology(cortex, 26)
        values |= {'ncc': float(shape.components), 'euler': float(shape.euler_number)}
    across = acquired_axis(prepared.corrected.affine, prepared.fine.affine)
    peak = float(prepared.fine.image[prepared.fine.mask].max())
    cut = brain_slices(image, across, prepared.fine.mask, peak)
    if cut:
        values['piqe'] = float(np.mean([piqe(one) for one in cut]))
        if natural is not None:
            values['niqe'] = niqe(cut, natural(across))
    return values, cortex


def _natural_models(paths: Sequence[Path]) -> Natural:
    """Learn NIQE's idea of an image, of slices that lie as those of a scan; once a direction.

    One image is held at a time, so the patch is what the headers let fit.
    """
    patch = fitting_patch(read_header(path).shape for path in paths)

    def slices(across: int) -> Iterator[np.ndarray]:
        for path in paths:
            volume = load_volume(path)
            data, _ = to_canonical(volume.data, volume.affine)
            yield from brain_slices(data, across, data > 0)

    @functools.cache
    def learnt(across: int) -> NaturalModel:
        try:
            return fit_natural_model(slices(across), patch)
        except ValueError as error:
            raise UserError(f'--pristine: the images hold {error}.') from error

    return learnt


def _content(
    source: Source, name: str, system: System, way: Processing, settings: ScanSettings
) -> dict[str, Any]:
    """All that the rows of a system on a scan depend on."""
    return {
        'version': __version__,
        'subject': name,
        'image': _identity(source.image),
        'mask': None if source.mask is None else _identity(source.mask),
        'system': system.name,
        'models': system.identity,
        'processing': dataclasses.asdict(way),
        'pristine': [_identity(path) for path in settings.pristine],
    }


def _identity(path: Path) -> str:
    try:
        files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
        return '-'.join(file_sha256(file) for file in files)
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}).') from error


def _result(
    rows: pd.DataFrame, held: Sequence[tuple[str, Path]], failures: tuple[str, ...]
) -> Result:
    tables, drawings = {}, {}
    if len(rows):
        if 'ncc' in set(rows['metric']):
            models = rows[~rows['system'].isin(BASELINES)]
            tables['Pieces of the cortex'] = paper_table(
                models, ['system', 'patch'], ['ncc'], ['step']
            )
            curves = models
            if models['patch'].nunique() > 1:
                curves = models.assign(
                    system=[
                        f'{s}, patch {p}'
                        for s, p in zip(models['system'], models['patch'], strict=True)
                    ]
                )
            drawings['ncc'] = figures.draw_against(curves, ['ncc'], 'step', 'Step (voxels)')
        tables['All measures'] = paper_table(rows, ['system', 'patch', 'step'], MEASURES)
    if held:
        shown = {told.rpartition(', step ')[0]: (told, path) for told, path in reversed(held)}
        named = []
        for told, path in reversed(shown.values()):
            with np.load(path, allow_pickle=False) as kept:
                named.append((told.replace(', ', '\n'), kept['mask'], kept['spacing']))
        drawings['surfaces'] = draw_surfaces(named)
    return Result(rows, summarise(rows), paired_tests(rows), tables, drawings, failures)
