"""Patches of whole heads, and the recipe that trains on them."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
import torch
from simulation_phantoms import write_scan
from torch.utils.data import DataLoader
from training_phantoms import segsr

from bids_segsr.exceptions import UserError
from bids_segsr.simulation.heads import read_head
from bids_segsr.training.data.head_patches import HeadDataset, StoredHead, make_head_dataset
from bids_segsr.training.data_tables import Sampling
from bids_segsr.training.loop.validation_scores import scored_channels, segment
from bids_segsr.training.recipe_file import parse_recipe
from bids_segsr.zoo.find import load_model

RECIPE = """
name = "tiny-mask"
[network]
architecture = "tissue-unet"
options = { base_filters = 2, classes = 2, intensity = false }
[task]
channels = ["intensity", "brain"]
modalities = ["T1w", "T2w"]
skull_stripped = false
[heads]
spacing_mm = 3.0
validation = ["c*"]
[[heads.sources]]
pattern = "*.nii.gz"
[sampling]
patch_size = 16
patches_per_epoch = 8
normalisation = "patch-standard"
[loss]
intensity = "none"
segmentation = "dice+cross-entropy"
[schedule]
steps = 2
batch_size = 2
[validation]
every_steps = 2
patches = 2
pictures = 1
score = "dice"
"""


@pytest.fixture
def made(head_maps, tmp_path):
    def make(split='train', text=RECIPE) -> HeadDataset:
        recipe = parse_recipe(text, 'tiny')
        return make_head_dataset(recipe, head_maps, split, 0, tmp_path / 'cache')

    return make


def test_patch_is_like_one_from_images(made):
    dataset = made()
    assert (len(dataset), dataset.channels) == (8, ('intensity', 'brain'))
    batch = next(iter(DataLoader(dataset, 4)))
    assert batch['image'].shape == (4, 1, 16, 16, 16)
    assert batch['target'].shape == (4, 2, 16, 16, 16)
    assert batch['resolution'].shape == (4,)
    assert batch['image'].dtype == batch['target'].dtype == torch.float32
    torch.testing.assert_close(batch['target'][:, :1], batch['image'])
    assert set(batch['target'][:, 1].unique().tolist()) == {0, 1}
    assert batch['image'].amax(dim=(1, 2, 3, 4)).max() <= 1
    assert 2 <= batch['resolution'].min() <= batch['resolution'].max() <= 6


def test_same_number_same_bytes_whatever_the_workers(made):
    order = [*range(6), 1 << 41]
    dataset = made()
    alone = [dataset[index] for index in order]
    shared = list(DataLoader(dataset, batch_size=None, sampler=order, num_workers=2))
    for first, second in zip(alone, shared, strict=True):
        for key in first:
            assert torch.equal(first[key], second[key])
    assert len({patch['image'].sum().item() for patch in alone}) == len(alone)
    assert len(pickle.dumps(dataset)) < 10_000
    assert len(list(dataset.heads[0].file.parent.glob('head-*.npy'))) == 2


def test_all_is_0_beyond_the_field_of_view(made):
    dataset = made(text=RECIPE.replace('patch_size = 16', 'patch_size = 32'))
    empty = 0
    for index in range(30):
        patch = dataset[index]
        image, brain = patch['image'][0], patch['target'][1]
        for axis in range(3):
            for end in (0, -1):
                if not image.select(axis, end).any():
                    empty += 1
                    assert not brain.select(axis, end).any()
    assert 30 < empty < 150


@pytest.mark.parametrize(('labelling', 'least'), [('adult', 0.4), ('fetal', 55 / (32 * 6))])
def test_stacks_of_a_fetus_may_be_shorter(made, labelling, least):
    pattern = 'pattern = "*.nii.gz"'
    source = f'{pattern}\nlabelling = "{labelling}"\ntable = {{ white = [2], cortex = [3] }}'
    text = RECIPE.replace(pattern, source).replace('patch_size = 16', 'patch_size = 32')
    dataset = made(text=text)
    seen = [np.argwhere(dataset[index]['image'][0].numpy()) for index in range(60)]
    shortest = min(float((voxels.max(0) - voxels.min(0) + 1).min()) for voxels in seen)
    assert round(32 * least) <= shortest <= round(32 * least) + 2


def test_validation_patches_are_fixed(made):
    dataset = made('validation')
    assert len(dataset) == 4
    for index in range(4):
        for key, value in dataset[index].items():
            assert torch.equal(value, dataset[index + 4][key])


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('[heads]', '[label_maps]\nreuse = 2\n[heads]', r'\[heads\] and \[label_maps\] are two'),
        ('"brain"]', '"cortex"]', r'\[heads\] give the channels intensity, brain'),
        ('spacing_mm = 3.0', 'spacing_mm = 0', r'\[heads\]: spacing_mm is 0; give more than 0'),
        ('spacing_mm = 3.0', 'spacing = 3.0', r"\[heads\]: unknown key 'spacing'"),
        ('pattern = "*.nii.gz"', 'labelling = "mouse"', r"labelling 'mouse' is unknown"),
        (
            'pattern = "*.nii.gz"',
            'pattern = "a*"\nimage = "b*"',
            r"\[heads\]: source 'a\*': heads are made from label maps alone",
        ),
        (
            'pattern = "*.nii.gz"',
            'labelling = "brain"',
            r'heads are made from .* or from brain masks \(brain, fetal-brain\) with an image',
        ),
    ],
)
def test_mistakes_in_the_recipe_are_named(old, new, message):
    assert old in RECIPE
    with pytest.raises(UserError, match=message):
        parse_recipe(RECIPE.replace(old, new, 1), 'mine.toml')


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('*.nii.gz', 'nothing*', r"'nothing\*' .*; give more, or other patterns in \[heads\]"),
        ('["c*"]', '["x*"]', 'no label map fits heads.validation'),
    ],
)
def test_missing_label_maps_name_the_table(made, old, new, message):
    with pytest.raises(UserError, match=message):
        made(text=RECIPE.replace(old, new))


def test_a_single_class_is_scored_and_cut_at_one_half():
    recipe = parse_recipe(RECIPE, 'mine.toml')
    assert scored_channels(recipe) == ('brain',)
    maps = np.zeros((2, 2, 1, 1), np.float32)
    maps[1] = np.array([0.4, 0.6]).reshape(2, 1, 1)
    assert segment(maps, recipe.task.channels)['brain'].ravel().tolist() == [False, True]


def test_heads_become_a_model(head_maps, tmp_path, capsys):
    recipe = tmp_path / 'mask.toml'
    recipe.write_text(RECIPE)
    words = (recipe, '--label-maps', head_maps, '--out', tmp_path / 'run', '--device', 'cpu')
    assert segsr(*words, '--dry-run') == 0
    shown = capsys.readouterr().out
    assert re.search(r'subjects +2 train, 1 validation', shown)
    assert re.search(r'images +3 mm', shown)
    assert not (tmp_path / 'run').exists()
    assert segsr(*words, '--workers', '0') == 0
    card = load_model(tmp_path / 'run' / 'model').card
    assert (card.channels, card.labels) == (('intensity', 'brain'), {1: 'brain'})
    assert card.finds_brain
    assert card.contract.spacing_mm == (3, 3)
    assert card.contract.slice_thickness_mm == (2, 6)
    assert card.contract.modalities == ('T1w', 'T2w')
    assert not card.contract.skull_stripped
    assert not card.contract.slice_axis_last
    assert card.description.startswith('Segmentation of T1w and T2w images')
    assert 'dice_brain' in card.scores['validation patches']
    (tmp_path / 'data.csv').write_text('subject,image\n')
    with pytest.raises(UserError, match=r'\[heads\]; give label maps \(--label-maps\)'):
        segsr(recipe, '--data', tmp_path / 'data.csv', '--out', tmp_path / 'other')


def test_real_heads_are_told_apart_from_label_maps(mixed, tmp_path, capsys):
    """The plan lists them; only label maps have volumes of tissues."""
    mixed()
    recipe = tmp_path / 'mask.toml'
    recipe.write_text(RECIPE.replace('[sampling]', f'{REAL}[sampling]'))
    words = ('--label-maps', tmp_path, '--out', tmp_path / 'run', '--device', 'cpu', '--dry-run')
    assert segsr(recipe, *words) == 0
    assert re.search(r'subjects +3 train, 1 validation', capsys.readouterr().out)


REAL = """
[[heads.sources]]
pattern = "real/*_mask.nii.gz"
image = "real/*_scan.nii.gz"
labelling = "fetal-brain"
share = 4.0
"""


@pytest.fixture
def mixed(head_maps, tmp_path):
    """Painted heads and a real one, with and without a field of view beside the brain."""
    for name in 'abc':
        (tmp_path / f'{name}.nii.gz').symlink_to(head_maps / f'{name}.nii.gz')
    (tmp_path / 'real').mkdir()
    write_scan(tmp_path / 'real')
    text = RECIPE.replace('[sampling]', f'{REAL}[sampling]').replace(
        'patch_size = 16', 'patch_size = 64'
    )
    recipe = parse_recipe(text.replace('spacing_mm = 3.0', 'spacing_mm = 2.0'), 'mixed')
    return lambda: make_head_dataset(recipe, tmp_path, 'train', 0, tmp_path / 'cache')


def test_real_and_painted_heads_are_mixed(mixed):
    dataset = mixed()
    assert [head.labelling for head in dataset.heads] == ['adult', 'adult', 'fetal-brain']
    assert dataset.order.shares.tolist() == pytest.approx([0.1, 0.1, 0.8])
    again = mixed()
    for index in (0, 1, 2, 1 << 41):
        for key, value in dataset[index].items():
            assert torch.equal(value, again[index][key])
    assert len(pickle.dumps(dataset)) < 10_000


def test_a_field_of_view_beside_the_brain_has_an_empty_target(mixed, monkeypatch):
    dataset, table = mixed(), 'bids_segsr.training.data.head_patches.BESIDE_SHARE'
    empty = {}
    for share in (0, 1):
        monkeypatch.setattr(table, {'painted': share, 'real': share})
        patches = [dataset[index] for index in range(20)]
        without = [patch for patch in patches if not patch['target'][1].any()]
        empty[share] = len(without)
        for patch in without:
            bright = patch['image'][patch['image'] > 0].numpy()
            assert len(bright) > 1000
    assert empty[0] <= 2
    assert empty[1] >= 10


def test_a_scan_that_is_missing_is_named(mixed, tmp_path):
    (tmp_path / 'real' / 'x_scan.nii.gz').unlink()
    with pytest.raises(UserError, match=r'x_scan\.nii\.gz: no such file, the image of .*x_mask'):
        mixed()


def test_intensities_are_divided_as_the_recipe_says(head_maps, tmp_path):
    head = read_head(head_maps / 'b.nii.gz', 'adult')
    file = tmp_path / 'head.npy'
    np.save(file, np.stack([head.regions, head.brain.astype(np.uint8)]))
    stored = StoredHead(file, 'adult', head.spacing, 1.0)
    scaled = [
        HeadDataset([stored], 3.0, Sampling(16, normalisation=how), 0)[1]['image']
        for how in ('volume-max', 'volume-mean')
    ]
    ratio = scaled[1][scaled[0] > 0] / scaled[0][scaled[0] > 0]
    assert ratio.std() < 1e-4 * ratio.mean()
    assert ratio.mean() > 1
