"""What `import bids_segsr` offers does what the commands do."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from evaluation_phantoms import write_head, write_list, write_model
from geometry_phantoms import oblique_affine

import bids_segsr
from bids_segsr.cli.segsr import main
from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.imaging.volume import save_volume

AFFINE = oblique_affine((1.0, 1.0, 2.0), (9, -7, 4))
CHOICES = {'device': 'cpu', 'skull_strip': 'skip', 'patch_size': 16, 'resolution': 1.0}
FLAGS = ['--device', 'cpu', '--skull-strip', 'skip', '--patch-size', '16', '--resolution', '1']
RECIPE = """
name = "tiny"
[network]
architecture = "segsrgan"
options = { base_filters = 2, n_blocks = 1 }
[task]
labels = { cortex = [1] }
[forward]
spacing_mm = [3, 3]
[sampling]
patch_size = 16
stride = 8
patches_per_epoch = 4
normalisation = "patch-standard"
[schedule]
steps = 9
batch_size = 2
[validation]
every_steps = 2
patches = 2
pictures = 1
"""


def voxels() -> np.ndarray:
    return np.random.default_rng(0).uniform(100, 900, (18, 16, 8)).astype(np.float32)


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp('model'), 'toy')


@pytest.fixture(scope='module')
def result(model: Path) -> bids_segsr.Result:
    return bids_segsr.predict(voxels(), affine=AFFINE, model=model, name='scan_T1w', **CHOICES)


def test_every_way_of_giving_an_image_gives_the_bytes_of_the_command(
    model: Path, result: bids_segsr.Result, tmp_path: Path
) -> None:
    path = save_volume(tmp_path / 'scan_T1w.nii.gz', voxels(), AFFINE)
    assert main(['predict', str(path), str(tmp_path / 'out'), '--model', str(model), *FLAGS]) == 0
    for number, same in enumerate(
        (
            result,
            bids_segsr.predict(path, model=model, **CHOICES),
            bids_segsr.predict(nib.load(path), model=bids_segsr.load_model(model), **CHOICES),
        )
    ):
        written = same.save(tmp_path / str(number), report=False)
        assert len(written) == 9
        for file in written.values():
            there = tmp_path / 'out' / file.name
            if file.suffix == '.gz':
                assert file.read_bytes() == there.read_bytes(), file.name
            else:
                assert file.read_text() == there.read_text(), file.name


def test_a_result_lies_where_the_scan_lay(result: bids_segsr.Result) -> None:
    fine = result.image
    assert fine.header.get_zooms() == pytest.approx((1, 1, 1))
    ends = [np.array(fine.shape) / 2 - 0.5, np.array(voxels().shape) / 2 - 0.5]
    centres = [a[:3, :3] @ e + a[:3, 3] for a, e in zip((fine.affine, AFFINE), ends, strict=True)]
    np.testing.assert_allclose(*centres, atol=1e-3)
    assert result.tissues is not None
    labels = np.asarray(result.tissues.dataobj)
    np.testing.assert_array_equal(
        labels == 1, np.asarray(result.probabilities['cortex'].dataobj) > 0.5
    )
    assert result.tissue_names == {1: 'cortex'}
    assert result.qc['bids_name'] == 'scan_T1w'
    assert any('T1w' in warning for warning in result.qc['warnings'])  # made for T2w
    assert result.verdict.word in ('usable', 'look', 'failed')


def test_show_opens_the_viewer_in_a_browser(
    result: bids_segsr.Result, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened: list[str] = []
    monkeypatch.setattr('webbrowser.open', opened.append)
    viewer = result.show()
    (url,) = opened
    assert Path(url.removeprefix('file://')).read_text(encoding='utf-8') == viewer.html
    assert viewer._repr_html_().startswith('<iframe srcdoc="&lt;!')
    assert '<canvas' in viewer.save(tmp_path / 'page.html').read_text(encoding='utf-8')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'affine': None}, 'image: an array needs its affine'),
        ({'affine': np.zeros((4, 4))}, 'cannot be inverted'),
        ({'affine': np.eye(3)}, '4 x 4'),
        ({'image': np.full((18, 16, 8), np.nan)}, r'^image\.nii: .* NaN'),
        ({'image': voxels().astype(complex)}, 'not intensities'),
        ({'mask': np.zeros((18, 16, 8))}, r'^mask\.nii: the mask is empty'),
        ({'name': 'a/b'}, 'without folders'),
    ],
)
def test_what_is_wrong_is_told_in_a_line(
    model: Path, changes: dict[str, object], message: str
) -> None:
    given = {'image': voxels(), 'affine': AFFINE, **changes}
    with pytest.raises(UserError, match=message):
        bids_segsr.predict(given.pop('image'), model=model, **given, **CHOICES)


def test_an_integer_image_of_another_format_keeps_its_values(model: Path) -> None:
    whole = voxels().astype(np.int16)
    image = nib.MGHImage(whole, AFFINE.astype(np.float32))
    made = bids_segsr.predict(image, model=model, bias_correction='none', **CHOICES)
    np.testing.assert_array_equal(made.processed.scan.data, whole)


def test_an_unknown_choice_is_no_choice(model: Path) -> None:
    with pytest.raises(TypeError, match='resolutoin'):
        bids_segsr.predict(voxels(), affine=AFFINE, model=model, resolutoin=1)


def test_what_is_trained_can_be_used_and_evaluated(tmp_path: Path) -> None:
    heads = [
        write_head(tmp_path / 'in', f's{n}', n, split)
        for n, split in enumerate(('train', 'train', 'validation', 'test'))
    ]
    data = write_list(tmp_path / 'list.csv', heads)
    (tmp_path / 'tiny.toml').write_text(RECIPE, encoding='utf-8')
    trained = bids_segsr.train(
        tmp_path / 'tiny.toml', tmp_path / 'run', data=data, device='cpu', workers=0, steps=2
    )
    assert trained is not None
    assert trained.card.name == 'tiny'
    assert (tmp_path / 'run' / 'report.html').is_file()
    found = bids_segsr.evaluate(
        [f'ours={tmp_path / "run" / "model"}'],
        data,
        tmp_path / 'out',
        metrics=['psnr'],
        device='cpu',
        patch_size=16,
    )
    assert set(found.summary['system']) == {'spline', 'ibp', 'ours'}
    assert (tmp_path / 'out' / 'summary.tsv').is_file()


def test_a_training_needs_one_kind_of_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='--data, --label-maps'):
        bids_segsr.train('segsrgan-2020', tmp_path / 'run')


def test_mistyped_names_are_no_attributes() -> None:
    assert 'predict' in dir(bids_segsr)
    with pytest.raises(AttributeError, match='predcit'):
        _ = bids_segsr.predcit
    with pytest.raises(ImageError, match='no such file'):
        bids_segsr.predict('nothing.nii.gz', device='cpu')
