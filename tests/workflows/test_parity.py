"""An image goes one way: `segsr predict` and the App give the same voxels and the same numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from bids_segsr.workflows import single_report
from bids_segsr.workflows.base import init_bids_segsr_wf, init_single_image_wf
from geometry_phantoms import oblique_affine

from bids_segsr.bids.query import Scan
from bids_segsr.cli.segsr import main
from bids_segsr.execution.settings import Settings
from bids_segsr.imaging.dicom import same_locale
from bids_segsr.imaging.volume import load_scan, save_volume
from bids_segsr.inference.processing import Processing
from bids_segsr.networks import create
from bids_segsr.zoo.card import InputContract, ModelCard
from bids_segsr.zoo.store import save_model

SHAPE = (40, 44, 16)
AFFINE = oblique_affine((1.0, 1.1, 3.0), (7, -4, 11))
TISSUES = ('background', 'cortical grey matter', 'white matter', 'csf')


def write_model(folder: Path, kind: str) -> Path:
    """A small network without training, of one of the kinds that differ on the way."""
    torch.manual_seed(1)
    channels: tuple[str, ...] = ('intensity', 'cortex')
    options: dict[str, Any] = {'base_filters': 2, 'n_blocks': 1}
    architecture, contract = 'segsrgan', {'normalisation': 'patch-standard'}
    if kind == 'tissues':
        architecture, options = 'tissue-unet', {'base_filters': 2, 'classes': len(TISSUES)}
        channels = (*channels, *TISSUES)
        contract = {'normalisation': 'volume-mean', 'mirrored': True, 'back_projection': 0.5}
    if kind == 'image':
        architecture, options, channels = 'recnn', {'depth': 2, 'filters': 2}, ('intensity',)
        contract = {
            'normalisation': 'volume-max', 'interpolation': 'linear', 'skull_stripped': False,
        }  # fmt: skip
    card = ModelCard(
        name=f'toy-{kind}',
        version='1',
        description='',
        architecture=architecture,
        options=options,
        contract=InputContract(
            ('T2w',), spacing_mm=(0.5, 1.5), slice_thickness_mm=(2.0, 4.0), **contract
        ),
        channels=channels,
        labels={1: 'cortical grey matter'} if len(channels) > 1 else {},
    )
    return save_model(folder / kind, create(architecture, **options), card)


def write_scan(folder: Path, kind: str, suffix: str) -> tuple[Path, Path | None]:
    """A stripped brain, or a head and its mask."""
    place = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing='ij'))
    brain = (place**2).sum(0) < 0.75**2
    texture = 400 + 150 * np.sin(9 * place[0]) * np.cos(7 * place[1])
    outside = np.random.default_rng(0).uniform(20, 300, SHAPE) if kind == 'head' else 0
    path = folder / f'sub-01_{suffix}.nii.gz'
    save_volume(path, np.where(brain, texture, outside).astype(np.float32), AFFINE)
    path.with_name(f'sub-01_{suffix}.json').write_text('{"SliceThickness": 2.4}', encoding='utf-8')
    if kind != 'head':
        return path, None
    return path, save_volume(folder / 'mask.nii.gz', brain, AFFINE)


def write_series(folder: Path, scan: Path) -> Path:
    """The scan of a NIfTI file as a DICOM series, one file a slice."""
    image = nib.load(scan)
    to_lps = np.diag([-1.0, -1, 1, 1]) @ image.affine
    spacing = np.linalg.norm(to_lps[:3, :3], axis=0)
    axes = to_lps[:3, :3] / spacing
    voxels = np.asarray(image.dataobj).round().astype(np.int16)
    folder.mkdir(parents=True)
    for k in range(voxels.shape[2]):
        part = sitk.GetImageFromArray(voxels[:, :, k : k + 1].T)
        part.SetSpacing([float(x) for x in spacing])
        tags = {
            '0008|0060': 'MR',
            '0020|000e': '1.2.3.4.1',
            '0020|000d': '1.2.3.4',
            '0008|0018': f'1.2.3.4.1.5.{k}',
            '0008|0016': '1.2.840.10008.5.1.4.1.1.4',
            '0020|0037': '\\'.join(f'{x:.9f}' for x in axes[:, :2].T.ravel()),
            '0020|0032': '\\'.join(f'{x:.7f}' for x in to_lps[:3, 3] + k * to_lps[:3, 2]),
            '0018|0050': '2.4',
            '0020|0013': str(k + 1),
        }
        for key, value in tags.items():
            part.SetMetaData(key, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f'IM{k:04d}.dcm'))
        with same_locale():
            writer.Execute(part)
    return folder


@pytest.mark.parametrize(
    ('model', 'image', 'suffix', 'form', 'choices'),
    [
        ('cortex', 'stripped', 'T2w', 'list', {'threshold': 0.45, 'keep_largest': True}),
        ('tissues', 'head', 'T2w', 'table', {'keep_largest': True}),
        ('tissues', 'stripped', 'T2w', 'folder', {'skull_strip': 'skip', 'blending': 'uniform'}),
        ('image', 'head', 'T1w', 'file', {'resolution': 1.3}),
        ('cortex', 'dicom', 'T2w', 'series', {}),
    ],
)
def test_app_and_predict_agree(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    image: str,
    suffix: str,
    form: str,
    choices: dict,
) -> None:
    folder = tmp_path / 'raw' / 'sub-01' / 'anat'
    folder.mkdir(parents=True)
    path, mask = write_scan(folder, image, suffix)
    given = path
    if form == 'folder':
        given = folder
    elif form == 'list':  # as in SegSRGAN: no header, the images first
        given = tmp_path / 'list.csv'
        given.write_text(f'{path},whatever\n', encoding='utf-8')
    elif form == 'table':
        given = tmp_path / 'table.csv'
        given.write_text(f'image,mask\n{path},{mask}\n', encoding='utf-8')
    elif form == 'series':
        # the App reads what a converter makes of the series
        given = write_series(tmp_path / 'series' / 'sub-01_T2w', path)
        converted = load_scan(given)
        np.testing.assert_allclose(converted.affine, AFFINE, atol=1e-3)
        save_volume(path, converted.data, converted.affine)
    trained = write_model(tmp_path, model)
    choices = {'resolution': 1.2, 'patch_size': 24, 'device': 'cpu', **choices}
    settings = Settings(
        bids_dir=tmp_path / 'raw',
        output_dir=tmp_path / 'app',
        work_dir=tmp_path / 'work',
        model=str(trained),
        omp_nthreads=torch.get_num_threads(),
        processing=Processing(**choices),
    )
    entities = {'subject': '01', 'suffix': suffix, 'datatype': 'anat', 'extension': '.nii.gz'}
    scan = Scan(path, entities, {'SliceThickness': 2.4}, mask)
    workflow = init_single_image_wf(
        settings,
        scan,
        masks=[mask.name] if mask else (),
        all_masked=mask is not None,
    )
    workflow.base_dir = str(settings.work_dir)
    threads = torch.get_num_threads()
    try:
        workflow.run(plugin='Linear')
    finally:
        torch.set_num_threads(threads)

    flags = [f'--{key.replace("_", "-")}={value}' for key, value in choices.items()]
    flags = [flag.removesuffix('=True') for flag in flags]
    if mask is not None and form != 'table':
        flags += ['--mask', str(mask)]
    out = tmp_path / 'predict'
    told: list[str] = []
    monkeypatch.setattr(single_report, 'write_citation', lambda _, text: told.append(text))
    assert main(['predict', str(given), str(out), '--model', str(trained), *flags]) == 0
    assert told == [init_bids_segsr_wf([workflow]).visit_desc()]

    app = tmp_path / 'app' / 'sub-01' / 'anat'
    images = sorted(p.name for p in app.glob('*.nii.gz'))
    assert images == sorted(p.name for p in out.glob('*.nii.gz'))
    assert len(images) == {'cortex': 9, 'tissues': 9 + (mask is not None), 'image': 4}[model]
    for name in images:
        one, other = nib.load(app / name), nib.load(out / name)
        np.testing.assert_array_equal(one.affine, other.affine)
        assert one.get_data_dtype() == other.get_data_dtype()
        np.testing.assert_array_equal(one.dataobj, other.dataobj, err_msg=name)
    records = [
        json.loads((where / 'sub-01_qc.json').read_text(encoding='utf-8')) for where in (app, out)
    ]
    assert records[0] == records[1]
    assert list(records[0]) == list(records[1])
    assert records[0]['slice_thickness_mm'] == 2.4
    report = (out / 'sub-01_report.html').read_text(encoding='utf-8')
    assert 'data:image/svg+xml' in report
    assert './sub-01/figures' not in report
    assert not list(out.glob('sub-01'))


def test_the_cortex_is_that_of_the_tissues(tmp_path: Path) -> None:
    path, mask = write_scan(tmp_path, 'head', 'T2w')
    trained = write_model(tmp_path, 'tissues')
    flags = ['--resolution', '1.2', '--patch-size', '24', '--device', 'cpu', '--no-report']
    for extra in ([], ['--keep-largest']):
        out = tmp_path / f'out{len(extra)}'
        command = ['predict', str(path), str(out), '--model', str(trained), '--mask', str(mask)]
        assert main([*command, *flags, *extra]) == 0
        regions, dseg, cortex = (
            np.asarray(nib.load(out / f'sub-01_{name}.nii.gz').dataobj)
            for name in (
                'seg-regions_res-1p2mm_dseg',
                'res-1p2mm_dseg',
                'res-1p2mm_label-CGM_mask',
            )
        )
        np.testing.assert_array_equal(regions == 1, cortex)
        np.testing.assert_array_equal(regions == 1, dseg == 1)
        if extra:
            whole = np.asarray(
                nib.load(tmp_path / 'out0/sub-01_seg-regions_res-1p2mm_dseg.nii.gz').dataobj
            )
            dropped = (whole == 1) & (regions != 1)
            assert (regions == whole)[~dropped].all()
