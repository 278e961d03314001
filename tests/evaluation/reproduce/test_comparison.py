"""The articles' numbers beside ours."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from bids_segsr.evaluation.reproduce.article import (
    PublishedScore,
    article_names,
    needed_trainings,
    read_article,
)
from bids_segsr.evaluation.reproduce.comparison import (
    as_frame,
    compare,
    make_jobs,
    make_systems,
    metrics_of,
    printed,
)
from bids_segsr.evaluation.scores import METRICS
from bids_segsr.evaluation.systems import System


def test_jobs_cover_the_tables_once():
    article, published = read_article('segsrgan-2020')
    systems = {name: System(name) for name in ('spline', 'segsrgan-2020')}
    jobs = make_jobs(published, article, systems)
    found = {(job.system.name, job.varied['condition']) for job in jobs}
    assert len(found) == len(jobs) == 7
    assert ('segsrgan-2020', 'step 80, noisy') in found
    assert ('spline', 'step 30') in found
    for job in jobs:
        condition = job.varied['condition']
        assert job.imaging.noise == (2 if 'noisy' in condition else 0)
        assert job.imaging.forward.spacing_mm == (3, 3)
        assert (job.processing.patch_size, job.processing.blending) == (128, 'uniform')
        assert f'step {job.processing.step}' == condition.partition(',')[0]


def test_measures_are_those_that_can_be_had():
    _, published = read_article('mdcsrn')
    own = [number for number in published if number.data == 'hcp']
    without = metrics_of(own, parcellation=False)
    assert set(without) == {'psnr_slices', 'ssim_slices', 'nrmse_slices', 'piqe', 'niqe'}
    added = set(metrics_of(own, parcellation=True)) - set(without)
    assert added == {'parcel_dice', 'parcel_jaccard'}


def test_systems_without_their_trainings_are_left_out():
    _, published = read_article('mdcsrn')
    assert set(make_systems(published, {})) == {'nearest', 'bicubic', 'truth'}


def row(system, condition, metric, value, subject='a', structure=''):
    return {
        'dataset': 'dhcp', 'subject': subject, 'system': system, 'condition': condition,
        'metric': metric, 'structure': structure, 'value': value,
    }  # fmt: skip


def test_comparison_averages_over_the_test_images():
    rows = pd.DataFrame([
        row('segsrgan-2020', 'step 30', 'psnr', 26.0),
        row('segsrgan-2020', 'step 30', 'psnr', 28.0, 'b'),
        row('segsrgan-2020', 'step 80', 'psnr', 99.0),
        row('segsrgan-2020', 'step 30, noisy', 'psnr', 99.0),
        row('segsrgan-2020', 'step 30', 'psnr', 99.0) | {'dataset': 'other'},
        row('spline', 'step 30', 'psnr', 24.0),
        row('ibp', 'step 30', 'psnr', 25.0),
        row('segsrgan-2020', 'step 30', 'dice', 0.8, structure='cortex'),
        row('segsrgan-2020', 'step 30', 'dice', 0.1, structure='ventricle'),
    ])  # fmt: skip
    article, published = read_article('segsrgan-2020')
    compared = compare(published, article, rows)
    by_place = {(c.published.table, c.published.row, c.published.metric): c for c in compared}
    found = by_place['8', 'SegSRGAN', 'psnr']
    assert (found.mean, found.sd, found.images) == (27, pytest.approx(2**0.5), 2)
    assert by_place['9', 'SegSRGAN', 'dice'].mean == 0.8
    assert by_place['8', 'SRReCNN3D', 'psnr'].mean is None
    text = printed(compared, article)
    assert 'Table 8. Super-resolution of several methods' in text
    lines = [' '.join(line.split()) for line in text.splitlines()]
    assert 'SegSRGAN PSNR (dB) dhcp step 30 26.96 27.00 ± 1.41' in lines
    assert 'SegSRGAN Dice dhcp step 30 0.855 ± 0.014 0.800' in lines
    assert 'SRReCNN3D PSNR (dB) dhcp step 30 27.79 not trained' in lines
    assert 'DrawEM Dice dhcp step 30 0.730 ± 0.010 another program' in lines
    assert 'Spline, back-projection (no network) PSNR (dB) dhcp step 30 none 25.00' in lines
    assert 'Table 7' not in text
    assert lines[-2] == 'Not measured'
    assert lines[-1].startswith('Table 6, Figure 13: seven scans that are not public')
    frame = as_frame(compared)
    assert len(frame) == 60
    assert set(frame.loc[frame['paper_mean'].isna(), 'system']) == {'ibp'}


def test_what_cannot_be_measured_says_why():
    article, _ = read_article('mdcsrn')

    def reason(metric):
        number = PublishedScore('2', 'a', 'b8u4', metric, 'hcp', '2 x 2 x 1', 1.0, None, '1')
        rows = pd.DataFrame([row('b8u4', '2 x 2 x 1', 'psnr', 1.0) | {'dataset': 'hcp'}])
        return compare([number], article, rows)[0].reason

    assert reason('pi') == "perceptual index: needs Ma's score"
    assert reason('parcel_dice') == 'needs --parcellation'
    assert reason('niqe') == 'not measured'


def test_comparison_of_nothing_has_no_table_and_says_what_is_missing():
    article, published = read_article('segsrgan-2020')
    lines = printed(compare(published, article, pd.DataFrame()), article).splitlines()
    assert lines[0] == 'Not measured'
    assert [line.partition(':')[0] for line in lines[1:]] == [
        'DrawEM', 'IMAPA', 'Table 6, Figure 13',
    ]  # fmt: skip


@pytest.mark.parametrize('name', article_names())
def test_all_that_cannot_be_measured_has_a_reason(name):
    article, published = read_article(name)
    reasons = {number: c.reason for number, c in zip(
        published, compare(published, article, pd.DataFrame()), strict=True
    )}  # fmt: skip
    for number, reason in reasons.items():
        can_be = bool(number.system) and number.metric in METRICS
        assert (reason == 'not trained') == can_be, number


def test_rows_that_were_not_asked_for_are_not_trained():
    article, published = read_article('mdcsrn')
    number = next(n for n in published if n.system == 'b4u4')
    left = replace(number, asked=False)
    assert make_systems([left], {'b4u4': object()}) == {}
    assert compare([left], article, pd.DataFrame())[0].reason == 'not trained'
    assert needed_trainings(article, [left]) == []
    assert needed_trainings(article, [number]) == ['b4u4']
