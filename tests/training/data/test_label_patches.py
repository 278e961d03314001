"""Training patches from label maps."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from training_phantoms import LABEL_MAPS, OWN_NUMBERS

from bids_segsr.exceptions import UserError
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.simulation.tables import AcquisitionRanges, Deformation
from bids_segsr.training.data import label_maps
from bids_segsr.training.data.label_maps import source_digest
from bids_segsr.training.data.label_patches import (
    WINDOW,
    make_label_map_dataset,
)
from bids_segsr.training.data.shared_volumes import DeviceVolumes
from bids_segsr.training.data_tables import LabelMaps, LabelSource, Sampling


@pytest.fixture
def made(map_folder, tmp_path):
    def make(split='train', cache='cache', **fields):
        recipe = SimpleNamespace(
            label_maps=fields.pop('label_maps', LABEL_MAPS),
            forward=fields.pop('forward', ForwardModel()),
            sampling=Sampling(patch_size=fields.pop('patch_size', 16), patches_per_epoch=20),
            task=SimpleNamespace(
                channels=fields.pop('channels', ('intensity', 'cortex', 'white matter')),
                back_projection=0.5,
                input_back_projection_steps=fields.pop('steps', 0),
            ),
        )
        return make_label_map_dataset(recipe, map_folder, split, 0, tmp_path / cache, **fields)

    return make


def test_patch_is_like_one_from_images(made):
    dataset = made()
    assert len(dataset) == 20
    assert dataset.size == (16, 16, 16)
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


def test_volumes_of_another_generator_are_made_anew(made, monkeypatch):
    first = made().volumes.folder
    assert made().volumes.folder == first
    fractions = {path.name for path in first.parent.glob('maps-*')}
    monkeypatch.setattr(label_maps, 'source_digest', lambda room: 'another')
    assert made().volumes.folder != first
    # of the label maps, too
    assert len({path.name for path in first.parent.glob('maps-*')}) == 2 * len(fractions)


def test_source_digest_changes_with_a_module_alone(tmp_path):
    module = tmp_path / 'tables.py'
    module.write_text('WHITE = 0.52')
    before = source_digest(tmp_path)
    (tmp_path / 'notes.txt').write_text('read by nobody')
    assert source_digest(tmp_path) == before
    module.write_text('WHITE = 0.58')
    assert source_digest(tmp_path) != before


def test_volumes_are_used_several_times_and_many_beside_each_other(made, monkeypatch):
    dataset, numbers = made(), []
    volume = np.ones((5, 32, 32, 16), np.float32)
    monkeypatch.setattr(dataset.volumes, 'get', lambda n: (numbers.append(n), volume)[1])
    for index in range(100 * dataset.reuse):
        dataset[index]
    # all that is asked for at one time lies among so many as the cache keeps
    ahead = np.array(numbers) - np.arange(len(numbers)) // dataset.reuse
    assert set(ahead) == set(range(WINDOW))
    assert np.mean([numbers.count(n) for n in range(WINDOW, 100)]) == pytest.approx(
        dataset.reuse, rel=0.05
    )
    # from the very first patches on: few volumes in a row are learnt by heart
    assert len(set(numbers[:16])) > 10


def test_patches_of_upright_heads_are_cut_as_they_lie(made, monkeypatch):
    upright = replace(LABEL_MAPS, deformation=Deformation(upright_share=1.0))
    data = made(label_maps=upright, channels=('intensity',))
    ramp = np.stack(np.meshgrid(*[np.arange(n) for n in (32, 32, 16)], indexing='ij'))
    monkeypatch.setattr(data.volumes, 'get', lambda number: ramp.astype(np.float32))
    for index in range(12):
        x = data[index]['image'][0]
        torch.testing.assert_close(x.diff(dim=0), torch.ones(15, 16, 16))
        assert x.diff(dim=1).abs().max() == 0


@pytest.mark.parametrize('split', ['train', 'validation'])
def test_edges_of_a_patch_may_differ(made, monkeypatch, split):
    data = made(split, patch_size=(8, 12, 16), channels=('intensity',))
    assert data[0]['image'].shape == data[0]['target'].shape == (1, 8, 12, 16)
    if split == 'train':  # cut in plane alone, out of twice as much, and never turned
        ramp = np.stack(np.meshgrid(*[np.arange(n) for n in (16, 24, 16)], indexing='ij'))
        monkeypatch.setattr(data.volumes, 'get', lambda number: (ramp + 1).astype(np.float32))
        for index in range(12):
            x = data[index]['image'][0]
            torch.testing.assert_close(x.diff(dim=0).abs(), torch.ones(7, 12, 16))
            assert x.diff(dim=1).abs().max() == 0


def test_real_images_and_thin_axes_are_mixed_in(map_folder, made):
    rng = np.random.default_rng(0)
    for name in ('b1', 'b2'):
        labels = nib.load(map_folder / 'own' / f'{name}.nii')
        values = np.where(np.asarray(labels.dataobj) == 30, 900.0, 300.0)
        path = map_folder / 'real' / f'{name}_T2w.nii.gz'
        path.parent.mkdir(exist_ok=True)
        nib.Nifti1Image(values.astype(np.float32), labels.affine).to_filename(path)
    scan = rng.uniform(100, 200, (50, 50, 14)).astype(np.float32)
    nib.Nifti1Image(scan, np.diag([1, 1, 4, 1])).to_filename(map_folder / 'real' / 'thick.nii.gz')
    own = LabelSource('own/*.nii', 'adult', OWN_NUMBERS, image='real/*_T2w.nii.gz')
    thick = LabelSource('real/thick*.nii.gz', 'unlabelled')
    data = made(label_maps=replace(LABEL_MAPS, sources=(own, thick)))
    again = made(label_maps=replace(LABEL_MAPS, sources=(own, thick)), cache='again')
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


def test_image_that_is_not_there_is_named(map_folder, made):
    source = LabelSource('own/*.nii', 'adult', OWN_NUMBERS, image='none/*_T1w.nii.gz')
    with pytest.raises(UserError, match=r'none/b1_T1w\.nii\.gz: no such file, the image of .*b1'):
        made(label_maps=replace(LABEL_MAPS, sources=(source,)))
    with pytest.raises(ValueError, match='one \\*'):
        LabelSource('**/*.nii', image='real/*.nii')


def test_validation_patches_are_fixed(made):
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
    own = replace(LABEL_MAPS, acquisition=AcquisitionRanges(ratio=(2, 2), usual_share=0))
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
