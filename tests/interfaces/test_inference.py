"""The network node and the segmentation node give what their steps give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_card import make_card

from bids_segsr.exceptions import ModelError
from bids_segsr.imaging.volume import load_map, load_mask, load_volume, save_volume
from bids_segsr.inference import steps
from bids_segsr.inference.processing import Processing
from bids_segsr.interfaces.inference import Segment, SuperResolve
from bids_segsr.networks import create
from bids_segsr.zoo.find import load_model
from bids_segsr.zoo.store import save_model

TISSUES = ('background', 'cortical grey matter', 'white matter')


@pytest.fixture
def node(tmp_path: Path, scan: Path, brain: Path) -> SuperResolve:
    torch.manual_seed(0)
    card = make_card()
    folder = save_model(tmp_path / 'model', create(card.architecture, **card.options), card)
    volume = load_volume(scan)
    fine = steps.interpolate(volume, load_mask(brain, volume), Processing(resolution=2.0))
    return SuperResolve(
        in_file=str(scan),
        fine_file=str(save_volume(tmp_path / 'fine.nii', fine.image, fine.affine)),
        mask_file=str(save_volume(tmp_path / 'fine_mask.nii', fine.mask, fine.affine)),
        model=str(folder),
        card_json=load_model(str(folder)).card.to_json(),
        processing={'slice_thickness': 4.0, 'patch_size': 16, 'device': 'cpu'},
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
    assert made.probability_file == made.probability_files[0]
    assert len(made.probability_files) == len(expected.probabilities) == 1
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


@pytest.mark.parametrize('tissues', [False, True])
def test_cortex_and_tissues_are_those_of_the_step(tmp_path: Path, tissues: bool) -> None:
    rng = np.random.default_rng(0)
    maps = rng.dirichlet([1] * len(TISSUES), (10, 9, 8)).astype(np.float32).transpose(3, 0, 1, 2)
    maps = np.stack([maps[1], *(maps if tissues else ())])
    card = make_card(channels=('intensity', 'cortex', *(TISSUES if tissues else ())))
    if tissues:
        card = make_card(
            architecture='tissue-unet',
            options={'base_filters': 2, 'classes': len(TISSUES)},
            channels=card.channels,
        )
    files = [
        str(save_volume(tmp_path / f'p{number}.nii', data, np.diag([2.0, 2, 2, 1])))
        for number, data in enumerate(maps)
    ]
    choices = {'threshold': 0.4, 'keep_largest': True}
    made = Segment(probability_files=files, card_json=card.to_json(), processing=choices)
    result = made.run(cwd=str(tmp_path)).outputs
    expected = steps.segment(maps, (2.0, 2.0, 2.0), card, Processing(**choices))
    cortex = load_map(Path(result.mask_file)).data
    assert 0 < cortex.sum() < cortex.size
    np.testing.assert_array_equal(cortex, expected.cortex)
    np.testing.assert_array_equal(load_map(Path(result.dseg_file)).data, expected.labelled(1))
    assert result.qc == expected.qc
    assert ('white_matter_volume_ml' in result.qc) is tissues
    if tissues:
        regions = load_map(Path(result.regions_file)).data
        np.testing.assert_array_equal(regions, expected.regions)
