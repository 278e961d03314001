"""Images of a collection, prepared and listed."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from release_phantoms import (
    SHAPE,
    make_hcp,
    make_release,
    phantom,
    rows_of,
)

from bids_segsr.evaluation.reproduce.article import (
    Dataset,
    read_article,
)
from bids_segsr.evaluation.reproduce.data import write_lists
from bids_segsr.evaluation.reproduce.datasets import (
    Collection,
    Member,
    find_collection,
)
from bids_segsr.evaluation.reproduce.dhcp import find_scans
from bids_segsr.exceptions import ImageError


def dhcp(root, release, bases):
    scans, missing = find_scans(root, list(bases))
    members = [Member(s.participant, bases[s.participant], s.image, scan=s) for s in scans]
    return Collection({}, tuple(members), missing)


def test_data_of_dhcp_hold_brain_cortex_and_mask(tmp_path):
    root = make_release(tmp_path / 'dhcp', 2, ['sub-A', 'sub-B'])
    found = dhcp(root, 2, {'sub-A': 'Train', 'sub-B': 'Test'})
    out, told = tmp_path / 'out', []
    lists = write_lists('dhcp', Dataset('dhcp', follow='Test'), found, out, told.append)
    rows, followed = rows_of(lists.tests['dhcp']), rows_of(lists.training)
    assert [row['Base'] for row in rows] == ['Train', 'Test']
    # the test images choose the weights, as in the article
    assert [row['Base'] for row in followed] == ['Train', 'Validation']
    assert [{**row, 'Base': ''} for row in rows] == [{**row, 'Base': ''} for row in followed]
    assert [row['Subject'] for row in rows] == ['sub-A', 'sub-B']
    image, tissues, brain = phantom(1)
    folder = lists.training.parent
    names = ('HR_image', 'Label_image', 'Mask_image')
    stored = [np.asarray(nib.load(folder / rows[1][name]).dataobj) for name in names]
    np.testing.assert_array_equal(stored[0], np.where(brain, image, 0))
    np.testing.assert_array_equal(stored[1], tissues == 2)
    np.testing.assert_array_equal(stored[2], brain)
    assert len(told) == 2
    # what is there is kept, what is missing made again
    before = (folder / rows[0]['HR_image']).stat().st_mtime_ns
    (folder / rows[1]['Mask_image']).unlink()
    write_lists('dhcp', Dataset('dhcp', follow='Test'), found, out, told.append)
    assert (folder / rows[0]['HR_image']).stat().st_mtime_ns == before
    assert (folder / rows[1]['Mask_image']).is_file()
    assert len(told) == 3
    assert not [path for path in folder.iterdir() if path.name.startswith('.')]


def test_labels_without_cortex_or_on_another_grid_are_refused(tmp_path):
    root = make_release(tmp_path / 'dhcp', 3, ['sub-A'])
    found = dhcp(root, 3, {'sub-A': 'Train'})
    tissues = found.members[0].scan.tissues
    image = nib.load(tissues)
    numbers = np.asarray(image.dataobj)
    nib.save(nib.Nifti1Image(np.where(numbers == 2, 3, numbers), image.affine), tissues)
    with pytest.raises(ImageError, match='no cortex'):
        write_lists('dhcp', Dataset('dhcp'), found, tmp_path / 'out', print)
    nib.save(nib.Nifti1Image(numbers[:, :, 1:], image.affine), tissues)
    with pytest.raises(ImageError, match='another grid'):
        write_lists('dhcp', Dataset('dhcp'), found, tmp_path / 'out', print)


def test_images_of_rrdg_are_brought_to_one_millimetre(tmp_path):
    found = find_collection('hcp', make_hcp(tmp_path / 'hcp', 4))
    article, _ = read_article('rrdg')
    lists = write_lists('hcp', article.datasets['hcp'], found, tmp_path / 'out', print)
    row = rows_of(lists.tests['hcp-evaluation'])[-1]
    assert row['Base'] == 'Test'
    made = nib.load(lists.training.parent / row['HR_image'])
    np.testing.assert_allclose(made.header.get_zooms(), 1)
    assert made.shape == tuple(int(np.ceil(n * 0.7 - 1e-3)) for n in SHAPE)
    original = nib.load(next(m.image for m in found.members if m.name == row['Subject']))
    middle = [
        nib.affines.apply_affine(image.affine, (np.array(image.shape) - 1) / 2)
        for image in (made, original)
    ]
    np.testing.assert_allclose(middle[0], middle[1], atol=1e-3)
