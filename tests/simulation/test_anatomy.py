"""What is read from a label map, and what is found in it."""

from __future__ import annotations

import numpy as np
import pytest
from simulation_phantoms import write_labels

from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.simulation.anatomy import (
    RIM_MM,
    brain_hull,
    capsules,
    deep_nearness,
    read_anatomy,
    sulci,
)
from bids_segsr.simulation.tables import (
    TISSUES,
)


def test_fractions_sum_to_one(anatomy):
    total = anatomy.fractions.astype(int).sum(0)
    assert np.abs(total - 255).max() <= len(TISSUES)


def test_missing_csf_and_surroundings_are_filled_in(anatomy):
    share = {name: (f > 127).sum() for name, f in zip(TISSUES, anatomy.fractions, strict=True)}
    assert share['csf'] > 0
    assert share['surround'] > 0
    assert share['white'] > share['cortex'] > 0
    assert share['ventricles'] == 0


def test_map_without_cortex_is_refused(tmp_path):
    path = write_labels(tmp_path / 'wrong.nii.gz', numbers=(502, 506))
    with pytest.raises(ImageError, match=r'wrong\.nii\.gz.*cortex'):
        read_anatomy(path, 'adult')


def test_table_of_label_numbers_is_taken_and_checked(tmp_path):
    path = write_labels(tmp_path / 'other.nii.gz', numbers=(7, 9))
    anatomy = read_anatomy(path, 'adult', numbers={'cortex': (7,), 'white': (9,)})
    assert (anatomy.fractions[TISSUES.index('cortex')] > 127).any()
    with pytest.raises(UserError, match=r'other\.nii\.gz.*gyrus'):
        read_anatomy(path, 'adult', numbers={'gyrus': (7,)})


def test_the_sheet_between_touching_banks_is_found():
    # white, cortex, white along the first axis: the banks touch in the middle
    tissue = np.full((24, 20, 20), TISSUES.index('white'), np.uint8)
    tissue[8:15] = TISSUES.index('cortex')
    found = sulci(tissue, (1.0, 1.0, 1.0))
    assert found[11].min() > 0.8
    assert found[:10].max() < 0.1
    assert found[13:].max() < 0.1
    # a crown beside CSF has no such sheet
    crown = np.full((24, 20, 20), TISSUES.index('white'), np.uint8)
    crown[8:12], crown[12:] = TISSUES.index('cortex'), TISSUES.index('csf')
    assert sulci(crown, (1.0, 1.0, 1.0)).max() == 0


def test_capsules_are_the_white_matter_between_the_nuclei():
    tissue = np.full((40, 20, 20), TISSUES.index('white'), np.uint8)
    for nucleus in (slice(8, 16), slice(20, 28)):
        tissue[nucleus, 4:16, 4:16] = TISSUES.index('deep-grey')
    found = capsules(tissue, (1.0, 1.0, 1.0))
    assert found[18, 10, 10] > 0.9
    assert found[[4, 32], 10, 10].max() < 0.05
    nearness = deep_nearness(tissue, (1.0, 1.0, 1.0))
    assert nearness[18, 10, 10] > 3 * nearness[36, 10, 10]


@pytest.mark.parametrize('spacing', [(1.0, 1.0, 1.0), (0.8, 0.8, 1.2)])
def test_sulci_are_filled_up_to_16_mm(spacing):
    """A cube with two clefts to its middle: the narrow one belongs to the mask, the wide not."""
    size, clefts = 80, {10: 20, 24: 60}
    centres = [(np.arange(round(100 / mm)) + 0.5) * mm - 50 for mm in spacing]
    i, j, k = np.meshgrid(*centres, indexing='ij')
    cube = (np.abs(i) < size / 2) & (np.abs(j) < size / 2) & (np.abs(k) < size / 2)
    tissue = cube.copy()
    for width, middle in clefts.items():
        tissue &= ~((np.abs(j - (middle - 40)) < width / 2) & (i > 0))
    hull = brain_hull(tissue, np.zeros_like(tissue), spacing, 'adult')
    assert hull[tissue].all()
    for width, middle in clefts.items():
        inside = (np.abs(j - (middle - 40)) < 1) & (np.abs(i - 20) < 5) & (np.abs(k) < 5)
        assert hull[inside].all() == (width < 16)
    middle_of_faces = hull & (np.abs(i) < 5) & (np.abs(j) < 5)
    assert size / 2 - spacing[2] < np.abs(k[middle_of_faces]).max() <= size / 2 + RIM_MM
