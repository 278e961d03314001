"""Images without a result, and why."""

from __future__ import annotations

from pathlib import Path

from bids_segsr.reports.group import write_group
from bids_segsr.reports.missing_results import NOT_STARTED, STOPPED, LeftOut, left_out, qc_records


def test_images_without_a_result_are_listed(group: Path, tmp_path: Path) -> None:
    raw = tmp_path / 'raw'
    names = [
        f'sub-{number:02d}/anat/sub-{number:02d}_T2w.nii.gz' for number in (1, 3, 9, 10, 11, 13)
    ]
    names += ['sub-02/ses-02/anat/sub-02_ses-02_T2w.nii.gz', 'sub-12/anat/sub-12_run-1_T2w.nii']
    names += ['sub-01/anat/sub-01_T1w.nii.gz']
    for name in names:
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        (raw / name).touch()
    # the later run counts; the crash of one step leaves the image without its picture
    for number, run, name, text in (
        (1, '2026_a', 'errors.json', '[{"image": "sub-01_T2w", "message": "was empty"}]'),
        (1, '2026_b', 'bids_segsr.toml', ''),
        (9, '2026_a', 'errors.json', '[{"image": "sub-09_T2w", "message": "<empty>\\n file"}]'),
        (10, '2026_a', 'bids_segsr.toml', ''),
        (13, '2026_a', 'errors.json', '[{"image": "sub-13_T2w", "message": "told before"}]'),
        (13, '2026_b', 'bids_segsr.toml', ''),
        (
            12,
            '2026_a',
            'crash-x.txt',
            'Node: run_wf.sub-12_run-1_T2w_wf.image.superresolve\nTraceback\nOSError: disk full',
        ),
    ):
        folder = group / f'sub-{number:02d}' / 'log' / run
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding='utf-8')

    found = left_out(group, raw, 'T2w', qc_records(group))

    assert [(item.image, item.message) for item in found] == [
        ('sub-09_T2w', '<empty>\n file'),
        ('sub-10_T2w', STOPPED),
        ('sub-11_T2w', NOT_STARTED),
        ('sub-12_run-1_T2w', 'step superresolve failed: OSError: disk full'),
        ('sub-13_T2w', 'told before'),
    ]
    _, page, _, table = (
        path.read_text(encoding='utf-8') for path in write_group(group, 'T2w', found)
    )
    assert '5 images or steps are without a result' in page
    assert '&lt;empty&gt;' in page
    rows = [line.split('\t') for line in table.splitlines()]
    assert [row[0][-2:] for row in rows[1:]] == ['09', '10', '11', '12', '13']
    assert rows[1][2] == '<empty> file'


def test_a_folder_or_path_is_that_of_its_participant() -> None:
    for image in ('sub-01', 'sub-01/', 'sub-01/T2w.nii', 'sub-01_T2w'):
        assert LeftOut(image, '').subject == 'sub-01'
