"""Every protocol on small heads with untrained models: what it runs, writes and keeps."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from evaluation_phantoms import write_head, write_model
from PIL import Image

from bids_segsr.evaluation import protocols, run
from bids_segsr.evaluation.article_figures import save_figure
from bids_segsr.evaluation.cases import Imaging, load_reference, make_case
from bids_segsr.evaluation.pictures import load_picture
from bids_segsr.evaluation.run import Settings
from bids_segsr.evaluation.systems import read_systems, run_system
from bids_segsr.exceptions import UserError
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.imaging.measures.metrics import dice, psnr
from bids_segsr.inference.processing import Processing
from bids_segsr.training.data.subjects import Subject, content_digest
from bids_segsr.training.loop.model_card import SEEN
from bids_segsr.zoo.store import CARD_FILE

IMAGING = Imaging(ForwardModel(spacing_mm=(3.0, 3.0)))


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('evaluation')
    for seed, name in enumerate(('one', 'two'), start=1):
        write_model(root, name, seed=seed)
    write_model(root, 'unet', architecture='unet', base_filters=2)
    return root


@pytest.fixture(scope='module')
def heads(root: Path) -> list[Subject]:
    return [write_head(root / 'heads', f'sub-{n}', n) for n in (1, 2)]


def models(root: Path, *names: str) -> Any:
    return read_systems([str(root / name) for name in names])


def how(patch_size: int, step: int) -> Processing:
    return Processing(patch_size=patch_size, step=step, blending='uniform', device='cpu')


def settings(out: Path, **changes: Any) -> Settings:
    out.mkdir(exist_ok=True)
    return Settings(out=out, imaging=IMAGING, processing=how(16, 16), **changes)


def value(rows: pd.DataFrame, **where: Any) -> float:
    for column, wanted in where.items():
        rows = rows[rows[column] == wanted]
    assert len(rows) == 1
    return float(rows['value'].iloc[0])


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


def test_a_second_run_keeps_what_is_there(
    root: Path, heads: list[Subject], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(tmp_path)
    done: list[str] = []

    def noted(system: Any, *arguments: Any) -> Any:
        done.append(system.name)
        return run_system(system, *arguments)

    monkeypatch.setattr(run, 'run_system', noted)
    first = protocols.ablation(models(root, 'one'), {'heads': heads}, given)
    assert done == ['spline', 'ibp', 'one'] * 2
    done.clear()
    again = protocols.ablation(models(root, 'one'), {'heads': heads}, given)
    assert done == []
    pd.testing.assert_frame_equal(first.rows, again.rows)
    more = protocols.ablation(models(root, 'one', 'two'), {'heads': heads}, given)
    assert done == ['two'] * 2
    assert set(more.rows['system']) == {'spline', 'ibp', 'one', 'two'}
    done.clear()
    other = dataclasses.replace(given, seed=1, imaging=dataclasses.replace(IMAGING, noise=5.0))
    noisy = protocols.ablation(models(root, 'one'), {'heads': heads}, other)
    assert len(done) == 6
    assert not set(noisy.rows['key']) & set(first.rows['key'])


def test_rows_of_other_runs_stay_in_the_folder(
    root: Path, heads: list[Subject], tmp_path: Path
) -> None:
    given, heads = settings(tmp_path), heads[:1]
    first = protocols.steps(models(root, 'one'), {'heads': heads}, given, distances=(12, 16))
    second = protocols.steps(models(root, 'two'), {'heads': heads}, given, distances=(12,))
    assert set(second.rows['system']) == {'spline', 'ibp', 'two'}
    assert second.tables['Step sweep']['system'].tolist() == ['spline', 'ibp', 'two']
    rows = pd.read_csv(tmp_path / 'rows.tsv', sep='\t')
    assert set(rows['system']) == {'spline', 'ibp', 'one', 'two'}
    assert rows['key'].head(len(second.rows)).tolist() == second.rows['key'].tolist()
    again = protocols.steps(models(root, 'one'), {'heads': heads}, given, distances=(12, 16))
    pd.testing.assert_frame_equal(first.rows, again.rows)
    keys = json.loads((tmp_path / 'keys.json').read_text(encoding='utf-8'))
    assert set(keys) == set(rows['key'])
    assert {content['system'] for content in keys.values()} == {'spline', 'ibp', 'one', 'two'}


def test_a_model_out_of_place_is_told_once(
    root: Path, heads: list[Subject], tmp_path: Path
) -> None:
    told: list[str] = []
    # made for 1 to 6 mm
    thick = Imaging(ForwardModel(spacing_mm=(7.0, 8.0)))
    given = dataclasses.replace(settings(tmp_path), imaging=thick, tell=told.append)
    protocols.ablation(models(root, 'one', 'two'), {'heads': heads}, given)
    warnings = [line for line in told if line.startswith('warning')]
    assert [line.split()[1] for line in warnings] == ['one', 'two']
    assert all('slices of 1 to 6 mm, here 7' in line for line in warnings)


def test_an_image_of_the_training_is_told(heads: list[Subject], tmp_path: Path) -> None:
    known, other = (head.image for head in heads)
    assert known is not None
    assert other is not None
    card = write_model(tmp_path, 'one') / CARD_FILE
    content = json.loads(card.read_text(encoding='utf-8'))
    content['training'] = {SEEN: [content_digest(known)]}
    card.write_text(json.dumps(content), encoding='utf-8')
    told: list[str] = []
    given = dataclasses.replace(settings(tmp_path / 'out'), tell=told.append)
    protocols.compare(models(tmp_path, 'one'), {'heads': heads}, given)
    warnings = [line for line in told if 'the training of one read this image' in line]
    assert len(warnings) == 1
    assert warnings[0].startswith(f'warning: {known}: ')


def test_nothing_to_measure(heads: list[Subject], tmp_path: Path) -> None:
    with pytest.raises(UserError, match='--metrics dice: no system'):
        protocols.compare(
            read_systems([]), {'heads': heads[:1]}, settings(tmp_path, metrics=('dice',))
        )


def test_a_broken_image_costs_one_line(root: Path, heads: list[Subject], tmp_path: Path) -> None:
    broken = tmp_path / 'broken.nii.gz'
    assert heads[0].image is not None
    broken.write_bytes(heads[0].image.read_bytes()[:3000])
    bad = dataclasses.replace(heads[0], name='sub-bad', image=broken)
    told: list[str] = []
    given = dataclasses.replace(settings(tmp_path / 'out'), tell=told.append)
    result = protocols.ablation(models(root, 'one'), {'heads': [bad, *heads]}, given)
    assert len(result.failures) == 1
    assert 'broken.nii.gz' in result.failures[0]
    assert '\n' not in result.failures[0]
    assert told[0] == result.failures[0]
    assert set(result.rows['subject']) == {'sub-1', 'sub-2'}
    with pytest.raises(UserError, match=r'nothing could be scored.*broken'):
        protocols.ablation(models(root), {'heads': [bad]}, given)
    with pytest.raises(UserError, match='Base "Test"'):
        train = dataclasses.replace(heads[0], split='train')
        protocols.ablation(models(root), {'heads': [train]}, given)


def test_a_model_that_fails_leaves_the_others(
    root: Path, heads: list[Subject], tmp_path: Path
) -> None:
    guided = read_systems([
        str(write_model(
            root, 'guided', architecture='recnn', channels=('intensity',), guides=1, depth=3,
            filters=2,
        ))
    ])  # fmt: skip
    systems = [*models(root, 'one'), guided[-1]]
    result = protocols.ablation(systems, {'heads': heads[:1]}, settings(tmp_path))
    assert len(result.failures) == 1
    assert result.failures[0].startswith('sub-1, guided: ')
    assert set(result.rows['system']) == {'spline', 'ibp', 'one'}


def test_images_of_one_person_are_told_apart(heads: list[Subject], tmp_path: Path) -> None:
    twice = [dataclasses.replace(head, name='sub-1') for head in heads]
    result = protocols.ablation(read_systems([]), {'heads': twice}, settings(tmp_path))
    assert result.rows['subject'].nunique() == 2
    assert set(result.rows['person']) == {'sub-1'}
    assert all(name.startswith('sub-1 sub-') for name in result.rows['subject'])


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
