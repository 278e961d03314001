"""What another installed package brings is found by its entry points."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from training_phantoms import DATA

from bids_segsr.exceptions import ImageError, ModelError, UserError
from bids_segsr.extensions import extension_names
from bids_segsr.imaging.acquisition import acquire, draw_acquisition, interpolate
from bids_segsr.imaging.axis_matrices import interpolation_matrix
from bids_segsr.imaging.back_projection import Slices
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.imaging.volume import load_scan, save_volume
from bids_segsr.inference.predict import predict
from bids_segsr.inference.processing import Processing
from bids_segsr.networks import create
from bids_segsr.networks.standardise import volume_scale
from bids_segsr.training.data.patches import make_dataset
from bids_segsr.training.data.subjects import Subject
from bids_segsr.training.loop.model_card import Outcome, write_model
from bids_segsr.training.loop.progress import Progress
from bids_segsr.training.recipe_file import parse_recipe
from bids_segsr.zoo.feeding import interpolated, scales
from bids_segsr.zoo.find import load_model

MODULE = """
import nibabel as nib
import numpy as np
from torch import nn

class Thin(nn.Module):
    def __init__(self, filters):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv3d(1, filters, 3, padding=1), nn.Conv3d(filters, 2, 1))

    def forward(self, x):
        return self.layers(x)

def read(path):
    with np.load(path) as stored:
        return nib.Nifti1Image(stored['data'], stored['affine'])

def step(n, positions):
    return np.eye(n)[np.clip(np.floor(positions + 0.25), 0, n - 1).astype(int)]

def median(volume):
    return np.median(volume[volume > 0])
"""
POINTS = """
[bids_segsr.networks]
thin = lab_networks:Thin
lost = lab_networks:Lost
segsrgan = lab_networks:Thin

[bids_segsr.readers]
.npz = lab_networks:read

[bids_segsr.interpolations]
step = lab_networks:step

[bids_segsr.normalisations]
median = lab_networks:median
"""
RECIPE = """
name = "ours"
[network]
architecture = "thin"
options = { filters = 3 }
[task]
channels = ["intensity", "cortex"]
[forward]
spacing_mm = [3, 3]
interpolation = "step"
[sampling]
patch_size = 8
normalisation = "median"
[schedule]
steps = 1
"""
AFFINE = np.diag([1.0, 1.0, 1.0, 1.0])


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A package as pip installs it: a module and its metadata."""
    site = tmp_path / 'site'
    info = site / 'lab_networks-1.0.dist-info'
    info.mkdir(parents=True)
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: lab-networks\nVersion: 1.0\n')
    (info / 'entry_points.txt').write_text(POINTS)
    (site / 'lab_networks.py').write_text(MODULE)
    monkeypatch.syspath_prepend(site)
    importlib.invalidate_caches()
    return site


def textured(shape=(20, 18, 24)):
    return np.random.default_rng(0).uniform(10, 90, shape).astype(np.float32)


def test_nothing_is_there_without_a_package():
    assert extension_names('networks') == []
    with pytest.raises(ModelError, match="unknown architecture 'thin'; known are fsrcnn"):
        create('thin')
    with pytest.raises(ValueError, match="'step'; give one of cubic, linear, zero-fill"):
        ForwardModel(spacing_mm=(3, 3), interpolation='step')


def test_a_network_is_made_by_its_name(lab):
    assert create('thin', filters=3)(torch.zeros(1, 1, 6, 6, 6)).shape == (1, 2, 6, 6, 6)
    assert type(create('segsrgan')).__name__ != 'Thin'  # ours comes first
    with pytest.raises(ModelError, match=r"architecture 'thin': .*depth"):
        create('thin', depth=2)
    with pytest.raises(ModelError, match=r'known are .*unet, .*thin'):
        create('thinner')
    with pytest.raises(UserError, match=r'lost: cannot be imported from lab-networks .*Lost'):
        create('lost')


def test_an_image_is_read_by_its_suffix(lab, tmp_path):
    path = tmp_path / 'a.npz'
    np.savez(path, data=textured(), affine=np.diag([1.0, 1.0, 3.0, 1.0]))
    scan = load_scan(path)
    np.testing.assert_array_equal(scan.data, textured())
    assert scan.spacing == (1, 1, 3)
    np.savez(path, data=textured()[None], affine=AFFINE)
    with pytest.raises(ImageError, match=r'a\.npz: cannot be read .*4-D'):
        load_scan(path)
    with pytest.raises(ImageError, match=r'b\.npz: no such file'):
        load_scan(tmp_path / 'b.npz')
    with pytest.raises(ImageError, match=r'c\.mnc: not a NIfTI file name'):
        load_scan(tmp_path / 'c.mnc')


def test_training_and_prediction_share_interpolation_and_normalisation(lab, tmp_path):
    from lab_networks import step

    recipe = parse_recipe(RECIPE, 'ours')
    image, label = textured(), np.ones((20, 18, 24), np.uint8)
    paths = [tmp_path / 'image.nii', tmp_path / 'label.nii']
    for path, data in zip(paths, (image, label), strict=True):
        save_volume(path, data, AFFINE)
    subject = Subject('a', *paths, 'train')
    dataset = make_dataset(recipe, [subject], 'train', 0, tmp_path / 'cache')

    acquisition = draw_acquisition(recipe.forward, (1, 1, 1), None)
    low, grid = acquire(image, AFFINE, acquisition)
    fine = interpolate(low, image.shape, AFFINE, acquisition)
    positions = (np.arange(24) - 11.5) / 3 + 3.5
    np.testing.assert_allclose(fine, low @ step(8, positions).T, rtol=1e-6)
    _, start = dataset._position(0, np.random.default_rng([0, 0]))
    box = tuple(slice(n, n + 8) for n in start)
    expected = fine[box] / np.median(fine)
    np.testing.assert_allclose(dataset[0]['image'][0], expected, rtol=1e-3)

    write_model(
        tmp_path / 'model', create('thin', filters=3), recipe, DATA, Outcome(Progress(), None)
    )
    model = load_model(tmp_path / 'model')
    brain = np.ones(image.shape, bool)
    shown = interpolated(model.card, Slices(low, grid.affine, AFFINE, 3.0), brain)
    np.testing.assert_allclose(shown, fine, rtol=1e-6)
    assert scales(model.card, [shown], brain) == [pytest.approx(np.median(fine))]
    scaled = torch.from_numpy(fine[None, None] / np.median(fine))
    with torch.no_grad():
        wanted = model.network(scaled)[0, 0].numpy() * np.median(fine)
    processing = Processing(patch_size=0, device='cpu')
    found = predict(model, shown, Slices(low, grid.affine, AFFINE, 3.0), processing=processing)
    inner = (slice(2, -2),) * 3  # volumes are padded to a multiple of four
    np.testing.assert_allclose(found.image[inner], wanted[inner], rtol=1e-3, atol=1e-2)


def test_what_a_package_gives_is_checked(lab, monkeypatch):
    import lab_networks

    monkeypatch.setattr(lab_networks, 'step', lambda n, positions: np.eye(n))
    monkeypatch.setattr(lab_networks, 'median', lambda volume: 0.0)
    with pytest.raises(UserError, match=r'step: gives a matrix of shape \(7, 7\), not \(5, 7\)'):
        interpolation_matrix('step', 7, np.arange(5.0))
    with pytest.raises(UserError, match='median: gives 0, not a positive number'):
        volume_scale(textured(), 'median')


def test_two_packages_of_one_name_are_told(lab, monkeypatch):
    info = lab / 'other-1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: other\nVersion: 1.0\n')
    (info / 'entry_points.txt').write_text('[bids_segsr.networks]\nthin = other:Thin\n')
    importlib.invalidate_caches()
    with pytest.raises(UserError, match='thin: lab-networks and other both bring networks'):
        create('thin')
