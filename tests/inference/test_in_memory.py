"""Images in memory become files: voxels, affine, header and name are kept."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from geometry_phantoms import oblique_affine

from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.inference.in_memory import as_source

AFFINE = oblique_affine((1.0, 1.1, 3.0), (7, -4, 11))
DATA = np.random.default_rng(0).integers(0, 900, (6, 7, 4)).astype(np.int16)


def test_an_array_with_mask_and_guide_lies_where_its_affine_says(tmp_path: Path) -> None:
    source = as_source(tmp_path, DATA, AFFINE, DATA > 100, (DATA * 2,), name='sub-01_T2w')
    assert (source.name, source.modality) == ('sub-01_T2w', 'T2w')
    assert source.mask is not None
    for path, data in zip(
        (source.image, source.mask, *source.guides), (DATA, DATA > 100, DATA * 2), strict=True
    ):
        stored = nib.load(path)
        np.testing.assert_array_equal(np.asarray(stored.dataobj), data)
        np.testing.assert_allclose(stored.affine, AFFINE, atol=1e-5)


def test_an_image_of_nibabel_keeps_its_name_and_lends_its_affine(tmp_path: Path) -> None:
    path = tmp_path / 'scan_T1w.nii.gz'
    nib.save(nib.Nifti1Image(DATA, AFFINE), path)
    folder = tmp_path / 'made'
    folder.mkdir()
    source = as_source(folder, nib.load(path), mask=DATA > 100)
    assert source.image == folder / 'scan_T1w.nii'
    assert source.mask is not None
    np.testing.assert_allclose(nib.load(source.mask).affine, AFFINE, atol=1e-5)
    assert as_source(folder, path).image == path  # a file is taken as it is


@pytest.mark.parametrize(
    ('options', 'kind', 'told'),
    [
        ({}, UserError, 'image: an array needs its affine'),
        ({'affine': np.eye(3)}, ImageError, '4 x 4 finite numbers'),
        ({'affine': np.diag([1, 1, np.nan, 1])}, ImageError, '4 x 4 finite numbers'),
        ({'affine': np.diag([1, 1, 0, 1])}, ImageError, 'cannot be inverted'),
        ({'affine': AFFINE, 'image': DATA * 1j}, ImageError, 'complex128 are not intensities'),
        ({'affine': AFFINE, 'name': 'a/b'}, UserError, 'without folders'),
        ({'image': 'x.nii', 'name': 'b'}, UserError, 'only for an image in memory'),
    ],
)
def test_what_cannot_be_an_image_is_named(
    tmp_path: Path, options: dict, kind: type, told: str
) -> None:
    with pytest.raises(kind, match=told):
        as_source(tmp_path, **{'image': DATA, **options})
    assert not list(tmp_path.iterdir())
