"""Tiling, blending and bookkeeping around a network whose output is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from geometry_phantoms import SHARED, laid
from torch import nn

from bids_segsr.exceptions import UserError
from bids_segsr.imaging.back_projection import Slices, back_project
from bids_segsr.imaging.degrade import degrade, thick_slice_grid
from bids_segsr.inference.predict import (
    Patches,
    binary_entropy,
    predict,
    resolve_device,
)
from bids_segsr.inference.processing import Processing
from bids_segsr.inference.tiling import Tiling, peak_memory_gb, resolve_patches
from bids_segsr.networks.tissue_unet import TissueUNetPair
from bids_segsr.zoo import feeding
from bids_segsr.zoo.card import InputContract, ModelCard
from bids_segsr.zoo.find import load_model
from bids_segsr.zoo.store import TrainedModel

CARD = ModelCard(
    name='toy',
    version='1',
    description='',
    architecture='toy',
    options={},
    contract=InputContract(('T2w',), 'volume-max', (0.5, 1.0), (2.0, 4.0)),
    channels=('intensity', 'cortex'),
    labels={1: 'cortex'},
)


class Ramp(nn.Module):
    """Channel 0: the patch; channel 1: a fixed ramp over the patch, as in the fixtures."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = x.shape[2:]
        ramp = torch.arange(size.numel(), dtype=torch.float32).reshape(size) / size.numel()
        return torch.stack([x[:, 0], ramp.expand_as(x[:, 0])], dim=1)


class LastAxis(nn.Module):
    """Channel 1 tells the position along the last axis."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        position = torch.linspace(0, 1, x.shape[-1]).expand_as(x)
        return torch.cat([x, position], dim=1)


def model(network: nn.Module, normalisation: str = 'volume-max') -> TrainedModel:
    contract = dataclasses.replace(CARD.contract, normalisation=normalisation)
    return TrainedModel(network, dataclasses.replace(CARD, contract=contract), Path('toy'))


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).uniform(10, 1000, (30, 26, 22)).astype(np.float32)


@pytest.mark.parametrize('normalisation', ['volume-max', 'volume-mean', 'patch-standard'])
@pytest.mark.parametrize('blending', ['uniform', 'gaussian'])
@pytest.mark.parametrize(('patch_size', 'step'), [(16, 8), (12, 5), (32, 32), (0, 1), (8, 8)])
def test_an_identity_network_gives_the_image_back(
    image, normalisation, blending, patch_size, step
):
    result = predict(
        model(Ramp(), normalisation),
        image,
        laid(image),
        processing=Processing(patch_size=patch_size, step=step, blending=blending, device='cpu'),
    )
    np.testing.assert_allclose(result.image, image, rtol=2e-5)
    assert result.probabilities.shape == (1, *image.shape)
    assert result.device == 'cpu'


@pytest.mark.parametrize(('normalisation', 'scale'), [('volume-max', 8.0), ('volume-mean', 3.0)])
def test_intensities_are_relative_to_those_inside_the_mask(normalisation, scale):
    class Seen(nn.Module):
        def forward(self, x):
            return torch.cat([x, x / 100], dim=1)

    image = np.full((16, 16, 16), 50.0, np.float32)
    mask = np.zeros(image.shape, dtype=bool)
    mask[4:12, 4:12, 4:12] = True
    image[mask] = np.resize([0.0, 0.0, 1.0, 2.0, 4.0, 2.0, 1.0, 8.0], 512)  # mean above 0: 3
    result = predict(model(Seen(), normalisation), image, laid(image), mask=mask)
    np.testing.assert_allclose(result.probabilities[0][mask], image[mask] / scale / 100, rtol=1e-5)
    np.testing.assert_allclose(result.image[mask], image[mask], rtol=1e-5)


def test_uniform_mean_and_disagreement_equal_a_plain_loop(image):
    size, step = 12, 6
    image = image[:24, :18, :18]
    ramp = np.arange(size**3, dtype=np.float64).reshape(size, size, size) / size**3
    total, squares, count = (np.zeros(image.shape) for _ in range(3))
    for i in range(0, image.shape[0] - size + 1, step):
        for j in range(0, image.shape[1] - size + 1, step):
            for k in range(0, image.shape[2] - size + 1, step):
                where = (slice(i, i + size), slice(j, j + size), slice(k, k + size))
                total[where] += ramp
                squares[where] += ramp**2
                count[where] += 1
    how = Processing(patch_size=size, step=step, blending='uniform')
    result = predict(model(Ramp()), image, laid(image), processing=how)
    np.testing.assert_allclose(result.probabilities[0], total / count, atol=1e-5)
    deviation = np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0))
    np.testing.assert_allclose(result.disagreement, deviation, atol=2e-3)


@pytest.mark.shared
@pytest.mark.parametrize('case', range(4))
def test_uniform_weights_equal_the_original_where_no_padding_differs(case):
    """The original pads up to a multiple of the step; given its padded size, both agree."""
    data = np.load(SHARED / 'fixtures/segsrgan/overlap.npz')
    size, step = int(data[f'patch{case}']), int(data[f'step{case}'])
    borders = np.array(data[f'border_to_add{case}']).reshape(-1)
    padded = tuple(int(n) for n in data[f'padded_shape{case}'])
    image = data[f'in{case}']
    low = [(n - m) // 2 for n, m in zip(padded, image.shape, strict=True)]
    assert len(borders) > 0
    canvas = np.zeros(padded, dtype=np.float32)
    inner = tuple(slice(a, a + n) for a, n in zip(low, image.shape, strict=True))
    canvas[inner] = image
    how = Processing(patch_size=size, step=step, blending='uniform')
    result = predict(model(Ramp()), canvas, laid(canvas), processing=how)
    np.testing.assert_allclose(result.image[inner], data[f'sr{case}'], atol=1e-5)
    np.testing.assert_allclose(result.probabilities[0][inner], data[f'ramp{case}'], atol=1e-5)


class Everywhere(nn.Module):
    """Channels 1 to 3 tell the position along each axis of the patch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        places = torch.meshgrid(*(torch.linspace(0, 1, n) for n in x.shape[2:]), indexing='ij')
        return torch.cat([x, torch.stack(places)[None]], dim=1)


def test_card_asks_for_more_steps_of_back_projection(image):
    toy = model(Ramp())
    contract = dataclasses.replace(toy.card.contract, back_projection=0.5, back_projection_steps=2)
    asking = dataclasses.replace(toy, card=dataclasses.replace(toy.card, contract=contract))
    affine = np.diag([1.0, 1, 1, 1])
    grid = thick_slice_grid(image.shape, affine, 3.0, 2)
    slices = Slices(degrade(image, affine, grid) + 1, grid.affine, affine)
    mask = image > np.median(image)
    plain = predict(toy, image, slices, mask=mask).image
    found = predict(asking, image, slices, mask=mask).image
    np.testing.assert_array_equal(found, back_project(plain, mask, slices, 0.5, 2))


@pytest.mark.parametrize('share', [0.0, 0.5])
def test_card_asks_for_back_projection(image, share):
    toy = model(Ramp())
    contract = dataclasses.replace(toy.card.contract, back_projection=share)
    toy = dataclasses.replace(toy, card=dataclasses.replace(toy.card, contract=contract))
    affine = np.diag([1.0, 1, 1, 1])
    grid = thick_slice_grid(image.shape, affine, 3.0, 2)
    slices = Slices(degrade(image, affine, grid) + 1, grid.affine, affine)
    mask = image > np.median(image)
    plain = predict(model(Ramp()), image, slices, mask=mask)
    found = predict(toy, image, slices, mask=mask)
    np.testing.assert_array_equal(found.probabilities, plain.probabilities)
    if share:
        np.testing.assert_array_equal(found.image, back_project(plain.image, mask, slices, share))
        assert np.abs(found.image - plain.image)[mask].mean() > 0.1
    else:
        np.testing.assert_array_equal(found.image, plain.image)


@pytest.mark.parametrize('left_right', [0, 1, 2])
@pytest.mark.parametrize('slices', [0, 1, 2])
@pytest.mark.parametrize('patch_size', [0, 12])
def test_what_saw_mirrored_heads_sees_both(image, slices, left_right, patch_size):
    """Only the positions from left to right even out: (x + 1 - x) / 2."""
    toy = model(Everywhere())
    seen = {}
    for mirrored in (False, True):
        contract = dataclasses.replace(toy.card.contract, mirrored=mirrored)
        card = dataclasses.replace(toy.card, contract=contract)
        seen[mirrored] = predict(
            dataclasses.replace(toy, card=card),
            image,
            laid(image, slices, left_right=left_right),
            processing=Processing(patch_size=patch_size),
        )
    np.testing.assert_allclose(seen[True].image, image, rtol=1e-5)
    axes = [*(axis for axis in range(3) if axis != slices), slices]
    for axis, plain, both in zip(
        axes, seen[False].probabilities, seen[True].probabilities, strict=True
    ):
        expected = np.full_like(plain, 0.5) if axis == left_right else plain
        np.testing.assert_allclose(both, expected, atol=1e-5)


class Blocks(nn.Module):
    """Hands the patch on; channel 1 is larger in every second voxel from back to front."""

    block = 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        odd = torch.zeros_like(x[:, :1])
        odd[..., 1::2, :] = 0.8
        return torch.cat([x[:, :1], odd], dim=1)


def test_blocks_of_two_voxels_even_out_in_the_mirror_image(image):
    toy = model(Blocks())
    contract = dataclasses.replace(toy.card.contract, mirrored=True)
    toy = dataclasses.replace(toy, card=dataclasses.replace(toy.card, contract=contract))
    found = predict(toy, image, laid(image, 2), processing=Processing(patch_size=0))
    inner = found.probabilities[0][1:-1, 1:-1, 1:-1]
    np.testing.assert_allclose(inner, 0.4, atol=1e-6)


def test_a_pair_looks_twice_for_the_tissues_alone(image):
    torch.manual_seed(0)
    toy = model(TissueUNetPair(base_filters=4, classes=3, detail_filters=4))
    channels = ('intensity', 'cortex', 'background', 'grey', 'white')
    found = {}
    for mirrored in (False, True):
        contract = dataclasses.replace(toy.card.contract, mirrored=mirrored)
        card = dataclasses.replace(toy.card, channels=channels, contract=contract)
        pair = dataclasses.replace(toy, card=card)
        whole = Processing(patch_size=0)
        found[mirrored] = predict(pair, image, laid(image, 2), processing=whole)
    np.testing.assert_array_equal(found[True].image, found[False].image)
    assert np.abs(found[True].probabilities - found[False].probabilities).max() > 1e-3
    inner = (slice(None), *(slice(2, -2),) * 3)
    classes = found[True].probabilities[1:][inner]
    np.testing.assert_allclose(classes.sum(0), 1, atol=1e-4)


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_the_slice_direction_is_the_last_axis_of_the_network(image, axis):
    result = predict(
        model(LastAxis()), image, laid(image, axis), processing=Processing(patch_size=0)
    )
    profile = result.probabilities[0].mean(axis=tuple(a for a in range(3) if a != axis))
    assert (np.diff(profile) > 0).all()
    for other in {0, 1, 2} - {axis}:
        flat = result.probabilities[0].mean(axis=tuple(a for a in range(3) if a != other))
        np.testing.assert_allclose(flat, flat[0], atol=1e-5)


def test_outside_of_the_mask_is_zero_and_far_patches_are_skipped(image):
    calls = []

    class Counting(Ramp):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(x.shape)
            return super().forward(x)

    mask = np.zeros(image.shape, dtype=bool)
    mask[2:6, 3:7, 4:9] = True
    mask[25:29, 20:25, 15:20] = True
    small = Processing(patch_size=8, step=8)
    result = predict(model(Counting()), image, laid(image, 1), mask=mask, processing=small)
    for channel in (result.image, result.probabilities[0], result.entropy, result.disagreement):
        assert (channel[~mask] == 0).all()
    np.testing.assert_allclose(result.image[mask], image[mask], rtol=1e-5)
    tiles = np.prod([-(-n // 8) for n in (30, 26, 22)])
    assert len(calls) < tiles / 2


def test_a_small_image_is_padded_and_cropped_again():
    tiny = np.random.default_rng(1).uniform(1, 2, (7, 9, 5)).astype(np.float32)
    result = predict(model(Ramp()), tiny, laid(tiny, 0))
    assert result.image.shape == tiny.shape
    np.testing.assert_allclose(result.image, tiny, rtol=1e-5)


def test_entropy_of_known_probabilities():
    p = np.array([0.0, 1.0, 0.5, 0.11])
    expected = [0, 0, 1, -(0.11 * np.log2(0.11) + 0.89 * np.log2(0.89))]
    np.testing.assert_allclose(binary_entropy(p), expected, atol=1e-6)


def test_patch_and_step_are_checked():
    assert resolve_patches(None, None) == (96, 80)
    assert resolve_patches(48, None) == (48, 40)
    assert resolve_patches(0, None)[0] == 0
    for patch_size, step in ((30, None), (4, None), (32, 40), (32, 0), (-8, None)):
        with pytest.raises(UserError):
            resolve_patches(patch_size, step)


def test_device_names():
    assert resolve_device('cpu') == 'cpu'
    assert resolve_device('auto') in ('cpu', 'cuda')
    with pytest.raises(UserError, match='unknown'):
        resolve_device('abacus')
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match='no such GPU'):
            resolve_device('cuda')


def test_gpu_out_of_memory_falls_back_to_the_cpu(image, monkeypatch):
    from bids_segsr.inference import predict as module

    run = module.Patches.run
    devices = []

    def failing(self, network, forward, stack, device):
        devices.append((device, self.batch, self.channels_last))
        if device != 'cpu':
            raise torch.cuda.OutOfMemoryError('out of memory')
        return run(self, network, forward, stack, device)

    monkeypatch.setattr(module.Patches, 'run', failing)
    monkeypatch.setattr(module, 'resolve_device', lambda device: device)
    result = predict(model(Ramp()), image, laid(image), processing=Processing(device='cuda'))
    assert devices == [('cuda', 4, True), ('cpu', 1, False)]
    assert result.device == 'cpu'
    assert 'ran out of memory' in result.warnings[0]


@pytest.mark.parametrize('name', ['tissue-unet', 'segsrgan-newborn'])
def test_batches_with_channels_last_as_a_gpu_takes_them_change_no_number(name):
    trained = load_model(name)
    mask = torch.ones(1, 1, 56, 32, 56)
    mask[..., :8, :, :24] = 0
    brain = torch.rand(mask.shape, generator=torch.Generator().manual_seed(0)) * mask
    sizes = []

    def forward(patches: torch.Tensor) -> torch.Tensor:
        sizes.append(len(patches))
        return feeding.feed(
            trained.network, trained.card, patches, scales=None, resolution=3.0, mirror_axis=0
        )

    one = Patches(Tiling(32, 24))
    several = dataclasses.replace(one, batch=3, channels_last=True)
    expected, found = (
        way.run(trained.network, forward, torch.cat([brain, mask], 1), 'cpu')
        for way in (one, several)
    )
    # the first call tells the number of channels
    assert sizes == [1, 1, 1, 1, 1, 1, 3, 1]
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
    assert not trained.network.training
    assert expected[0].std() > 0.01


def test_memory_estimate_grows_with_the_patch_not_beyond_the_volume():
    small = peak_memory_gb((100, 100, 100), 32, 16, 2)
    large = peak_memory_gb((100, 100, 100), 96, 16, 2)
    whole = peak_memory_gb((100, 100, 100), 0, 16, 2)
    assert small < large < whole
    assert peak_memory_gb((20, 20, 20), 96, 16, 2) == peak_memory_gb((20, 20, 20), 0, 16, 2)


def test_a_conditional_generator_is_told_the_distance_of_the_slices_as_in_its_training(image):
    class Told(nn.Module):
        def forward(self, x: torch.Tensor, resolution: torch.Tensor) -> torch.Tensor:
            assert resolution.shape == (len(x),)
            return torch.cat([x, x * 0 + resolution.view(-1, 1, 1, 1, 1) / 10], dim=1)

    card = dataclasses.replace(CARD, options={'conditional': 'film'})
    conditional = TrainedModel(Told(), card, Path('toy'))
    scan = dataclasses.replace(laid(image, distance=3.5), thickness=3.0)
    result = predict(conditional, image, scan, processing=Processing(patch_size=16))
    np.testing.assert_allclose(result.probabilities[0], 0.35, atol=1e-6)
