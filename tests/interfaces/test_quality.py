"""The nodes of the numbers: agreement with the scan, and the QC record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bids_segsr.imaging.volume import load_map, load_mask, load_volume, save_volume
from bids_segsr.inference import steps
from bids_segsr.inference.processing import Processing
from bids_segsr.inference.qc import qc_json
from bids_segsr.inference.qc_numbers import quality
from bids_segsr.interfaces.quality import CollectQC, FidelityCheck

CHOICES = {'slice_thickness': 4.0, 'resolution': 1.5}


@pytest.fixture
def fine(scan: Path, brain: Path) -> steps.Fine:
    volume = load_volume(scan)
    return steps.interpolate(volume, load_mask(brain, volume), Processing(**CHOICES))


def test_agreement_is_that_of_the_step(tmp_path: Path, scan: Path, fine: steps.Fine) -> None:
    image = np.float32(1.1) * fine.image
    files = {'in_file': image, 'fine_file': fine.image, 'mask_file': fine.mask}
    paths = {
        name: str(save_volume(tmp_path / f'{name}.nii', data, fine.affine))
        for name, data in files.items()
    }
    made = FidelityCheck(**paths, scan_file=str(scan), processing=CHOICES)
    result = made.run(cwd=str(tmp_path)).outputs
    stored = load_volume(Path(paths['fine_file']))
    volume = load_volume(scan)
    expected = steps.check(
        image, replace(fine, affine=stored.affine), volume, Processing(**CHOICES)
    )
    assert result.qc == pytest.approx(expected.qc, rel=1e-4)
    assert result.qc['fidelity_nrmse'] > result.qc['fidelity_nrmse_spline']  # a tenth too bright
    residual = load_volume(Path(result.residual_file))
    np.testing.assert_allclose(residual.data, expected.residual, atol=0.05)
    np.testing.assert_allclose(residual.affine, volume.affine, atol=1e-5)


def test_the_record_holds_all_numbers_and_leaves_out_what_is_not_known(
    tmp_path: Path, scan: Path, fine: steps.Fine
) -> None:
    mask = save_volume(tmp_path / 'fine_mask.nii', fine.mask, fine.affine)
    half = np.full(fine.mask.shape, 0.5, np.float32)
    entropy = save_volume(tmp_path / 'entropy.nii', half, fine.affine)
    facts = {'bids_name': 'sub-01_T2w', 'brain_volume_expected_ml': [40, 2100]}
    node = CollectQC(
        facts=facts,
        segmentation={'cortex_volume_ml': 3.0},
        fidelity={'fidelity_nrmse': 0.1},
        scan_file=str(scan),
        mask_file=str(mask),
        entropy_file=str(entropy),
        header_notes=['mended'],
        warnings=['told'],
        skull_strip='existing mask',
        device='cpu',
    )
    path = Path(node.run(cwd=str(tmp_path)).outputs.out_file)
    stored = load_map(entropy).affine
    expected = quality(
        facts=facts,
        corrected=replace(load_volume(scan), notes=('mended',)),
        mask=fine.mask,
        affine=stored,
        method='existing mask',
        device='cpu',
        warnings=['told'],
        numbers={'cortex_volume_ml': 3.0, 'fidelity_nrmse': 0.1},
        maps={'entropy': half},
    )
    assert path.read_text(encoding='utf-8') == qc_json(expected)
    record = json.loads(path.read_text(encoding='utf-8'))
    assert record['brain_volume_ml'] == pytest.approx(fine.mask.sum() * 1.5**3 / 1000, rel=1e-5)
    assert record['entropy_mean'] == 0.5
    assert record['slice_axis'] == 'k'
    assert record['header_notes'] == ['mended']
    assert record['warnings'] == ['told']
    assert record.get('disagreement_mean') is None
