"""The network node gives what its steps give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from nipype.interfaces.base import isdefined
from test_card import make_card

from bids_segsr.exceptions import ModelError
from bids_segsr.imaging.volume import load_map, load_mask, load_volume, save_volume
from bids_segsr.inference import steps
from bids_segsr.inference.predict import Prediction
from bids_segsr.inference.processing import Processing
from bids_segsr.interfaces.inference import SuperResolve
from bids_segsr.networks import create
from bids_segsr.zoo.find import load_model
from bids_segsr.zoo.store import save_model

TISSUES = ('background', 'cortical grey matter', 'white matter')


CORTEX = make_card()
CLASSES = make_card(
    architecture='tissue-unet',
    options={'base_filters': 2, 'classes': len(TISSUES)},
    channels=(*CORTEX.channels, *TISSUES),
)


@pytest.fixture
def node(tmp_path: Path, scan: Path, brain: Path, request: pytest.FixtureRequest) -> SuperResolve:
    torch.manual_seed(0)
    card = getattr(request, 'param', CORTEX)
    folder = save_model(tmp_path / 'model', create(card.architecture, **card.options), card)
    volume = load_volume(scan)
    fine = steps.interpolate(volume, load_mask(brain, volume), Processing(resolution=2.0))
    return SuperResolve(
        in_file=str(scan),
        fine_file=str(save_volume(tmp_path / 'fine.nii', fine.image, fine.affine)),
        mask_file=str(save_volume(tmp_path / 'fine_mask.nii', fine.mask, fine.affine)),
        model=str(folder),
        card_json=load_model(str(folder)).card.to_json(),
        processing={
            'slice_thickness': 4.0,
            'patch_size': 16,
            'device': 'cpu',
            'threshold': 0.4,
            'keep_largest': True,
        },
    )


def test_the_network_restores_what_the_step_restores(node: SuperResolve, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        made = node.run(cwd=str(tmp_path)).outputs
    finally:
        torch.set_num_threads(threads)
    fine = load_volume(Path(node.inputs.fine_file))
    mask = load_mask(Path(node.inputs.mask_file), fine)
    expected = steps.restore(
        load_model(node.inputs.model),
        load_volume(Path(node.inputs.in_file)),
        steps.Fine(fine.data, mask, fine.affine),
        Processing(**node.inputs.processing),
    )
    image = load_volume(Path(made.out_file))
    np.testing.assert_allclose(image.affine, fine.affine, atol=1e-5)
    np.testing.assert_allclose(image.data, expected.image, rtol=1e-5, atol=1e-3)
    assert len(expected.probabilities) == 1
    assert not isdefined(made.regions_file)
    for name, data in (
        (made.probability_file, expected.probabilities[0]),
        (made.entropy_file, expected.entropy),
        (made.disagreement_file, expected.disagreement),
    ):
        np.testing.assert_allclose(load_map(Path(name)).data, data, atol=1e-4)
    assert (made.device, made.precision) == ('cpu', 'fp32')


def test_a_model_that_changed_meanwhile_is_refused(node: SuperResolve, tmp_path: Path) -> None:
    node.inputs.card_json = make_card(version='2').to_json()
    with pytest.raises(ModelError, match='the model changed during the run; start it again'):
        node.run(cwd=str(tmp_path))


@pytest.mark.parametrize('node', [CORTEX, CLASSES], indirect=True)
def test_cortex_and_tissues_are_those_of_the_step(
    node: SuperResolve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = load_model(node.inputs.model).card
    fine = load_volume(Path(node.inputs.fine_file))
    rng = np.random.default_rng(0)
    maps = rng.dirichlet([1] * len(TISSUES), fine.data.shape).astype(np.float32)
    maps = np.moveaxis(maps, -1, 0)
    maps = np.stack([maps[1], *(maps if card.regions else ())])
    prediction = Prediction(fine.data, maps, maps[0], maps[0], 'cpu')
    monkeypatch.setattr(steps, 'restore', lambda *_, **__: prediction)
    result = node.run(cwd=str(tmp_path)).outputs
    expected = steps.segment(maps, fine.spacing, card, Processing(**node.inputs.processing))
    cortex = load_map(Path(result.mask_file)).data
    assert 0 < cortex.sum() < cortex.size
    np.testing.assert_array_equal(cortex, expected.cortex)
    np.testing.assert_array_equal(load_map(Path(result.dseg_file)).data, expected.labelled(1))
    assert result.qc == expected.qc
    tissues = bool(card.regions)
    assert ('white_matter_volume_ml' in result.qc) is tissues
    if tissues:
        regions = load_map(Path(result.regions_file)).data
        np.testing.assert_array_equal(regions, expected.regions)


def test_a_model_without_a_cortex_gives_an_image_alone(
    node: SuperResolve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine = load_volume(Path(node.inputs.fine_file)).data
    prediction = Prediction(fine, np.empty((0, *fine.shape), np.float32), fine, fine, 'cpu')
    monkeypatch.setattr(steps, 'restore', lambda *_, **__: prediction)
    result = node.run(cwd=str(tmp_path)).outputs
    np.testing.assert_array_equal(load_map(Path(result.out_file)).data, fine)
    assert not any(
        isdefined(getattr(result, name))
        for name in ('probability_file', 'entropy_file', 'mask_file', 'dseg_file', 'qc')
    )
