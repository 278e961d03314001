"""What a parcellation network makes of an image and of the truth."""

from __future__ import annotations

import pickle
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_phantoms import export_parcellation
from torch import Tensor, nn

from bids_segsr.evaluation.anatomical_fidelity import (
    anatomical_fidelity,
    load_parcellation,
    prepare,
)
from bids_segsr.evaluation.cases import Case
from bids_segsr.evaluation.scores import Scorer
from bids_segsr.evaluation.systems import SPLINE, Output, System
from bids_segsr.exceptions import ModelError


class TwoLayers(nn.Module):
    """Feature maps of two layers, then three classes, as a parcellation network would give."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv3d(1, 4, 3, padding=1)
        self.second = nn.Conv3d(4, 3, 3, padding=1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.relu(self.first(image))
        return features, self.second(features)


@pytest.fixture(scope='module')
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp('networks')
    network, image = TwoLayers().eval(), torch.rand(1, 1, 16, 16, 16)
    axes = {2: 'x', 3: 'y', 4: 'z'}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.jit.trace(network, image).save(str(folder / 'network.pt'))
        torch.onnx.export(
            network, (image,), str(folder / 'network.onnx'), input_names=['image'],
            output_names=['features', 'scores'], dynamo=False,
            dynamic_axes=dict.fromkeys(('image', 'features', 'scores'), axes),
        )  # fmt: skip
    return {'torchscript': folder / 'network.pt', 'onnx': folder / 'network.onnx'}


@pytest.mark.parametrize('kind', ['torchscript', 'onnx'])
def test_anatomical_fidelity(
    kind: str, networks: dict[str, Path], case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        'bids_segsr.evaluation.anatomical_fidelity.correct_bias_field',
        lambda image, affine, brain: image,
    )
    scorer = Scorer(
        ['m_h', 'parcel_dice', 'parcel_jaccard'], None, load_parcellation(networks[kind])
    )
    affine, inside = case.reference.affine, case.inside
    network = TwoLayers().eval()
    with torch.no_grad():
        truth, other = (
            [
                output[0].numpy()
                for output in network(torch.from_numpy(prepare(image, affine, inside))[None, None])
            ]
            for image in (case.reference.image, case.interpolated)
        )
    m_h = sum(np.abs(a - b).mean() / np.abs(a).mean() for a, b in zip(truth, other, strict=True))
    first, second = truth[1].argmax(0), other[1].argmax(0)
    overlaps = [
        2 * ((first == n) & (second == n)).sum() / ((first == n).sum() + (second == n).sum())
        for n in (1, 2)
        if ((first == n) | (second == n)).any()
    ]
    output = Output(case.interpolated, {}, 0, 0, 'cpu')
    found = {s.metric: s.value for s in scorer.score(System(SPLINE), case, output)}
    assert found['m_h'] == pytest.approx(m_h, rel=1e-4)
    assert found['parcel_dice'] == pytest.approx(np.mean(overlaps), abs=1e-3)
    assert found['parcel_jaccard'] <= found['parcel_dice']
    same = Output(case.reference.image, {}, 0, 0, 'cpu')
    assert scorer.score(System('x'), case, same)[0].value == 0


def test_fidelity_of_features_alone() -> None:
    ones = [np.ones((1, 4, 4, 4)), np.full((1, 2, 2, 2), 10.0)]
    off = [np.full((1, 4, 4, 4), 1.5), np.full((1, 2, 2, 2), 11.0)]
    found = anatomical_fidelity(ones, off)
    # half of the first layer, a tenth of the second, whatever their scales
    assert found.m_h == pytest.approx(0.6)
    assert np.isnan(found.dice)


def test_prepared_image(case: Case) -> None:
    prepared = prepare(case.reference.image, case.reference.affine, case.inside)
    assert all(n % 8 == 0 for n in prepared.shape)
    values = prepared[prepared != 0]
    assert values.mean() == pytest.approx(0, abs=1e-3)
    assert values.std() == pytest.approx(1, abs=1e-3)


def test_networks_that_are_none(
    tmp_path: Path, networks: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match='no such file'):
        load_parcellation(tmp_path / 'nothing.pt')
    (tmp_path / 'pickled.pt').write_bytes(pickle.dumps({'run': 'anything'}))
    torch.save(TwoLayers(), tmp_path / 'whole.pt')
    for name in ('pickled.pt', 'whole.pt'):
        with pytest.raises(ModelError, match=f'{name}: no TorchScript'):
            load_parcellation(tmp_path / name)
    (tmp_path / 'bad.onnx').write_bytes(b'no network')
    with pytest.raises(ModelError, match=r'bad\.onnx: cannot be loaded'):
        load_parcellation(tmp_path / 'bad.onnx')
    for path in networks.values():
        with pytest.raises(ModelError, match='does not take an image'):
            load_parcellation(path)(np.zeros((8, 8), dtype=np.float32))
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(ModelError, match='pip install onnxruntime'):
        load_parcellation(networks['onnx'])


def test_a_parcellation_network_sees_its_own_spacing() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in (24, 26, 28)], indexing='ij'))
    brain = (((grid - 12.5) / 9) ** 2).sum(0) < 1
    image = np.where(brain, 50 + grid[0], 0).astype(np.float32)
    affine = np.diag([0.5, 0.5, 0.5, 1.0])
    own, coarse = (prepare(image, affine, brain, spacing) for spacing in (None, 1.0))
    # padded to multiples of 8: some 18 voxels of 0.5 mm are some 9 of 1 mm
    assert own.shape == (24, 24, 24)
    assert coarse.shape == (16, 16, 16)
    assert (coarse != 0).sum() == pytest.approx((own != 0).sum() / 8, rel=0.1)
    assert coarse[coarse != 0].std() == pytest.approx(1, abs=0.05)


def test_the_documented_export_gives_the_six_layers_for_any_size(tmp_path: Path) -> None:
    file, network = export_parcellation(tmp_path)
    image = np.random.default_rng(0).normal(size=(16, 24, 40)).astype(np.float32)
    first, again = load_parcellation(file)(image), load_parcellation(file)(image)
    assert [len(found) for found in first] == [16, 16, 32, 64, 80, 160]
    with torch.no_grad():
        x = torch.from_numpy(image)[None, None]
        layers = [x := block(x) for block in network.block]
    del layers[-2]  # dropout, which passes everything on
    for found, same, layer in zip(first, again, layers, strict=True):
        np.testing.assert_allclose(found, layer[0].numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(found, same)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
def test_a_parcellation_network_runs_on_the_gpu(networks: dict[str, Path]) -> None:
    image = np.random.default_rng(0).normal(size=(16, 24, 40)).astype(np.float32)
    torch.cuda.reset_peak_memory_stats()
    on_gpu = load_parcellation(networks['torchscript'], 'cuda')(image)
    assert torch.cuda.max_memory_allocated() > image.nbytes
    on_cpu = load_parcellation(networks['torchscript'])(image)
    for found, expected in zip(on_gpu, on_cpu, strict=True):
        np.testing.assert_allclose(found, expected, atol=0.02)
