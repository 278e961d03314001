"""A network sees at prediction what its training showed it, whoever runs it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_phantoms import write_head
from geometry_phantoms import laid
from torch import nn

from bids_segsr.evaluation.cases import Imaging, load_reference, make_case
from bids_segsr.evaluation.systems import System, run_system
from bids_segsr.exceptions import ModelError, UserError
from bids_segsr.imaging.acquisition import interpolate
from bids_segsr.imaging.back_projection import (
    Slices,
    back_projection_alone,
    interpolated_back_projection,
)
from bids_segsr.imaging.degrade import ForwardModel, degrade, thick_slice_grid
from bids_segsr.imaging.resample import Grid
from bids_segsr.inference.predict import predict
from bids_segsr.inference.processing import Processing
from bids_segsr.training.loop.forward_pass import make_super_resolver
from bids_segsr.training.recipe_file import read_recipe, recipe_names
from bids_segsr.zoo import feeding
from bids_segsr.zoo.card import InputContract, ModelCard
from bids_segsr.zoo.store import TrainedModel

WHOLE = Processing(patch_size=0, device='cpu')


class Kept(nn.Module):
    """Gives the image back and keeps what it was shown."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = x.clone()
        return x


def kept(**contract: object) -> TrainedModel:
    fields = {
        'modalities': ('T2w',),
        'normalisation': 'volume-mean',
        'spacing_mm': (0.5, 1.5),
        'slice_thickness_mm': (1.0, 6.0),
    }
    card = ModelCard(
        name='kept',
        version='1',
        description='',
        architecture='toy',
        options={},
        contract=InputContract(**(fields | contract)),  # type: ignore[arg-type]
        channels=('intensity',),
        labels={},
    )
    return TrainedModel(Kept(), card, Path('toy'))


def pipeline(**sampling: object) -> object:
    recipe = read_recipe('unet-sr')
    return dataclasses.replace(recipe, sampling=dataclasses.replace(recipe.sampling, **sampling))


def test_a_first_stage_sees_the_same_in_training_and_prediction():
    """A volume-mean model behind a volume-mean recipe; patches are divided when they are cut."""
    rng = np.random.default_rng(0)
    volume = rng.uniform(1, 900, (16, 16, 16)).astype(np.float32)
    model = kept()
    predict(
        model, volume, laid(volume), mask=np.pad(np.ones((14,) * 3, bool), 1), processing=WHOLE
    )
    alone = model.network.seen[0, 0].numpy()
    mean = volume[1:-1, 1:-1, 1:-1].mean()
    np.testing.assert_allclose(alone[1:-1, 1:-1, 1:-1].mean(), 1, rtol=1e-5)
    staged = make_super_resolver(model, pipeline(normalisation='volume-mean'), torch.device('cpu'))
    patch = torch.from_numpy(volume / mean)[None, None]
    staged(patch, torch.tensor([3.0]))
    np.testing.assert_allclose(
        model.network.seen[0, 0, 1:-1, 1:-1, 1:-1], alone[1:-1, 1:-1, 1:-1], rtol=1e-5
    )


@pytest.mark.parametrize(
    ('contract', 'words'),
    [
        ({'normalisation': 'volume-mean'}, "normalisation = 'volume-mean', .* 'volume-max'"),
        ({'interpolation': 'linear', 'normalisation': 'volume-max'}, "interpolation = 'linear'"),
        ({'skull_stripped': False, 'normalisation': 'volume-max'}, 'skull_stripped = False'),
        ({'guides': 1, 'normalisation': 'volume-max'}, 'needs guide images'),
    ],
)
def test_a_first_stage_that_would_be_fed_otherwise_is_refused_with_the_reason(contract, words):
    with pytest.raises(UserError, match=words):
        recipe = pipeline(normalisation='volume-max')
        make_super_resolver(kept(**contract), recipe, torch.device('cpu'))


@pytest.fixture(scope='module')
def reference(tmp_path_factory):
    return load_reference(write_head(tmp_path_factory.mktemp('h'), 'sub-1', 1), {'cortex': (1,)})


@pytest.mark.parametrize('kind', ['thick-slices', 'k-space'])
@pytest.mark.parametrize('interpolation', ['cubic', 'linear'])
def test_networks_are_evaluated_on_the_interpolation_of_their_training(
    reference, kind, interpolation
):
    forward = (
        ForwardModel(spacing_mm=(3.0, 3.0))
        if kind == 'thick-slices'
        else ForwardModel(kind='k-space', factors=((2.0, 2.0, 1.0),))
    )
    case = make_case(reference, Imaging(forward), 0)
    model = kept(interpolation=interpolation, slice_axis_last=False)
    output = run_system(System('one', (model,)), case, WHOLE)
    how = dataclasses.replace(case.acquisition, interpolation=interpolation)
    image = interpolate(case.slices.data, case.seen.shape, reference.affine, how)
    np.testing.assert_allclose(output.image, np.where(case.seen, image, 0), rtol=1e-4, atol=1e-3)
    spline = run_system(System('spline'), case, WHOLE)
    cubic = interpolate(
        case.slices.data,
        case.seen.shape,
        reference.affine,
        dataclasses.replace(case.acquisition, interpolation='cubic'),
    )
    np.testing.assert_array_equal(spline.image, np.where(case.seen, cubic, 0))


def test_spline_is_cubic_whatever_the_recipe_interpolates_with(reference):
    pair = [
        make_case(
            reference,
            Imaging(ForwardModel(kind='k-space', factors=((2, 2, 1),), interpolation=kind)),
            0,
        ).interpolated
        for kind in ('cubic', 'linear')
    ]
    np.testing.assert_array_equal(*pair)


def test_a_network_of_whole_heads_is_shown_the_whole_head(reference):
    case = make_case(reference, Imaging(ForwardModel(spacing_mm=(3.0, 3.0))), 0)
    assert not case.seen.all()
    for stripped in (True, False):
        model = kept(skull_stripped=stripped, slice_axis_last=False)
        output = run_system(System('one', (model,)), case, WHOLE)
        assert bool((model.network.seen[0, 0].numpy() != 0).all()) is not stripped
        assert bool((output.image[~case.seen] != 0).any()) is not stripped


def test_linear_interpolation_of_a_scan():
    scan = laid(np.arange(4, dtype=np.float32).reshape(1, 1, 4) ** 2 * np.ones((3, 3, 1), 'f4'))
    everywhere = np.ones((3, 3, 10), bool)
    linear = feeding.interpolated(kept(interpolation='linear').card, scan, everywhere)
    np.testing.assert_allclose(linear[1, 1, ::3], [0, 1, 4, 9], atol=1e-5)
    np.testing.assert_allclose(linear[1, 1, 1], 1 / 3, atol=1e-5)
    cubic = feeding.interpolated(kept().card, scan, everywhere)
    assert abs(cubic[1, 1, 4] - (4 / 3) ** 2) < abs(linear[1, 1, 4] - (4 / 3) ** 2)


def test_a_card_asks_for_back_projection_before_the_network():
    scan = laid(np.arange(4, dtype=np.float32).reshape(1, 1, 4) ** 2 * np.ones((3, 3, 1), 'f4'))
    everywhere = np.ones((3, 3, 10), bool)
    card = kept(back_projection=0.5, input_back_projection_steps=3).card
    found = feeding.interpolated(card, scan, everywhere)
    expected = interpolated_back_projection(scan, Grid(everywhere.shape, scan.fine_affine), 3, 0.5)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found, back_projection_alone(scan, everywhere, 3, 0.5))
    assert np.abs(found - feeding.interpolated(kept().card, scan, everywhere)).max() > 0.1


def test_a_network_of_brains_sees_back_projection_that_knows_the_border():
    brain = (np.indices((12, 12, 30)).T - (5.5, 5.5, 14.5)).T
    brain = ((brain.T / (5, 5, 12)) ** 2).sum(-1).T < 1
    affine = np.eye(4)
    truth = np.where(brain, 1.5, 0).astype(np.float32)
    grid = thick_slice_grid(brain.shape, affine, 3.0, 2)
    scan = Slices(degrade(truth, affine, grid), grid.affine, affine)
    asked = {'back_projection': 0.5, 'input_back_projection_steps': 3}
    found = feeding.interpolated(kept(**asked).card, scan, brain)
    np.testing.assert_array_equal(found, back_projection_alone(scan, brain, 3, 0.5))
    plain = interpolated_back_projection(scan, Grid(brain.shape, affine), 3, 0.5)
    error = [np.abs(image - truth)[brain].mean() for image in (found, plain)]
    assert error[0] < 0.8 * error[1]
    # a network of whole heads is shown no border
    head = feeding.interpolated(kept(**asked, skull_stripped=False).card, scan, brain)
    np.testing.assert_allclose(head, plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize('kind', ['thick-slices', 'isotropic', 'k-space'])
def test_a_network_is_evaluated_on_the_back_projection_that_its_card_asks_for(reference, kind):
    forward = (
        ForwardModel(spacing_mm=(3.0, 3.0))
        if kind == 'thick-slices'
        else ForwardModel(kind=kind, factors=((2.0, 2.0, 2.0),))
    )
    case = make_case(reference, Imaging(forward), 0)
    shape, grid = case.seen.shape, Grid(case.seen.shape, reference.affine)
    asked = {'back_projection': 0.5, 'input_back_projection_steps': 3}
    sharpened = interpolated_back_projection(case.slices, grid, 3, 0.5)
    image = sharpened if kind == 'thick-slices' else case.interpolated
    np.testing.assert_array_equal(case.fed(kept(**asked).card), np.where(case.seen, image, 0))
    zeros = case.fed(kept(interpolation='zero-fill', **asked).card)
    if kind == 'k-space':
        how = dataclasses.replace(case.acquisition, interpolation='zero-fill')
        image = interpolate(case.slices.data, shape, reference.affine, how)
    np.testing.assert_array_equal(zeros, np.where(case.seen, image, 0))


@pytest.mark.parametrize('background', ['zero', 'noise', 'ringing'])
def test_the_level_is_that_of_the_brain_though_nothing_is_masked(background):
    """A ball of 60 to 140 in a field of view of six times its volume."""
    rng = np.random.default_rng(0)
    place = np.stack(np.meshgrid(*[np.linspace(-1, 1, 48)] * 3, indexing='ij'))
    brain = (place**2).sum(0) < 0.7**2
    image = np.where(brain, rng.uniform(60, 140, brain.shape), 0)
    if background == 'noise':
        image += np.abs(rng.normal(0, 5, brain.shape))
    if background == 'ringing':
        image = np.where(brain, image, 0.5 * np.sin(place[0] * 60))
    true = feeding.scales(kept().card, [image], brain)[0]
    slab = np.ones_like(brain)
    slab[0] = False
    loose = (place**2).sum(0) < 0.95**2
    for mask in (np.ones_like(brain), slab, loose):
        assert feeding.scales(kept().card, [image], mask)[0] == pytest.approx(true, rel=0.02)


def test_dark_csf_is_part_of_the_level():
    """As dark as in T1w, and a fifth of the brain: a mask that is right is what counts."""
    place = np.stack(np.meshgrid(*[np.linspace(-1, 1, 48)] * 3, indexing='ij'))
    brain, tissue = ((place**2).sum(0) < radius**2 for radius in (0.7, 0.65))
    for csf in (0.15, 0.05):
        image = np.where(tissue, 0.75, np.where(brain, csf, 0))
        level = feeding.scales(kept().card, [image], brain)[0]
        assert level == pytest.approx(image[brain].mean())


def test_recipes_tell_their_cards_how_they_interpolate():
    linear = {
        name for name in recipe_names() if read_recipe(name).forward.interpolation != 'cubic'
    }
    assert {'rrdg', 'fsrcnn', 'srresnet', 'srdensenet', 'mdcsrn-b8u4'} <= linear
    assert len(linear) == 9


def test_a_card_from_before_the_field_is_read_by_its_recipe():
    card = dataclasses.replace(
        kept(interpolation='linear').card,
        training={'recipe_file': '[forward]\nkind = "k-space"\ninterpolation = "linear"\n'},
    )
    content = json.loads(card.to_json())
    del content['contract']['interpolation']
    assert ModelCard.from_json(json.dumps(content)) == card
    content['training'] = {}
    assert ModelCard.from_json(json.dumps(content)).contract.interpolation == 'cubic'
    with pytest.raises(ModelError, match='unknown interpolation'):
        kept(interpolation='quintic')


@pytest.mark.parametrize(('asked', 'known'), [('bf16', True), ('bf16', False), ('fp32', True)])
def test_mixed_precision_needs_a_card_and_a_device_that_know_it(asked, known, monkeypatch):
    class Convolution(nn.Conv3d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            output = super().forward(x)
            self.kind = output.dtype
            return output

    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: known, raising=False)
    torch.manual_seed(0)
    toy = kept(precision=asked)
    toy = dataclasses.replace(toy, network=Convolution(1, 1, 3, padding=1))
    image = np.random.default_rng(0).uniform(100, 900, (12, 12, 12)).astype(np.float32)
    found = predict(toy, image, laid(image), processing=WHOLE)
    mixed = asked == 'bf16' and known
    assert found.precision == ('bf16' if mixed else 'fp32')
    assert toy.network.kind == (torch.bfloat16 if mixed else torch.float32)
    card = dataclasses.replace(toy.card, contract=kept().card.contract)
    exact = predict(dataclasses.replace(toy, card=card), image, laid(image), processing=WHOLE)
    differs = np.abs(found.image - exact.image).max() / np.abs(exact.image).max()
    assert 0 < differs < 0.01 if mixed else differs == 0
