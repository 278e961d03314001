"""One image without BIDS: every orientation, and what is written."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from geometry_phantoms import all_orientations, centre_of_mass, gaussian_blob, oblique_affine
from torch import nn

from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.imaging.volume import save_volume
from bids_segsr.inference import steps
from bids_segsr.inference.one_image import Processed, Source, process_image, write_result
from bids_segsr.inference.processing import Processing
from bids_segsr.zoo.card import InputContract, ModelCard
from bids_segsr.zoo.store import TrainedModel

SHAPE = (36, 34, 12)
SPACING = (1.0, 1.1, 3.0)


class Bright(nn.Module):
    """The image, and bright voxels as cortex."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, torch.sigmoid(20 * (x - 0.5))], dim=1)


@pytest.fixture
def model() -> TrainedModel:
    card = ModelCard(
        name='bright',
        version='1',
        description='',
        architecture='toy',
        options={},
        contract=InputContract(
            ('T2w',), 'volume-max', (0.5, 1.0), (2.0, 4.0), back_projection=0.5
        ),
        channels=('intensity', 'cortex'),
        labels={1: 'bright'},
    )
    return TrainedModel(Bright(), card, Path('toy'))


def run(
    path: Path, folder: Path, model: TrainedModel, processing: Processing, **belonging: object
) -> tuple[Processed, dict[str, Path]]:
    source = Source(path, **belonging)  # type: ignore[arg-type]
    result = process_image(source, model, processing)
    folder.mkdir(exist_ok=True)
    outputs = source.outputs(folder, result.processing.resolution or 0.0, model.card.name)
    return result, write_result(result, outputs)


@pytest.mark.parametrize('degrees', [(0, 0, 0), (11, -8, 17)])
def test_every_output_in_all_48_orientations(tmp_path, model, monkeypatch, degrees):
    """One phantom stored in 48 ways gives one result; its known point is where it was.

    The bias field is left out: its fit is not exactly the same for flipped axes.
    """
    monkeypatch.setattr(steps, 'correct_bias_field', lambda data, *_, **__: data)
    affine = oblique_affine(SPACING, degrees)
    centre = affine[:3, :3] @ np.array([17.2, 16.4, 5.8]) + affine[:3, 3]
    first: dict[str, np.ndarray] = {}
    for shape, turned in all_orientations(SHAPE, affine):
        scan = 1000 * gaussian_blob(shape, turned, centre, sigma=3.5)
        path = save_volume(tmp_path / 'scan.nii.gz', scan, turned)
        how = Processing(resolution=0.9, patch_size=16, skull_strip='skip', device='cpu')
        result, written = run(path, tmp_path / 'out', model, how)
        assert result.qc['fidelity_nrmse'] < 0.2
        assert {name.name for name in written.values()} == {
            'scan_desc-preproc_image.nii.gz',
            'scan_desc-residual_map.nii.gz',
            'scan_res-0p9mm_desc-bright_image.nii.gz',
            'scan_res-0p9mm_label-CGM_probseg.nii.gz',
            'scan_res-0p9mm_label-CGM_mask.nii.gz',
            'scan_res-0p9mm_dseg.nii.gz',
            'scan_res-0p9mm_desc-entropy_map.nii.gz',
            'scan_res-0p9mm_desc-disagreement_map.nii.gz',
            'scan_qc.json',
        }
        fine = ('superresolved', 'probability', 'structure_mask', 'dseg', 'entropy')
        for name in (written[key] for key in fine):
            image = nib.load(name)
            data = np.asarray(image.dataobj, dtype=np.float64)
            reference = first.setdefault(name.name, data)
            geometry = first.setdefault(f'{name.name} affine', image.affine)
            np.testing.assert_allclose(image.affine, geometry, atol=1e-5)
            # the blob falls by up to 170 a millimetre: 0.1 of it is less than 1e-3 mm
            limit = 0.1 if 'bright' in name.name else 2e-3
            if name.name.endswith(('_mask.nii.gz', '_dseg.nii.gz')):
                assert (data != reference).mean() < 1e-4
            else:
                np.testing.assert_allclose(data, reference, atol=limit)
            if 'bright' in name.name or 'probseg' in name.name:
                assert np.linalg.norm(centre_of_mass(data, image.affine) - centre) < 0.02


def test_numbers_warnings_and_mask(tmp_path, model):
    affine = oblique_affine((1.0, 1.0, 6.0))
    scan = 500 + 400 * gaussian_blob(SHAPE, affine, affine[:3, :3] @ [18, 17, 6], 9.0)
    path = save_volume(tmp_path / 'thick.nii', scan, affine)
    inside = np.zeros(SHAPE, dtype=bool)
    inside[8:28, 8:26, 2:10] = True
    mask = save_volume(tmp_path / 'mask.nii.gz', inside, affine)
    told: list[str] = []
    how = Processing(patch_size=0, device='cpu', keep_largest=True)
    result = process_image(Source(path, mask), model, how, tell=told.append)
    qc = result.qc
    assert qc['skull_strip'] == 'existing mask'
    assert qc['resolution_mm'] == 1.0
    assert qc['components_after'] <= 1
    assert any('slices of 2 to 4 mm' in line for line in told)
    assert any('slices of 2 to 4 mm' in line for line in qc['warnings'])
    assert (result.prediction.image == 0).mean() > 0.5


def test_a_bias_field_is_corrected_where_it_is_asked_for(tmp_path, model):
    affine = oblique_affine((1.0, 1.0, 3.0))
    scan = 500 + 400 * gaussian_blob(SHAPE, affine, affine[:3, :3] @ [18, 17, 6], 9.0)
    scan *= np.exp(np.linspace(-0.4, 0.4, SHAPE[0]))[:, None, None]
    path = save_volume(tmp_path / 'scan.nii.gz', scan.astype(np.float32), affine)
    made = {
        how: process_image(
            Source(path),
            model,
            Processing(patch_size=0, skull_strip='skip', device='cpu', bias_correction=how),
        )
        for how in ('n4', 'none')
    }
    np.testing.assert_array_equal(made['none'].corrected.data, made['none'].scan.data)
    slope = {
        how: np.ptp(result.corrected.data[[2, -3]].mean((1, 2))) for how, result in made.items()
    }
    assert slope['n4'] < 0.5 * slope['none']


def test_back_projection_alone_agrees_better_with_the_scan_than_interpolation(tmp_path, model):
    affine = oblique_affine((1.0, 1.0, 3.0))
    scan = np.random.default_rng(0).uniform(100, 500, SHAPE).astype(np.float32)
    path = save_volume(tmp_path / 'scan.nii.gz', scan, affine)
    how = Processing(patch_size=0, skull_strip='skip', device='cpu')
    qc = process_image(Source(path), model, how).qc
    assert qc['fidelity_nrmse_ibp'] < 0.5 * qc['fidelity_nrmse_spline']
    assert qc['fidelity_correlation_ibp'] > qc['fidelity_correlation_spline']


def test_a_sidecar_beside_the_image_tells_the_slice_thickness(tmp_path, model):
    affine = oblique_affine((1.0, 1.0, 3.0))
    scan = 500 + 400 * gaussian_blob(SHAPE, affine, affine[:3, :3] @ [18, 17, 6], 9.0)
    path = save_volume(tmp_path / 'sub-1_T1w.nii.gz', scan, affine)
    (tmp_path / 'sub-1_T1w.json').write_text('{"SliceThickness": 2.2}', encoding='utf-8')
    how = Processing(patch_size=0, skull_strip='skip', device='cpu')
    result, written = run(path, tmp_path / 'out', model, how)
    assert result.qc['slice_thickness_mm'] == 2.2
    assert any('T1w' in line for line in result.qc['warnings'])  # the model is for T2w
    assert written['preproc'].name == 'sub-1_desc-preproc_T1w.nii.gz'
    given, _ = run(path, tmp_path / 'out', model, dataclasses.replace(how, slice_thickness=2.5))
    assert given.qc['slice_thickness_mm'] == 2.5


def test_a_sidecar_that_was_not_fetched_is_told(tmp_path):
    source = Source(tmp_path / 'sub-1_T1w.nii')
    assert source.metadata() == {}
    (tmp_path / 'sub-1_T1w.json').symlink_to('nowhere')
    with pytest.raises(UserError, match='a broken link'):
        source.metadata()


def test_slices_are_agreed_with_better_after_back_projection(tmp_path, model):
    affine = oblique_affine((1.0, 1.0, 3.0), (11, -8, 17))
    scan = 500 + 400 * gaussian_blob(SHAPE, affine, affine[:3, :3] @ [18, 17, 6], 3.0)
    path = save_volume(tmp_path / 'scan.nii', scan, affine)
    how = Processing(patch_size=0, skull_strip='skip', device='cpu')
    contract = dataclasses.replace(model.card.contract, back_projection=0.0)
    plain = dataclasses.replace(model, card=dataclasses.replace(model.card, contract=contract))
    differences = []
    for number, used in enumerate((plain, model)):
        _, written = run(path, tmp_path / f'out{number}', used, how)
        qc = json.loads(written['qc'].read_text(encoding='utf-8'))
        differences.append(qc['fidelity_nrmse'] / qc['fidelity_nrmse_spline'])
    assert differences[0] == pytest.approx(1, abs=1e-3)
    assert differences[1] < 0.8


def test_bad_image_names_the_file(tmp_path, model):
    with pytest.raises(ImageError, match=r'nothing\.nii'):
        process_image(Source(tmp_path / 'nothing.nii'), model, Processing())


def test_a_step_that_does_not_fit_is_refused_before_any_work(tmp_path, model):
    shape = (40, 40, 12)
    path = save_volume(tmp_path / 'scan.nii', np.random.default_rng(0).uniform(1, 9, shape),
                       np.diag([5.0, 5, 5, 1]))  # fmt: skip
    steps_told = []
    with pytest.raises(UserError, match=r'step superresolve takes [0-9.]+ GB, and --mem is 1 GB'):
        process_image(Source(path), model, Processing(resolution=0.5), mem_gb=1,
                      progress=lambda step, _: steps_told.append(step))  # fmt: skip
    assert steps_told == ['reading']
