"""The articles' experiments: data, trainings, tables; end to end on made-up trees."""

from __future__ import annotations

import argparse

import pandas as pd
import pytest
import torch
from evaluation_phantoms import export_parcellation
from release_phantoms import (
    make_hcp,
    make_kirby,
    make_namic,
    make_release,
)

from bids_segsr.cli.reproduce import add_data_parser, add_parser
from bids_segsr.evaluation.reproduce import datasets
from bids_segsr.evaluation.reproduce.article import (
    article_names,
    needed_trainings,
    read_article,
    recipe_of,
)
from bids_segsr.evaluation.reproduce.rehearsal import rehearsed
from bids_segsr.exceptions import UserError
from bids_segsr.networks import create
from bids_segsr.training.recipe import flattened


def scores(article):
    """Numbers of an article by their place."""
    found = {}
    for number in read_article(article)[1]:
        place = (number.table, number.row, number.metric, number.data, number.condition)
        assert place not in found
        found[place] = (number.mean, number.sd)
    return found


def test_numbers_are_those_of_segsrgan_2020():
    found = scores('segsrgan-2020')
    assert len(found) == 60
    assert found['2', 'SegSRGAN', 'ssim', 'dhcp', 'step 30, noisy'] == (0.49, None)
    assert found['3', 'SegSRGAN', 'psnr', 'dhcp', 'step 128'] == (24.24, None)
    assert found['4', 'With data augmentation', 'dice', 'dhcp', 'step 80, noisy'] == (0.812, None)
    assert found['5', 'Without data augmentation', 'ncc', 'dhcp', 'step 128'] == (104.3, None)
    assert found['7', 'Without GAN', 'psnr', 'dhcp', 'step 30'] == (27.19, 0.76)
    assert found['7', 'With GAN', 'ncc', 'dhcp', 'step 30'] == (3.87, 2.47)
    assert found['8', 'Cubic spline interpolation', 'ssim', 'dhcp', 'step 30'] == (0.63, None)
    assert found['9', 'SRReCNN3D + U-Net*', 'dice', 'dhcp', 'step 30'] == (0.861, 0.011)
    assert found['10', 'SegSRGAN', 'ncc', 'dhcp', 'step 30'] == (8.62, 3.27)


def test_numbers_are_those_of_the_other_articles():
    found = scores('segsrgan-2019')
    assert found['1', 'Interpolation', 'psnr', 'dhcp', '1.5 mm'] == (30.70, None)
    assert found['1', '20L-SRReCNN', 'ssim', 'dhcp', '1.5 mm'] == (0.9739, None)
    assert found['2', 'SegSRGAN', 'dice', 'dhcp', '1.5 mm'] == (0.886, 0.011)
    found = scores('recnn')
    double = 'trained x2 and x3, double samples'
    assert found['1', 'trained x2', 'psnr', 'kirby', 'x(3,3,3)'] == (33.43, None)
    assert found['1', double, 'psnr', 'kirby', 'x(2,2.5,2)'] == (37.93, None)
    assert found['2', '20L-ReCNN, NAMIC', 'psnr', 'kirby', 'x(2,2,2)'] == (38.06, 1.83)
    assert found['2', 'LRTV', 'ssim', 'namic', 'x(2,2,2)'] == (0.9549, 0.0044)
    assert found['2', 'SRCNN3D, Kirby', 'psnr', 'namic', 'x(2,2,2)'] == (36.72, 1.76)
    found = scores('mdcsrn')
    assert found['1', 'b8u4k8', 'ssim_slices', 'hcp-evaluation', '2 x 2 x 1'] == (0.9415, 0.0059)
    assert found['1', 'b1u12-r', 'seconds', 'hcp-evaluation', '2 x 2 x 1'] == (12.74, None)
    assert found['2', 'NN', 'psnr_slices', 'hcp', '2 x 2 x 1'] == (29.48, 0.81)
    assert found['2', 'Original resolution', 'niqe', 'hcp', '2 x 2 x 1'] == (5.52, 0.14)
    assert found['3', 'SRResNet', 'parcel_jaccard', 'hcp', '2 x 2 x 1'] == (0.899, 0.061)
    assert found['4', 'mDCSRN-GAN', 'niqe', 'hcp', '2 x 2 x 1'] == (5.66, 0.77)
    found = scores('rrdg')
    assert found['1', 'RRDG', 'nrmse_slices', 'hcp', '2 x 2 x 1'] == (0.0846, 0.0045)
    assert found['1', 'mDCSRN (b8u4)', 'm_h', 'hcp', '2 x 2 x 1'] == (5.4446, None)


@pytest.mark.parametrize('name', article_names())
def test_all_that_an_article_names_is_there(name):
    article, published = read_article(name)
    for number in published:
        assert number.table in article.tables
        assert number.condition in article.conditions
        assert number.data.partition('-')[0] in article.datasets
    trainings = needed_trainings(article, published)
    assert set(trainings) == set(article.trainings)
    for place, training in enumerate(trainings):
        recipe = recipe_of(article, training)
        small = rehearsed(recipe)
        assert small.schedule.steps == 2
        assert small.network.architecture == recipe.network.architecture
        assert flattened(small)['loss.intensity'] == flattened(recipe)['loss.intensity']
        init = article.trainings[training].init
        assert init is None or init in trainings[:place]


# Published counts of parameters: mDCSRN, Table 1 (in millions, two digits); RRDG, Table 1.
@pytest.mark.parametrize(
    ('article', 'training', 'count'),
    [
        ('mdcsrn', 'b1u16-r', 0.35), ('mdcsrn', 'b4u4-r', 0.26), ('mdcsrn', 'b1u12-r', 0.25),
        ('mdcsrn', 'b6u4', 0.35), ('mdcsrn', 'b8u4', 0.49), ('mdcsrn', 'b4u4k8', 0.10),
        ('mdcsrn', 'b4u4k16', 0.41), ('mdcsrn', 'b8u4k8', 0.22), ('rrdg', 'fsrcnn', 0.064893),
        ('rrdg', 'srresnet', 2.004620), ('rrdg', 'rrdg', 2.650129),
    ],
)  # fmt: skip
def test_networks_have_the_printed_counts(article, training, count):
    network = recipe_of(read_article(article)[0], training).network
    made = create(network.architecture, **network.options)
    found = sum(p.numel() for p in made.parameters()) / 1e6
    assert found == pytest.approx(count, abs=0.0051 if article == 'mdcsrn' else 1e-9)


def test_changes_of_trainings_arrive():
    article, published = read_article('recnn')
    assert recipe_of(article, '20l-x3').forward.factors == ((3, 3, 3),)
    same = recipe_of(article, '20l-x2x3-same')
    double = recipe_of(article, '20l-x2x3-double')
    assert same.forward == double.forward
    assert double.sampling.patches_per_epoch == 2 * same.sampling.patches_per_epoch == 64000
    depth = {n.row: n.system for n in published if n.table == 'Figure 5'}
    assert recipe_of(article, depth['7 layers']).network.options['depth'] == 7
    assert depth['10 layers'] == '10l-x2'
    optimisers = {n.row: n.system for n in published if n.table == 'Figure 2'}
    assert recipe_of(article, optimisers['NAG']).optimiser.nesterov
    subjects = {n.row: n.system for n in published if n.table == 'Figure 8'}
    assert article.trainings[subjects['2 subjects']].subjects == 2


def test_unknown_article_is_refused():
    with pytest.raises(UserError, match='no such article; give one of mdcsrn, recnn, rrdg'):
        read_article('nothing')


def test_checker_lists_what_is_there_and_what_is_not(tmp_path, capsys):
    root = make_kirby(tmp_path / 'kirby', [1, 33])
    parser = argparse.ArgumentParser()
    add_data_parser(parser.add_subparsers())

    def check(*given):
        parsed = parser.parse_args(['data', *map(str, given)])
        return parsed.func(parsed)

    assert check('kirby', root) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        'Train: 1 of 10 images', '  KKI2009-33', 'Test: 1 of 5 images', '  KKI2009-01',
    ]  # fmt: skip
    assert '  KKI2009-42 missing: no KKI2009-42-MPRAGE.nii(.gz)' in lines
    make_kirby(root, [*range(1, 6), *range(33, 43)])
    assert check('kirby', root) == 0
    with pytest.raises(UserError, match='adni: no such collection; give one of dhcp'):
        check('adni', root)


def test_patches_of_mdcsrn_and_rrdg_are_those_of_the_articles():
    for name, size in (('mdcsrn', (70, 70, 70)), ('rrdg', (64, 40, 64))):
        article, _ = read_article(name)
        tiling = article.conditions['2 x 2 x 1'].processing('cpu').tiling
        given = tiling.patch_size
        assert (given if isinstance(given, tuple) else (given,) * 3) == size
        assert tiling.margin == 3


def reproduce(*arguments):
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    parsed = parser.parse_args(['reproduce', *map(str, arguments)])
    return parsed.func(parsed)


def test_dry_run_lists_and_writes_nothing(tmp_path, few_participants, capsys):
    root = make_release(tmp_path / 'dhcp', 3, few_participants[:2], ('ses-1', 'ses-2'))
    flags = ('--data', root, '--out', tmp_path / 'out', '--tables', 2)
    assert reproduce('segsrgan-2020', *flags, '--dry-run') == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f'dhcp: {root}',
        'Train: 2 of 2 images',
        '  sub-A ses-1 (not used: ses-2)',
        '  sub-B ses-1 (not used: ses-2)',
        'Test: 0 of 1 images',
        '  sub-C missing: no such folder',
        'trainings: segsrgan-2020',
    ]
    assert not (tmp_path / 'out').exists()
    with pytest.raises(UserError, match=r'images are missing \(listed above'):
        reproduce('segsrgan-2020', *flags)
    with pytest.raises(UserError, match='none of the Test images is there'):
        reproduce('segsrgan-2020', *flags, '--allow-missing')
    make_release(root, 3, ['sub-C'])
    assert reproduce('segsrgan-2020', *flags, '--dry-run') == 0


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['rrdg', '--data', 'DIR', '--tables', '9'], '--tables 9: not of this article'),
        (['rrdg', '--data', 'DIR', '--trainings', 'b9'], '--trainings b9: not of this article'),
        (['recnn', '--data', 'DIR'], 'write NAME=DIR; the names are kirby, namic'),
        (['recnn', '--data', 'kirby=DIR'], 'recnn needs namic; add NAME=DIR'),
        (['rrdg', '--data', 'kirby=DIR'], 'the article has no kirby, but hcp'),
        (['rrdg', '--data', 'hcp=/no/such'], '/no/such: no such folder'),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, arguments, message):
    arguments = [text.replace('DIR', str(tmp_path)) for text in arguments]
    with pytest.raises(UserError, match=message):
        reproduce(*arguments, '--out', tmp_path / 'out')


def rehearse(capsys, tmp_path, *arguments):
    """Run a rehearsal; returns the tables as they are printed, and from the file."""
    out = tmp_path / 'out'
    flags = ('--out', out, '--device', 'cpu', '--workers', 0, '--rehearse', '--allow-missing')
    assert reproduce(*arguments, *flags) == 0
    text = capsys.readouterr().out
    assert 'the numbers mean nothing' in text
    frame = pd.read_csv(out / 'tables.tsv', sep='\t', keep_default_na=False, dtype=str)
    return text, frame


def measured(frame):
    return frame[frame['mean'] != 'n/a']


def test_segsrgan_2020_from_release_to_tables(tmp_path, few_participants, capsys):
    root = make_release(tmp_path / 'dhcp', 1, few_participants)
    chosen = ('--trainings', 'segsrgan-2020', 'recnn-20l-3mm', 'unet-hr', 'unet-sr')
    text, frame = rehearse(capsys, tmp_path, 'segsrgan-2020', '--data', root, *chosen)
    for table in ('2', '3', '4', '5', '8', '9', '10'):
        assert f'Table {table}. ' in text
    assert 'Table 7. ' not in text
    ours = measured(frame)
    assert set(ours['system']) == {
        'spline', 'ibp', 'segsrgan-2020', 'recnn-20l-3mm', 'recnn-20l-3mm+unet-hr',
        'recnn-20l-3mm+unet-sr',
    }  # fmt: skip
    assert (ours['images'].astype(int) == 1).all()
    assert ours[ours['metric'] == 'psnr']['mean'].astype(float).between(0, 60).all()
    spline = ours[(ours['system'] == 'spline') & (ours['metric'] == 'psnr')]
    assert spline['paper_mean'].tolist() == ['24.22']
    # again: nothing is trained or scored anew, the same tables come out
    out = tmp_path / 'out'
    before = {path: path.stat().st_mtime_ns for path in out.glob('*/checkpoints/*/*')}
    assert before
    flags = ('--out', out, '--device', 'cpu', '--workers', 0, '--rehearse', '--allow-missing')
    assert reproduce('segsrgan-2020', '--data', root, *chosen, *flags) == 0
    again = capsys.readouterr()
    assert again.out == text
    assert 'kept, nothing to do' in again.err
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_segsrgan_2019_from_release_to_tables(tmp_path, monkeypatch, capsys):
    subjects = {'sub-A': 'Train', 'sub-B': 'Train', 'sub-C': 'Train', 'sub-D': 'Test'}
    monkeypatch.setattr(datasets, 'dhcp_participants', lambda: dict(subjects))
    root = make_release(tmp_path / 'dhcp', 3, list(subjects))
    text, frame = rehearse(capsys, tmp_path, 'segsrgan-2019', '--data', root)
    assert 'Table 1. ' in text
    assert 'Table 2. ' in text
    ours = measured(frame)
    assert set(ours['system']) == {'spline', 'ibp', '20l-srrecnn', 'segsrgan'}
    psnr = ours[ours['metric'] == 'psnr'].set_index('system')['mean'].astype(float)
    assert psnr['ibp'] > psnr['spline']
    # two of the training list are tested on, too, so that there are ten
    assert (ours['images'].astype(int) == 3).all()


def test_recnn_from_collections_to_tables(tmp_path, capsys):
    kirby = make_kirby(tmp_path / 'kirby', [1, 2, 33, 34])
    namic = make_namic(tmp_path / 'namic', ['01011', '01042'])
    given = ('--data', f'kirby={kirby}', f'namic={namic}')
    text, frame = rehearse(capsys, tmp_path, 'recnn', *given)
    assert 'Table 1. ' in text
    assert 'Table 2. ' in text
    assert 'Figure 5' not in text
    nmu = [' '.join(line.split()) for line in text.splitlines() if line.startswith('NMU')]
    assert len(nmu) == 4
    assert nmu[0].startswith('NMU (Figure 15) PSNR (dB) kirby x(2,2,2) drawn not built: ')
    ours = measured(frame)
    # six scales by four trainings; five systems by two measures by two collections
    assert len(ours) == 24 + 20
    assert set(frame[frame['mean'] == 'n/a']['row']) == {'NMU (Figure 15)'}
    assert set(ours[ours['table'] == '2']['data']) == {'kirby', 'namic'}
    flags = ('--out', tmp_path / 'sweep', '--device', 'cpu', '--workers', 0, '--rehearse')
    sweep = ('--tables', 'Figure 3a', 'Figure 8', '--allow-missing')
    assert reproduce('recnn', '--data', f'kirby={kirby}', *flags, *sweep) == 0
    text = capsys.readouterr().out
    assert 'Figure 8. Number of training subjects' in text
    lines = [' '.join(line.split()) for line in text.splitlines()]
    assert any(line.startswith('1 subject PSNR (dB) kirby x(2,2,2) drawn') for line in lines)


class Parcels(torch.nn.Module):
    """Two parcels: darker and brighter than the mean; a map of features before them."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x * 2, torch.cat([torch.zeros_like(x) - 9, x, -x], 1)


def test_mdcsrn_from_persons_to_tables(tmp_path, capsys):
    root = make_hcp(tmp_path / 'hcp', 5)
    example = torch.zeros(1, 1, 8, 8, 8)
    torch.jit.trace(Parcels(), example).save(str(tmp_path / 'parcels.pt'))
    given = ('--data', root, '--parcellation', tmp_path / 'parcels.pt')
    text, frame = rehearse(capsys, tmp_path, 'mdcsrn', *given)
    for table in ('1', '2', '3'):
        assert f'Table {table}. ' in text
    ours = measured(frame)
    assert set(ours[ours['table'] == '1']['data']) == {'hcp-evaluation'}
    assert len(ours[ours['table'] == '1']) == 9 * 5
    assert {'nearest', 'bicubic', 'truth', 'gan', 'srdensenet'} <= set(ours['system'])
    assert ours[ours['metric'] == 'parcel_dice']['mean'].astype(float).between(0, 1).all()
    reasons = frame[frame['metric'] == 'ma']['reason']
    assert any('MATLAB' in reason for reason in reasons)
    psnr = ours[(ours['metric'] == 'psnr_slices') & (ours['table'] == '2')].set_index('row')
    assert float(psnr.loc['Bicubic', 'mean']) > float(psnr.loc['NN', 'mean'])


def test_rrdg_from_persons_to_tables(tmp_path, capsys):
    root = make_hcp(tmp_path / 'hcp', 5)
    parcellation, _ = export_parcellation(tmp_path)
    given = ('--data', root, '--tables', 1, 'Figure 5', '--parcellation', parcellation)
    text, frame = rehearse(capsys, tmp_path, 'rrdg', *given)
    assert 'Table 1. ' in text
    assert 'Figure 5. ' in text
    ours = measured(frame)
    assert len(ours[ours['table'] == '1']) == 4 * 7
    assert (ours[ours['metric'] == 'm_h']['mean'].astype(float) > 0).all()
    assert ours[ours['metric'] == 'parcel_dice']['mean'].astype(float).between(0, 1).all()
    blends = ours[(ours['table'] == 'Figure 5') & (ours['metric'] == 'psnr_slices')]
    assert len(blends) == 6
    plain = ours[(ours['system'] == 'rrdg') & (ours['metric'] == 'psnr_slices')]
    assert blends['mean'].iloc[0] == plain['mean'].iloc[0]
