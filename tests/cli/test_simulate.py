"""segsr simulate: a BIDS dataset of low-resolution images, whose sidecars say how."""

from __future__ import annotations

import argparse
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from geometry_phantoms import oblique_affine

from bids_segsr.bids.validator import validate_dataset
from bids_segsr.cli import simulate
from bids_segsr.exceptions import UserError
from bids_segsr.imaging.degrade import degrade
from bids_segsr.imaging.resample import Grid
from bids_segsr.imaging.volume import load_volume, save_volume

AFFINE = oblique_affine((0.8, 0.8, 0.8), (3, 0, 5))


def run(*words):
    parser = argparse.ArgumentParser()
    simulate.add_parser(parser.add_subparsers())
    arguments = parser.parse_args(['simulate', *map(str, words)])
    return arguments.func(arguments)


@pytest.fixture
def dataset(tmp_path):
    root = tmp_path / 'raw'
    rng = np.random.default_rng(0)
    for subject in ('01', '02'):
        folder = root / f'sub-{subject}' / 'ses-1' / 'anat'
        folder.mkdir(parents=True)
        data = rng.uniform(100, 900, (24, 22, 30)).astype(np.float32)
        save_volume(folder / f'sub-{subject}_ses-1_run-2_T2w.nii.gz', data, AFFINE)
    about = {'SliceThickness': 0.8, 'EchoTime': 0.1}
    (root / 'T2w.json').write_text(json.dumps(about), encoding='utf-8')
    description = {'Name': 'x', 'BIDSVersion': '1.9.0', 'DatasetType': 'raw'}
    (root / 'dataset_description.json').write_text(json.dumps(description), encoding='utf-8')
    return root


def sidecar_of(path):
    return json.loads(
        path.with_name(path.name.replace('.nii.gz', '.json')).read_text(encoding='utf-8')
    )


def test_dataset_is_valid_and_says_how_it_was_made(dataset, tmp_path, capsys):
    out = tmp_path / 'low'
    assert run(dataset, out, '--spacing', 3, '--thickness', 2.4, '--noise', 0.02) == 0
    path = out / 'sub-01' / 'ses-1' / 'anat' / 'sub-01_ses-1_run-2_T2w.nii.gz'
    assert str(path) in capsys.readouterr().out.splitlines()
    about = sidecar_of(path)
    assert about['SliceThickness'] == pytest.approx(2.4)
    assert about['SpacingBetweenSlices'] == 3
    assert about['EchoTime'] == 0.1
    assert about['Sources'] == ['bids:source:sub-01/ses-1/anat/sub-01_ses-1_run-2_T2w.nii.gz']
    how = about['Simulation']
    assert (how['SliceProfile'], how['SliceOrientation'], how['Seed']) == ('gaussian', 'axial', 0)
    assert how['NoiseShareOfMaximum'] == 0.02
    description = json.loads((out / 'dataset_description.json').read_text(encoding='utf-8'))
    assert description['DatasetLinks'] == {'source': dataset.resolve().as_uri()}
    validate_dataset(out, ['01', '02'])

    fine = load_volume(dataset / path.relative_to(out))
    low = load_volume(path)
    np.testing.assert_allclose(low.spacing, (0.8, 0.8, 3), rtol=1e-5)
    expected = degrade(fine.data, fine.affine, Grid(low.data.shape, low.affine), 2.4)
    noise = (low.data - expected)[:, :, 1:-1]
    assert noise.std() == pytest.approx(how['NoiseStandardDeviation'], rel=0.05)


def test_single_files_in_any_orientation_and_the_same_bytes_again(tmp_path):
    data = np.random.default_rng(1).uniform(1, 9, (20, 24, 22)).astype(np.float32)
    turned = AFFINE @ np.array([[0, -1, 0, 23], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    image = save_volume(tmp_path / 'my scan-7.nii.gz', data, turned)
    for name in ('one', 'two'):
        flags = ('--spacing', 2, 4, '--axis', 'sagittal', '--noise', 0.1, '--seed', 3)
        assert run(image, tmp_path / name, *flags, '--modality', 'T1w') == 0
    first, second = (
        tmp_path / name / 'sub-myscan7' / 'anat' / 'sub-myscan7_T1w.nii.gz'
        for name in ('one', 'two')
    )
    assert first.read_bytes() == second.read_bytes()
    low = load_volume(first)
    assert nib.aff2axcodes(low.affine) == ('R', 'A', 'S')
    about = sidecar_of(first)
    assert 2 <= about['SpacingBetweenSlices'] <= 4
    assert low.spacing[0] == pytest.approx(about['SpacingBetweenSlices'], rel=1e-5)
    assert about['Sources'] == [image.resolve().as_uri()]


@pytest.mark.parametrize(
    ('flags', 'spacing'),
    [
        (('--kind', 'isotropic', '--factor', 2, '--sigma', 1), (1.6, 1.6, 1.6)),
        (('--kind', 'k-space', '--factor', 2, 2, 1), (1.6, 1.6, 0.8)),
        (('--recipe', 'recnn-20l'), (1.6, 1.6, 1.6)),
    ],
)
def test_other_forward_models(dataset, tmp_path, flags, spacing):
    assert run(dataset, tmp_path / 'low', *flags, '--participant-label', '02') == 0
    (path,) = (tmp_path / 'low').rglob('*.nii.gz')
    np.testing.assert_allclose(load_volume(path).spacing, spacing, rtol=1e-5)
    assert 'SliceProfile' not in sidecar_of(path)['Simulation']


def test_sidecars_say_blur_factors_and_readout(dataset, tmp_path):
    def how(name, *flags):
        assert run(dataset, tmp_path / name, *flags, '--participant-label', '01') == 0
        (path,) = (tmp_path / name).rglob('*.nii.gz')
        return sidecar_of(path)['Simulation']

    isotropic = how('isotropic', '--kind', 'isotropic', '--factor', 2)
    assert isotropic['Factors'] == pytest.approx([2, 2, 2])
    # full width at half maximum: the spacing of the result
    blur = 2 / (2 * np.sqrt(2 * np.log(2)))
    assert isotropic['BlurStandardDeviationVoxels'] == pytest.approx([blur] * 3, abs=1e-5)
    given = how('given', '--kind', 'isotropic', '--factor', 2, 1, 2, '--sigma', 0.7)
    assert given['BlurStandardDeviationVoxels'] == pytest.approx([0.7, 0, 0.7])
    space = how('k-space', '--kind', 'k-space', '--factor', 2, '--axis', 'coronal')
    assert space['ReadoutOrientation'] == 'coronal'
    # 24 and 30 voxels, halved
    assert space['Factors'] == pytest.approx([2, 1, 2], abs=1e-5)


def test_two_settings_are_not_mixed(dataset, tmp_path):
    out = tmp_path / 'low'
    flags = ('--spacing', 3, '--noise', 0.02)
    assert run(dataset, out, *flags, '--participant-label', '01') == 0
    before = {path: path.read_bytes() for path in out.rglob('*_T2w.*')}
    for other in (('--spacing', 4, '--noise', 0.02), ('--spacing', 3), (*flags, '--seed', 1)):
        with pytest.raises(UserError, match='other settings'):
            run(dataset, out, *other)
    assert run(dataset, out, *flags) == 0
    after = {path: path.read_bytes() for path in out.rglob('*_T2w.*')}
    assert len(after) == 4
    assert before.items() <= after.items()


def test_sources_of_earlier_runs_stay(dataset, tmp_path):
    out, other = tmp_path / 'low', tmp_path / 'other'
    shutil.copytree(dataset, other)
    for label in ('01', '02'):
        path = dataset if label == '01' else other
        assert run(path, out, '--spacing', 3, '--participant-label', label) == 0
    description = json.loads((out / 'dataset_description.json').read_text(encoding='utf-8'))
    uris = [dataset.resolve().as_uri(), other.resolve().as_uri()]
    assert [source['URL'] for source in description['SourceDatasets']] == uris
    assert description['DatasetLinks'] == dict(zip(('source', 'source2'), uris, strict=True))
    (path,) = (out / 'sub-02').rglob('*.nii.gz')
    assert sidecar_of(path)['Sources'][0].startswith('bids:source2:sub-02/')
    with pytest.raises(UserError, match=r'sub-01.*from another image'):
        run(other, out, '--spacing', 3)


def test_negative_seed(dataset, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(dataset, tmp_path / 'low', '--spacing', 3, '--seed', -1)
    assert '--seed: -1: give 0 or more' in capsys.readouterr().err


def test_one_broken_image_is_one_line_and_the_others_go_on(dataset, tmp_path, capsys):
    broken = dataset / 'sub-01' / 'ses-1' / 'anat' / 'sub-01_ses-1_run-2_T2w.nii.gz'
    broken.write_bytes(b'')
    assert run(dataset, tmp_path / 'low', '--spacing', 3) == 1
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1
    assert str(broken) in err
    assert 'sub-02' in out
    text = (tmp_path / 'low' / 'participants.tsv').read_text(encoding='utf-8')
    assert text == 'participant_id\nsub-02\n'


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (('--spacing', 3, '--thickness', 4), '--thickness 4'),
        (('--spacing', 3, '--noise', -1), '--noise -1'),
        (('--spacing', 1, 2, 3), '--spacing: give one number'),
        (('--spacing', 4, 3), 'lower limit first'),
        (('--spacing', 3, '--kind', 'k-space'), 'are of slices'),
        (('--recipe', 'recnn-20l', '--spacing', 3), '--recipe and --spacing'),
        (('--spacing', 3, '--modality', 'FLAIR'), 'no FLAIR image'),
    ],
)
def test_mistakes_are_told_before_anything_is_written(dataset, tmp_path, flags, words):
    with pytest.raises(UserError, match=words):
        run(dataset, tmp_path / 'low', *flags)
    assert not (tmp_path / 'low').exists()


def test_no_forward_model_is_told_for_each_image(dataset, tmp_path, capsys):
    assert run(dataset, tmp_path / 'low') == 1
    assert all('spacing_mm or factor' in line for line in capsys.readouterr().err.splitlines())


def test_input_is_never_overwritten(dataset):
    before = {path: path.read_bytes() for path in dataset.rglob('*') if path.is_file()}
    with pytest.raises(UserError, match='give another folder'):
        run(dataset, dataset, '--spacing', 3)
    other = dataset / 'sub-01' / 'ses-1' / 'anat' / 'sub-01_ses-1_run-2_T2w.nii.gz'
    copy = dataset.parent / 'fine.nii.gz'
    copy.write_bytes(other.read_bytes())
    with pytest.raises(UserError, match='did not write'):
        run(copy, dataset, '--spacing', 3)
    assert {path: path.read_bytes() for path in dataset.rglob('*') if path.is_file()} == before


def test_two_images_of_one_name_are_refused(dataset, tmp_path):
    images = []
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
        images.append(save_volume(tmp_path / folder / 'x.nii.gz', np.eye(9)[None], AFFINE))
    with pytest.raises(UserError, match='same name'):
        run(*images, tmp_path / 'low', '--spacing', 3)
