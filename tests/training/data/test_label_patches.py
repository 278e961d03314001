"""Training patches from label maps, and the volumes that workers share."""

from __future__ import annotations

import copy
import multiprocessing
import os
import time
from dataclasses import replace
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from bids_segsr.exceptions import UserError
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.simulation.tables import AcquisitionRanges, Deformation
from bids_segsr.training.data.label_maps import LabelMapOrder, find_label_maps
from bids_segsr.training.data.label_patches import make_label_map_dataset
from bids_segsr.training.data.shared_volumes import DeviceVolumes, SharedVolumes
from bids_segsr.training.data_tables import LabelMaps, LabelSource, Sampling

OWN_NUMBERS = {'cortex': (30,), 'white': (20,)}


def write_labels(path, cortex=3, white=2):
    """A ball of white matter in a folded shell of cortex."""
    axis = np.linspace(-1.2, 1.2, 48)
    x, y, z = np.meshgrid(axis, axis, axis, indexing='ij')
    radius = np.sqrt(x**2 + y**2 + z**2) + 0.06 * np.sin(9 * x) * np.sin(9 * y)
    labels = np.where(radius < 0.7, white, np.where(radius < 0.9, cortex, 0))
    path.parent.mkdir(exist_ok=True)
    nib.Nifti1Image(labels.astype(np.int16), np.diag([0.8, 0.8, 0.8, 1])).to_filename(path)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('maps')
    for name in ('a1', 'a2', 'a3', 'held1'):
        write_labels(root / 'adult' / f'{name}.nii.gz')
    write_labels(root / 'own' / 'b1.nii', 30, 20)
    write_labels(root / 'own' / 'b2.nii', 30, 20)
    return root


SETTINGS = LabelMaps(
    sources=(
        LabelSource('adult/*.nii.gz', 'adult', share=3),
        LabelSource('own/*.nii', 'adult', table=OWN_NUMBERS),
    ),
    hold_out=('held*',),
    validation=('a3*', 'b2*'),
    reuse=4,
)


@pytest.fixture
def made(folder, tmp_path):
    def make(split='train', cache='cache', **fields):
        recipe = SimpleNamespace(
            label_maps=fields.pop('label_maps', SETTINGS),
            forward=fields.pop('forward', ForwardModel()),
            sampling=Sampling(patch_size=16, patches_per_epoch=20),
            task=SimpleNamespace(
                channels=fields.pop('channels', ('intensity', 'cortex', 'white matter')),
                back_projection=0.5,
                input_back_projection_steps=fields.pop('steps', 0),
            ),
        )
        return make_label_map_dataset(recipe, folder, split, 0, tmp_path / cache, **fields)

    return make


def test_maps_are_held_out_and_set_aside(folder):
    found = find_label_maps(SETTINGS, folder)
    names = {split: [m.path.name for m in maps] for split, maps in found.items()}
    assert names == {
        'train': ['a1.nii.gz', 'a2.nii.gz', 'b1.nii'],
        'validation': ['a3.nii.gz', 'b2.nii'],
    }
    assert [label_map.share for label_map in found['train']] == [1.5, 1.5, 1]
    assert found['train'][0].spacing == pytest.approx(0.8)


def test_any_folder_will_do(folder):
    found = find_label_maps(LabelMaps(), folder)
    assert len(found['train']) == 5
    assert len(found['validation']) == 1


def test_patch_is_like_one_from_images(made):
    dataset = made()
    assert len(dataset) == 20
    assert dataset.patch_size == 16
    batch = next(iter(DataLoader(dataset, 4)))
    assert batch['image'].shape == (4, 1, 16, 16, 16)
    assert batch['target'].shape == (4, 3, 16, 16, 16)
    assert batch['resolution'].shape == (4,)
    assert batch['image'].dtype == batch['target'].dtype == torch.float32
    assert batch['image'].max() <= 1
    labels = batch['target'][:, 1:]
    assert 0 <= labels.min() <= labels.max() <= 1
    assert labels.sum(1).max() <= 1 + 1e-5
    assert labels[:, 0].max() > 0.5
    # input and target are of one anatomy
    inputs, truth = batch['image'].flatten(), batch['target'][:, 0].flatten()
    assert torch.corrcoef(torch.stack([inputs, truth]))[0, 1] > 0.8


def test_same_number_same_bytes_whatever_the_workers(made):
    order = [*range(10), 1 << 41]
    dataset = made(cache='one')
    alone = [dataset[index] for index in order]
    dataset = made(cache='two')
    shared = list(DataLoader(dataset, batch_size=None, sampler=order, num_workers=2))
    for first, second in zip(alone, shared, strict=True):
        for key in first:
            assert torch.equal(first[key], second[key])
    assert len({patch['image'].sum().item() for patch in alone}) == len(alone)


def test_volumes_are_used_several_times(made, monkeypatch):
    dataset = made()
    numbers = []
    make = dataset.volumes.make
    monkeypatch.setattr(dataset.volumes, 'make', lambda n: (numbers.append(n), make(n))[1])
    for index in range(40):
        dataset[index]
    assert len(numbers) == len(set(numbers)) <= 10
    assert max(numbers) >= 7


def test_patches_of_upright_heads_are_cut_as_they_lie(made, monkeypatch):
    upright = replace(SETTINGS, deformation=Deformation(upright_share=1.0))
    data = made(label_maps=upright, channels=('intensity',))
    ramp = np.stack(np.meshgrid(*[np.arange(n) for n in (32, 32, 16)], indexing='ij'))
    monkeypatch.setattr(data.volumes, 'get', lambda number: ramp.astype(np.float32))
    for index in range(12):
        x = data[index]['image'][0]
        torch.testing.assert_close(x.diff(dim=0), torch.ones(15, 16, 16))
        assert x.diff(dim=1).abs().max() == 0


def test_real_images_and_thin_axes_are_mixed_in(folder, made):
    rng = np.random.default_rng(0)
    for name in ('b1', 'b2'):
        labels = nib.load(folder / 'own' / f'{name}.nii')
        values = np.where(np.asarray(labels.dataobj) == 30, 900.0, 300.0)
        path = folder / 'real' / f'{name}_T2w.nii.gz'
        path.parent.mkdir(exist_ok=True)
        nib.Nifti1Image(values.astype(np.float32), labels.affine).to_filename(path)
    scan = rng.uniform(100, 200, (50, 50, 14)).astype(np.float32)
    nib.Nifti1Image(scan, np.diag([1, 1, 4, 1])).to_filename(folder / 'real' / 'thick.nii.gz')
    own = LabelSource('own/*.nii', 'adult', OWN_NUMBERS, image='real/*_T2w.nii.gz')
    thick = LabelSource('real/thick*.nii.gz', 'unlabelled')
    data = made(label_maps=replace(SETTINGS, sources=(own, thick)))
    again = made(label_maps=replace(SETTINGS, sources=(own, thick)), cache='again')
    again = copy.copy(again)  # as a worker gets it
    known = set()
    for index in range(24):
        patch = data[index]
        assert all(torch.equal(patch[key], again[index][key]) for key in patch)
        intensity, cortex, white = patch['target']
        known.add(bool(cortex.any()))
        if (cortex > 0.99).sum() > 50 and (white > 0.99).sum() > 50:
            # bright cortex, whatever the power that the contrast is changed by
            assert intensity[cortex > 0.99].mean() > 1.5 * intensity[white > 0.99].mean()
    assert known == {True, False}


def test_image_that_is_not_there_is_named(folder, made):
    source = LabelSource('own/*.nii', 'adult', OWN_NUMBERS, image='none/*_T1w.nii.gz')
    with pytest.raises(UserError, match=r'none/b1_T1w\.nii\.gz: no such file, the image of .*b1'):
        made(label_maps=replace(SETTINGS, sources=(source,)))
    with pytest.raises(ValueError, match='one \\*'):
        LabelSource('**/*.nii', image='real/*.nii')


def test_validation_patches_are_fixed(made, folder):
    dataset = made('validation')
    assert len(dataset) == 8
    again = made('validation', cache='other')
    for index in (0, 5):
        assert torch.equal(dataset[index]['target'], again[index + 8]['target'])
    assert not torch.equal(dataset[0]['target'], dataset[1]['target'])


def test_recipe_says_how_far_the_slices_lie_apart(made):
    patch = made(forward=ForwardModel(spacing_mm=(2.4, 2.4)))[0]
    assert patch['resolution'].item() == pytest.approx(2.4)
    assert made(forward=ForwardModel(factor=(4, 4)))[0]['resolution'].item() == pytest.approx(3.2)
    own = replace(SETTINGS, acquisition=AcquisitionRanges(ratio=(2, 2), usual_share=0))
    assert made(label_maps=own, cache='own')[0]['resolution'].item() == pytest.approx(1.6)


@pytest.mark.parametrize(
    ('fields', 'words'),
    [
        ({'channels': ('intensity', 'lesion')}, "no 'lesion'"),
        ({'forward': ForwardModel(kind='k-space', factor=(2, 2))}, 'Gaussian thick slices'),
        ({'forward': ForwardModel(spacing_mm=(0.5, 0.5))}, 'not thick'),
        ({'label_maps': LabelMaps((LabelSource('nothing/*'),))}, 'no label map to train on'),
        ({'label_maps': LabelMaps(validation=('x*',))}, 'label_maps.validation'),
        ({'label_maps': LabelMaps((LabelSource('own/*'),))}, 'no adult cortex'),
    ],
)
def test_mistakes_are_told_in_one_line(made, fields, words):
    with pytest.raises(UserError, match=words) as caught:
        made(**fields)
    assert '\n' not in str(caught.value)


def slow_volume(number):
    time.sleep(0.3)
    return np.array([number, os.getpid()])


def read(arguments):
    folder, wanted = arguments
    volumes = SharedVolumes(folder, slow_volume, keep=10)
    return [int(volumes.get(number)[1]) for number in wanted]


def test_processes_share_the_work(tmp_path):
    wanted = [0, 1, 2, 3, 4, 5, 0, 3]
    start = time.monotonic()
    with multiprocessing.get_context('fork').Pool(2) as pool:
        first, second = pool.map(read, [(tmp_path, wanted)] * 2, chunksize=1)
    # each volume was made once, by one or the other, and not one after the other
    assert first == second
    assert len(set(first)) == 2
    assert time.monotonic() - start < 0.8 * 0.3 * 12
    np.testing.assert_array_equal([np.load(tmp_path / f'{n}.npy')[0] for n in range(6)], range(6))


def test_old_volumes_are_deleted_and_made_again(tmp_path):
    volumes = SharedVolumes(tmp_path, lambda n: np.full(3, n), keep=4)
    for number in range(12):
        volumes.get(number)
    assert sorted(int(path.stem) for path in tmp_path.glob('*.npy')) == [8, 9, 10, 11]
    assert volumes.get(2)[0] == 2


def test_there_are_no_volumes_beyond_the_count(tmp_path):
    made = []
    volumes = SharedVolumes(tmp_path, lambda n: (made.append(n), np.zeros(1))[1], count=2)
    volumes.get(0)
    volumes.get(1)
    assert made == [0, 1]


def test_patches_made_where_the_network_is_are_the_same(made):
    shared = made()
    kept = made()
    kept.volumes = DeviceVolumes(kept._make, 4)
    for index in (0, 3, 40):
        for name, voxels in shared[index].items():
            torch.testing.assert_close(kept[index][name], voxels)


def test_the_input_is_back_projected_where_the_recipe_says_so(made):
    plain, projected = made(split='validation'), made(split='validation', steps=5)
    assert not torch.equal(plain[0]['image'], projected[0]['image'])
    torch.testing.assert_close(plain[0]['target'][1:], projected[0]['target'][1:])


def test_patches_do_not_depend_on_the_precision_of_the_network(made):
    plain = made(split='validation', steps=5)[0]
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(
            made(split='validation', cache='other', steps=5)[0]['image'], plain['image']
        )


def test_patches_show_a_brain_where_their_volume_does(made):
    patches = made()
    volume = torch.zeros(5, 32, 32, 16)
    volume[0, 24:, 24:] = 1  # nine of ten places show nothing
    patches.volumes = SimpleNamespace(get=lambda number: volume)
    shown = [float((patches[index]['image'] != 0).float().mean()) for index in range(40)]
    assert min(shown) >= 0.02


def test_label_maps_come_in_order_or_by_their_shares():
    sampling = Sampling(patches_per_epoch=30)
    fixed = LabelMapOrder([1.0, 3.0], sampling, in_order=True)
    rng = np.random.default_rng(0)
    assert [fixed.label_map(n, rng) for n in range(len(fixed))] == [0] * 4 + [1] * 4
    drawn = LabelMapOrder([1.0, 3.0], sampling, in_order=False)
    assert len(drawn) == 30
    assert np.mean([drawn.label_map(n, rng) for n in range(4000)]) == pytest.approx(0.75, abs=0.03)
