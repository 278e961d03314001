"""Models, blends and pipelines give what direct calls give."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from evaluation_phantoms import write_head, write_model

from bids_segsr.evaluation.cases import Case, Imaging, load_reference, make_case
from bids_segsr.evaluation.systems import System, read_system, read_systems, run_system
from bids_segsr.exceptions import UserError
from bids_segsr.imaging.back_projection import back_project, interpolated_back_projection
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.imaging.measures.metrics import psnr
from bids_segsr.imaging.resample import Grid
from bids_segsr.inference.predict import predict
from bids_segsr.inference.processing import Processing
from bids_segsr.zoo.find import load_model

HOW = Processing(patch_size=16, step=8, blending='uniform', device='cpu')


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('models')
    write_model(folder, 'one', seed=1)
    write_model(folder, 'two', seed=2)
    write_model(folder, 'unet', architecture='unet', base_filters=2)
    channels = ('intensity', 'cortex', 'background', 'cortical', 'white')
    write_model(folder, 'classes', channels=channels, base_filters=2, mask_classes=3)
    return folder


@pytest.fixture(scope='module')
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    subject = write_head(tmp_path_factory.mktemp('heads'), 'sub-1', 1)
    reference = load_reference(subject, {'cortex': (1,)})
    return make_case(reference, Imaging(ForwardModel(spacing_mm=(3.0, 3.0))), 0)


def test_a_model(folder: Path, case: Case) -> None:
    system = read_system(str(folder / 'one'))
    output = run_system(system, case, HOW)
    direct = predict(
        load_model(folder / 'one'), case.interpolated, case.slices, mask=case.seen, processing=HOW
    )
    np.testing.assert_array_equal(output.image, direct.image)
    np.testing.assert_array_equal(output.structures['cortex'], direct.probabilities[0] > 0.5)
    assert 0 < output.structures['cortex'].mean() < 1
    assert output.seconds > 0
    assert output.device == 'cpu'
    assert system.parameters == sum(p.numel() for p in system.models[0].network.parameters())


def test_back_projection_takes_the_scan_of_the_case(folder: Path, case: Case) -> None:
    model = load_model(folder / 'one')
    contract = dataclasses.replace(model.card.contract, back_projection=0.5)
    asking = dataclasses.replace(model, card=dataclasses.replace(model.card, contract=contract))
    plain, found = (
        run_system(System('one', (used,)), case, HOW).image for used in (model, asking)
    )
    assert case.sliced
    np.testing.assert_array_equal(found, back_project(plain, case.seen, case.slices, 0.5))
    assert not np.array_equal(found, plain)


def test_without_slices_nothing_is_projected_back(tmp_path: Path) -> None:
    reference = load_reference(write_head(tmp_path, 'sub-1', 1), {'cortex': (1,)})
    forward = ForwardModel(kind='isotropic', factor=(2.0, 2.0))
    case = make_case(reference, Imaging(forward), 0)
    assert not case.sliced
    model = load_model(write_model(tmp_path, 'one'))
    contract = dataclasses.replace(model.card.contract, back_projection=0.5)
    asking = dataclasses.replace(model, card=dataclasses.replace(model.card, contract=contract))
    plain, found = (run_system(System('one', (m,)), case, HOW).image for m in (model, asking))
    np.testing.assert_array_equal(found, plain)


def test_a_pipeline_segments_what_the_first_model_made(folder: Path, case: Case) -> None:
    system = read_system(f'SR + U-Net={folder / "one"}+{folder / "unet"}')
    assert system.name == 'SR + U-Net'
    output = run_system(system, case, HOW)
    image = run_system(read_system(str(folder / 'one')), case, HOW).image
    np.testing.assert_array_equal(output.image, image)
    direct = predict(
        load_model(folder / 'unet'), image, case.slices, mask=case.seen, processing=HOW
    )
    np.testing.assert_array_equal(output.structures['cortex'], direct.probabilities[0] > 0.5)
    assert len(system.identity) == 2


def test_class_channels_compete(folder: Path, case: Case) -> None:
    output = run_system(read_system(str(folder / 'classes')), case, HOW)
    assert set(output.structures) == {'cortex', 'background', 'cortical', 'white'}
    classes = np.stack([output.structures[n] for n in ('background', 'cortical', 'white')])
    np.testing.assert_array_equal(classes.sum(axis=0), 1)


def test_a_blend_lies_between(folder: Path, case: Case) -> None:
    one = run_system(read_system(str(folder / 'one')), case, HOW)
    end = run_system(read_system(f'{folder / "one"}:{folder / "two"}:0'), case, HOW)
    np.testing.assert_array_equal(one.image, end.image)


def test_baselines_are_always_among_them(folder: Path, case: Case) -> None:
    for given in ([], ['spline'], ['ibp'], [str(folder / 'one')]):
        assert [s.name for s in read_systems(given)][:2] == ['spline', 'ibp']
    output = run_system(read_systems([])[0], case, HOW)
    np.testing.assert_array_equal(output.image, case.interpolated)
    assert output.structures == {}
    ibp = run_system(read_systems([])[1], case, HOW).image
    grid = Grid(case.interpolated.shape, case.reference.affine)
    np.testing.assert_array_equal(
        ibp, np.where(case.seen, interpolated_back_projection(case.slices, grid), 0)
    )
    spline, closer = (psnr(case.reference.image, x, case.inside) for x in (output.image, ibp))
    assert closer > spline
    truth = run_system(read_system('truth'), case, HOW)
    np.testing.assert_array_equal(truth.image, case.reference.image)


def test_names(folder: Path) -> None:
    one = str(folder / 'one')
    with pytest.raises(UserError, match='NAME=MODEL'):
        read_systems([one, one])
    assert [s.name for s in read_systems([one, f'again={one}'])] == [
        'spline',
        'ibp',
        'one',
        'again',
    ]
    with pytest.raises(UserError, match='taken'):
        read_systems([f'ibp={one}'])
    with pytest.raises(UserError, match='pipeline of two'):
        read_systems([f'{one}+{one}+{one}'])
    with pytest.raises(UserError, match='no such model'):
        read_systems(['nowhere'])


@pytest.mark.usefixtures('brain_mask_model')
def test_a_model_that_finds_the_brain_is_refused(folder: Path) -> None:
    for text in ('brain-mask', f'{folder / "one"}+brain-mask'):
        with pytest.raises(UserError, match='brain-mask finds the brain'):
            read_system(text)


def test_low_rank_total_variation_sharpens(case: Case) -> None:
    output = run_system(read_system('lrtv'), case, HOW)
    truth, inside = case.reference.image, case.inside
    assert psnr(truth, output.image, inside) > psnr(truth, case.interpolated, inside) + 0.1
    assert output.structures == {}
    assert output.seconds > 0
    assert not output.image[~case.seen].any()


def test_interpolations_of_mdcsrn(case: Case) -> None:
    nearest, bicubic = (
        run_system(read_system(name), case, HOW) for name in ('nearest', 'bicubic')
    )
    low = case.slices.data
    ratio = case.reference.image.shape[2] // low.shape[2]
    assert ratio == 3
    middle = low.shape[2] // 2
    # whole slices are repeated by the one, and passed through by the other
    for index in range(middle * ratio, (middle + 1) * ratio):
        seen = case.seen[:, :, index]
        found = nearest.image[:, :, index][seen]
        np.testing.assert_allclose(found, low[:, :, middle][seen], rtol=1e-5)
    truth, inside = case.reference.image, case.inside
    assert psnr(truth, bicubic.image, inside) > psnr(truth, nearest.image, inside) + 0.5
    for output in (nearest, bicubic):
        assert output.structures == {}
        assert not output.image[~case.seen].any()
