from __future__ import annotations

import dataclasses
import re
from fnmatch import fnmatch
from importlib import resources

import nibabel as nib
import numpy as np
import pytest
import torch
from training_phantoms import DATA

from bids_segsr.exceptions import UserError
from bids_segsr.imaging.patch_size import edges
from bids_segsr.networks import create
from bids_segsr.training.data.batches import make_loader
from bids_segsr.training.data.patches import make_dataset
from bids_segsr.training.data.subjects import Subject
from bids_segsr.training.loop.distributed import make_fabric
from bids_segsr.training.loop.engine import Trainer
from bids_segsr.training.loop.training_run import Run, describe_run
from bids_segsr.training.recipe_file import (
    changed_recipe,
    parse_recipe,
    read_recipe,
    recipe_names,
    recipe_text,
)

OWN = ('brain-mask', 'default-model', 'segsrgan-newborn')
"""Recipes that follow no article."""

RECIPES = [name for name in recipe_names() if name not in OWN]

PLACES = re.compile(
    r'#.*((SegSRGAN 20(19|20)|ReCNN 2019|mDCSRN|RRDG), (sections?|appendix|equation|Table) '
    r'[\dA0-9.]+|our choice)'
)

# Recipe, table, key: value and where the article says so.
NUMBERS = {
    ('segsrgan-2019', 'network', 'options'): {'base_filters': 16, 'n_blocks': 5},  # ISBI, 2.4
    ('segsrgan-2019', 'forward', 'spacing_mm'): (1.5, 1.5),  # ISBI, 3.1
    ('segsrgan-2019', 'schedule', 'batch_size'): 16,  # ISBI, 3.1
    ('segsrgan-2019', 'schedule', 'epochs'): 200,  # ISBI, 3.1
    ('segsrgan-2019', 'optimiser', 'learning_rate'): 1e-4,  # ISBI, 3.1
    ('segsrgan-2019', 'loss', 'adversarial_weight'): 0.001,  # ISBI, 3.1
    ('segsrgan-2019', 'loss', 'gradient_penalty'): 10,  # ISBI, 3.1
    ('segsrgan-2019', 'critic_schedule', 'updates'): 5,  # ISBI, 3.1
    ('segsrgan-2020', 'network', 'options'): {'base_filters': 16, 'n_blocks': 6},  # 3.1.2
    ('segsrgan-2020', 'forward', 'spacing_mm'): (3.0, 3.0),  # 4.1.2
    ('segsrgan-2020', 'schedule', 'batch_size'): 32,  # 3.1.3
    ('segsrgan-2020', 'schedule', 'epochs'): 200,  # 3.1.3
    ('segsrgan-2020', 'loss', 'adversarial_weight'): 0.001,  # 3.1.3
    ('segsrgan-2020', 'loss', 'gradient_penalty'): 100,  # 3.1.3
    ('segsrgan-2020', 'critic_schedule', 'updates'): 5,  # 3.1.3
    ('segsrgan-2020', 'sampling', 'patch_size'): 64,  # 3.1.3
    ('segsrgan-2020', 'sampling', 'stride'): 20,  # 3.1.3
    ('segsrgan-2020', 'augmentation', 'contrast_power'): 0,  # A.2
    ('segsrgan-2020', 'augmentation', 'noise'): 0,  # A.2
    ('segsrgan-2020-augmented', 'augmentation', 'contrast_power'): 0.5,  # A.2
    ('segsrgan-2020-augmented', 'augmentation', 'noise'): 0.03,  # A.2
    ('segsrgan-2020-no-gan', 'loss', 'adversarial_weight'): 0,  # 5.1
    ('segsrgan-2020-no-gan', 'augmentation', 'noise'): 0.03,  # 5.1
    ('recnn-10l', 'network', 'options'): {'depth': 10, 'filters': 64, 'filter_size': 3},  # 3.2
    ('recnn-10l', 'sampling', 'patch_size'): 25,  # 3.1
    ('recnn-10l', 'sampling', 'patches_per_epoch'): 10 * 3200,  # 3.1
    ('recnn-10l', 'optimiser', 'learning_rate'): 1e-4,  # 3.2
    ('recnn-10l', 'schedule', 'epochs'): 20,  # 3.2
    ('recnn-10l', 'schedule', 'batch_size'): 64,  # 3.2
    ('recnn-10l', 'loss', 'intensity'): 'l2',  # 3.2
    ('recnn-20l', 'network', 'options'): {'depth': 20, 'filters': 64, 'filter_size': 3},  # 3.4
    ('recnn-20l-multiscale', 'forward', 'factors'): ((2, 2, 2), (3, 3, 3)),  # Table 1
    ('mdcsrn-b8u4', 'network', 'options'): {'b': 8, 'u': 4, 'k': 12},  # Table 2
    ('mdcsrn-b8u4', 'schedule', 'steps'): 800_000,  # 4.1
    ('mdcsrn-b8u4', 'schedule', 'batch_size'): 6,  # 4.1
    ('mdcsrn-b8u4', 'sampling', 'patch_size'): 40,  # 4.1
    ('rrdg', 'sampling', 'patch_size'): (64, 40, 64),  # 3.1
    ('rrdg-gan', 'sampling', 'patch_size'): (64, 40, 64),  # 3.1
    ('mdcsrn-b8u4', 'optimiser', 'learning_rate'): 1e-4,  # 4.1
    ('mdcsrn-b8u4', 'loss', 'intensity'): 'l1',  # equation 4
    ('mdcsrn-gan', 'loss', 'adversarial_weight'): 0.1,  # equation 3
    ('mdcsrn-gan', 'optimiser', 'learning_rate'): 5e-6,  # 4.1
    ('mdcsrn-gan', 'schedule', 'steps'): 200_000,  # 4.1
    ('mdcsrn-gan', 'critic_schedule', 'head_start'): 10_000,  # 4.1
    ('mdcsrn-gan', 'critic_schedule', 'extra_every'): 500,  # 4.1
    ('mdcsrn-gan', 'critic_schedule', 'extra'): 200,  # 4.1
    ('rrdg', 'network', 'options'): {'n_c': 4, 'n_f': 48, 'k': 12, 'beta': 0.2},  # 3.1
    ('rrdg-gan', 'schedule', 'epochs'): 10,  # 2.2
    ('unet-hr', 'network', 'options'): {'base_filters': 28},  # SegSRGAN 2020, 5.2
    ('unet-hr', 'loss', 'segmentation'): 'cross-entropy',  # SegSRGAN 2020, 5.2
    ('srresnet', 'schedule', 'epochs'): 300,  # mDCSRN, 4.2
}

# Parameters of the generator as printed: mDCSRN Table 2 (millions), RRDG Table 1, SegSRGAN 2020
# section 5.2 (U-Net and generator 'comparable').
PARAMETERS = {
    'mdcsrn-b4u4': 0.23e6,
    'mdcsrn-b6u4': 0.35e6,
    'mdcsrn-b8u4': 0.49e6,
    'mdcsrn-gan': 0.49e6,
    'srdensenet': 0.39e6,
    'fsrcnn': 64_893,
    'srresnet': 2_004_620,
    'rrdg': 2_650_129,
    'rrdg-gan': 2_650_129,
}


def test_recipes_of_all_papers_are_there():
    assert set(RECIPES) == {
        'fsrcnn', 'mdcsrn-b4u4', 'mdcsrn-b6u4', 'mdcsrn-b8u4', 'mdcsrn-gan', 'recnn-10l',
        'recnn-20l', 'recnn-20l-3mm', 'recnn-20l-multiscale', 'recnn-multimodal', 'rrdg',
        'rrdg-gan', 'segsrgan-2019', 'segsrgan-2019-clinical', 'segsrgan-2020',
        'segsrgan-2020-2-4mm',
        'segsrgan-2020-2-4mm-conditional', 'segsrgan-2020-augmented', 'segsrgan-2020-no-gan',
        'srcnn3d', 'srdensenet', 'srresnet', 'unet-hr', 'unet-sr',
    }  # fmt: skip


@pytest.mark.parametrize(('name', 'table', 'key'), NUMBERS)
def test_numbers_are_those_of_the_articles(name, table, key):
    assert getattr(getattr(read_recipe(name), table), key) == NUMBERS[name, table, key]


@pytest.mark.parametrize('name', PARAMETERS)
def test_generators_are_as_large_as_printed(name):
    network = read_recipe(name).network
    with torch.device('meta'):
        generator = create(network.architecture, **network.options)
    found = sum(p.numel() for p in generator.parameters())
    assert found == pytest.approx(PARAMETERS[name], rel=0.015)


@pytest.mark.parametrize('name', RECIPES)
def test_every_number_says_where_it_is_from(name):
    file = resources.files('bids_segsr.training') / 'recipes' / f'{name}.toml'
    lines = file.read_text(encoding='utf-8').splitlines()
    found = 0
    for line in lines:
        value = line.partition('#')[0].partition('=')[2]
        if re.search(r'(?<![\w"-])\d', re.sub('"[^"]*"', '', value)):
            found += 1
            assert PLACES.search(line), f'{name}.toml: {line}'
    assert found >= 6


@pytest.mark.parametrize('name', RECIPES)
def test_recipe_is_a_name_and_cites_its_article(name):
    recipe = read_recipe(name)
    assert recipe.name == name
    assert re.search('Pham|Delannoy|Chen', recipe.reference)


class Patches:
    """Random patches of a recipe's channels and guides."""

    on_device = False

    def __init__(self, recipe, size):
        self.channels, self.size = recipe.task.channels, size
        self.n_guides = recipe.network.options.get('guides', 0)

    def __len__(self):
        return 4

    def __getitem__(self, index):
        draw = torch.Generator().manual_seed(index)
        shape = (self.size,) * 3
        classes = [name for name in self.channels[1:] if name != 'cortex']
        chosen = torch.randint(max(len(classes), 2), shape, generator=draw)
        maps = [(chosen == number).float() for number in range(len(classes))]
        cortex = [(chosen == 1).float()] if 'cortex' in self.channels else []
        image = torch.rand(1 + self.n_guides, *shape, generator=draw)
        return {
            'image': image,
            'target': torch.stack([image[0] ** 2, *cortex, *maps]),
            'resolution': torch.tensor(3.0),
        }


@pytest.mark.parametrize('name', recipe_names())
def test_every_recipe_takes_a_step_at_batch_one(name, tmp_path):
    """Its network, losses, optimisers and critic in the loop that trains; the critic is small."""
    recipe = read_recipe(name)
    size = 16 if 'unet' in recipe.network.architecture else 8
    changes = {'schedule': {'batch_size': 1, 'accumulate': 1, 'precision': 'fp32'}}
    if recipe.critic is not None:
        options = {'base_filters': 4}
        if 'patch_size' in recipe.critic.options:
            options['patch_size'] = size
        changes['critic'] = {'options': options}
    recipe = changed_recipe(recipe, changes, name)
    if recipe.task.super_resolved_by is not None:  # the first stage has a test of its own
        task = dataclasses.replace(recipe.task, input='interpolated', super_resolved_by=None)
        recipe = dataclasses.replace(recipe, task=task)
    patches = Patches(recipe, size)
    trainer = Trainer(recipe, patches, patches, tmp_path, DATA, make_fabric('cpu', None, 'fp32'))
    updater, networks = trainer.updater, trainer.networks
    networks.set_rates(1.0)
    moved = [(networks.plain_generator, updater.generator)]
    if recipe.adversarial:
        moved.insert(0, (networks.critic, updater.critic))
    for network, update in moved:
        before = {key: value.clone() for key, value in network.named_parameters()}
        update(iter(make_loader(patches, [[0]], 0)))
        after = dict(network.named_parameters())
        assert all(torch.isfinite(value).all() for value in after.values())
        changed = [not torch.equal(after[key], value) for key, value in before.items()]
        assert np.mean(changed) > 0.5


@pytest.fixture(scope='module')
def subject(tmp_path_factory):
    """A ball in a ball, 0.5 mm."""
    folder = tmp_path_factory.mktemp('subject')
    axes = np.meshgrid(*3 * [np.linspace(-1, 1, 80)], indexing='ij')
    radius = np.sqrt(sum(axis**2 for axis in axes))
    affine = np.diag([0.5, 0.5, 0.5, 1])
    image = np.where(radius < 0.9, 100 - 60 * radius, 0).astype(np.float32)
    label = ((radius > 0.6) & (radius < 0.8)).astype(np.uint8)
    for name, array in (('image', image), ('label', label)):
        nib.save(nib.Nifti1Image(array, affine), folder / f'{name}.nii')
    return Subject('a', folder / 'image.nii', folder / 'label.nii', 'train')


@pytest.mark.parametrize('name', RECIPES)
def test_recipes_make_patches(name, subject, tmp_path):
    recipe = read_recipe(name)
    guides = recipe.network.options.get('guides', 0)
    given = dataclasses.replace(subject, guides=(subject.image,) * guides)
    patch = make_dataset(recipe, [given], 'train', 0, tmp_path)[7]
    size = edges(recipe.sampling.patch_size)
    assert patch['image'].shape == (1 + guides, *size)
    assert patch['target'].shape == (len(recipe.task.channels), *size)
    error = (patch['image'][0] - patch['target'][0]).abs()
    if recipe.task.input == 'high-resolution':
        assert error.max() < 1e-6
    else:
        assert 1e-4 < error.mean() < 0.2
    if recipe.forward.spacing_mm is not None:
        low, high = recipe.forward.spacing_mm
        assert low <= patch['resolution'] <= high


def test_critics_take_the_patches_of_their_recipes():
    adversarial = [recipe for recipe in map(read_recipe, RECIPES) if recipe.adversarial]
    assert len(adversarial) == 8
    for recipe in adversarial:
        assert recipe.critic.options['in_channels'] == len(recipe.task.channels)
        patch_size = recipe.critic.options.get('patch_size', recipe.sampling.patch_size)
        assert patch_size == recipe.sampling.patch_size
        assert recipe.critic.conditional == recipe.network.conditional


def test_a_dry_run_refuses_networks_that_cannot_take_the_patches():
    """By running them on an empty patch, as the training does on its first one."""
    oblong = {'sampling': {'patch_size': [16, 8, 16]}}
    rrdg = changed_recipe(read_recipe('rrdg-gan'), oblong, 'a')
    assert describe_run(rrdg, DATA, Run(device='cpu'))['patches'] == '16x8x16 voxels, 6 a batch'
    for name, wanted in (('mdcsrn-gan', 40), ('segsrgan-2020', 64)):
        recipe = changed_recipe(read_recipe(name), oblong, 'a')
        told = f'patch of 16x8x16 voxels: this critic was made for {wanted} on every axis'
        with pytest.raises(UserError, match=told):
            describe_run(recipe, DATA, Run(device='cpu'))
    thin = changed_recipe(read_recipe('unet-hr'), {'sampling': {'patch_size': [16, 10, 16]}}, 'a')
    with pytest.raises(UserError, match='multiple of 4'):
        describe_run(thin, DATA, Run(device='cpu'))
    with pytest.raises(UserError, match=r'\[heads\] are cut in cubes'):
        changed_recipe(read_recipe('brain-mask'), oblong, 'a')


def test_recipes_differ_only_where_they_say_so():
    plain, augmented = read_recipe('segsrgan-2020'), read_recipe('segsrgan-2020-augmented')
    same = {'augmentation': plain.augmentation, 'validation': plain.validation}
    assert dataclasses.replace(augmented, name=plain.name, **same) == plain
    ablation = read_recipe('segsrgan-2020-no-gan')
    assert not ablation.adversarial
    assert augmented.adversarial
    same = {'loss': augmented.loss, 'critic': augmented.critic, 'name': augmented.name}
    assert dataclasses.replace(ablation, **same) == augmented


@pytest.mark.parametrize(('name', 'first'), [('mdcsrn-gan', 'mdcsrn-b8u4'), ('rrdg-gan', 'rrdg')])
def test_a_gan_training_says_what_it_goes_on_from(name, first, monkeypatch):
    # a step of every recipe is taken elsewhere
    monkeypatch.setattr('bids_segsr.training.loop.training_run.check_networks', lambda *_: None)
    recipe = read_recipe(name)
    assert recipe.network.starts_from == first
    before = read_recipe(first)
    assert (recipe.network.architecture, recipe.network.options) == (
        before.network.architecture,
        before.network.options,
    )
    told = describe_run(recipe, DATA, Run(device='cpu'))['start']
    assert (
        told == f'random weights; the recipe goes on from a trained {first}: give it with --init'
    )
    assert describe_run(before, DATA, Run(device='cpu'))['start'] == 'random weights'


def test_recipe_of_brain_masks_fits_its_network():
    recipe = read_recipe('brain-mask')
    assert parse_recipe(recipe_text(recipe), 'again') == recipe
    network = create(recipe.network.architecture, **recipe.network.options).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 1, 16, 16, 16)).shape[1] == len(recipe.task.channels)


def test_recipe_of_brain_masks_holds_out_what_the_default_model_does():
    heads, maps = read_recipe('brain-mask').heads, read_recipe('default-model').label_maps
    assert heads.validation == maps.validation
    for name in ('training_seg_17.nii.gz', 'brain5_labels.nii.gz', 'GA28_operated_dseg.nii.gz'):
        assert any(fnmatch(name, pattern) for pattern in heads.hold_out)
    assert set(heads.hold_out) <= set(maps.hold_out)
    painted = {source.pattern for source in heads.sources if not source.image}
    assert painted <= {source.pattern for source in maps.sources}
