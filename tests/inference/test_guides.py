"""Models that are guided by registered images of other contrasts, from training to result."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from evaluation_phantoms import SHAPE, write_head, write_model
from geometry_phantoms import centre_of_mass, gaussian_blob, laid, oblique_affine
from torch import nn

from bids_segsr.cli import app, evaluate, train
from bids_segsr.cli.card_text import describe
from bids_segsr.cli.segsr import main
from bids_segsr.evaluation.cases import Imaging, load_reference, make_case
from bids_segsr.evaluation.systems import System, run_system
from bids_segsr.exceptions import ImageError, ModelError, UserError
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.imaging.volume import Volume, load_volume, save_volume
from bids_segsr.inference import steps
from bids_segsr.inference.one_image import Source, process_image
from bids_segsr.inference.predict import predict
from bids_segsr.inference.processing import Processing
from bids_segsr.training.data.subjects import Subject
from bids_segsr.training.loop.forward_pass import make_super_resolver
from bids_segsr.training.recipe_file import read_recipe, recipe_text
from bids_segsr.zoo.card import InputContract, ModelCard
from bids_segsr.zoo.export import export_model
from bids_segsr.zoo.find import load_model
from bids_segsr.zoo.store import CARD_FILE, TrainedModel
from bids_segsr.zoo.verify import verify_model

FLAGS = ['--device', 'cpu', '--skull-strip', 'skip', '--patch-size', '16', '--no-report']


class LastGuide(nn.Module):
    """Gives the last input channel as the image: shows what arrives, and where."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, -1:]


def last_guide(guides: int, normalisation: str = 'volume-max') -> TrainedModel:
    contract = InputContract(('T1w',), normalisation, (0.5, 1.5), (1.0, 6.0), guides=guides)
    card = ModelCard(
        name='toy',
        version='1',
        description='',
        architecture='toy',
        options={},
        contract=contract,
        channels=('intensity',),
        labels={},
    )
    return TrainedModel(LastGuide(), card, Path('toy'))


def with_guide(folder: Path, subject: Subject) -> Subject:
    """Add an image of another contrast on the same grid."""
    assert subject.image is not None
    image = load_volume(subject.image)
    noise = np.random.default_rng(5).normal(0, 2, image.data.shape)
    contrast = (150 - image.data + noise).astype(np.float32)
    path = save_volume(folder / f'{subject.name}_FLAIR.nii.gz', contrast, image.affine)
    return dataclasses.replace(subject, guides=(path,))


def command(module: object, *words: object) -> int:
    parser = argparse.ArgumentParser(prog='segsr')
    module.add_parser(parser.add_subparsers())  # type: ignore[attr-defined]
    arguments = parser.parse_args([*map(str, words)])
    return int(arguments.func(arguments))


@pytest.fixture(scope='module')
def subjects(tmp_path_factory: pytest.TempPathFactory) -> list[Subject]:
    folder = tmp_path_factory.mktemp('heads')
    splits = ('train', 'validation', 'test')
    return [
        with_guide(folder, write_head(folder, f'sub-{number}', number, split))
        for number, split in enumerate(splits)
    ]


@pytest.fixture(scope='module')
def data(subjects: list[Subject], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('list') / 'heads.csv'
    lines = ['Subject,HR_image,Label_image,Mask_image,Guide_image,Base']
    lines += [
        f'{s.name},{s.image},{s.label},{s.mask},{s.guides[0]},{s.split.capitalize()}'
        for s in subjects
    ]
    path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return path


@pytest.fixture(scope='module')
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that two steps of a shrunk recnn-multimodal end with."""
    folder = tmp_path_factory.mktemp('training')
    recipe = read_recipe('recnn-multimodal')
    small = dataclasses.replace(
        recipe,
        network=dataclasses.replace(
            recipe.network, options=recipe.network.options | {'depth': 3, 'filters': 4}
        ),
        sampling=dataclasses.replace(recipe.sampling, patch_size=12, patches_per_epoch=4),
        schedule=dataclasses.replace(recipe.schedule, epochs=None, steps=2, batch_size=2),
        validation=dataclasses.replace(recipe.validation, every_steps=2, patches=2),
    )
    path = folder / 'small.toml'
    path.write_text(recipe_text(small), encoding='utf-8')
    words = ('train', path, '--data', data, '--out', folder / 'run', '--workers', '0')
    assert command(train, *words, '--device', 'cpu') == 0
    return folder / 'run' / 'model'


def test_a_trained_model_tells_its_guides(trained: Path) -> None:
    model = verify_model(trained)
    assert model.card.contract.guides == 1
    assert '1 image of other contrasts' in describe(model.card)
    text = (trained / CARD_FILE).read_text(encoding='utf-8')
    content = json.loads(text)
    assert content['contract'].pop('guides') == 1
    # a card from before there was the field
    assert ModelCard.from_json(json.dumps(content)) == ModelCard.from_json(text)
    del content['options']['guides']
    assert ModelCard.from_json(json.dumps(content)).contract.guides == 0


def test_a_trained_model_predicts_what_its_network_gives(
    trained: Path, subjects: list[Subject]
) -> None:
    model = load_model(trained)
    image, guide = (load_volume(p).data[:16, :20, :24] for p in subjects[2].files[::3])
    assert np.abs(image - guide).max() > 50
    whole = Processing(patch_size=0)
    found = predict(model, image, laid(image), guides=[guide], processing=whole)
    stack = np.stack([image / image.max(), guide / guide.max()])
    with torch.inference_mode():
        direct = model.network(torch.from_numpy(stack)[None])[0, 0].numpy() * image.max()
    np.testing.assert_allclose(found.image, direct, rtol=1e-5, atol=1e-3)
    other = predict(model, image, laid(image), guides=[guide[::-1]], processing=whole)
    assert np.abs(other.image - found.image).max() > 1e-3


def test_a_trained_model_is_evaluated_with_the_guides_of_the_list(
    trained: Path, data: Path, subjects: list[Subject], tmp_path: Path
) -> None:
    out = tmp_path / 'out'
    words = ('evaluate', 'compare', '--data', data, '--models', f'guided={trained}', '--out', out)
    assert command(evaluate, *words, '--isotropic', '2', '--device', 'cpu') == 0
    rows = (out / 'rows.tsv').read_text(encoding='utf-8')
    assert '\tguided\t' in rows

    case = make_case(
        load_reference(subjects[2], {}), Imaging(ForwardModel(kind='isotropic', factor=(2, 2))), 0
    )
    model = load_model(trained)
    output = run_system(System('guided', (model,)), case, Processing())
    direct = predict(
        model, case.fed(model.card), case.slices, guides=case.reference.guides, mask=case.seen
    )
    np.testing.assert_array_equal(output.image, direct.image)
    bare = dataclasses.replace(case, reference=dataclasses.replace(case.reference, guides=()))
    with pytest.raises(ModelError, match=r'1 guide image .* 0 given; .* Guide_image'):
        run_system(System('guided', (model,)), bare, Processing())


def test_guides_of_a_reference_follow_its_axes(subjects: list[Subject], tmp_path: Path) -> None:
    turned = {}
    for kind, path in zip(('image', 'label', 'mask', 'guide'), subjects[2].files, strict=True):
        image = nib.load(path).as_reoriented(nib.orientations.axcodes2ornt(('P', 'S', 'R')))
        turned[kind] = save_volume(
            tmp_path / f'{kind}.nii.gz', np.asarray(image.dataobj), image.affine
        )
    guide = turned.pop('guide')
    one = load_reference(subjects[2], {})
    other = load_reference(dataclasses.replace(subjects[2], **turned, guides=(guide,)), {})
    np.testing.assert_array_equal(one.guides, other.guides)
    np.testing.assert_array_equal(one.guides[0], load_volume(subjects[2].guides[0]).data)
    with pytest.raises(ImageError, match=r'guide\.nii\.gz: lies on another grid'):
        load_reference(dataclasses.replace(subjects[2], guides=(guide,)), {})


@pytest.mark.parametrize('axis', [0, 1, 2])
@pytest.mark.parametrize('patch_size', [0, 8])
def test_guides_are_cut_and_scaled_as_the_image(axis: int, patch_size: int) -> None:
    rng = np.random.default_rng(1)
    image, first, second = (rng.uniform(1, top, (18, 14, 22)) for top in (900, 5, 70))
    mask = np.zeros(image.shape, dtype=bool)
    mask[1:13, 2:12, 3:19] = True
    found = predict(
        last_guide(2),
        image,
        laid(image, axis),
        guides=[first, second],
        mask=mask,
        processing=Processing(patch_size=patch_size),
    )
    expected = np.where(mask, second / second[mask].max() * image[mask].max(), 0)
    np.testing.assert_allclose(found.image, expected, rtol=1e-4)


def test_guides_are_standardised_for_themselves() -> None:
    rng = np.random.default_rng(1)
    image, guide = (rng.uniform(1, top, (16, 12, 8)) for top in (900, 5))
    how = Processing(patch_size=0)
    standard = last_guide(1, 'patch-standard')
    found = predict(standard, image, laid(image), guides=[guide], processing=how)
    expected = (guide - guide.mean()) / guide.std() * image.std() + image.mean()
    np.testing.assert_allclose(found.image, expected, rtol=1e-3, atol=0.1)


@pytest.mark.parametrize(
    ('wanted', 'given', 'words'),
    [
        (1, 0, 'needs 1 guide image .* 0 given'),
        (2, 1, 'needs 2 guide images .* 1 given'),
        (1, 2, 'needs 1 guide image .* 2 given'),
        (0, 1, 'takes no guide image, 1 given'),
    ],
)
def test_another_number_of_guides_is_refused(
    tmp_path: Path, wanted: int, given: int, words: str
) -> None:
    image = np.ones((8, 8, 8), dtype=np.float32)
    with pytest.raises(ModelError, match=words):
        predict(last_guide(wanted), image, laid(image), guides=[image] * given)
    # told before the files are looked at
    missing = tmp_path / 'nothing.nii'
    with pytest.raises(ModelError, match=f'{words}; .*--guide'):
        process_image(Source(missing, None, (missing,) * given), last_guide(wanted), Processing())


def test_a_guide_of_another_shape_is_refused() -> None:
    image = np.ones((8, 8, 8))
    with pytest.raises(ValueError, match='another shape'):
        predict(last_guide(1), image, laid(image), guides=[np.ones((8, 8, 9))])


@pytest.mark.parametrize('spacing', [(0.8, 0.8, 0.8), (1.3, 0.9, 2.0)])
def test_an_oblique_guide_arrives_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spacing: tuple[float, float, float]
) -> None:
    """Scan, guide and result have three grids; a blob in the guide stays at its place in space."""
    monkeypatch.setattr(steps, 'correct_bias_field', lambda data, *_, **__: data)
    affine = oblique_affine((1.0, 1.1, 3.0), (6, -9, 14))
    place = affine[:3, :3] @ np.array([17.3, 15.1, 5.7]) + affine[:3, 3]
    scan = 700 * gaussian_blob((36, 34, 12), affine, affine[:3, :3] @ [9, 20, 7], 30.0)
    oblique = oblique_affine(spacing, (-21, 13, 32))
    shape = tuple(int(np.ceil(70 / s)) for s in spacing)
    oblique[:3, 3] = place - oblique[:3, :3] @ (np.array(shape) / 2 + 0.4)
    guide = gaussian_blob(shape, oblique, place, sigma=4.0)
    files = (
        save_volume(tmp_path / 'scan.nii.gz', scan, affine),
        save_volume(tmp_path / 'guide.nii.gz', guide, oblique),
    )
    how = Processing(resolution=0.9, patch_size=16, skull_strip='skip', device='cpu')
    made = process_image(Source(files[0], None, (files[1],)), last_guide(1), how)
    result = Volume(made.prediction.image, made.fine.affine)
    found = np.where(result.data > 0.01 * result.data.max(), result.data, 0)
    assert np.linalg.norm(centre_of_mass(found, result.affine) - place) < 0.05
    expected = gaussian_blob(result.data.shape, result.affine, place, sigma=4.0)
    np.testing.assert_allclose(
        result.data / result.data.max(), expected / expected.max(), atol=0.02
    )
    assert made.qc['guides'] == [files[1].name]


def test_a_guide_that_reaches_nowhere_or_not_far(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scan = rng.uniform(100, 900, (20, 18, 10)).astype(np.float32)
    affine = oblique_affine((1.0, 1.0, 2.0))
    path = save_volume(tmp_path / 'scan.nii.gz', scan, affine)
    guide = rng.uniform(100, 900, (10, 18, 20)).astype(np.float32)
    how = Processing(resolution=1.0, patch_size=16, skull_strip='skip', device='cpu')
    fine = oblique_affine((1.0, 1.0, 1.0))
    fine[2, 3] -= 0.5
    guide[5, 9, 10] = 1e5
    half = save_volume(tmp_path / 'half.nii.gz', guide, fine)
    made = process_image(Source(path, None, (half,)), last_guide(1), how)
    warnings = made.qc['warnings']
    assert warnings[-1:] == ['The guide half.nii.gz covers 50% of the brain.']
    # what was mended in the guide, as in the scan
    assert any(w.startswith('half.nii.gz: 1 of 3600 voxels, up to 1e+05') for w in warnings)
    result = made.prediction.image
    assert not result[10:].any()
    assert result[:10].all()
    fine[0, 3] += 100
    away = save_volume(tmp_path / 'away.nii.gz', guide, fine)
    with pytest.raises(ImageError, match=r'away\.nii\.gz: does not overlap'):
        process_image(Source(path, None, (away,)), last_guide(1), how)


@pytest.fixture(scope='module')
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('untrained')
    return write_model(
        folder, 'guided', architecture='recnn', channels=('intensity',), guides=1, depth=2,
        filters=2,
    )  # fmt: skip


def test_the_command_takes_guides_by_flag_and_by_list(
    untrained: Path,
    subjects: list[Subject],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image, guide = subjects[2].image, subjects[2].guides[0]
    out = tmp_path / 'out'
    words = ['predict', str(image), str(out), '--model', str(untrained), *FLAGS]
    assert main([*words, '--guide', str(guide)]) == 0
    written = Path(capsys.readouterr().out.splitlines()[0])
    first = written.read_bytes()
    listed = tmp_path / 'list.csv'
    listed.write_text(f'image,guide\n{image},{guide}\n', encoding='utf-8')
    assert main(['predict', str(listed), *words[2:], '--overwrite']) == 0
    assert written.read_bytes() == first
    capsys.readouterr()

    for given, told in (
        ([*words], 'needs 1 guide image'),
        ([*words[:3], *FLAGS, '--guide', str(guide)], 'takes no guide image'),
        (
            ['predict', str(image), *words[1:], '--guide', str(guide)],
            'goes with one image',
        ),
        ([*words, '--guide', 'nothing.nii'], 'nothing.nii: no such file'),
    ):
        assert main(given) == 1
        error = capsys.readouterr().err
        assert 'Traceback' not in error
        assert told in error


def test_the_app_refuses_before_anything_is_written(
    untrained: Path,
    subjects: list[Subject],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raw, out = tmp_path / 'raw', tmp_path / 'out'
    (raw / 'sub-1' / 'anat').mkdir(parents=True)
    assert subjects[1].image is not None
    (raw / 'sub-1' / 'anat' / 'sub-1_T2w.nii.gz').write_bytes(subjects[1].image.read_bytes())
    flags = ['--model', str(untrained), '--skip-bids-validation', '--device', 'cpu']
    assert app.main([str(raw), str(out), 'participant', *flags]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert 'segsr predict --guide' in lines[-1]
    assert not [path for path in out.rglob('*') if path.is_file()]


def test_an_exported_model_takes_the_guides(untrained: Path, tmp_path: Path) -> None:
    model = load_model(untrained)
    path, _ = export_model(model, 'torchscript', tmp_path / 'guided.pt')
    x = torch.rand(1, 2, 10, 12, 9)
    torch.testing.assert_close(torch.jit.load(path)(x), model.network(x))


def test_cards_that_cannot_be(untrained: Path, tmp_path: Path) -> None:
    content = json.loads((untrained / CARD_FILE).read_text(encoding='utf-8'))
    for wrong in (-1, 1.5, True, '1', 10**6):
        content['contract']['guides'] = wrong
        with pytest.raises(ModelError, match='guides'):
            ModelCard.from_json(json.dumps(content))
    content['contract']['guides'] = 2
    for file in untrained.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / CARD_FILE).write_text(json.dumps(content), encoding='utf-8')
    with pytest.raises(ModelError, match=r'card\.json: names 2 guide images.* 2 input channels'):
        load_model(tmp_path)


def test_a_guided_model_is_no_first_stage(untrained: Path) -> None:
    with pytest.raises(UserError, match='needs guide images'):
        make_super_resolver(load_model(untrained), read_recipe('unet-sr'), torch.device('cpu'))


def test_models_without_guides_ignore_those_of_a_subject(
    subjects: list[Subject], tmp_path: Path
) -> None:
    model = load_model(write_model(tmp_path, 'plain'))
    case = make_case(load_reference(subjects[2], {}), Imaging(ForwardModel(spacing_mm=(3, 3))), 0)
    assert case.reference.guides[0].shape == SHAPE
    found = run_system(System('plain', (model,)), case, Processing(patch_size=16))
    bare = dataclasses.replace(case, reference=dataclasses.replace(case.reference, guides=()))
    direct = run_system(System('plain', (model,)), bare, Processing(patch_size=16))
    np.testing.assert_array_equal(found.image, direct.image)
