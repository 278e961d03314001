"""The articles' experiments: data, trainings, tables; end to end on made-up trees."""

from __future__ import annotations

import argparse
import csv
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from bids_segsr.cli.reproduce import add_data_parser, add_parser
from bids_segsr.evaluation.reproduce import datasets
from bids_segsr.evaluation.reproduce.article import (
    Dataset,
    PublishedScore,
    article_names,
    needed_trainings,
    read_article,
    recipe_of,
)
from bids_segsr.evaluation.reproduce.comparison import (
    as_frame,
    compare,
    make_jobs,
    make_systems,
    metrics_of,
    printed,
)
from bids_segsr.evaluation.reproduce.data import write_lists
from bids_segsr.evaluation.reproduce.datasets import (
    Collection,
    Member,
    dhcp_participants,
    find_collection,
)
from bids_segsr.evaluation.reproduce.dhcp import find_scans
from bids_segsr.evaluation.reproduce.rehearsal import SMALL, rehearsed
from bids_segsr.evaluation.reproduce.reproduction import How, plan_reproduction
from bids_segsr.evaluation.reproduce.reproduction import reproduce as reproduce_article
from bids_segsr.evaluation.systems import System
from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.networks import create
from bids_segsr.training.recipe import flattened

# What the releases call image, tissue labels and brain mask, and where they keep them.
RELEASES = {
    1: ('derivatives', 'T2w_restore', 'drawem_tissue_labels', 'brainmask_bet'),
    2: (
        'derivatives/dhcp_anat_pipeline',
        'desc-restore_T2w',
        'desc-drawem9_space-T2w_dseg',
        'desc-bet_space-T2w_brainmask',
    ),
    3: (
        'rel3_dhcp_anat_pipeline',
        'desc-restore_T2w',
        'desc-drawem9_dseg',
        'desc-brain_mask',
    ),
}
SHAPE = (32, 36, 48)


def phantom(seed):
    """T2w-like image, Draw-EM tissues and brain mask of a made-up head."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing='ij')
    radius = np.sqrt(sum(axis**2 for axis in grid))
    radius = radius * (1 + 0.08 * np.sin(9 * grid[0] + seed) * np.cos(8 * grid[2]))
    tissues = np.zeros(SHAPE, np.uint8)
    for label, limit in ((1, 0.9), (2, 0.8), (3, 0.6)):
        tissues[radius < limit] = label
    levels = np.array([40.0, 100.0, 55.0, 75.0])
    image = levels[tissues] + rng.normal(0, 1, SHAPE)
    return image.astype(np.float32), tissues, tissues > 0


def make_release(root, release, participants, sessions=('ses-100',)):
    folder, *names = RELEASES[release]
    affine = np.diag([0.5, 0.5, 0.5, 1.0])
    for number, participant in enumerate(participants):
        for session in sessions:
            anat = root / folder / participant / session / 'anat'
            anat.mkdir(parents=True)
            for name, array in zip(names, phantom(number), strict=True):
                image = nib.Nifti1Image(array.astype(np.float32), affine)
                nib.save(image, anat / f'{participant}_{session}_{name}.nii.gz')
    return root


def test_lists_are_those_of_the_appendix():
    subjects = dhcp_participants()
    bases = list(subjects.values())
    assert len(subjects) == 40
    assert bases.count('Train') == 32
    assert bases.count('Test') == 8
    assert [name for name, base in subjects.items() if base == 'Test'] == [
        'sub-CC00122XX07', 'sub-CC00363XX09', 'sub-CC00480XX11', 'sub-CC00201XX03',
        'sub-CC00172BN08', 'sub-CC00237XX15', 'sub-CC00162XX06', 'sub-CC00268XX13',
    ]  # fmt: skip
    assert next(iter(subjects)) == 'sub-CC00367XX13'


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
    assert len(found) == 58
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


@pytest.mark.parametrize('release', RELEASES)
@pytest.mark.parametrize('given', ['release', 'pipeline'])
def test_files_of_every_release_are_found(tmp_path, release, given):
    root = make_release(tmp_path, release, ['sub-CC00001XX01', 'sub-CC00002XX02'])
    if given == 'pipeline':
        root = root / RELEASES[release][0]
    wanted = ['sub-CC00002XX02', 'sub-CC00003XX03', 'sub-CC00001XX01']
    scans, missing = find_scans(root, wanted)
    assert [scan.participant for scan in scans] == ['sub-CC00002XX02', 'sub-CC00001XX01']
    assert missing == {'sub-CC00003XX03': 'no such folder'}
    for name, path in zip(
        RELEASES[release][1:], (scans[0].image, scans[0].tissues, scans[0].mask), strict=True
    ):
        assert path.name == f'sub-CC00002XX02_ses-100_{name}.nii.gz'


def test_first_complete_session_is_taken(tmp_path):
    sessions = ('ses-100', 'ses-200', 'ses-300')
    make_release(tmp_path, 3, ['sub-A'], sessions)
    anat = tmp_path / RELEASES[3][0] / 'sub-A'
    (anat / 'ses-100/anat/sub-A_ses-100_desc-drawem9_dseg.nii.gz').unlink()
    ((scan,), missing) = find_scans(tmp_path, ['sub-A'])
    assert not missing
    assert scan.session == 'ses-200'
    assert scan.other_sessions == ('ses-300',)
    for session in sessions[1:]:
        (anat / session / 'anat' / f'sub-A_{session}_desc-brain_mask.nii.gz').unlink()
    scans, missing = find_scans(tmp_path, ['sub-A'])
    assert not scans
    assert missing['sub-A'].startswith('no tissue labels and no brain mask in ')


def test_folder_without_a_release_is_refused(tmp_path):
    (tmp_path / 'sub-A').mkdir()
    with pytest.raises(UserError, match='no dHCP release'):
        find_scans(tmp_path, ['sub-A'])
    with pytest.raises(UserError, match='no such folder'):
        find_scans(tmp_path / 'other', ['sub-A'])


def dhcp(root, release, bases):
    scans, missing = find_scans(root, list(bases))
    members = [Member(s.participant, bases[s.participant], s.image, scan=s) for s in scans]
    return Collection({}, tuple(members), missing)


def rows_of(path):
    with path.open(newline='') as stream:
        return list(csv.DictReader(stream))


def test_data_of_dhcp_hold_brain_cortex_and_mask(tmp_path):
    root = make_release(tmp_path / 'dhcp', 2, ['sub-A', 'sub-B'])
    found = dhcp(root, 2, {'sub-A': 'Train', 'sub-B': 'Test'})
    out, told = tmp_path / 'out', []
    lists = write_lists('dhcp', Dataset('dhcp', follow='Test'), found, out, told.append)
    rows, followed = rows_of(lists.tests['dhcp']), rows_of(lists.training)
    assert [row['Base'] for row in rows] == ['Train', 'Test']
    # the test images choose the weights, as in the article
    assert [row['Base'] for row in followed] == ['Train', 'Validation']
    assert [{**row, 'Base': ''} for row in rows] == [{**row, 'Base': ''} for row in followed]
    assert [row['Subject'] for row in rows] == ['sub-A', 'sub-B']
    image, tissues, brain = phantom(1)
    folder = lists.training.parent
    names = ('HR_image', 'Label_image', 'Mask_image')
    stored = [np.asarray(nib.load(folder / rows[1][name]).dataobj) for name in names]
    np.testing.assert_array_equal(stored[0], np.where(brain, image, 0))
    np.testing.assert_array_equal(stored[1], tissues == 2)
    np.testing.assert_array_equal(stored[2], brain)
    assert len(told) == 2
    # what is there is kept, what is missing made again
    before = (folder / rows[0]['HR_image']).stat().st_mtime_ns
    (folder / rows[1]['Mask_image']).unlink()
    write_lists('dhcp', Dataset('dhcp', follow='Test'), found, out, told.append)
    assert (folder / rows[0]['HR_image']).stat().st_mtime_ns == before
    assert (folder / rows[1]['Mask_image']).is_file()
    assert len(told) == 3
    assert not [path for path in folder.iterdir() if path.name.startswith('.')]


def test_labels_without_cortex_or_on_another_grid_are_refused(tmp_path):
    root = make_release(tmp_path / 'dhcp', 3, ['sub-A'])
    found = dhcp(root, 3, {'sub-A': 'Train'})
    tissues = found.members[0].scan.tissues
    image = nib.load(tissues)
    numbers = np.asarray(image.dataobj)
    nib.save(nib.Nifti1Image(np.where(numbers == 2, 3, numbers), image.affine), tissues)
    with pytest.raises(ImageError, match='no cortex'):
        write_lists('dhcp', Dataset('dhcp'), found, tmp_path / 'out', print)
    nib.save(nib.Nifti1Image(numbers[:, :, 1:], image.affine), tissues)
    with pytest.raises(ImageError, match='another grid'):
        write_lists('dhcp', Dataset('dhcp'), found, tmp_path / 'out', print)


def save_head(path, seed, spacing=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    image, _, _ = phantom(seed)
    nib.save(nib.Nifti1Image(image, np.diag([spacing, spacing, spacing, 1.0])), path)


def make_kirby(root, numbers):
    for number in numbers:
        save_head(root / f'KKI2009-{number:02}' / f'KKI2009-{number:02}-MPRAGE.nii', number)
    return root


def make_namic(root, cases):
    for number, case in enumerate(cases):
        save_head(root / f'{case}-t1w.nii.gz', number)
    return root


def make_hcp(root, count, spacing=0.7):
    for number in range(count):
        person = f'{100307 + number}'
        folder = root / person / 'unprocessed' / '3T' / 'T1w_MPR1'
        save_head(folder / f'{person}_3T_T1w_MPR1.nii.gz', number, spacing)
    return root


def test_kirby_scans_are_those_of_the_published_code(tmp_path):
    found = find_collection('kirby', make_kirby(tmp_path / 'kirby', [1, 5, 6, 33, 42]))
    assert {m.name: m.base for m in found.members} == {
        'KKI2009-33': 'Train', 'KKI2009-42': 'Train', 'KKI2009-01': 'Test', 'KKI2009-05': 'Test',
    }  # fmt: skip
    assert found.wanted == {'Train': 10, 'Test': 5}
    assert len(found.missing) == 11
    assert found.missing['KKI2009-02'] == 'no KKI2009-02-MPRAGE.nii(.gz)'
    with pytest.raises(UserError, match='no image of Kirby 21'):
        find_collection('kirby', make_namic(tmp_path / 'other', ['01011']))


def test_namic_cases_are_halved(tmp_path):
    cases = ['01045', '01011', '01018', '01042']
    found = find_collection('namic', make_namic(tmp_path / 'namic', cases))
    assert [(m.name, m.base) for m in found.members] == [
        ('01011', 'Test'), ('01018', 'Test'), ('01042', 'Train'), ('01045', 'Train'),
    ]  # fmt: skip
    assert list(found.missing) == ['16 cases']
    (tmp_path / 'nrrd').mkdir()
    (tmp_path / 'nrrd' / '01011-t1w.nhdr').touch()
    with pytest.raises(UserError, match='write them as NIfTI first'):
        find_collection('namic', tmp_path / 'nrrd')


def test_persons_of_hcp_are_split_by_lot_but_always_alike(tmp_path):
    for number in range(1113):
        folder = tmp_path / str(100000 + number) / 'unprocessed/3T/T1w_MPR1'
        folder.mkdir(parents=True)
        (folder / f'{100000 + number}_3T_T1w_MPR1.nii.gz').touch()
    found = find_collection('hcp', tmp_path)
    bases = {m.name: m.base for m in found.members}
    counts = {base: list(bases.values()).count(base) for base in found.wanted}
    assert counts == found.wanted
    assert counts == {'Train': 780, 'Validation': 111, 'Evaluation': 111, 'Test': 111}
    assert not found.missing
    again = find_collection('hcp', tmp_path)
    assert {m.name: m.base for m in again.members} == bases


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


def test_images_of_rrdg_are_brought_to_one_millimetre(tmp_path):
    found = find_collection('hcp', make_hcp(tmp_path / 'hcp', 4))
    article, _ = read_article('rrdg')
    lists = write_lists('hcp', article.datasets['hcp'], found, tmp_path / 'out', print)
    row = rows_of(lists.tests['hcp-evaluation'])[-1]
    assert row['Base'] == 'Test'
    made = nib.load(lists.training.parent / row['HR_image'])
    np.testing.assert_allclose(made.header.get_zooms(), 1)
    assert made.shape == tuple(int(np.ceil(n * 0.7 - 1e-3)) for n in SHAPE)
    original = nib.load(next(m.image for m in found.members if m.name == row['Subject']))
    middle = [
        nib.affines.apply_affine(image.affine, (np.array(image.shape) - 1) / 2)
        for image in (made, original)
    ]
    np.testing.assert_allclose(middle[0], middle[1], atol=1e-3)


def test_jobs_cover_the_tables_once():
    article, published = read_article('segsrgan-2020')
    systems = {name: System(name) for name in ('spline', 'segsrgan-2020')}
    jobs = make_jobs(published, article, systems)
    found = {(job.system.name, job.varied['condition']) for job in jobs}
    assert len(found) == len(jobs) == 7
    assert ('segsrgan-2020', 'step 80, noisy') in found
    assert ('spline', 'step 30') in found
    for job in jobs:
        condition = job.varied['condition']
        assert job.imaging.noise == (2 if 'noisy' in condition else 0)
        assert job.imaging.forward.spacing_mm == (3, 3)
        assert (job.processing.patch_size, job.processing.blending) == (128, 'uniform')
        assert f'step {job.processing.step}' == condition.partition(',')[0]


def test_patches_of_mdcsrn_and_rrdg_are_those_of_the_articles():
    for name, size in (('mdcsrn', (70, 70, 70)), ('rrdg', (64, 40, 64))):
        article, _ = read_article(name)
        tiling = article.conditions['2 x 2 x 1'].processing('cpu').tiling
        given = tiling.patch_size
        assert (given if isinstance(given, tuple) else (given,) * 3) == size
        assert tiling.margin == 3


def test_measures_are_those_that_can_be_had():
    _, published = read_article('mdcsrn')
    own = [number for number in published if number.data == 'hcp']
    without = metrics_of(own, parcellation=False)
    assert set(without) == {'psnr_slices', 'ssim_slices', 'nrmse_slices', 'piqe', 'niqe'}
    added = set(metrics_of(own, parcellation=True)) - set(without)
    assert added == {'parcel_dice', 'parcel_jaccard'}


def test_systems_without_their_trainings_are_left_out():
    _, published = read_article('mdcsrn')
    assert set(make_systems(published, {})) == {'nearest', 'bicubic', 'truth'}


def test_table_7_takes_the_weights_of_the_last_epoch(tmp_path, few_participants, monkeypatch):
    root = make_release(tmp_path / 'dhcp', 1, few_participants)
    plan = plan_reproduction('segsrgan-2020', [str(root)], tables=['7', '8'])
    assert plan.trainings == [
        'segsrgan-2020-no-gan', 'segsrgan-2020-augmented', 'segsrgan-2020', 'recnn-20l-3mm',
    ]  # fmt: skip
    loaded = {}

    def systems(published, models):
        loaded.update(models)
        return {}  # so that nothing is scored

    monkeypatch.setattr('bids_segsr.evaluation.reproduce.comparison.make_systems', systems)
    monkeypatch.setattr('bids_segsr.zoo.find.load_model', lambda path: path)
    done = SimpleNamespace(stopped_by=None)
    how = How(tmp_path / 'out', device='cpu', rehearse=True, tell=lambda line: None)
    assert reproduce_article(plan, how, lambda *_: done).text == ''
    for name in ('segsrgan-2020-no-gan', 'segsrgan-2020-augmented'):
        assert loaded[f'{name}@last'] == str(how.out / name / 'checkpoints' / 'last')
        assert loaded[name] == str(how.out / name / 'model')
    assert set(loaded) == {*plan.trainings, *(f'{name}@last' for name in plan.trainings[:2])}


def row(system, condition, metric, value, subject='a', structure=''):
    return {
        'dataset': 'dhcp', 'subject': subject, 'system': system, 'condition': condition,
        'metric': metric, 'structure': structure, 'value': value,
    }  # fmt: skip


def test_comparison_averages_over_the_test_images():
    rows = pd.DataFrame([
        row('segsrgan-2020', 'step 30', 'psnr', 26.0),
        row('segsrgan-2020', 'step 30', 'psnr', 28.0, 'b'),
        row('segsrgan-2020', 'step 80', 'psnr', 99.0),
        row('segsrgan-2020', 'step 30, noisy', 'psnr', 99.0),
        row('segsrgan-2020', 'step 30', 'psnr', 99.0) | {'dataset': 'other'},
        row('spline', 'step 30', 'psnr', 24.0),
        row('segsrgan-2020', 'step 30', 'dice', 0.8, structure='cortex'),
        row('segsrgan-2020', 'step 30', 'dice', 0.1, structure='ventricle'),
    ])  # fmt: skip
    article, published = read_article('segsrgan-2020')
    compared = compare(published, article, rows)
    by_place = {(c.published.table, c.published.row, c.published.metric): c for c in compared}
    found = by_place['8', 'SegSRGAN', 'psnr']
    assert (found.mean, found.sd, found.images) == (27, pytest.approx(2**0.5), 2)
    assert by_place['9', 'SegSRGAN', 'dice'].mean == 0.8
    assert by_place['8', 'SRReCNN3D', 'psnr'].mean is None
    text = printed(compared, article)
    assert 'Table 8. Super-resolution of several methods' in text
    lines = [' '.join(line.split()) for line in text.splitlines()]
    assert 'SegSRGAN PSNR (dB) dhcp step 30 26.96 27.00 ± 1.41' in lines
    assert 'SegSRGAN Dice dhcp step 30 0.855 ± 0.014 0.800' in lines
    assert 'SRReCNN3D PSNR (dB) dhcp step 30 27.79 not trained' in lines
    assert 'DrawEM Dice dhcp step 30 0.730 ± 0.010 not part of this package' in lines
    assert 'Table 7' not in text
    frame = as_frame(compared)
    assert len(frame) == 58
    assert frame['paper_mean'].notna().all()


def test_what_cannot_be_measured_says_why():
    article, _ = read_article('mdcsrn')

    def reason(metric):
        number = PublishedScore('2', 'a', 'b8u4', metric, 'hcp', '2 x 2 x 1', 1.0, None, '1')
        rows = pd.DataFrame([row('b8u4', '2 x 2 x 1', 'psnr', 1.0) | {'dataset': 'hcp'}])
        return compare([number], article, rows)[0].reason

    assert reason('pi') == "perceptual index: needs Ma's score"
    assert reason('parcel_dice') == 'needs --parcellation'
    assert reason('niqe') == 'not measured'


def test_comparison_of_nothing_has_no_table():
    article, published = read_article('segsrgan-2020')
    assert printed(compare(published, article, pd.DataFrame()), article) == ''


@pytest.fixture
def few_participants(monkeypatch):
    """Lists of two and one participants, as the appendix would be shorter."""
    subjects = {'sub-A': 'Train', 'sub-B': 'Train', 'sub-C': 'Test'}
    monkeypatch.setattr(datasets, 'dhcp_participants', lambda: dict(subjects))
    return list(subjects)


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
        'spline', 'segsrgan-2020', 'recnn-20l-3mm', 'recnn-20l-3mm+unet-hr',
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
    assert set(ours['system']) == {'spline', '20l-srrecnn', 'segsrgan'}
    # two of the training list are tested on, too, so that there are ten
    assert (ours['images'].astype(int) == 3).all()


def test_recnn_from_collections_to_tables(tmp_path, capsys):
    kirby = make_kirby(tmp_path / 'kirby', [1, 2, 33, 34])
    namic = make_namic(tmp_path / 'namic', ['01011', '01042'])
    given = ('--data', f'kirby={kirby}', f'namic={namic}')
    text, frame = rehearse(capsys, tmp_path, 'recnn', *given)
    assert 'Table 1. ' in text
    assert 'Table 2. ' in text
    assert 'Figure' not in text
    ours = measured(frame)
    # six scales by four trainings; five systems by two measures by two collections
    assert len(ours) == 24 + 20
    assert len(ours) == len(frame)
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
    given = ('--data', root, '--tables', 1, 'Figure 5')
    text, frame = rehearse(capsys, tmp_path, 'rrdg', *given)
    assert 'Table 1. ' in text
    assert 'Figure 5. ' in text
    ours = measured(frame)
    assert len(ours[ours['table'] == '1']) == 4 * 5
    assert set(frame[frame['metric'] == 'm_h']['reason']) == {'needs --parcellation'}
    blends = ours[(ours['table'] == 'Figure 5') & (ours['metric'] == 'psnr_slices')]
    assert len(blends) == 6
    plain = ours[(ours['system'] == 'rrdg') & (ours['metric'] == 'psnr_slices')]
    assert blends['mean'].iloc[0] == plain['mean'].iloc[0]


def test_all_architectures_of_the_articles_have_a_least_network():
    for name in article_names():
        article, _ = read_article(name)
        for training in article.trainings:
            assert recipe_of(article, training).network.architecture in SMALL
