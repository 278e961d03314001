from __future__ import annotations

import argparse
import csv

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bids_segsr.cli.reproduce import add_parser
from bids_segsr.evaluation.reproduce.comparison import as_frame, compare, make_jobs, printed
from bids_segsr.evaluation.reproduce.data import write_data
from bids_segsr.evaluation.reproduce.dhcp import find_scans
from bids_segsr.evaluation.reproduce.published import published_scores, published_subjects
from bids_segsr.evaluation.systems import System
from bids_segsr.exceptions import ImageError, UserError

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
    subjects = published_subjects()
    bases = list(subjects.values())
    assert len(subjects) == 40
    assert bases.count('Train') == 32
    assert bases.count('Test') == 8
    assert [name for name, base in subjects.items() if base == 'Test'] == [
        'sub-CC00122XX07', 'sub-CC00363XX09', 'sub-CC00480XX11', 'sub-CC00201XX03',
        'sub-CC00172BN08', 'sub-CC00237XX15', 'sub-CC00162XX06', 'sub-CC00268XX13',
    ]  # fmt: skip
    assert next(iter(subjects)) == 'sub-CC00367XX13'


def test_numbers_are_those_of_the_tables():
    found = {
        (p.table, p.row, p.metric, p.step, p.image): (p.mean, p.sd) for p in published_scores()
    }
    assert len(found) == len(published_scores()) == 58
    assert found['2', 'SegSRGAN', 'ssim', 30, 'noisy'] == (0.49, None)
    assert found['3', 'SegSRGAN', 'psnr', 128, 'original'] == (24.24, None)
    assert found['4', 'With data augmentation', 'dice', 80, 'noisy'] == (0.812, None)
    assert found['5', 'Without data augmentation', 'ncc', 128, 'original'] == (104.3, None)
    assert found['7', 'Without GAN', 'psnr', 30, 'original'] == (27.19, 0.76)
    assert found['7', 'With GAN', 'ncc', 30, 'original'] == (3.87, 2.47)
    assert found['8', 'Cubic spline interpolation', 'ssim', 30, 'original'] == (0.63, None)
    assert found['9', 'SRReCNN3D + U-Net*', 'dice', 30, 'original'] == (0.861, 0.011)
    assert found['10', 'SegSRGAN', 'ncc', 30, 'original'] == (8.62, 3.27)


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


def test_data_hold_brain_cortex_and_mask(tmp_path):
    root = make_release(tmp_path / 'dhcp', 2, ['sub-A', 'sub-B'])
    scans, _ = find_scans(root, ['sub-A', 'sub-B'])
    out, told = tmp_path / 'out', []
    paths = write_data(scans, {'sub-A': 'Train', 'sub-B': 'Test'}, out, told.append)
    lists = []
    for path in paths:
        with path.open(newline='') as stream:
            lists.append(list(csv.DictReader(stream)))
    rows, followed = lists
    assert [row['Base'] for row in rows] == ['Train', 'Test']
    # the test images choose the weights, as in the article
    assert [row['Base'] for row in followed] == ['Train', 'Validation']
    assert [{**row, 'Base': ''} for row in rows] == [{**row, 'Base': ''} for row in followed]
    assert [row['Subject'] for row in rows] == ['sub-A', 'sub-B']
    image, tissues, brain = phantom(1)
    stored = [np.asarray(nib.load(out / rows[1][name]).dataobj) for name in list(rows[1])[:3]]
    np.testing.assert_array_equal(stored[0], np.where(brain, image, 0))
    np.testing.assert_array_equal(stored[1], tissues == 2)
    np.testing.assert_array_equal(stored[2], brain)
    assert len(told) == 2
    # what is there is kept, what is missing made again
    before = (out / rows[0]['HR_image']).stat().st_mtime_ns
    (out / rows[1]['Mask_image']).unlink()
    write_data(scans, {'sub-A': 'Train', 'sub-B': 'Test'}, out, told.append)
    assert (out / rows[0]['HR_image']).stat().st_mtime_ns == before
    assert (out / rows[1]['Mask_image']).is_file()
    assert len(told) == 3
    assert not [path for path in (out / 'data').iterdir() if path.name.startswith('.')]


def test_labels_without_cortex_or_on_another_grid_are_refused(tmp_path):
    root = make_release(tmp_path / 'dhcp', 3, ['sub-A'])
    ((scan,), _) = find_scans(root, ['sub-A'])
    image = nib.load(scan.tissues)
    numbers = np.asarray(image.dataobj)
    nib.save(nib.Nifti1Image(np.where(numbers == 2, 3, numbers), image.affine), scan.tissues)
    with pytest.raises(ImageError, match='no cortex'):
        write_data([scan], {'sub-A': 'Train'}, tmp_path / 'out', print)
    nib.save(nib.Nifti1Image(numbers[:, :, 1:], image.affine), scan.tissues)
    with pytest.raises(ImageError, match='another grid'):
        write_data([scan], {'sub-A': 'Train'}, tmp_path / 'out', print)


def test_jobs_cover_the_tables_once():
    published = published_scores()
    systems = {name: System(name) for name in ('spline', 'segsrgan-2020')}
    jobs = make_jobs(published, systems)
    found = {(job.system.name, job.varied['step'], job.varied['image']) for job in jobs}
    assert len(found) == len(jobs) == 7
    assert ('segsrgan-2020', 80, 'noisy') in found
    assert ('spline', 30, 'original') in found
    for job in jobs:
        assert job.imaging.noise == (2 if job.varied['image'] == 'noisy' else 0)
        assert job.imaging.forward.spacing_mm == (3, 3)
        assert (job.processing.patch_size, job.processing.blending) == (128, 'uniform')
        assert job.processing.step == job.varied['step']


def row(system, step, image, metric, value, subject='a', structure=''):
    return {
        'subject': subject, 'system': system, 'step': step, 'image': image, 'metric': metric,
        'structure': structure, 'value': value,
    }  # fmt: skip


def test_comparison_averages_over_the_test_images():
    rows = pd.DataFrame([
        row('segsrgan-2020', 30, 'original', 'psnr', 26.0),
        row('segsrgan-2020', 30, 'original', 'psnr', 28.0, 'b'),
        row('segsrgan-2020', 80, 'original', 'psnr', 99.0),
        row('segsrgan-2020', 30, 'noisy', 'psnr', 99.0),
        row('spline', 30, 'original', 'psnr', 24.0),
        row('segsrgan-2020', 30, 'original', 'dice', 0.8, structure='cortex'),
        row('segsrgan-2020', 30, 'original', 'dice', 0.1, structure='ventricle'),
    ])  # fmt: skip
    compared = compare(published_scores(), rows)
    by_place = {(c.published.table, c.published.row, c.published.metric): c for c in compared}
    found = by_place['8', 'SegSRGAN', 'psnr']
    assert (found.mean, found.sd, found.images) == (27, pytest.approx(2**0.5), 2)
    assert by_place['9', 'SegSRGAN', 'dice'].mean == 0.8
    assert by_place['8', 'SRReCNN3D', 'psnr'].mean is None
    text = printed(compared)
    assert 'Table 8. Super-resolution of several methods' in text
    lines = [' '.join(line.split()) for line in text.splitlines()]
    assert 'SegSRGAN PSNR (dB) original 30 26.96 27.00 ± 1.41' in lines
    assert 'SegSRGAN Dice original 30 0.855 ± 0.014 0.800' in lines
    assert 'SRReCNN3D PSNR (dB) original 30 27.79 not trained' in lines
    assert 'DrawEM Dice original 30 0.730 ± 0.010 not part of this package' in lines
    assert 'Table 7' not in text
    frame = as_frame(compared)
    assert len(frame) == 58
    assert frame['paper_mean'].notna().all()


def test_comparison_of_nothing_has_no_table():
    assert printed(compare(published_scores(), pd.DataFrame())) == ''


TINY = """
name = "{name}"

[network]
{network}

{critic}

[task]
channels = {channels}
{task}

[forward]
spacing_mm = [3.0, 3.0]

[sampling]
patch_size = 16
mode = "random"
patches_per_epoch = 4

[loss]
{loss}

[schedule]
steps = 2
batch_size = 2

[validation]
patches = 2
score = "{score}"
pictures = 0
"""


def tiny_recipe(folder, name, **parts):
    """Recipe of the article's name that trains a small network for two steps."""
    base = {
        'network': 'architecture = "segsrgan"\noptions = { base_filters = 2, n_blocks = 1 }\n'
        'start_near_identity = true',
        'critic': '',
        'channels': '["intensity", "cortex"]',
        'task': '',
        'loss': '',
        'score': 'psnr',
    }
    path = folder / f'{name}.toml'
    path.write_text(TINY.format(name=name, **{**base, **parts}))
    return str(path)


def tiny_recipes(folder):
    critic = (
        '[critic]\narchitecture = "segsrgan-critic"\n'
        'options = { base_filters = 2, patch_size = 16 }\n[critic_schedule]\nupdates = 1'
    )
    segmenter = {
        'network': 'architecture = "unet"\noptions = { base_filters = 2 }',
        'loss': 'intensity = "none"\nsegmentation = "cross-entropy"',
        'score': 'dice',
    }
    return [
        tiny_recipe(
            folder,
            'unet-sr',
            task='input = "super-resolved"\nsuper_resolved_by = "recnn-20l-3mm"',
            **segmenter,
        ),
        tiny_recipe(folder, 'segsrgan-2020', critic=critic, loss='adversarial_weight = 0.001'),
        tiny_recipe(
            folder,
            'recnn-20l-3mm',
            network='architecture = "recnn"\noptions = { depth = 2, filters = 2 }',
            channels='["intensity"]',
            task='labels = {}',
            loss='intensity = "l2"\nsegmentation = "none"',
        ),
        tiny_recipe(folder, 'unet-hr', task='input = "high-resolution"', **segmenter),
    ]


@pytest.fixture
def few_subjects(monkeypatch):
    """Lists of two and one participants, as the appendix would be shorter."""
    subjects = {'sub-A': 'Train', 'sub-B': 'Train', 'sub-C': 'Test'}
    module = 'bids_segsr.evaluation.reproduce.published.published_subjects'
    monkeypatch.setattr(module, lambda: subjects)
    return list(subjects)


def reproduce(*arguments):
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    parsed = parser.parse_args(['reproduce', *map(str, arguments)])
    return parsed.func(parsed)


def test_dry_run_lists_and_writes_nothing(tmp_path, few_subjects, capsys):
    root = make_release(tmp_path / 'dhcp', 3, few_subjects[:2], ('ses-1', 'ses-2'))
    flags = ('--dhcp', root, '--out', tmp_path / 'out')
    assert reproduce('segsrgan-2020', *flags, '--dry-run') == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        'Train: 2 of 2 participants',
        '  sub-A ses-1 (not used: ses-2)',
        '  sub-B ses-1 (not used: ses-2)',
        'Test: 0 of 1 participants',
        '  sub-C missing: no such folder',
    ]
    assert not (tmp_path / 'out').exists()
    with pytest.raises(UserError, match=r'1 of the 3 participants are missing \(listed above'):
        reproduce('segsrgan-2020', *flags)
    with pytest.raises(UserError, match='none of the Test participants is there'):
        reproduce('segsrgan-2020', *flags, '--allow-missing')
    make_release(root, 3, ['sub-C'])
    assert reproduce('segsrgan-2020', *flags, '--dry-run') == 0


@pytest.mark.parametrize(
    ('recipes', 'message'),
    [
        (['rrdg'], "no table of the article has a recipe named 'rrdg'"),
        (['segsrgan-2020', 'segsrgan-2020'], 'given twice'),
        (['unet-hr'], 'segments what recnn-20l-3mm super-resolves; name that one, too'),
        (['nothing'], 'no such recipe'),
    ],
)
def test_recipes_that_do_not_fit_are_refused(tmp_path, recipes, message):
    with pytest.raises(UserError, match=message):
        reproduce(*recipes, '--dhcp', tmp_path, '--out', tmp_path / 'out')


def test_reproduction_from_release_to_tables(tmp_path, few_subjects, capsys):
    root = make_release(tmp_path / 'dhcp', 1, few_subjects)
    out = tmp_path / 'out'
    flags = ('--dhcp', root, '--out', out, '--device', 'cpu', '--workers', 0)
    arguments = (*tiny_recipes(tmp_path), *flags)
    assert reproduce(*arguments) == 0
    text = capsys.readouterr().out
    for table in ('2', '3', '4', '5', '8', '9', '10'):
        assert f'Table {table}. ' in text
    assert 'Table 7. ' not in text
    frame = pd.read_csv(out / 'tables.tsv', sep='\t')
    ours = frame[frame['mean'].notna()]
    assert set(ours['system']) == {
        'spline', 'segsrgan-2020', 'recnn-20l-3mm', 'recnn-20l-3mm+unet-hr',
        'recnn-20l-3mm+unet-sr',
    }  # fmt: skip
    assert (ours['images'] == 1).all()
    assert ours[ours['metric'] == 'psnr']['mean'].between(10, 60).all()
    spline = ours[(ours['system'] == 'spline') & (ours['metric'] == 'psnr')]
    assert spline['paper_mean'].tolist() == [24.22]
    for name in ('segsrgan-2020', 'recnn-20l-3mm', 'unet-hr', 'unet-sr'):
        assert (out / name / 'model' / 'card.json').is_file()
    # again: nothing is trained or scored anew, the same tables come out
    before = {path: path.stat().st_mtime_ns for path in out.glob('*/checkpoints/*/*')}
    assert before
    assert reproduce(*arguments) == 0
    again = capsys.readouterr()
    assert again.out == text
    assert 'kept, nothing to do' in again.err
    assert {path: path.stat().st_mtime_ns for path in before} == before
