"""The numbers of a result are those of direct calls; M_h against a network done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bids_segsr.evaluation.cases import Case
from bids_segsr.evaluation.scores import METRICS, Scorer, check_metrics
from bids_segsr.evaluation.surface_distance import average_surface_distance, hausdorff95
from bids_segsr.evaluation.systems import SPLINE, TRUTH, Output, System
from bids_segsr.exceptions import UserError
from bids_segsr.imaging.components import topology
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


def test_pristine_slices_may_come_one_by_one() -> None:
    rng = np.random.default_rng(3)
    slices = [np.clip(rng.normal(120, 40, (48, 48)), 0, 255) for _ in range(6)]
    whole, streamed = fit_natural_model(slices, 16), fit_natural_model(iter(slices), 16)
    np.testing.assert_array_equal(whole.mean, streamed.mean)
    np.testing.assert_array_equal(whole.covariance, streamed.covariance)
