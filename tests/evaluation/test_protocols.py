"""Every protocol on small heads with untrained models: what it runs, writes and keeps."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from evaluation_phantoms import (
    IMAGING,
    how,
    models,
    settings,
    value,
    write_head,
)
from PIL import Image

from bids_segsr.evaluation import protocols
from bids_segsr.evaluation.article_figures import save_figure
from bids_segsr.evaluation.cases import Imaging, load_reference, make_case
from bids_segsr.evaluation.pictures import load_picture
from bids_segsr.evaluation.systems import read_systems, run_system
from bids_segsr.exceptions import UserError
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.imaging.measures.metrics import dice, psnr
from bids_segsr.training.data.subjects import Subject


def check_figures(result: protocols.Result, out: Path, *names: str) -> None:
    assert set(names) == set(result.figures)
    for name, figure in result.figures.items():
        png, svg = save_figure(figure, out, name)
        with Image.open(png) as picture:
            assert np.asarray(picture.convert('L')).std() > 5
        assert svg.read_text().startswith('<?xml')


def test_compare(root: Path, heads: list[Subject], tmp_path: Path) -> None:
    systems = [*models(root, 'one'), *read_systems([f'both={root / "one"}+{root / "unet"}'])[1:]]
    result = protocols.compare(systems, {'heads': heads}, settings(tmp_path))
    assert result.failures == ()
    for subject in heads:
        reference = load_reference(subject, {'cortex': (1,)})
        case = make_case(reference, IMAGING, 0)
        inside = case.inside
        for system in systems:
            output = run_system(system, case, how(16, 16))
            where = {'subject': subject.name, 'system': system.name}
            assert value(result.rows, metric='psnr', **where) == pytest.approx(
                psnr(reference.image, output.image, inside)
            )
            if system.models:
                expected = dice(
                    reference.structures['cortex'] & inside, output.structures['cortex'] & inside
                )
                assert value(result.rows, metric='dice', **where) == pytest.approx(expected)
    table = result.tables['Comparison'].set_index('system')
    assert table.index.tolist() == ['spline', 'ibp', 'one', 'both']
    assert table.loc['spline', 'Dice'] == '-'
    scores = result.rows[(result.rows['metric'] == 'psnr') & (result.rows['system'] == 'one')]
    mean, sd = scores['value'].mean(), scores['value'].std(ddof=1)
    assert table.loc['one', 'PSNR (dB)'] == f'{mean:.2f} ± {sd:.2f}'
    assert len(result.tests[result.tests['metric'] == 'psnr']) == 6
    assert pd.read_csv(tmp_path / 'rows.tsv', sep='\t')['value'].equals(result.rows['value'])
    check_figures(result, tmp_path, 'comparison', 'pictures', 'surfaces')
    panels = [ax.get_title() for ax in result.figures['surfaces'].axes if ax.get_title()]
    assert panels[0] == 'truth'
    assert len(panels) > 1


def test_nothing_to_measure(heads: list[Subject], tmp_path: Path) -> None:
    with pytest.raises(UserError, match='--metrics dice: no system'):
        protocols.compare(
            read_systems([]), {'heads': heads[:1]}, settings(tmp_path, metrics=('dice',))
        )


def test_steps(root: Path, heads: list[Subject], tmp_path: Path) -> None:
    result = protocols.steps(
        models(root, 'one'), {'heads': heads}, settings(tmp_path), distances=(8, 12, 16)
    )
    table = result.tables['Step sweep']
    assert table['step'].tolist() == ['', '', '8', '12', '16']
    reference = load_reference(heads[1], {'cortex': (1,)})
    case = make_case(reference, IMAGING, 0)
    output = run_system(models(root, 'one')[-1], case, how(16, 12))
    found = value(result.rows, subject='sub-2', system='one', step=12, metric='psnr')
    assert found == pytest.approx(psnr(reference.image, output.image, case.inside))
    check_figures(result, tmp_path, 'steps')


def test_robustness(root: Path, heads: list[Subject], tmp_path: Path) -> None:
    result = protocols.robustness(
        models(root, 'one', 'two'), {'heads': heads[:1]}, settings(tmp_path), 5.0,
        distances=(12, 16),
    )  # fmt: skip
    assert list(result.rows['variant'].unique()) == ['original', 'noisy', 'power 2', 'power 0.5']
    table = result.tables['Robustness, PSNR (dB)']
    assert table['system'].tolist() == ['spline', 'ibp', 'one', 'one', 'two', 'two']
    where = {'subject': 'sub-1', 'system': 'spline', 'metric': 'psnr'}
    reference = load_reference(heads[0], {})
    for variant, imaging in (
        ('noisy', dataclasses.replace(IMAGING, noise=5.0)),
        ('power 2', dataclasses.replace(IMAGING, contrast=2.0)),
    ):
        case = make_case(reference, imaging, 0)
        expected = psnr(case.reference.image, case.interpolated, case.inside)
        assert value(result.rows, variant=variant, **where) == pytest.approx(expected)
    assert value(result.rows, variant='noisy', **where) < value(
        result.rows, variant='original', **where
    )
    check_figures(result, tmp_path, 'robustness')


def test_scales(root: Path, heads: list[Subject], tmp_path: Path) -> None:
    result = protocols.scales(
        models(root, 'one'), {'heads': heads[:1]}, settings(tmp_path),
        factors=((2.0, 2.0, 2.0), (2.0, 2.5, 3.0)),
    )  # fmt: skip
    table = result.tables['Test scales, PSNR (dB)']
    assert table['scale'].tolist() == ['x(2,2,2)', 'x(2,2.5,3)']
    assert 'ibp' not in set(result.rows['system'])  # there are no slices
    forward = ForwardModel(kind='isotropic', factors=((2.0, 2.5, 3.0),))
    case = make_case(load_reference(heads[0], {}), Imaging(forward), 0)
    expected = psnr(case.reference.image, case.interpolated, case.inside)
    found = value(result.rows, scale='x(2,2.5,3)', system='spline', metric='psnr')
    assert found == pytest.approx(expected)
    check_figures(result, tmp_path, 'scale_psnr', 'scale_ssim')


def test_transfer(root: Path, heads: list[Subject], tmp_path: Path) -> None:
    datasets = {'A': heads[:1], 'B': heads[1:]}
    result = protocols.transfer(models(root, 'one', 'two'), datasets, settings(tmp_path))
    assert result.tables['Transfer']['dataset'].tolist() == ['A', 'B']
    for baseline, title in (('spline', 'cubic spline'), ('ibp', 'back-projection alone')):
        gain = float(result.tables[f'Gain over {title}']['PSNR (dB) | two'][1])
        expected = value(result.rows, dataset='B', system='two', metric='psnr') - value(
            result.rows, dataset='B', system=baseline, metric='psnr'
        )
        assert gain == pytest.approx(expected, abs=0.006)
    check_figures(result, tmp_path, 'dataset_psnr', 'dataset_ssim')


def test_blends(root: Path, heads: list[Subject], tmp_path: Path) -> None:
    result = protocols.blends(
        models(root, 'one', 'two'), {'heads': heads}, settings(tmp_path), alphas=(0.0, 0.5, 1.0)
    )
    reference = load_reference(heads[0], {})
    case = make_case(reference, IMAGING, 0)
    for alpha, end in ((0.0, 'one'), (1.0, 'two')):
        output = run_system(models(root, end)[-1], case, how(16, 16))
        found = value(result.rows, subject='sub-1', alpha=alpha, metric='psnr')
        assert found == pytest.approx(psnr(reference.image, output.image, case.inside))
    key = result.rows[result.rows['alpha'] == 0.5]['key'].iloc[0]
    picture = load_picture(tmp_path, key)
    assert picture is not None
    assert picture.image.shape == picture.truth.shape
    assert 0.1 < picture.true_outline.mean() < 0.9
    check_figures(result, tmp_path, 'blends', 'pictures')
    with pytest.raises(UserError, match='two models'):
        protocols.blends(models(root, 'one'), {'heads': heads}, settings(tmp_path))


def test_cost(root: Path, heads: list[Subject], tmp_path: Path) -> None:
    result = protocols.cost(models(root, 'one', 'unet'), {'heads': heads}, settings(tmp_path))
    table = result.tables['Quality and cost'].set_index('system')
    counts = {s.name: s.parameters for s in models(root, 'one', 'unet')}
    assert table.loc['unet', 'Parameters'] == f'{counts["unet"]:,}'
    assert table.loc['one', 'Parameters x'] == '1.00'
    assert table.loc['unet', 'Parameters x'] == f'{counts["unet"] / counts["one"]:.2f}'
    assert table.loc['spline', 'Time (s) x'] == '-'
    check_figures(result, tmp_path, 'cost')


def test_niqe_learns_from_the_training_images(
    heads: list[Subject], tmp_path: Path, root: Path
) -> None:
    train = [write_head(root / 'heads', f'sub-t{n}', 30 + n, 'train') for n in (1, 2)]
    given = settings(tmp_path, metrics=('piqe', 'niqe'))
    systems = read_systems(['truth'])
    result = protocols.cost(systems, {'heads': [*train, *heads]}, given)
    spline, truth = (
        result.rows[(result.rows['system'] == name) & (result.rows['metric'] == 'niqe')]
        for name in ('spline', 'truth')
    )
    assert (truth['value'].to_numpy() < spline['value'].to_numpy()).all()
