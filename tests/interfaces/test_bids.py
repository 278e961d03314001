"""Derivatives: a copy under the BIDS name, and a sidecar beside it."""

from __future__ import annotations

import json
from pathlib import Path

from bids_segsr.interfaces.bids import SaveDerivative

NAME = 'sub-01/anat/sub-01_desc-preproc_T2w.nii.gz'


def save(tmp_path: Path, known_after: dict[str, object], **inputs: object) -> Path:
    made = tmp_path / 'made.nii.gz'
    made.write_bytes(b'voxels')
    node = SaveDerivative(
        list(known_after),
        in_file=str(made),
        base_directory=str(tmp_path / 'out'),
        name=NAME,
        **inputs,
    )
    for field, value in known_after.items():
        setattr(node.inputs, field, value)
    return Path(node.run(cwd=str(tmp_path)).outputs.out_file)


def test_the_sidecar_tells_what_is_known_before_and_after(tmp_path: Path) -> None:
    told = {'SkullStripped': False, 'Sources': ['bids:raw:sub-01']}
    after = {'SkullStripped': True, 'HeaderNotes': []}
    path = save(tmp_path, after, metadata=told)

    assert path == tmp_path / 'out' / NAME
    assert path.read_bytes() == b'voxels'
    sidecar = path.with_name('sub-01_desc-preproc_T2w.json').read_text(encoding='utf-8')
    assert json.loads(sidecar) == {**told, 'SkullStripped': True}  # notes that are empty: none


def test_without_metadata_the_file_stands_alone(tmp_path: Path) -> None:
    path = save(tmp_path, {})

    assert [item.name for item in path.parent.iterdir()] == [path.name]
