"""What changed in the data of a run."""

from __future__ import annotations

from bids_segsr.training.data.data_summary import DataFile, changed_file


def test_what_changed_in_the_data_is_told():
    a = DataFile('train', 'sub-1', 'image', 'a.nii', '1')
    b = DataFile('validation', 'sub-2', 'image', 'b.nii', '2')
    assert changed_file([list(a), list(b)], [a, b]) is None
    assert changed_file([a, b], [b, a]) == 'the files are in another order'
    assert changed_file([a, b], [a]) == ('image b.nii of sub-2 (validation) is not there any more')
    assert changed_file([a], [a, b]) == 'image b.nii of sub-2 (validation) is new'
    assert changed_file([a, b], [a._replace(digest='3'), b]) == (
        'image a.nii of sub-1 (train) has another content'
    )
