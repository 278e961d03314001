"""What the dataset of simulated scans says of them, and what it is not mixed with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bids_segsr.exceptions import UserError
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.imaging.volume import load_volume, save_volume
from bids_segsr.simulation.simulated_dataset import (
    FineImage,
    check_output,
    settings_of,
    simulate_image,
    write_root,
)

MODEL = ForwardModel(spacing_mm=(2.0, 4.0))


@pytest.fixture
def image(tmp_path: Path) -> FineImage:
    """Of 0.8 mm, in P, S, R order."""
    data = np.random.default_rng(0).uniform(100, 900, (20, 24, 18)).astype(np.float32)
    affine = np.array([[0, 0, 0.8, 0], [-0.8, 0, 0, 9], [0, 0.8, 0, -4], [0, 0, 0, 1]])
    path = save_volume(tmp_path / 'sub-01_T2w.nii.gz', data, affine)
    about = {'SliceThickness': 0.8, 'EchoTime': 0.1}
    return FineImage(path, {'subject': '01', 'suffix': 'T2w'}, about, 'bids:source:x')


def test_the_sidecar_tells_what_was_drawn(image: FineImage, tmp_path: Path) -> None:
    settings = settings_of(MODEL, 0.02, 7)
    assert settings['spacing_mm'] == [2, 4]
    out = tmp_path / 'out'
    path = simulate_image(image, out, MODEL, settings)
    assert path == out / 'sub-01' / 'anat' / 'sub-01_T2w.nii.gz'
    about = json.loads(path.with_name('sub-01_T2w.json').read_text(encoding='utf-8'))
    low = load_volume(path)
    # RAS+, thick from inferior to superior
    np.testing.assert_allclose(np.diag(low.affine)[:2], 0.8, rtol=1e-5)
    assert low.spacing[2] == pytest.approx(about['SpacingBetweenSlices'], rel=1e-5)
    assert 2 <= low.spacing[2] <= 4
    assert about['SliceThickness'] == about['SpacingBetweenSlices']
    assert about['EchoTime'] == 0.1
    assert about['Sources'] == ['bids:source:x']
    how = about['Simulation']
    assert how['Factors'] == pytest.approx([1, 1, low.spacing[2] / 0.8], rel=1e-5)
    assert how['Settings'] == settings

    again = simulate_image(image, tmp_path / 'again', MODEL, settings)
    assert again.read_bytes() == path.read_bytes()
    other = simulate_image(image, tmp_path / 'other', MODEL, settings_of(MODEL, 0.02, 8))
    assert load_volume(other).spacing[2] != low.spacing[2]


def test_a_folder_takes_the_same_settings_and_images_alone(
    image: FineImage, tmp_path: Path
) -> None:
    settings, out = settings_of(MODEL, 0.0, 0), tmp_path / 'out'
    check_output(out, [image], settings)
    simulate_image(image, out, MODEL, settings)
    write_root(out, [image.path])
    check_output(out, [image], settings)
    with pytest.raises(UserError, match=r'sub-01_T2w\.json: made with other settings'):
        check_output(out, [image], settings_of(MODEL, 0.0, 1))
    other = FineImage(image.path, image.entities, {}, 'bids:source:y')
    with pytest.raises(UserError, match=r'sub-01_T2w\.json: made from another image'):
        check_output(out, [other], settings)
    with pytest.raises(UserError, match='not a folder'):
        check_output(image.path, [image], settings)
    (out / 'dataset_description.json').write_text('{"Name": "mine"}', encoding='utf-8')
    with pytest.raises(UserError, match='a dataset that this command did not write'):
        check_output(out, [image], settings)
