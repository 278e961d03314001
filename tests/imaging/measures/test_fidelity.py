"""Agreement of a fine image with the scan."""

from __future__ import annotations

import numpy as np
from geometry_phantoms import gaussian_blob, oblique_affine

from bids_segsr.imaging.degrade import degrade, thick_slice_grid
from bids_segsr.imaging.measures.fidelity import fidelity
from bids_segsr.imaging.resample import isotropic_grid, resample


def test_fidelity_prefers_the_truth_and_sees_an_invented_structure():
    affine = oblique_affine((1.0, 1.0, 1.0), (8, 0, 5))
    shape = (48, 44, 42)
    rng = np.random.default_rng(1)
    truth = sum(
        gaussian_blob(shape, affine, affine[:3, :3] @ at + affine[:3, 3], 2.0)
        for at in rng.uniform(12, 30, (12, 3))
    )
    slices = thick_slice_grid(shape, affine, 3.0, 1)
    scan = degrade(truth, affine, slices)
    mask = np.ones(shape, dtype=bool)
    (right,) = fidelity([truth], affine, scan, slices.affine, mask)
    assert right.nrmse < 1e-6
    assert right.correlation > 0.9999

    grid = isotropic_grid(scan.shape, slices.affine, 1.0)
    spline = resample(scan, slices.affine, grid)
    everywhere = np.ones(grid.shape, dtype=bool)
    (blurred,) = fidelity([spline], grid.affine, scan, slices.affine, everywhere)
    invented = truth + 0.5 * gaussian_blob(shape, affine, affine[:3, :3] @ [20, 20, 20], 2.0)
    again, wrong = fidelity([truth, invented], affine, scan, slices.affine, mask)
    assert (again.nrmse, again.correlation) == (right.nrmse, right.correlation)
    assert right.nrmse < blurred.nrmse
    assert right.nrmse < wrong.nrmse


def test_fidelity_leaves_out_what_the_fine_image_does_not_hold():
    affine = oblique_affine((1.0, 1.0, 1.0))
    fine = np.ones((30, 30, 30))
    slices = thick_slice_grid(fine.shape, affine, 3.0, 2)
    scan = np.full(slices.shape, 1.0)
    mask = np.zeros(fine.shape, dtype=bool)
    mask[8:22, 8:22, 8:22] = True
    (result,) = fidelity([np.where(mask, fine, 0)], affine, scan, slices.affine, mask)
    assert result.nrmse < 0.1
    (empty,) = fidelity([fine], affine, scan, slices.affine, np.zeros(fine.shape, dtype=bool))
    assert np.isnan(empty.nrmse)
