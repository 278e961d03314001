"""The numbers of a result are those of direct calls; M_h against a network done by hand."""

from __future__ import annotations

import pickle
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_phantoms import write_head
from torch import Tensor, nn

from bids_segsr.evaluation.anatomical_fidelity import (
    anatomical_fidelity,
    load_parcellation,
    prepare,
)
from bids_segsr.evaluation.cases import Case, Imaging, load_reference, make_case
from bids_segsr.evaluation.scores import METRICS, Scorer, check_metrics
from bids_segsr.evaluation.surface_distance import average_surface_distance, hausdorff95
from bids_segsr.evaluation.systems import SPLINE, TRUTH, Output, System
from bids_segsr.exceptions import ModelError, UserError
from bids_segsr.imaging.components import topology
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.imaging.measures.metrics import (
    dice,
    jaccard,
    nrmse,
    psnr,
    slice_average,
    slice_nrmse,
    slice_psnr,
    slice_ssim,
    ssim,
)
from bids_segsr.imaging.measures.naturalness import brain_slices, fit_natural_model, niqe, piqe


@pytest.fixture(scope='module')
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    subject = write_head(tmp_path_factory.mktemp('heads'), 'sub-1', 1)
    reference = load_reference(subject, {'cortex': (1,), 'core': (2,)})
    return make_case(reference, Imaging(ForwardModel(spacing_mm=(3.0, 3.0))), 0)


def result(case: Case) -> Output:
    rng = np.random.default_rng(0)
    image = case.interpolated + rng.normal(0, 2, case.interpolated.shape).astype(np.float32)
    wrong = rng.random(image.shape) < 0.1
    found = {'cortex': case.reference.structures['cortex'] ^ wrong, 'unasked': wrong}
    return Output(image, found, 1.5, 2.5, 'cpu')


def test_every_number_is_that_of_a_direct_call(case: Case) -> None:
    output, inside, truth = result(case), case.inside, case.reference.image
    wanted = [m for m in METRICS if not m.startswith(('m_h', 'parcel'))]
    slices = brain_slices(truth, 0, case.inside)
    natural = fit_natural_model(slices, patch=8)
    scores = Scorer(wanted, natural).score(System('x'), case, output)
    found = {(s.metric, s.structure): s.value for s in scores}
    masked, image = truth * inside, output.image * inside
    cortex = case.reference.structures['cortex'] & inside
    segmented = output.structures['cortex'] & inside
    cut = brain_slices(output.image, case.across, inside, peak=float(truth[inside].max()))
    expected = {
        'psnr': psnr(truth, output.image, inside),
        'ssim': ssim(masked, image, inside),
        'nrmse': nrmse(truth, output.image, inside),
        'psnr_slices': slice_average(slice_psnr, truth, output.image, case.across, inside),
        'ssim_slices': slice_average(slice_ssim, masked, image, case.across, inside),
        'nrmse_slices': slice_average(slice_nrmse, truth, output.image, case.across, inside),
        'piqe': np.mean([piqe(one) for one in cut]),
        'niqe': niqe(cut, natural),
        'seconds': 1.5,
        'cpu_seconds': 2.5,
        'parameters': 0,
    }
    for metric, value in expected.items():
        assert found.pop((metric, '')) == pytest.approx(value, rel=1e-6), metric
    assert found == {
        ('dice', 'cortex'): dice(cortex, segmented),
        ('jaccard', 'cortex'): jaccard(cortex, segmented),
        ('hd95', 'cortex'): hausdorff95(cortex, segmented, (1, 1, 1)),
        ('asd', 'cortex'): average_surface_distance(cortex, segmented, (1, 1, 1)),
        ('ncc', 'cortex'): topology(segmented, 26).components,
        ('ncc6', 'cortex'): topology(segmented, 6).components,
        ('euler', 'cortex'): topology(segmented, 26).euler_number,
    }


def test_the_truth_has_no_error_only_looks(case: Case) -> None:
    scores = Scorer(['psnr', 'dice', 'piqe']).score(
        System(TRUTH), case, Output(case.reference.image, {}, 0, 0, 'cpu')
    )
    assert [score.metric for score in scores] == ['piqe']
    perfect = Scorer(['psnr', 'ssim']).score(
        System(SPLINE), case, Output(case.reference.image, {}, 0, 0, 'cpu')
    )
    assert [score.value for score in perfect[:2]] == [np.inf, pytest.approx(1)]


def test_what_is_asked_for() -> None:
    assert check_metrics(['psnr', 'seconds', 'psnr']) == ('psnr',)
    with pytest.raises(UserError, match=r'sharpness.*known are psnr'):
        check_metrics(['sharpness'])
    with pytest.raises(UserError, match='Base "Train"'):
        check_metrics(['niqe'], natural=False)
    with pytest.raises(UserError, match='--parcellation'):
        check_metrics(['m_h'], parcellation=False)


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


def test_pristine_slices_may_come_one_by_one() -> None:
    rng = np.random.default_rng(3)
    slices = [np.clip(rng.normal(120, 40, (48, 48)), 0, 255) for _ in range(6)]
    whole, streamed = fit_natural_model(slices, 16), fit_natural_model(iter(slices), 16)
    np.testing.assert_array_equal(whole.mean, streamed.mean)
    np.testing.assert_array_equal(whole.covariance, streamed.covariance)
