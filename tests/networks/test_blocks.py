"""What the networks of several papers share."""

from __future__ import annotations

import pytest
import torch

from bids_segsr.exceptions import ModelError
from bids_segsr.networks.blocks import (
    PatchBatchNorm,
    check_input,
    check_normalisable,
    same_conv,
)


def test_batches_that_a_network_cannot_take_are_refused() -> None:
    check_input(torch.zeros(2, 3, 4, 8, 12), channels=3, multiple=4)
    with pytest.raises(ModelError, match=r'shape \(B, 3, X, Y, Z\), got \(2, 1, 4, 4, 4\)'):
        check_input(torch.zeros(2, 1, 4, 4, 4), channels=3)
    for shape in ((1, 1, 4, 4, 6), (1, 1, 0, 4, 4)):
        with pytest.raises(ModelError, match='a multiple of 4 and not empty'):
            check_input(torch.zeros(shape), multiple=4)
    check_normalisable(torch.zeros(1, 1, 1, 1, 2), 'batch')
    with pytest.raises(ModelError, match='patch of one voxel'):
        check_normalisable(torch.zeros(1, 1, 1, 1, 1), 'patch')


@pytest.mark.parametrize('kernel', [1, 3, 5])
def test_a_padded_convolution_keeps_the_size(kernel: int) -> None:
    convolution = same_conv(2, 3, kernel, bias=False)
    assert convolution(torch.ones(1, 2, 5, 6, 7)).shape == (1, 3, 5, 6, 7)
    assert [p.shape for p in convolution.parameters()] == [(3, 2, *[kernel] * 3)]


def test_each_patch_is_normalised_by_itself_in_evaluation_and_the_batch_in_training() -> None:
    norm = PatchBatchNorm(1)
    x = torch.randn(2, 1, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    x[1] = 9 * x[1] + 40
    together = norm(x)
    assert together.mean().item() == pytest.approx(0, abs=1e-5)
    assert together[1].mean() > 0.5
    alone = norm.eval()(x)
    torch.testing.assert_close(alone[:1], norm(x[:1]))
    for patch in alone:
        assert patch.mean().item() == pytest.approx(0, abs=1e-5)
        assert patch.std(correction=0).item() == pytest.approx(1, rel=1e-3)
    assert not list(norm.buffers())
