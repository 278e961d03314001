"""Tables of a recipe about its data."""

from __future__ import annotations

from pathlib import Path

import pytest

from bids_segsr.training.data_tables import Augmentation, Heads, LabelMaps, LabelSource, Sampling


@pytest.mark.parametrize(
    ('table', 'values', 'message'),
    [
        (Sampling, {'patch_size': 0}, 'patch_size is 0; give 1 or more'),
        (Sampling, {'patch_size': (8, 0, 8)}, 'patch_size is 0; give 1 or more'),
        (Sampling, {'patches_per_epoch': -1}, 'patches_per_epoch is -1'),
        (Sampling, {'foreground': 1.5}, r'foreground is 1\.5; give 0 to 1'),
        (Sampling, {'normalisation': 'z-score'}, "normalisation is 'z-score'; give one of volume"),
        (Augmentation, {'contrast_power': 1}, 'contrast_power is 1; give 0 to below 1'),
        (Augmentation, {'noise': -0.1}, r'noise is -0\.1; give 0 or more'),
        (Augmentation, {'ghosting': 2}, 'ghosting is 2; give a probability, 0 to 1'),
        (LabelSource, {'labelling': 'mouse'}, "labelling 'mouse' is unknown; known are adult"),
        (LabelSource, {'share': 0}, 'share is 0; give more than 0'),
        (LabelMaps, {'reuse': 0}, 'reuse is 0; give 1 or more'),
        (LabelMaps, {'sources': (LabelSource(labelling='brain'),)}, r"'brain' is for \[heads\]"),
        (Heads, {'spacing_mm': 0}, 'spacing_mm is 0; give more than 0'),
        (Heads, {'sources': (LabelSource(labelling='unlabelled'),)}, 'heads are made from label'),
    ],
)
def test_what_cannot_be_is_refused(table: type, values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table(**values)


def test_the_star_of_an_image_stands_for_that_of_its_label_map() -> None:
    source = LabelSource('maps/*_dseg.nii.gz', image='real/*/T2w.nii')
    folder = Path('/data')
    found = source.image_of(folder / 'maps' / 'sub-1_dseg.nii.gz', folder)
    assert found == folder / 'real' / 'sub-1' / 'T2w.nii'
    assert LabelSource().image_of(folder / 'a.nii', folder) is None
