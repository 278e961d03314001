from __future__ import annotations

import csv
import dataclasses
import math

import numpy as np
import pytest
import torch
from test_training_synthesis import plain_recipe, write_labels

from bids_segsr.exceptions import UserError
from bids_segsr.training.export import main as export_model
from bids_segsr.training.fit import (
    Fit,
    PatchStream,
    Plan,
    apply_network,
    charbonnier,
    restoration_loss,
    validate,
)
from bids_segsr.training.label_maps import HELD_OUT, VALIDATION, find_label_maps
from bids_segsr.training.synthesis import make_sample, read_anatomy
from bids_segsr.zoo.store import load_model

TINY = Plan('segsrgan', {'base_filters': 8, 'n_blocks': 1}, minutes=10, patch=16, warmup=5)


@pytest.fixture(scope='module')
def anatomy(tmp_path_factory):
    return read_anatomy(write_labels(tmp_path_factory.mktemp('labels') / 'ball.nii.gz'), 'adult')


@pytest.fixture(scope='module')
def sample(anatomy):
    return make_sample(anatomy, (32, 32, 32), plain_recipe(), np.random.default_rng(0))


def test_charbonnier_is_equation_6():
    error = torch.tensor([0.0, 3e-3, -4.0])
    expected = np.mean([math.hypot(e, 1e-3) for e in (0, 3e-3, -4)])
    assert charbonnier(error).item() == pytest.approx(expected, rel=1e-6)


def test_loss_weighs_the_cortex():
    output, truth = torch.zeros(1, 2, 4, 4, 4), torch.zeros(1, 2, 4, 4, 4)
    truth[:, 0], truth[:, 1, :2], output[:, 1] = 2, 1, 0.5
    assert restoration_loss(output, truth, 0).item() == pytest.approx(2, rel=1e-4)
    # A coin toss where half of the voxels are cortex: Dice 2 (1/4) / (1/2 + 1/4), entropy log 2.
    undecided = 2 + 3 * (1 / 3 + math.log(2))
    assert restoration_loss(output, truth, 3).item() == pytest.approx(undecided, rel=1e-4)
    output[:, 1] = truth[:, 1]
    assert restoration_loss(output, truth, 3).item() == pytest.approx(2, rel=1e-4)


def test_stream_is_seeded_and_cuts_image_and_truth_alike(anatomy):
    def first(seed, count=3):
        stream = iter(PatchStream([anatomy], [1], plain_recipe(), 16, seed))
        return [next(stream) for _ in range(count)]

    for (image, truth), (again, truth_again) in zip(first(5), first(5), strict=True):
        assert image.shape == (1, 16, 16, 16)
        assert truth.shape == (2, 16, 16, 16)
        np.testing.assert_array_equal(image, again)
        np.testing.assert_array_equal(truth, truth_again)
        assert np.corrcoef(image[0].ravel(), truth[0].ravel())[0, 1] > 0.8
    assert not np.array_equal(first(5)[0][0], first(6)[0][0])


def test_untrained_generator_is_close_to_its_input(sample, tmp_path):
    output = apply_network(Fit(TINY, tmp_path).average, sample.image)
    assert np.abs(output[0] - sample.image).mean() < 0.05 * sample.image.std()


def test_validation_tells_gain_and_dice(sample):
    class Oracle(torch.nn.Linear):
        def forward(self, x):
            truth = torch.from_numpy(np.stack([sample.truth, sample.cortex]))[None]
            mean, sd = sample.image.mean(), sample.image.std()
            truth[:, 0] = (truth[:, 0] - mean) / sd
            # Half of the error of interpolation: 20 log10(2) dB.
            truth[:, 0] = (truth[:, 0] + x[:, 0]) / 2
            return truth

    scores = validate(Oracle(1, 1), [sample])
    assert scores['gain'] == pytest.approx(20 * math.log10(2), abs=1e-3)
    assert scores['worst_gain'] == scores['gain']
    assert scores['dice'] == 1


def test_training_reduces_the_loss_of_a_batch(sample, tmp_path):
    fit = Fit(dataclasses.replace(TINY, learning_rate=5e-3), tmp_path)
    image = torch.from_numpy(sample.image[8:24, 8:24, 8:24].copy())[None, None].repeat(2, *[1] * 4)
    truth = np.stack([sample.truth, sample.cortex])[:, 8:24, 8:24, 8:24].copy()
    truth = torch.from_numpy(truth)[None].repeat(2, *[1] * 4)
    losses = [fit._train_on(image, truth) for _ in range(60)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert fit.step == 60
    assert not torch.equal(fit.average.head.conv.weight, fit.network.head.conv.weight)


def run(folder, anatomy, sample, minutes):
    plan = dataclasses.replace(TINY, minutes=minutes)
    fit = Fit(plan, folder)
    start = fit.step
    fit.run([anatomy], [1], plain_recipe(), [sample], workers=0)
    return start, fit


@pytest.fixture(scope='module')
def finished(anatomy, sample, tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')
    return folder, run(folder, anatomy, sample, 0.02)[1]


def test_run_is_logged_and_resumed(finished, anatomy, sample):
    folder, first = finished
    start, second = run(folder, anatomy, sample, 0.04)
    assert start == first.step > 0
    assert second.step > first.step
    rows = list(csv.DictReader((folder / 'log.csv').open()))
    assert [int(row['step']) for row in rows] == [0, first.step, second.step]
    assert all(math.isfinite(float(row['gain'])) for row in rows)


def test_run_is_exported_as_a_model(finished, tmp_path):
    folder, _ = finished
    export_model([str(folder / 'best.pt'), str(tmp_path / 'mine'), '--half-precision'])
    model = load_model(tmp_path / 'mine')
    state = torch.load(folder / 'best.pt', weights_only=True)
    assert model.card.name == 'mine'
    assert [phase['steps'] for phase in model.card.training['phases']] == [state['step']]
    assert model.card.options == TINY.options
    for name, tensor in model.network.state_dict().items():
        torch.testing.assert_close(tensor, state['average'][name], rtol=1e-3, atol=1e-6)


def test_held_out_subjects_are_never_listed(tmp_path):
    names = {
        'adult-head': ('training_seg_01', 'training_seg_16', 'training_seg_17', 'training_seg_20'),
        'adult-brain': ('brain1_labels', 'brain5_labels'),
        'fetal': ('GA27_operated_dseg', 'GA28_operated_dseg', 'GA33_operated_dseg'),
    }
    for source, stems in names.items():
        (tmp_path / source).mkdir()
        for stem in stems:
            (tmp_path / source / f'{stem}.nii.gz').touch()
    found = [path.name for paths in find_label_maps(tmp_path).values() for path in paths]
    assert sorted(found) == [
        'GA27_operated_dseg.nii.gz',
        'brain1_labels.nii.gz',
        'training_seg_01.nii.gz',
        'training_seg_16.nii.gz',
    ]
    assert not any(start.startswith(HELD_OUT) for start in VALIDATION)


def test_missing_source_is_named(tmp_path):
    with pytest.raises(UserError, match='adult-head'):
        find_label_maps(tmp_path)
