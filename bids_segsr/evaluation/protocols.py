"""The experiments of the articles: what is varied, and the tables and figures that come of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bids_segsr.evaluation import article_figures as figures
from bids_segsr.evaluation.article_tables import paired_tests, paper_table, summarise
from bids_segsr.evaluation.pictures import load_picture
from bids_segsr.evaluation.run import Job, Rows, Settings, run_jobs
from bids_segsr.evaluation.scores import METRICS
from bids_segsr.evaluation.surface_picture import draw_surfaces
from bids_segsr.evaluation.systems import BASELINES, IBP, SPLINE, TRUTH, UNTRAINED, System
from bids_segsr.exceptions import UserError
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.inference.processing import Processing
from bids_segsr.training.data.subjects import Subject
from bids_segsr.zoo.blend import blend_models

Datasets = Mapping[str, Sequence[Subject]]

ARTICLE = ('dice', 'ncc', 'psnr', 'ssim')
GENERAL = ('psnr', 'ssim', 'nrmse', 'dice', 'jaccard', 'hd95', 'asd', 'ncc', 'euler')
BY_SLICE = ('psnr_slices', 'ssim_slices', 'nrmse_slices')
COST = ('parameters', 'seconds', 'cpu_seconds')

STEPS = (30, 50, 80, 128)
"""SegSRGAN (2020), Table 6; its Figures 6 to 8 go from 10 to 128."""
ROBUSTNESS_STEPS = (30, 80, 128)
"""SegSRGAN (2020), Tables 2 to 5."""
POWERS = (2.0, 0.5)
"""SegSRGAN (2020), section 4.4.3: square and square root."""
SCALES = (
    (2.0, 2.0, 2.0), (2.0, 2.0, 3.0), (2.0, 2.5, 2.0),
    (2.0, 3.0, 3.0), (2.5, 2.5, 2.5), (3.0, 3.0, 3.0),
)  # fmt: skip
"""ReCNN, Table 1."""
ALPHAS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Result:
    """What a protocol gives.

    Attributes:
        rows: Every image, condition and measure, see `run.Rows.table`.
        summary: Means and standard deviations over the subjects.
        tests: Paired tests, see `tables.paired_tests`.
        tables: Title to table in the form of the article.
        figures: File name to figure.
        failures: One line for every image that failed.
    """

    rows: pd.DataFrame
    summary: pd.DataFrame
    tests: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    figures: dict[str, Figure]
    failures: tuple[str, ...]


def compare(systems: Sequence[System], datasets: Datasets, settings: Settings) -> Result:
    """Compare any models with the baselines (SegSRGAN 2020, Tables 8 to 10).

    Args:
        systems: See `systems.read_systems`.
        datasets: Name to subjects.
        settings: Forward model, measures and the rest.

    Returns:
        Rows, tables and figures.

    Raises:
        UserError: There is no test image, or a measure lacks what it needs.
    """
    settings = _measuring(settings, GENERAL)
    rows, metrics = _run(systems, datasets, settings)
    tables = {'Comparison': paper_table(rows.table, ['system'], (*metrics, *COST))}
    drawings = {'comparison': figures.draw_distributions(rows.table, metrics)}
    drawings |= _pictures(rows.table, settings, 'system') | _surfaces(rows.table, settings)
    return _result(rows, tables, drawings)


def ablation(systems: Sequence[System], datasets: Datasets, settings: Settings) -> Result:
    """Compare models trained with and without a part, such as the critic (SegSRGAN, Table 7).

    Args, returns and raises as `compare`; measured are Dice, NCC, PSNR and SSIM.
    """
    settings = _measuring(settings, ARTICLE)
    rows, metrics = _run(systems, datasets, settings)
    tables = {'Ablation': paper_table(rows.table, ['system'], metrics)}
    return _result(rows, tables, {'ablation': figures.draw_distributions(rows.table, metrics)})


def steps(
    systems: Sequence[System],
    datasets: Datasets,
    settings: Settings,
    distances: Sequence[int] = STEPS,
) -> Result:
    """Vary how far patches lie apart (SegSRGAN 2020, Figures 6 to 8).

    Args:
        systems: See `systems.read_systems`.
        datasets: Name to subjects.
        settings: The patch size of its processing holds for all steps.
        distances: Steps in voxels.

    Returns:
        Rows, tables and figures: time, Dice, PSNR, SSIM and NCC against the step.

    Raises:
        UserError: As `compare`.
    """
    settings = _measuring(settings, ('dice', 'psnr', 'ssim', 'ncc'))
    jobs = [
        Job(system, settings.imaging, processing, {'step': step})
        for system in systems
        for step, processing in _processings(system, settings, distances)
    ]
    rows, metrics = _rows(datasets, jobs, settings)
    shown = ('seconds', 'cpu_seconds', *metrics)
    tables = {'Step sweep': paper_table(rows.table, ['system', 'step'], shown)}
    return _result(rows, tables, {'steps': figures.draw_steps(rows.table, metrics)})


def robustness(
    systems: Sequence[System],
    datasets: Datasets,
    settings: Settings,
    noise: float = 2.0,
    *,
    relative_noise: bool = False,
    powers: Sequence[float] = POWERS,
    distances: Sequence[int] = ROBUSTNESS_STEPS,
) -> Result:
    """Add noise, change the contrast (SegSRGAN 2020, Tables 2 to 5, Figures 9 to 12).

    Args:
        systems: See `systems.read_systems`; for Figures 10 to 12 the model trained with
            augmentation last, the one without first.
        datasets: Name to subjects.
        settings: The patch size of its processing holds for all steps.
        noise: Standard deviation in the units of the images, or a share of the maximum.
        relative_noise: Whether it is a share.
        powers: Exponents of the contrast.
        distances: Steps in voxels.

    Returns:
        Rows, a table for each measure and figures.

    Raises:
        UserError: As `compare`.
    """
    settings = _measuring(settings, ARTICLE)
    plain = dataclasses.replace(settings.imaging, noise=0.0, contrast=1.0)
    variants = {
        'original': plain,
        'noisy': dataclasses.replace(plain, noise=noise, relative_noise=relative_noise),
        **{f'power {p:g}': dataclasses.replace(plain, contrast=float(p)) for p in powers},
    }
    jobs = [
        Job(system, imaging, processing, {'variant': variant, 'step': step})
        for variant, imaging in variants.items()
        for system in systems
        for step, processing in _processings(system, settings, distances)
    ]
    rows, metrics = _rows(datasets, jobs, settings)
    tables = {
        f'Robustness, {METRICS[metric].label}': paper_table(
            rows.table, ['system', 'step'], (metric,), ['variant']
        )
        for metric in metrics
    }
    return _result(rows, tables, {'robustness': figures.draw_robustness(rows.table, metrics)})


def scales(
    systems: Sequence[System],
    datasets: Datasets,
    settings: Settings,
    factors: Sequence[tuple[float, float, float]] = SCALES,
) -> Result:
    """Try models that were trained at one scale at others (ReCNN, Table 1).

    Args:
        systems: See `systems.read_systems`; best named after what they were trained on.
        datasets: Name to subjects.
        settings: Of its forward model, blur and interpolation are kept.
        factors: Low-resolution over high-resolution spacing along each axis.

    Returns:
        Rows, the matrix and its picture.

    Raises:
        UserError: As `compare`.
    """
    settings = _measuring(settings, ('psnr', 'ssim'))
    base = settings.imaging.forward
    jobs = []
    if base.interpolation == 'zero-fill':
        raise UserError('--recipe: zero-filling goes with k-space, scales are coarser images.')
    for factor in factors:
        forward = ForwardModel(
            kind='isotropic', factors=(factor,), sigma=base.sigma, interpolation=base.interpolation
        )
        imaging = dataclasses.replace(settings.imaging, forward=forward)
        name = f'x({",".join(f"{f:g}" for f in factor)})'
        jobs += [Job(s, imaging, settings.processing, {'scale': name}) for s in systems]
    rows, metrics = _rows(datasets, jobs, settings)
    tables = {
        f'Test scales, {METRICS[metric].label}': paper_table(
            rows.table, ['scale'], (metric,), ['system']
        )
        for metric in metrics
    }
    return _result(rows, tables, _matrices(rows.table, 'scale', metrics))


def transfer(systems: Sequence[System], datasets: Datasets, settings: Settings) -> Result:
    """Try models that were trained on one dataset on another (ReCNN, Table 2).

    Args:
        systems: See `systems.read_systems`; best named after the dataset they were trained on.
        datasets: Two or more.
        settings: Forward model, measures and the rest.

    Returns:
        Rows, tables with the gain over each baseline, and pictures.

    Raises:
        UserError: As `compare`.
    """
    settings = _measuring(settings, ('psnr', 'ssim'))
    rows, metrics = _run(systems, datasets, settings)
    tables = {'Transfer': paper_table(rows.table, ['dataset'], metrics, ['system'])}
    for baseline, title in ((SPLINE, 'cubic spline'), (IBP, 'back-projection alone')):
        gains = _gains(rows.table, baseline)
        if len(gains):
            tables[f'Gain over {title}'] = paper_table(gains, ['dataset'], metrics, ['system'])
    return _result(rows, tables, _matrices(rows.table, 'dataset', metrics))


def blends(
    systems: Sequence[System],
    datasets: Datasets,
    settings: Settings,
    alphas: Sequence[float] = ALPHAS,
) -> Result:
    """Blend a model trained for fidelity with one trained against a critic (RRDG, Figure 5).

    Args:
        systems: Cubic spline or nothing, then the two models: PSNR first (alpha 0), GAN second
            (alpha 1).
        datasets: Name to subjects.
        settings: Forward model, measures and the rest.
        alphas: Weights of the second model.

    Returns:
        Rows, table, curves and pictures.

    Raises:
        UserError: They are not two single models of one architecture; as `compare`.
    """
    settings = _measuring(settings, ('psnr', 'ssim', 'dice', 'ncc', 'piqe'))
    models = [system for system in systems if system.name not in UNTRAINED]
    if len(models) != 2 or any(len(system.models) != 1 for system in models):
        raise UserError(
            '--models: a blending sweep takes two models, the one trained for PSNR first.'
        )
    first, second = (system.models[0] for system in models)
    jobs = [
        Job(System(name), settings.imaging, settings.processing, {'alpha': ''})
        for name in BASELINES
    ]
    jobs += [
        Job(
            System('blend', (blend_models(first, second, alpha),)),
            settings.imaging,
            settings.processing,
            {'alpha': alpha},
        )
        for alpha in alphas
    ]
    rows, metrics = _rows(datasets, jobs, settings)
    label = f'alpha (0: {models[0].name}, 1: {models[1].name})'
    tables = {'Blending sweep': paper_table(rows.table, ['system', 'alpha'], metrics)}
    drawings = {'blends': figures.draw_against(rows.table, metrics, 'alpha', label)}
    return _result(rows, tables, drawings | _pictures(rows.table, settings, 'alpha'))


def cost(systems: Sequence[System], datasets: Datasets, settings: Settings) -> Result:
    """Quality against time and parameters (mDCSRN, Table 2).

    Args, returns and raises as `compare`; measured are PSNR, SSIM and NRMSE by slice, and
    parameters and times also as a multiple of the first model's.
    """
    settings = _measuring(settings, BY_SLICE)
    rows, metrics = _run(systems, datasets, settings)
    table = paper_table(rows.table, ['system'], (*metrics, *COST))
    tables = {'Quality and cost': _with_ratios(table, rows.table)}
    return _result(rows, tables, {'cost': figures.draw_cost(rows.table, metrics[0])})


def _run(
    systems: Sequence[System], datasets: Datasets, settings: Settings
) -> tuple[Rows, list[str]]:
    """Run every system once, nothing varied."""
    jobs = [Job(system, settings.imaging, settings.processing) for system in systems]
    return _rows(datasets, jobs, settings)


def _rows(datasets: Datasets, jobs: Sequence[Job], settings: Settings) -> tuple[Rows, list[str]]:
    """Return the rows, and which of the wanted measures they hold."""
    rows = run_jobs(datasets, jobs, settings)
    if not len(rows.table):
        raise UserError(f'nothing could be scored; first: {rows.failures[0]}')
    held = set(rows.table['metric'])
    metrics = [metric for metric in settings.metrics or () if metric in held]
    if not metrics:
        wanted = ' '.join(settings.metrics or ())
        raise UserError(f'--metrics {wanted}: no system and image have what this needs.')
    return rows, metrics


def _measuring(settings: Settings, metrics: tuple[str, ...]) -> Settings:
    return settings if settings.metrics else dataclasses.replace(settings, metrics=metrics)


def _processings(
    system: System, settings: Settings, distances: Sequence[int]
) -> list[tuple[int | str, Processing]]:
    """A baseline has no patches: it is run once."""
    if not system.models:
        return [('', settings.processing)]
    return [(step, dataclasses.replace(settings.processing, step=step)) for step in distances]


def _result(rows: Rows, tables: dict[str, pd.DataFrame], drawings: dict[str, Figure]) -> Result:
    table = rows.table
    return Result(table, summarise(table), paired_tests(table), tables, drawings, rows.failures)


def _matrices(rows: pd.DataFrame, index: str, metrics: Sequence[str]) -> dict[str, Figure]:
    return {f'{index}_{metric}': figures.draw_matrix(rows, metric, index) for metric in metrics}


def _pictures(rows: pd.DataFrame, settings: Settings, name: str) -> dict[str, Figure]:
    """Draw the slices of the first image of each dataset that were kept."""
    drawings = {}
    for number, (_, own) in enumerate(rows.groupby('dataset', sort=False)):
        chosen = own[(own['subject'] == own['subject'].iloc[0]) & (own['system'] != TRUTH)]
        chosen = chosen.drop_duplicates('key')
        held = []
        for _, row in chosen.iterrows():
            picture = load_picture(settings.out, row['key'])
            label = f'{row["system"]}' if name == 'system' else f'{name} {row[name]:g}'
            if picture is not None:
                held.append((row['system'] if row['system'] in UNTRAINED else label, picture))
        if held:
            drawings['pictures' if number == 0 else f'pictures_{number + 1}'] = (
                figures.draw_pictures(held)
            )
    return drawings


def _surfaces(rows: pd.DataFrame, settings: Settings) -> dict[str, Figure]:
    """Draw the first structure of the first image, true and as found (SegSRGAN, Figure 16)."""
    if not len(rows):
        return {}
    own = rows[rows['subject'] == rows['subject'].iloc[0]].drop_duplicates('key')
    named: list[tuple[str, np.ndarray, Sequence[float]]] = []
    for _, row in own.iterrows():
        picture = load_picture(settings.out, row['key'])
        if picture is None or picture.mask is None or picture.true_mask is None:
            continue
        if not named:
            named.append(('truth', picture.true_mask, picture.spacing))
        named.append((row['system'], picture.mask, picture.spacing))
    return {'surfaces': draw_surfaces(named)} if named else {}


def _gains(rows: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Rows of the models minus that of a baseline for the same image and measure."""
    on = ['dataset', 'subject', 'metric', 'structure']
    base = rows[rows['system'] == baseline][[*on, 'value']]
    paired = rows[~rows['system'].isin(UNTRAINED)].merge(base, on=on, suffixes=('', '_base'))
    return paired.assign(value=paired['value'] - paired['value_base'])


def _with_ratios(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Add parameters and time as multiples of those of the first model."""
    means = rows.pivot_table('value', 'system', 'metric', aggfunc='mean', sort=False)
    models = [name for name in means.index if name not in UNTRAINED]
    table = table.copy()
    for metric in ('parameters', 'seconds'):
        ratios = means[metric] / means.loc[models[0], metric] if models else means[metric]
        table[f'{METRICS[metric].label} x'] = [
            f'{ratios[name]:.2f}' if name in models else '-' for name in table['system']
        ]
    return table
