"""Links to the files of an image."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from test_subject import RUN, FakeSettings, body

from bids_segsr.reports.assembly import Image
from bids_segsr.reports.file_links import files_section, without_links
from bids_segsr.reports.subject import export_single_file, generate_report


def test_files_of_an_image_are_linked_and_named_where_they_are_not(
    tmp_path: Path, tree: tuple[Path, FakeSettings]
) -> None:
    root = tmp_path / 'out'
    shutil.copytree(tree[0], root)
    anat = root / 'sub-01' / 'ses-01' / 'anat'
    names = [
        'sub-01_ses-01_desc-preproc_T2w.nii.gz',
        'sub-01_ses-01_qc.json',
        'sub-01_ses-01_res-0p5mm_desc-phantom_T2w.nii.gz',
    ]
    for name in (*names, 'sub-01_ses-01_desc-preproc_T2w.json', 'sub-01_ses-01_mine_T2w.nii.gz'):
        (anat / name).touch()
    report = generate_report(root, '01', RUN, tree[1])
    part = body(report).split('<section id="files"')[1].split('<section')[0]
    linked = re.findall(r'<a class="file" href="\./([^"]+)">([^<]+)</a>', part)
    assert linked == [(f'sub-01/ses-01/anat/{name}', name) for name in names]
    assert part.count('<h3>') == 1, 'an image without files has no list'
    sent = export_single_file(report).read_text(encoding='utf-8')
    assert 'class="file"' not in sent
    assert f'<code>{names[0]}</code>' in sent


def test_files_are_linked_and_names_alone_are_sent(tmp_path: Path) -> None:
    folder = tmp_path / 'sub-01/anat'
    folder.mkdir(parents=True)
    for name in ('res-1mm_dseg.nii.gz', 'res-1mm_dseg.json', 'qc.json', 'desc-brain_mask.nii.gz'):
        (folder / f'sub-01_{name}').touch()
    (section,) = files_section(tmp_path, [Image({}, 'T2w', 'sub-01')])
    ((links, _),) = section.reportlets[0].components
    assert re.findall(r'href="\./([^"]*)"', links) == [
        f'sub-01/anat/sub-01_{name}'
        for name in ('desc-brain_mask.nii.gz', 'qc.json', 'res-1mm_dseg.nii.gz')
    ]
    assert 'href' not in without_links(links)
    assert '<code>sub-01_qc.json</code>' in without_links(links)
