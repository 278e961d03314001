"""Sidecars: what a file is, and from what and how it was made."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version

import pytest

from bids_segsr.bids import sidecars
from bids_segsr.bids.sidecars import Provenance
from bids_segsr.inference.processing import Processing

MODEL = {'Name': 'toy', 'Version': '2', 'SHA-256': 'ab'}


def provenance(*, classes: bool = False, **choices: object) -> Provenance:
    processing = Processing(**choices)  # type: ignore[arg-type]
    settled = asdict(processing.settled(resolution=0.5, slice_thickness=3.0))
    return Provenance(MODEL, settled, True, classes)


def test_a_result_names_grid_model_and_versions() -> None:
    how = provenance(patch_size=64, step=32)
    sidecar = sidecars.superresolved_image(how, ['bids::a'])
    grid = 'Isotropic grid of 0.5 x 0.5 x 0.5 mm^3 over the field of view of the scan'
    assert sidecar['Resolution'] == grid
    assert sidecar['SkullStripped'] is True
    assert sidecar['Sources'] == ['bids::a']
    assert sidecar['Model'] == MODEL
    assert (sidecar['PatchSize'], sidecar['Step'], sidecar['Blending']) == (64, 32, 'gaussian')
    assert 'Margin' not in sidecar
    assert sidecar['PackageVersions']['numpy'] == version('numpy')
    cut = sidecars.superresolved_image(provenance(patch_size=64, margin=8), [])
    assert cut['Margin'] == 8


def test_a_threshold_is_told_where_there_is_one() -> None:
    alone = sidecars.segmentation(provenance(threshold=0.3, keep_largest=True), [], 'x')
    assert (alone['Threshold'], alone['LargestComponentOnly']) == (0.3, True)
    assert 'Threshold' not in sidecars.segmentation(provenance(classes=True), [], 'x')
    assert sidecars.structure_mask(provenance(), [], 'x')['Type'] == 'ROI'


@pytest.mark.parametrize(
    ('how', 'told'), [('n4', 'corrected by N4 (SimpleITK)'), ('none', 'not corrected')]
)
def test_the_scan_tells_of_its_bias_field(how: str, told: str) -> None:
    sidecar = sidecars.preprocessed_scan(provenance(bias_correction=how), ['bids:raw:x'])
    assert sidecar['Description'].endswith(f'bias field {told}')


def test_maps_on_the_grid_of_the_scan_have_no_resolution_of_their_own() -> None:
    residual = sidecars.residual_map(provenance(), [])
    assert residual['SliceProfileFWHM'] == 3.0
    assert 'Resolution' not in {**residual, **sidecars.brain_mask([])}
    assert sidecars.uncertainty_map(provenance(), [], 'entropy')['Units'] == 'bit'
