"""Slice profiles: weights, centre of mass and width."""

from __future__ import annotations

import numpy as np
import pytest

from bids_segsr.exceptions import UserError
from bids_segsr.imaging.acquisition import draw_acquisition
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.imaging.resample import FWHM_PER_SIGMA
from bids_segsr.imaging.slice_profile import profile_samples, profile_width


def test_measured_profile_is_used_about_its_centre_of_mass(tmp_path):
    path = tmp_path / 'profile.csv'
    path.write_text('# mm, weight\n0,0\n1,1\n3,1\n4,0\n', encoding='utf-8')
    offsets, weights = profile_samples(str(path), 99.0, 0.05)
    assert weights @ offsets == pytest.approx(0, abs=1e-9)
    assert weights.sum() == pytest.approx(1)
    assert profile_width(str(path), 99.0) == pytest.approx(3.0, abs=0.01)
    model = ForwardModel(spacing_mm=(5.0, 5.0), profile=str(path))
    acquisition = draw_acquisition(model, (1, 1, 1), np.random.default_rng(0))
    assert acquisition.thickness == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize('content', ['1 2 3\n4 5 6\n7 8 9\n', '0 1\n0 1\n0 1\n', 'a b\n', '0 1\n'])
def test_broken_profile_is_named_in_one_line(tmp_path, content):
    path = tmp_path / 'profile.txt'
    path.write_text(content, encoding='utf-8')
    with pytest.raises(UserError, match=r'profile\.txt') as caught:
        profile_samples(str(path), 3.0, 0.1)
    assert '\n' not in str(caught.value)


def test_a_gaussian_has_the_variance_of_its_width_and_a_box_that_of_its_edges():
    for profile, variance in (('gaussian', (4 / FWHM_PER_SIGMA) ** 2), ('box', 4**2 / 12)):
        offsets, weights = profile_samples(profile, 4.0, 0.01)
        assert np.diff(offsets).max() <= 0.01 + 1e-9
        assert weights.sum() == pytest.approx(1)
        assert weights @ offsets == pytest.approx(0, abs=1e-9)
        assert weights @ offsets**2 == pytest.approx(variance, rel=2e-3)
        assert profile_width(profile, 4.0) == 4.0
