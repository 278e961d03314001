"""How much memory the steps take."""

from __future__ import annotations

import numpy as np
import pytest

from bids_segsr.exceptions import UserError
from bids_segsr.inference.processing import Processing
from bids_segsr.inference.step_memory import brain_mask_gb, check_fits, memory_of_steps
from bids_segsr.zoo.find import find_card


def test_memory_grows_with_the_field_of_view():
    small, large = (
        brain_mask_gb(shape, np.diag([1.0, 1, 3, 1])) for shape in ((256, 256, 40), (400, 400, 80))
    )
    assert small < large < 4


def test_a_step_that_does_not_fit_is_named() -> None:
    check_fits({'conform': 1.0, 'fidelity': 3.0}, 3.0)
    with pytest.raises(UserError, match=r'step fidelity takes 3 GB, and --mem is 0.5 GB'):
        check_fits({'conform': 1.0, 'fidelity': 3.0}, 0.5)


def test_a_finer_grid_takes_more_and_the_scan_as_much() -> None:
    affine, card = np.diag([1.0, 1, 4, 1]), find_card('tissue-unet')
    coarse, fine = (
        memory_of_steps((128, 128, 30), affine, card, Processing(resolution=mm, patch_size=32))
        for mm in (1.0, 0.5)
    )
    assert coarse['conform'] == fine['conform'] == pytest.approx(0.25 + 3 * 128 * 128 * 30 * 4e-9)
    # eight times the voxels, up to the rounding of the grid
    assert (fine['interpolate'] - 0.25) / (coarse['interpolate'] - 0.25) == pytest.approx(
        8, rel=0.05
    )
    assert fine['fidelity'] > coarse['fidelity']
