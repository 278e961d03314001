"""Where a brain mask comes from; the two looks of the network."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from geometry_phantoms import all_orientations, oblique_affine

from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.imaging.brain_mask import find_template
from bids_segsr.imaging.measures.metrics import dice
from bids_segsr.inference import brain_extraction as brain_mask
from bids_segsr.inference.brain_extraction import find_brain_mask, predict_brain_mask
from bids_segsr.networks import create
from bids_segsr.training.recipe_file import read_recipe
from bids_segsr.zoo.card import InputContract, ModelCard
from bids_segsr.zoo.contract import mask_note
from bids_segsr.zoo.find import BRAIN_MASK_MODEL, load_model
from bids_segsr.zoo.store import TrainedModel


class Bright(torch.nn.Module):
    """Calls bright voxels brain, and remembers what it saw."""

    def __init__(self, level: float = 1.0) -> None:
        super().__init__()
        self.level = level
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(x.shape[2:]))
        return torch.cat([x, torch.sigmoid(20 * (x - self.level))], dim=1)


def model_of(network: torch.nn.Module, spacing: float = 2.0, patch_size: int = 0) -> TrainedModel:
    card = ModelCard(
        name='bright',
        version='4',
        description='',
        architecture='tissue-unet',
        options={},
        contract=InputContract(
            ('T2w',), 'patch-standard', (spacing,) * 2, (1.0, 6.0), patch_size=patch_size
        ),
        channels=('intensity', 'brain'),
        labels={1: 'brain'},
    )
    return TrainedModel(network, card, Path('bright'))


def ball(shape, affine, centre, radius):
    """Voxels whose centres lie in a ball around a point in mm."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing='ij'), -1)
    points = index @ affine[:3, :3].T + affine[:3, 3]
    return np.linalg.norm(points - centre, axis=-1) < radius


def test_mask_lies_on_the_scan_without_holes_and_islands():
    shape, affine = (90, 80, 20), oblique_affine((1.5, 1.5, 5.0), (6, -4, 9))
    centre, beside = (affine[:3, :3] @ at + affine[:3, 3] for at in ([40, 40, 10], [78, 72, 10]))
    brain = ball(shape, affine, centre, 30)
    image = 100.0 * brain
    image[ball(shape, affine, centre, 8)] = 0
    image[ball(shape, affine, beside, 8)] = 100
    network = Bright()
    mask, certainty = predict_brain_mask(model_of(network), image.astype(np.float32), affine)
    assert mask.shape == shape
    assert mask.dtype == bool
    assert dice(mask, brain) > 0.95
    assert certainty > 0.9
    first, *close = network.shapes
    assert all(n % 8 == 0 for shape in network.shapes for n in shape)
    # 135 x 120 x 100 mm from afar, then the ball of 60 mm with its margin closely
    assert all(abs(4 * n - extent) < 36 for n, extent in zip(first, (135, 120, 100), strict=True))
    assert len(close) == 3
    assert all(84 <= 2 * n <= 128 for shape in close for n in shape)


def test_mask_is_the_same_in_every_orientation():
    shape, affine = (40, 36, 12), oblique_affine((2.0, 2.0, 5.0), (11, -8, 17))
    centre = affine[:3, :3] @ np.array([19.2, 17.4, 5.8]) + affine[:3, 3]
    volumes = []
    for turned_shape, turned in all_orientations(shape, affine):
        brain = ball(turned_shape, turned, centre, 25)
        mask, _ = predict_brain_mask(model_of(Bright()), 100.0 * brain, turned)
        assert dice(mask, brain) > 0.95
        volumes.append(mask.sum())
    # voxels whose probability is one half to rounding may fall either way
    assert np.ptp(volumes) <= 1e-3 * max(volumes)


def test_spacing_is_that_of_the_card():
    network = Bright()
    image = 100.0 * ball((32, 32, 32), np.diag([4.0, 4, 4, 1]), np.full(3, 64.0), 40)
    predict_brain_mask(model_of(network, 4.0), image, np.diag([4.0, 4, 4, 1]))
    assert network.shapes == [(16, 16, 16), *[(32, 32, 32)] * 3]


def test_few_slices_are_shown_in_as_much_emptiness_as_in_the_training():
    edge = 88
    affine = np.diag([2.0, 2, 5, 1])
    shape = (150, 120, 16)
    image = 100.0 * ball(shape, affine, np.array([150.0, 120, 40]), 35)
    network = Bright()
    mask, _ = predict_brain_mask(model_of(network, patch_size=edge), image, affine)
    assert set(network.shapes) == {(edge, edge, edge)}
    assert dice(mask, image > 0) > 0.95


def test_packaged_model_tells_the_patches_of_its_recipe():
    patch_size = load_model(BRAIN_MASK_MODEL).card.contract.patch_size
    assert patch_size == read_recipe('brain-mask').sampling.patch_size


def test_a_single_voxel_seen_from_afar_is_looked_at():
    data, affine = np.zeros((48, 48, 48), np.float32), np.diag([2.0, 2, 2, 1])
    data[24:26, 24:26, 24:26] = 100
    network = Bright(12.0)
    predict_brain_mask(model_of(network), data, affine)
    assert len(network.shapes) > 1


class Stepped(torch.nn.Module):
    """Gives the probabilities that the image holds."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, x], dim=1)


def unscaled(network, patch_size=0):
    """A model that sees images as they are, their maximum 1."""
    model = model_of(network, patch_size=patch_size)
    contract = dataclasses.replace(model.card.contract, normalisation='volume-max')
    return dataclasses.replace(model, card=dataclasses.replace(model.card, contract=contract))


def test_of_two_candidates_the_surer_is_the_brain():
    """Something large that may be brain, and a smaller ball that surely is."""
    affine, shape = np.diag([2.0, 2.0, 2.0, 1.0]), (90, 60, 60)
    large, small = (
        ball(shape, affine, np.array([x, 60.0, 60.0]), r) for x, r in ((55, 36), (145, 24))
    )
    unsure = np.random.default_rng(0).uniform(0.55, 0.95, shape)
    image = (0.01 + unsure * large + 0.98 * small).astype(np.float32)
    mask, certainty = predict_brain_mask(unscaled(Stepped()), image, affine)
    assert dice(mask, small) > 0.9
    assert certainty > 0.85
    _, alone = predict_brain_mask(unscaled(Stepped()), image * ~small, affine)
    assert 0.4 < alone < 0.75


def test_windows_that_disagree_leave_it_unsure():
    """Of what is bright it calls brain what lies in the first half of the window."""

    class Sided(Bright):
        def forward(self, x):
            first = torch.arange(x.shape[2]) < x.shape[2] / 2
            output = super().forward(x)
            output[:, 1] *= first[:, None, None]
            return output

    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    image = 100.0 * ball((48, 48, 48), affine, np.full(3, 47.0), 30)
    assert predict_brain_mask(model_of(Bright()), image, affine)[1] > 0.9
    assert predict_brain_mask(model_of(Sided()), image, affine)[1] < 0.6


def test_windows_show_the_surroundings_and_none():
    """One is as large as the patches of the training, the other ends 16 mm around the brain."""

    class Shown(Bright):
        def forward(self, x):
            self.shapes.append(round(float((x > 0).sum()) ** (1 / 3)))
            return super().forward(x)

    edge, affine = 64, np.diag([2.0, 2.0, 2.0, 1.0])
    image = 0.02 + 0.98 * ball((100, 100, 100), affine, np.full(3, 90.0), 20)
    network = Shown(0.5)
    predict_brain_mask(unscaled(network, edge), image.astype(np.float32), affine)
    shown = [n for n in network.shapes if isinstance(n, int)]
    assert shown[0] == 50  # from afar
    assert shown[1] == edge
    assert sorted(shown[2:]) == pytest.approx([36, 36, edge, edge], abs=2)


def test_what_is_not_seen_from_afar_is_searched_for():
    """A network that sees nothing but in patches as large as those of its training."""

    class Near(Bright):
        def forward(self, x):
            output = super().forward(x)
            return output if x.shape[2:] == (48, 48, 48) else 0 * output

    affine, shape = np.diag([2.0, 2.0, 2.0, 1.0]), (160, 104, 48)
    brain = ball(shape, affine, np.array([250.0, 150.0, 46.0]), 24)
    network = Near(0.5)
    mask, certainty = predict_brain_mask(unscaled(network, 48), brain.astype(np.float32), affine)
    assert network.shapes[0] == (80, 56, 48)
    assert dice(mask, brain) > 0.95
    assert certainty > 0.8


def test_image_without_brain_gives_an_empty_mask():
    flat = np.zeros((40, 40, 10), np.float32)
    mask, certainty = predict_brain_mask(model_of(Bright()), flat, np.diag([2.0, 2, 4, 1]))
    assert not mask.any()
    assert certainty == 1


@pytest.fixture
def bright(monkeypatch):
    """The network in place of a trained one."""
    network = Bright(0.5)
    monkeypatch.setattr(
        brain_mask, 'load_model', lambda name: {'brain-mask': model_of(network)}[name]
    )
    return network


def test_sources_of_the_brain_mask(tmp_path, monkeypatch, bright):
    affine = oblique_affine((2.0, 2.0, 2.0))
    shape = (36, 36, 36)
    centre = affine[:3, :3] @ np.full(3, 17.5) + affine[:3, 3]
    inside = ball(shape, affine, centre, 24)
    brain = np.where(inside, 500.0, 0)
    given = ball(shape, affine, centre, 6)
    assert find_brain_mask(brain, affine, existing=given, mode='skip')[1] == 'existing mask'
    everything, method = find_brain_mask(brain, affine, mode='skip', template='Named')
    assert everything.all()
    assert method == 'skipped'
    mask, method = find_brain_mask(brain, affine, template='Named')
    assert method == 'stripped already'
    np.testing.assert_array_equal(mask, inside)
    assert not bright.shapes

    mask, method = find_brain_mask(brain, affine, mode='force')
    assert method == 'network bright 4'
    assert dice(mask, inside) > 0.97
    whole = brain + np.random.default_rng(0).uniform(0, 5, shape)
    mask, method = find_brain_mask(whole, affine)
    assert 'Look at the mask' in mask_note(method)
    assert not mask_note('stripped already')
    assert method == 'network bright 4'
    assert dice(mask, inside) > 0.97

    looks = len(bright.shapes)
    monkeypatch.setenv('TEMPLATEFLOW_HOME', str(tmp_path))
    with pytest.raises(UserError, match='template Named, which is not in') as error:
        find_brain_mask(whole, affine, template='Named')
    assert '\n' not in str(error.value)
    assert '--skull-strip skip' in str(error.value)
    assert len(bright.shapes) == looks


@pytest.mark.parametrize('radius', [0, 8])
def test_what_is_no_brain_by_its_size_is_an_error(bright, radius):
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    image = 500.0 * ball((40, 40, 24), affine, np.full(3, 36.0), radius)
    words = r'^network bright 4 gives a brain of \d ml: it failed; give a brain mask'
    with pytest.raises(ImageError, match=words):
        find_brain_mask(image, affine, mode='force')


def test_certainty_is_the_overlap_of_what_may_be_brain_with_what_surely_is():
    """24 layers that surely are, 6 that may be, and others that are not."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    image = np.full((40, 40, 48), 0.1, np.float32)
    image[4:36, 4:36, 8:32] = 0.95
    image[4:36, 4:36, 32:38] = 0.4
    _, certainty = predict_brain_mask(unscaled(Stepped()), image, affine)
    assert certainty == pytest.approx(2 * 24 / (24 + 30), abs=0.01)


@pytest.mark.parametrize(('sureness', 'refused'), [(20, False), (1, True)])
def test_an_unsure_network_has_not_found_the_brain(monkeypatch, sureness, refused):
    class Unsure(Bright):
        def forward(self, x):
            return torch.cat([x, torch.sigmoid(sureness * (x - self.level))], dim=1)

    monkeypatch.setattr(brain_mask, 'load_model', lambda name: model_of(Unsure(0.5)))
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    image = 500.0 * ball((48, 48, 32), affine, np.full(3, 47.0), 32)
    if not refused:
        assert find_brain_mask(image, affine, mode='force')[0].any()
        return
    words = r'not sure where the brain is \(certainty 0\.\d+.* not found; give a brain mask'
    with pytest.raises(ImageError, match=words):
        find_brain_mask(image, affine, mode='force')


def head_phantom(shape, affine, brain_centre, brain_radius):
    """Brain, dark skull and bright scalp around a point; brain mask."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing='ij'), -1)
    points = index @ affine[:3, :3].T + affine[:3, 3] - brain_centre
    stretched = np.linalg.norm(points / [1.0, 1.2, 0.9], axis=-1)
    brain = stretched < brain_radius
    head = np.where(brain, 600 + 120 * np.sin(points[..., 0] / 9), 0)
    head[(stretched > brain_radius + 6) & (stretched < brain_radius + 13)] = 900
    head[points[..., 2] < -0.8 * brain_radius] += 200
    noise = np.random.default_rng(1).normal(0, 10, shape)
    return np.abs(head + noise).astype(np.float32), brain


@pytest.mark.slow
def test_registration_of_a_templateflow_template(tmp_path, monkeypatch):
    template_affine = np.diag([3.0, 3.0, 3.0, 1.0])
    template_affine[:3, 3] = -90
    template, template_brain = head_phantom((60, 64, 60), template_affine, np.zeros(3), 60)
    folder = tmp_path / 'tpl-Phantom'
    folder.mkdir()
    stem = folder / 'tpl-Phantom_res-01'
    nib.save(nib.Nifti1Image(template, template_affine), f'{stem}_T1w.nii.gz')
    nib.save(
        nib.Nifti1Image(template_brain.astype(np.uint8), template_affine),
        f'{stem}_desc-brain_mask.nii.gz',
    )
    (folder / 'tpl-Phantom_res-00_desc-brain_mask.nii.gz').touch()  # a stub is not a template
    monkeypatch.setenv('TEMPLATEFLOW_HOME', str(tmp_path))
    assert find_template('Phantom', 'T2w')[0].name == 'tpl-Phantom_res-01_T1w.nii.gz'

    affine = oblique_affine((1.8, 1.8, 5.0), (6, -4, 9))
    affine[:3, 3] = affine[:3, 3] - affine[:3, :3] @ np.array([50, 55, 18])
    scan, brain = head_phantom((100, 110, 36), affine, np.array([-20.0, 10.0, 12.0]), 52)
    mask, method = find_brain_mask(scan, affine, template='Phantom', suffix='T2w')
    assert method == 'registration to Phantom'
    assert dice(mask, brain) > 0.93
    again, _ = find_brain_mask(scan, affine, template='Phantom', suffix='T2w')
    np.testing.assert_array_equal(mask, again)


def test_templates_are_found_offline_in_an_archive_that_stays_as_it_is(tmp_path, monkeypatch):
    """Empty files stand for what was not fetched; cohorts lie in folders of their own."""
    monkeypatch.setenv('TEMPLATEFLOW_HOME', str(tmp_path))
    monkeypatch.setattr(socket.socket, 'connect', lambda *_: pytest.fail('asked a network'))
    fetched = [
        'tpl-Infant/cohort-2/tpl-Infant_cohort-2_res-1_desc-brain_mask.nii.gz',
        'tpl-Infant/cohort-2/tpl-Infant_cohort-2_res-1_T1w.nii.gz',
        'tpl-Adult/tpl-Adult_res-02_desc-brain_mask.nii.gz',
        'tpl-Adult/tpl-Adult_res-02_T1w.nii.gz',
        'tpl-Adult/tpl-Adult_res-02_T2w.nii.gz',
    ]
    empty = [
        'tpl-Infant/cohort-1/tpl-Infant_cohort-1_res-1_desc-brain_mask.nii.gz',
        'tpl-Adult/tpl-Adult_res-01_desc-brain_mask.nii.gz',
        'tpl-Adult/tpl-Adult_res-01_T2w.nii.gz',
    ]
    for name in (*fetched, *empty):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b'some' if name in fetched else b'')
    before = sorted(tmp_path.rglob('*'))
    for name, suffix, image in (
        ('Infant:cohort-2', 'T2w', fetched[1]),
        ('Adult', 'T1w', fetched[3]),
        ('Adult', 'T2w', fetched[4]),
    ):
        assert find_template(name, suffix)[0] == tmp_path / image
    for name in ('Infant:cohort-1', 'Infant', 'Nobody'):
        with pytest.raises(UserError, match=f'template {name}, which is not in'):
            find_template(name, 'T2w')
    assert sorted(tmp_path.rglob('*')) == before


@pytest.mark.slow
def test_a_registered_mask_of_impossible_size_is_an_error(tmp_path, monkeypatch):
    affine = np.diag([0.6, 0.6, 0.6, 1.0])
    template, brain = head_phantom((40, 40, 40), affine, np.full(3, 12.0), 6)
    folder = tmp_path / 'tpl-Tiny'
    folder.mkdir()
    nib.save(nib.Nifti1Image(template, affine), folder / 'tpl-Tiny_T1w.nii.gz')
    nib.save(
        nib.Nifti1Image(brain.astype(np.uint8), affine),
        folder / 'tpl-Tiny_desc-brain_mask.nii.gz',
    )
    monkeypatch.setenv('TEMPLATEFLOW_HOME', str(tmp_path))
    with pytest.raises(ImageError, match=r'^registration to Tiny gives .* it failed'):
        find_brain_mask(template, affine, mode='force', template='Tiny')


def test_network_repeats_itself_and_does_not_change_the_image():
    affine = np.diag([2.0, 2.0, 4.0, 1.0])
    scan, _ = head_phantom((40, 44, 20), affine, np.array([40.0, 44, 40]), 28)
    before = scan.copy()
    torch.manual_seed(0)
    model = model_of(create('tissue-unet', base_filters=4, classes=2, intensity=False).eval())
    first, second = (predict_brain_mask(model, scan, affine)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(scan, before)
