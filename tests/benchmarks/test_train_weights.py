"""The commands that make the packaged weights, on networks with random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import train_weights
from calibration import _looks, calibrate, change_logits
from train_weights import (
    HALVES,
    JOBS,
    MODELS,
    TISSUES,
    build,
    half_name,
    half_of,
    join,
    midway,
    recipe_of,
)

from bids_segsr.exceptions import UserError
from bids_segsr.networks import create
from bids_segsr.simulation.tables import CLASSES
from bids_segsr.training.loop.model_card import SEEN
from bids_segsr.zoo.feeding import feed
from bids_segsr.zoo.find import card_paths, load_model
from bids_segsr.zoo.store import TrainedModel, save_model

EDGE = 24
T1W = 'tissue-unet-newborn-t1w'


@pytest.fixture(scope='module')
def newborn():
    return load_model('tissue-unet-newborn')


def small_half(newborn, mirrored):
    """A half for the tissues of few filters, of random weights that tell voxels apart."""
    torch.manual_seed(0)
    network = create(
        'tissue-unet', base_filters=4, classes=len(CLASSES), intensity=False, class_filters=8
    )
    change_logits(network, 12.0, torch.zeros(len(CLASSES)))
    contract = replace(newborn.card.contract, mirrored=mirrored)
    card = replace(newborn.card, contract=contract)
    return TrainedModel(network.eval(), card, newborn.path)


class Patches:
    """Random images, and classes drawn from the probabilities that are given for them."""

    channels = ('intensity',)
    on_device = False

    def __init__(self, network, number, scale, shift):
        rng = np.random.default_rng(0)
        self.patches = []
        for _ in range(number):
            image = torch.from_numpy(rng.normal(1, 0.3, (1, EDGE, EDGE, EDGE)).astype(np.float32))
            with torch.inference_mode():
                classes = network(image[None])[0, -len(CLASSES) :].log()
            true = (scale * (classes + shift.reshape(-1, 1, 1, 1))).softmax(0)
            sums = true.cumsum(0).numpy()
            drawn = (rng.uniform(size=sums.shape[1:]) > sums[:-1]).sum(0)
            target = np.eye(len(CLASSES), dtype=np.float32)[drawn].transpose(3, 0, 1, 2)
            self.patches.append({'image': image, 'target': torch.from_numpy(target)})

    def __len__(self):
        return len(self.patches)

    def __getitem__(self, index):
        return self.patches[index]


def test_calibration_finds_the_probabilities_that_classes_were_drawn_from(newborn):
    half = small_half(newborn, mirrored=False)
    shift = torch.linspace(-0.7, 0.7, len(CLASSES))
    patches = Patches(half.network, 6, 0.6, shift)
    image = patches[0]['image'][None]
    with torch.inference_mode():
        before = half.network(image)[0, -len(CLASSES) :]
        true = (0.6 * (before.log() + shift.reshape(-1, 1, 1, 1))).softmax(0)
    scores = calibrate(half, patches)
    with torch.inference_mode():
        after = half.network(image)[0, -len(CLASSES) :]
    assert (before - true).abs().mean() > 0.03
    assert (after - true).abs().mean() < 0.005
    assert scores.calibration_error[1] < scores.calibration_error[0] / 4


def test_the_mask_of_segsrgan_gets_a_temperature_and_stays(newborn):
    torch.manual_seed(0)
    network = create('segsrgan', base_filters=4, n_blocks=1).eval()
    network.head.conv.weight.data[1] *= 3
    contract = replace(newborn.card.contract, mirrored=False)
    generator = TrainedModel(network, replace(newborn.card, contract=contract), newborn.path)
    rng = np.random.default_rng(0)
    patches, true = [], []
    for _ in range(4):
        image = torch.from_numpy(rng.normal(1, 0.3, (1, EDGE, EDGE, EDGE)).astype(np.float32))
        with torch.inference_mode():
            mask = network(image[None])[0, 1]
        true.append((0.4 * mask.logit()).sigmoid())
        drawn = torch.from_numpy(rng.uniform(size=mask.shape)) < true[-1]
        patches.append({'image': image, 'target': torch.stack([image[0], drawn.float()])})
    image = patches[0]['image'][None]
    with torch.inference_mode():
        before = network(image)[0]
        scores = calibrate(generator, patches)
        after = network(image)[0]
    assert before[1].std() > 0.1
    assert (before[1] - true[0]).abs().mean() > 0.05
    assert (after[1] - true[0]).abs().mean() < 0.01
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[1] > 0.5, before[1] > 0.5)
    assert scores.calibration_error[1] < scores.calibration_error[0] / 4


def test_calibrated_is_what_a_prediction_sees(newborn):
    half = small_half(newborn, mirrored=True)
    patches = Patches(half.network, 1, 1.0, torch.zeros(len(CLASSES)))
    looks, _ = _looks(half, patches)
    with torch.inference_mode():
        fed = feed(
            half.network,
            half.card,
            patches[0]['image'][None],
            scales=None,
            resolution=3.0,
            mirror_axis=0,
        )[0, -len(CLASSES) :, 1:-1, 1:-1, 1:-1]
    mean = torch.stack([look.exp() for look in looks]).mean(0)
    torch.testing.assert_close(mean, fed.flatten(1).T, atol=1e-5, rtol=0)


def test_every_packaged_model_is_made_by_its_command(tmp_path):
    packaged = {name for name, path in card_paths().items() if 'zoo/models' in path.as_posix()}
    assert set(MODELS) == packaged
    for job in JOBS:
        assert recipe_of(job, 1, 1, 'cpu').schedule.minutes == 1
    for name, jobs in MODELS.items():
        made, card = recipe_of(jobs[-1], 1, 1, 'cpu'), load_model(name).card
        halved = set(jobs) & set(HALVES)
        assert made.network.architecture == ('tissue-unet' if halved else card.architecture)


def test_a_half_needs_the_intensity_of_another_model(tmp_path):
    with pytest.raises(UserError, match='--init'):
        build(T1W, tmp_path, tmp_path, None, None)


@pytest.fixture
def trained(monkeypatch):
    """Trainings that end at once with what they began with; which began with what."""
    ran = {}

    def train(job, data, out, init, how):
        ran[job] = init
        recipe = recipe_of(job, 1, 1, 'cpu')
        if job in HALVES:
            return half_of(load_model(init), half_name(job), recipe, Path(out))
        network = create(recipe.network.architecture, **recipe.network.options)
        card = load_model('segsrgan-newborn' if 'segsrgan' in job else 'brain-mask').card
        return save_model(Path(out), network, card)

    monkeypatch.setattr(train_weights, 'train', train)
    monkeypatch.setattr(train_weights, 'calibrated', lambda model, *_: model)
    return ran


@pytest.mark.parametrize('name', [n for n, jobs in MODELS.items() if jobs[0] in TISSUES])
def test_pairs_are_joined_of_their_halves(tmp_path, trained, name):
    made = load_model(build(name, tmp_path, tmp_path, name, None))
    assert list(trained) == list(MODELS[name])
    packaged = load_model(name)
    for key, weights in packaged.network.state_dict().items():
        assert torch.equal(made.network.state_dict()[key], weights), key
    for field in ('name', 'contract', 'architecture', 'options', 'channels', 'labels'):
        assert getattr(made.card, field) == getattr(packaged.card, field), field
    assert int(made.card.version) == int(packaged.card.version) + 1
    assert not made.card.scores


@pytest.mark.parametrize(('init', 'averaged'), [('tissue-unet', False), (T1W, True)])
def test_weights_are_averaged_with_those_of_the_same_model_alone(
    tmp_path, trained, monkeypatch, init, averaged
):
    starts = []
    monkeypatch.setattr(
        train_weights, 'midway', lambda start, end, out: (starts.append(start), end)[1]
    )
    build(T1W, tmp_path, tmp_path, init, None)
    assert starts == [T1W] * averaged


def test_midway_is_the_mean_of_the_weights(tmp_path, newborn):
    recipe = recipe_of('tissues-newborn', 1, 1, 'cpu')
    end = half_of(newborn, 'tissues', recipe, tmp_path / 'end')
    later = load_model(end)
    with torch.no_grad():
        for weights in later.network.parameters():
            weights.add_(1)
    save_model(end, later.network, later.card)
    mean = load_model(midway('tissue-unet-newborn', end, tmp_path / 'mean')).network.state_dict()
    for name, weights in mean.items():
        before = newborn.network.state_dict()[f'tissues.{name}']
        torch.testing.assert_close(weights, before + 0.5, atol=1e-6, rtol=0)


def test_segsrgan_is_finished_from_its_twin(tmp_path, trained):
    build('segsrgan-newborn', tmp_path, tmp_path, None, None)
    assert trained == {
        'segsrgan-twin': None,
        'segsrgan-finish': str(tmp_path / 'segsrgan-twin'),
    }
    made, packaged = load_model(tmp_path / 'model').card, load_model('segsrgan-newborn').card
    assert (made.name, made.contract) == (packaged.name, packaged.contract)


def test_a_pair_has_seen_what_either_half_has(tmp_path, newborn):
    halves = {}
    for half, digests in (('tissues', ['b', 'a']), ('intensity', ['c', 'b'])):
        training = {**newborn.card.training, SEEN: digests}
        halves[half] = replace(newborn, card=replace(newborn.card, training=training))
    assert load_model(join(newborn.card.name, halves, tmp_path)).card.training[SEEN] == [*'abc']
