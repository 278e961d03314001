"""Whole heads from label maps, their patches, and the recipe that trains on them."""

from __future__ import annotations

import argparse
import pickle
import re
from fnmatch import fnmatch

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.utils.data import DataLoader

from bids_segsr.cli import train
from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.networks import create
from bids_segsr.simulation.anatomy import RIM_MM, brain_hull, read_anatomy
from bids_segsr.simulation.heads import draw_levels, make_head, read_head, read_scan
from bids_segsr.simulation.tables import CONTRASTS, OUTSIDE, TISSUES
from bids_segsr.training.data.head_patches import HeadDataset, make_head_dataset
from bids_segsr.training.data_tables import Sampling
from bids_segsr.training.loop.validation_scores import scored_channels, segment
from bids_segsr.training.recipe_file import parse_recipe, read_recipe, recipe_text
from bids_segsr.zoo.find import load_model

SPACING = 2.0
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


def write_balls(path, whole, spacing=1.0, flip=False):
    """A ball of white matter in cortex, radius 30 mm; in skin (label 511) where it is whole."""
    axis = np.arange(round(96 / spacing)) * spacing - 48
    radius = np.sqrt(sum(a.astype(float) ** 2 for a in np.meshgrid(*[axis] * 3, indexing='ij')))
    labels = np.where(radius < 26, 2, np.where(radius < 30, 3, 0))
    if whole:
        labels = np.where((labels == 0) & (radius < 42), 511, labels)
    affine = np.diag([-spacing if flip else spacing, spacing, spacing, 1])
    nib.Nifti1Image(labels.astype(np.int16), affine).to_filename(path)
    return path


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('maps')
    for name, whole in (('a', False), ('b', True), ('c', True)):
        write_balls(folder / f'{name}.nii.gz', whole)
    return folder


@pytest.fixture(scope='module')
def heads(folder):
    """A brain alone, and one in a head."""
    return [read_head(folder / f'{name}.nii.gz', 'adult') for name in 'ab']


def test_brain_holds_its_csf(heads):
    for head in heads:
        radius = (3 * head.brain.sum() / 4 / np.pi) ** (1 / 3)
        assert radius == pytest.approx(31, abs=0.5)
        ring = head.brain & (head.regions == TISSUES.index('csf'))
        assert ring.any()
        assert head.brain[head.regions == TISSUES.index('cortex')].all()
    assert [head.whole for head in heads] == [False, True]


@pytest.mark.parametrize('spacing', [(1.0, 1.0, 1.0), (0.8, 0.8, 1.2)])
def test_sulci_are_filled_up_to_16_mm(spacing):
    """A cube with two clefts to its middle: the narrow one belongs to the mask, the wide not."""
    size, clefts = 80, {10: 20, 24: 60}
    centres = [(np.arange(round(100 / mm)) + 0.5) * mm - 50 for mm in spacing]
    i, j, k = np.meshgrid(*centres, indexing='ij')
    cube = (np.abs(i) < size / 2) & (np.abs(j) < size / 2) & (np.abs(k) < size / 2)
    tissue = cube.copy()
    for width, middle in clefts.items():
        tissue &= ~((np.abs(j - (middle - 40)) < width / 2) & (i > 0))
    hull = brain_hull(tissue, np.zeros_like(tissue), spacing, 'adult')
    assert hull[tissue].all()
    for width, middle in clefts.items():
        inside = (np.abs(j - (middle - 40)) < 1) & (np.abs(i - 20) < 5) & (np.abs(k) < 5)
        assert hull[inside].all() == (width < 16)
    middle_of_faces = hull & (np.abs(i) < 5) & (np.abs(j) < 5)
    assert size / 2 - spacing[2] < np.abs(k[middle_of_faces]).max() <= size / 2 + RIM_MM


@pytest.mark.parametrize(('labelling', 'radius'), [('adult', 31.0), ('fetal', 40.0)])
def test_csf_of_a_fetus_reaches_as_far_as_its_mask(tmp_path, labelling, radius):
    axis = np.arange(96) - 47.5
    distance = np.sqrt(sum(a**2 for a in np.meshgrid(axis, axis, axis, indexing='ij')))
    labels = np.where(distance < 30, 1, np.where(distance < 40, 2, 0)).astype(np.int16)
    labels[distance < 26] = 3
    path = tmp_path / 'map.nii.gz'
    nib.Nifti1Image(labels, np.eye(4)).to_filename(path)
    numbers = {'cortex': (1,), 'csf': (2,), 'white': (3,)}
    head = read_head(path, labelling, numbers)
    covered = read_anatomy(path, labelling, numbers=numbers).fractions[OUTSIDE:] > 127
    for brain in (head.brain, covered.any(0)):
        assert (3 * brain.sum() / 4 / np.pi) ** (1 / 3) == pytest.approx(radius, abs=0.8)


def test_own_label_numbers_and_their_mistakes(tmp_path, folder):
    path = folder / 'b.nii.gz'
    own = {'white': (2,), 'cortex': (3,), 'surround': (511,)}
    head = read_head(path, 'adult', own)
    np.testing.assert_array_equal(head.regions > 0, read_head(path, 'adult').regions > 0)
    assert head.whole
    assert not read_head(path, 'adult', {'white': (2,), 'cortex': (3,)}).whole
    with pytest.raises(UserError, match='unknown tissue bone'):
        read_head(path, 'adult', {'bone': (2,)})
    with pytest.raises(ImageError, match=r'b\.nii\.gz: none of its labels'):
        read_head(path, 'adult', {'white': (77,)})


def test_volumes_repeat_with_the_seed_alone(heads):
    for head in heads:
        (a, mask_a, mm_a), (b, mask_b, mm_b), (c, _, _) = (
            make_head(head, (40, 40, 32), SPACING, 12.0, np.random.default_rng(seed))
            for seed in (4, 4, 5)
        )
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(mask_a, mask_b)
        assert mm_a == mm_b
        assert SPACING <= mm_a <= 3 * SPACING
        assert not np.array_equal(a, c)
        assert a.dtype == np.float32
        assert mask_a.dtype == bool


@pytest.mark.parametrize('spacing', [2.0, 4.0])
def test_brain_keeps_a_possible_size_at_any_spacing(heads, spacing):
    head = heads[1]
    shape = (round(128 / spacing),) * 3
    sizes = [
        make_head(head, shape, spacing, 12.0, np.random.default_rng(seed))[1].sum() * spacing**3
        for seed in range(12)
    ]
    relative = np.array(sizes) / head.brain.sum()
    assert relative.min() > 0.15
    assert relative.max() < 2.2
    assert relative.std() > 0.05


def test_size_in_mm_is_that_of_the_map(tmp_path):
    """Of a finer map of the same brain, stored the other way round, the volume is the same."""
    sizes = []
    for spacing, flip in ((1.0, False), (0.75, True)):
        path = write_balls(tmp_path / f'{spacing}.nii.gz', True, spacing, flip)
        made = make_head(
            read_head(path, 'adult'), (48,) * 3, SPACING, 12.0, np.random.default_rng(3)
        )
        sizes.append(made[1].sum())
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)


def test_something_surrounds_even_a_lone_brain(heads):
    images = [
        make_head(heads[0], (48, 48, 48), SPACING, 12.0, np.random.default_rng(seed))[:2]
        for seed in range(6)
    ]
    assert np.median([image[~brain].mean() for image, brain in images]) > 0.1


def test_bone_and_fluid_lie_around_a_fetus(folder):
    """Closest to the brain it is darker than a little further out, more often than by chance."""
    darker = {}
    for labelling in ('fetal', 'adult'):
        numbers = {'white': (2,), 'cortex': (3,)}
        head = read_head(folder / 'a.nii.gz', labelling, numbers)
        counts = []
        for seed in range(40):
            rng = np.random.default_rng(seed)
            image, brain, _ = make_head(head, (40, 40, 40), 3.0, 0.0, rng)
            distance = ndimage.distance_transform_edt(~brain)
            near = image[(distance > 0) & (distance <= 1)].mean()
            counts.append(near < image[(distance > 2.5) & (distance <= 4)].mean())
        darker[labelling] = np.mean(counts)
    assert darker['fetal'] > 0.6
    assert darker['fetal'] > darker['adult'] + 0.2


def test_slices_lie_across_a_short_field_of_view(heads):
    across = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        image = make_head(heads[0], (56, 20, 56), SPACING, 0.0, rng)[0]
        roughness = [np.abs(np.diff(image, 2, axis)).mean() for axis in range(3)]
        across += int(np.argmin(roughness)) == 1
    assert across >= 10


def test_levels_of_the_brain_are_those_given_and_the_others_random():
    levels = CONTRASTS['adult-T2w']
    drawn = [draw_levels(np.random.default_rng(seed), levels) for seed in range(20)]
    for tissue in ('cortex', 'white', 'csf'):
        found = [d[TISSUES.index(tissue)] for d in drawn]
        assert found == pytest.approx([levels[tissue]] * 20)
    assert np.std([d[TISSUES.index('surround')] for d in drawn]) > 0.2
    assert np.std([d[45] for d in drawn]) > 0.2


@pytest.fixture
def made(folder, tmp_path):
    def make(split='train', text=RECIPE) -> HeadDataset:
        recipe = parse_recipe(text, 'tiny')
        return make_head_dataset(recipe, folder, split, 0, tmp_path / 'cache')

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


def segsr(*words: object) -> int:
    parser = argparse.ArgumentParser(prog='segsr')
    train.add_parser(parser.add_subparsers())
    arguments = parser.parse_args(['train', *map(str, words)])
    status: int = arguments.func(arguments)
    return status


def test_heads_become_a_model(folder, tmp_path, capsys):
    recipe = tmp_path / 'mask.toml'
    recipe.write_text(RECIPE)
    words = (recipe, '--label-maps', folder, '--out', tmp_path / 'run', '--device', 'cpu')
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


def test_packaged_recipe_fits_its_network():
    recipe = read_recipe('brain-mask')
    assert parse_recipe(recipe_text(recipe), 'again') == recipe
    network = create(recipe.network.architecture, **recipe.network.options).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 1, 16, 16, 16)).shape[1] == len(recipe.task.channels)


def test_packaged_recipe_holds_out_what_the_default_model_does():
    heads, maps = read_recipe('brain-mask').heads, read_recipe('default-model').label_maps
    assert heads.validation == maps.validation
    for name in ('training_seg_17.nii.gz', 'brain5_labels.nii.gz', 'GA28_operated_dseg.nii.gz'):
        assert any(fnmatch(name, pattern) for pattern in heads.hold_out)
    assert set(heads.hold_out) <= set(maps.hold_out)
    painted = {source.pattern for source in heads.sources if not source.image}
    assert painted <= {source.pattern for source in maps.sources}


def write_scan(folder, labelling='brain', affine=None):
    """A ball of 25 mm with a darker one in it, in a box of thick slices and dim tissue."""
    affine = np.diag([-1.5, 1.5, 3.0, 1.0]) if affine is None else affine
    voxels = np.indices((80, 80, 36)).transpose(1, 2, 3, 0)
    mm = voxels @ affine[:3, :3].T
    apart = np.linalg.norm(mm - mm[44, 36, 18], axis=-1)
    scan = np.where(apart < 25, 800, 300)
    scan[np.linalg.norm(mm - mm[44, 44, 18], axis=-1) < 8] = 0
    mask, image = folder / 'x_mask.nii.gz', folder / 'x_scan.nii.gz'
    nib.Nifti1Image((apart < 25).astype(np.uint8), affine).to_filename(mask)
    nib.Nifti1Image(scan.astype(np.uint16), affine).to_filename(image)
    return mask, image


@pytest.mark.parametrize('labelling', ['brain', 'fetal-brain'])
def test_image_and_mask_of_a_real_head_move_together(tmp_path, labelling, monkeypatch):
    """Wherever the ball goes, its mask does; the dark ball stays 12 mm from its middle."""
    monkeypatch.setattr('bids_segsr.simulation.heads.STRANGE_SHARE', 0)
    head = read_scan(*write_scan(tmp_path), labelling)
    volumes, places = [], set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        image, brain, mm = make_head(head, (72, 72, 72), SPACING, 8.0, rng)
        assert mm >= SPACING
        middle, radius = np.argwhere(brain).mean(0), (brain.sum() * 3 / 4 / np.pi) ** (1 / 3)
        places.add(tuple(np.round(middle)))
        volumes.append(brain.sum() * SPACING**3)
        apart = np.linalg.norm(np.indices(brain.shape).T - middle[::-1][::-1], axis=-1).T
        inside, around = image[apart < 0.3 * radius], image[np.abs(apart - 1.3 * radius) < 1]
        assert np.median(inside) > 1.2 * np.median(around[around > 0])
        # the dark ball, an eccentric part of the mask
        smooth = ndimage.gaussian_filter(image, 1.5)
        found = np.unravel_index(np.where(apart < 0.85 * radius, smooth, 9).argmin(), brain.shape)
        assert np.linalg.norm(found - middle) / radius == pytest.approx(12 / 25, abs=0.17)
    ball = 4 / 3 * np.pi * 25**3
    assert 0.12 * ball < min(volumes) < 0.9 * ball
    assert 1.0 * ball < max(volumes) < 2.5 * ball
    assert len(places) == 12


def test_a_real_head_is_seen_as_it_is_stored(tmp_path):
    """Storage order and flips of axes change nothing; masks are filled as hulls are."""
    mask, image = write_scan(tmp_path)
    labels = nib.load(mask).get_fdata()
    labels[44, 36, 18] = 0
    nib.Nifti1Image(labels.astype(np.uint8), nib.load(mask).affine).to_filename(mask)
    head = read_scan(mask, image, 'brain')
    assert head.spacing == (1.5, 1.5, 3.0)
    assert head.brain[80 - 1 - 44, 36, 18]
    assert head.image[head.brain].max() == pytest.approx(1)
    assert head.whole
    for path in (mask, image):
        nib.as_closest_canonical(nib.load(path)).to_filename(tmp_path / f'c{path.name}')
    same = read_scan(tmp_path / 'cx_mask.nii.gz', tmp_path / 'cx_scan.nii.gz', 'brain')
    first, second = (
        make_head(h, (40, 40, 40), SPACING, 8.0, np.random.default_rng(1)) for h in (head, same)
    )
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_scans_that_do_not_fit_their_masks_are_named(tmp_path, folder):
    mask, image = write_scan(tmp_path)
    with pytest.raises(ImageError, match=r'a\.nii\.gz: not on the grid of .*x_mask'):
        read_scan(mask, folder / 'a.nii.gz', 'brain')
    empty = tmp_path / 'empty.nii.gz'
    nib.Nifti1Image(np.zeros((80, 80, 36), np.uint8), nib.load(mask).affine).to_filename(empty)
    with pytest.raises(ImageError, match='the mask is empty'):
        read_scan(empty, image, 'brain')
    with pytest.raises(ImageError, match=r'empty\.nii\.gz: shows nothing'):
        read_scan(mask, empty, 'brain')


def test_target_is_empty_where_something_else_takes_the_place_of_the_brain(folder, monkeypatch):
    numbers = {'white': (2,), 'cortex': (3,)}
    head = read_head(folder / 'a.nii.gz', 'fetal', numbers)
    made = {}
    for share in (0, 1):
        monkeypatch.setattr('bids_segsr.simulation.heads.ABSENT_SHARE', share)
        made[share] = make_head(head, (40, 40, 40), 3.0, 0.0, np.random.default_rng(3))
    assert made[0][1].sum() > 500
    assert not made[1][1].any()
    inside = made[0][1]
    assert made[1][0][inside].mean() > 0.02
    assert np.abs(made[0][0] - made[1][0])[inside].mean() > 0.05


REAL = """
[[heads.sources]]
pattern = "real/*_mask.nii.gz"
image = "real/*_scan.nii.gz"
labelling = "fetal-brain"
share = 4.0
"""


@pytest.fixture
def mixed(folder, tmp_path):
    """Painted heads and a real one, with and without a field of view beside the brain."""
    for name in 'abc':
        (tmp_path / f'{name}.nii.gz').symlink_to(folder / f'{name}.nii.gz')
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


def test_intensities_are_divided_as_the_recipe_says(heads, tmp_path):
    from bids_segsr.training.data.head_patches import StoredHead

    file = tmp_path / 'head.npy'
    np.save(file, np.stack([heads[1].regions, heads[1].brain.astype(np.uint8)]))
    stored = StoredHead(file, 'adult', heads[1].spacing, 1.0)
    scaled = [
        HeadDataset([stored], 3.0, Sampling(16, normalisation=how), 0)[1]['image']
        for how in ('volume-max', 'volume-mean')
    ]
    ratio = scaled[1][scaled[0] > 0] / scaled[0][scaled[0] > 0]
    assert ratio.std() < 1e-4 * ratio.mean()
    assert ratio.mean() > 1
