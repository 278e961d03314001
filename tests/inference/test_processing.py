"""The choices of a person: ranges, defaults, and what is settled for one image."""

from __future__ import annotations

import pytest

from bids_segsr.exceptions import UserError
from bids_segsr.inference.processing import CHOICES, Processing, flag


@pytest.mark.parametrize(
    ('choices', 'told'),
    [
        ({'resolution': 0.0}, '--resolution is 0: give a positive number of mm'),
        ({'slice_thickness': float('nan')}, '--slice-thickness is nan'),
        ({'threshold': 1.1}, '--threshold is 1.1'),
        ({'device': 'cuda:x'}, "--device is 'cuda:x': give auto, cpu, cuda or cuda:N"),
        ({'blending': 'linear'}, "--blending is 'linear': give one of gaussian, uniform"),
        ({'skull_strip': 'yes'}, 'give one of auto, skip, force'),
        (
            {'skull_strip_tool': 'hd-bet', 'skull_strip_template': 'MNIInfant'},
            '--skull-strip-tool hd-bet registers no template',
        ),
    ],
)
def test_a_value_out_of_range_names_its_flag(choices: dict, told: str) -> None:
    with pytest.raises(UserError) as caught:
        Processing(**choices)
    assert told in str(caught.value)


def test_nothing_is_left_open_and_what_was_asked_for_stays() -> None:
    settled = Processing().settled(resolution=0.6, slice_thickness=3.0)
    assert (settled.resolution, settled.slice_thickness) == (0.6, 3.0)
    assert (settled.patch_size, settled.step) == (96, 80)
    assert settled.settled(resolution=1.0, slice_thickness=9.0) == settled
    asked = Processing(resolution=0.8, patch_size=48).settled(resolution=0.6, slice_thickness=3.0)
    assert (asked.resolution, asked.patch_size, asked.step) == (0.8, 48, 40)


def test_a_node_gets_the_choices_that_it_depends_on_alone() -> None:
    assert Processing(threshold=0.3).choices('threshold', 'margin') == {
        'threshold': 0.3,
        'margin': 0,
    }
    assert {'patch_size', 'skull_strip_tool'} < set(CHOICES)
    assert flag('skull_strip_tool') == '--skull-strip-tool'
