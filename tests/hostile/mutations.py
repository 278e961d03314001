"""Damaged and odd inputs, drawn from a seed: what strangers, disks and other programs make."""

from __future__ import annotations

import gzip
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

SHAPE = (24, 22, 8)
AFFINE = np.diag([2.0, 2.0, 5.0, 1.0])

ODD_NUMBERS = (0, 1, -1, 2, 7, 127, 255, 32767, -32768, 65535, 2**31 - 1, -(2**31))
ODD_FLOATS = (0.0, -0.0, 1e-30, 1e-3, 1.0, -1.0, 1e3, 1e10, 3e38, -3e38, np.inf, -np.inf, np.nan)
# offset and struct format of the fields of a NIfTI-1 header that mean something
FIELDS = {
    'sizeof_hdr': (0, 'i'), 'dim0': (40, 'h'), 'dim1': (42, 'h'), 'dim2': (44, 'h'),
    'dim3': (46, 'h'), 'dim4': (48, 'h'), 'datatype': (70, 'h'), 'bitpix': (72, 'h'),
    'pixdim0': (76, 'f'), 'pixdim1': (80, 'f'), 'pixdim2': (84, 'f'), 'pixdim3': (88, 'f'),
    'vox_offset': (108, 'f'), 'slope': (112, 'f'), 'inter': (116, 'f'), 'xyzt': (123, 'B'),
    'qcode': (252, 'h'), 'scode': (254, 'h'), 'quatern_b': (256, 'f'), 'quatern_c': (260, 'f'),
    'qoffset': (268, 'f'), 'srow_x0': (280, 'f'), 'srow_x3': (292, 'f'), 'srow_y1': (300, 'f'),
    'srow_z2': (320, 'f'), 'magic': (344, 'i'),
}  # fmt: skip
ODD_TEXTS = (
    '',
    ' ',
    '0',
    '-1',
    'nan',
    'é',
    '../x',
    'a b',
    'x' * 300,
    '\u202e',
    'a\tb',
    'None',
    '+',
)
ODD_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 10**400, 1e308, '', 'x', [], [1], {}, {'a': 1}, [[]], float('nan'),
    float('inf'), 'é' * 10,
)  # fmt: skip
ODD_TOML = ('-1', '0', '1e400', 'nan', '[]', '{}', 'true', '"x"', '[[1]]', '""', '9' * 30)
LABELS = ('01', '1', 'pat_02', 'é', 'a+b', '01 ', 'A', '0' * 60, '01-2', '')


def brain(rng: random.Random) -> np.ndarray:
    """A stripped brain: rim 600, inside 300, 0 outside; int16."""
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, 10, SHAPE)
    at = (np.stack(np.indices(SHAPE), -1) - (np.array(SHAPE) - 1) / 2) / np.array(SHAPE) / 0.4
    r = np.sqrt((at**2).sum(-1))
    return np.where(r < 1, np.where(r < 0.8, 300, 600) + noise, 0).astype(np.int16)


def sound(rng: random.Random, data: np.ndarray | None = None) -> bytes:
    """Bytes of a sound NIfTI file."""
    image = nib.Nifti1Image(brain(rng) if data is None else data, AFFINE)
    image.set_qform(AFFINE, 1)
    image.header.set_xyzt_units('mm')
    return bytes(image.to_bytes())


def header(rng: random.Random, folder: Path) -> Path:
    """An image with one to three fields of its header overwritten, or some bits flipped."""
    content = bytearray(sound(rng))
    if rng.random() < 0.3:
        for _ in range(rng.randint(1, 4)):
            content[rng.randrange(352)] ^= 1 << rng.randrange(8)
    else:
        for name in rng.sample(sorted(FIELDS), rng.randint(1, 3)):
            offset, form = FIELDS[name]
            if form == 'f':
                value: Any = rng.choice([*ODD_FLOATS, rng.uniform(-100, 100)])
                value = float(np.float32(value))
            else:
                value = rng.choice(ODD_NUMBERS)
                bits = 8 * struct.calcsize(form)
                value %= 2**bits
                form = form.upper()
            struct.pack_into('<' + form, content, offset, value)
    return _stored(content, rng, folder)


def stream(rng: random.Random, folder: Path) -> Path:
    """A file that is cut, longer than it should be, or has flipped bits or zeroed blocks."""
    content = bytearray(gzip.compress(sound(rng), mtime=0))
    kind = rng.choice(('cut', 'more', 'flip', 'zeros', 'twice', 'empty', 'plain', 'packed twice'))
    place = rng.randrange(len(content))
    if kind == 'cut':
        content = content[:place]
    elif kind == 'more':
        content += rng.randbytes(rng.randint(1, 3000))
    elif kind == 'flip':
        content[place] ^= 1 << rng.randrange(8)
    elif kind == 'zeros':
        content[place : place + 64] = bytes(len(content[place : place + 64]))
    elif kind == 'twice':
        content = content * 2
    elif kind == 'empty':
        content = bytearray()
    elif kind == 'plain':
        content = bytearray(sound(rng))
    else:
        content = bytearray(gzip.compress(content))
    path = folder / 'sub-01_T2w.nii.gz'
    path.write_bytes(content)
    return path


def voxels(rng: random.Random, folder: Path) -> Path:
    """An image whose voxels are shifted, scaled, constant, no numbers, or partly lost."""
    data = brain(rng).astype(np.float32)
    for _ in range(rng.randint(1, 2)):
        kind = rng.choice(('shift', 'scale', 'spot', 'slices', 'noise', 'constant', 'labels'))
        with np.errstate(all='ignore'):
            if kind == 'shift':
                data = data + np.float32(rng.choice((-1e4, -500, -1, 1, 1e3, 1e7)))
            elif kind == 'scale':
                data = data * np.float32(rng.choice((-1, 1e-6, 1e-30, 1e20, 1e35)))
            elif kind == 'spot':
                data[tuple(rng.randrange(n) for n in SHAPE)] = rng.choice(ODD_FLOATS)
            elif kind == 'slices':
                axis = rng.randrange(3)
                np.moveaxis(data, axis, 0)[rng.sample(range(SHAPE[axis]), rng.randint(1, 6))] = (
                    rng.choice((0, 100, -5))
                )
            elif kind == 'noise':
                data = data + np.random.default_rng(0).rayleigh(20, SHAPE).astype(np.float32)
            elif kind == 'constant':
                data[:] = rng.choice((0, 7))
            else:
                data = np.rint(data / 300)
    return _stored(bytearray(sound(rng, data.astype(np.float32))), rng, folder)


def shapes(rng: random.Random, folder: Path) -> Path:
    """An image of other dimensions, voxel sizes or types."""
    dimensions = rng.choice((2, 3, 3, 3, 3, 4))
    shape = tuple(rng.choice((2, 9, 20, 20, 24, 24)) for _ in range(dimensions))
    kind = rng.choice((np.uint8, np.int16, np.int32, np.float32, np.float64, np.complex64))
    data = np.random.default_rng(rng.getrandbits(32)).uniform(0, 200, shape).astype(kind)
    spacing = [rng.choice((0.01, 0.8, 1, 2, 3, 3, 4)) for _ in range(3)]
    image = nib.Nifti1Image(data, np.diag([*spacing, 1]))
    image.header.set_xyzt_units(rng.choice(('mm', 'meter', 'micron', 'unknown')))
    path = folder / 'sub-01_T2w.nii.gz'
    nib.save(image, path)
    return path


def mutated_json(rng: random.Random, text: str) -> str:
    """A JSON text with another value, a lost or a new key, or broken syntax."""
    table = json.loads(text)
    if rng.random() < 0.15:
        place = rng.randrange(len(text))
        return rng.choice(
            (text[:place], text[:place] + '}' + text[place:], '[1]', '5', '', '[' * 5000)
        )
    holder = table
    while True:
        key = (
            rng.choice(sorted(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
        )
        value = holder[key]
        if isinstance(value, (dict, list)) and value and rng.random() < 0.6:
            holder = value
            continue
        break
    kind = rng.random()
    if kind < 0.7:
        holder[key] = rng.choice(ODD_VALUES)
    elif kind < 0.85 and isinstance(holder, dict):
        del holder[key]
    elif isinstance(holder, dict):
        holder[rng.choice(ODD_TEXTS)] = rng.choice(ODD_VALUES)
    return json.dumps(table)


def mutated_text(rng: random.Random, text: str) -> bytes:
    """A text file of lines (TOML, CSV) with odd values, lost or doubled lines, or other bytes."""
    lines = text.splitlines()
    for _ in range(rng.randint(1, 3)):
        k = rng.randrange(len(lines))
        kind = rng.choice(('value', 'value', 'value', 'lose', 'double', 'cut', 'token'))
        if kind == 'value' and '=' in lines[k]:
            odd = rng.choice(
                ('-1', '0', '1e400', 'nan', '[]', '{}', 'true', '"x"', '[[1]]', '""', '9' * 30)
            )
            lines[k] = f'{lines[k].partition("=")[0]}= {odd}'
        elif kind == 'lose' and len(lines) > 1:
            del lines[k]
        elif kind == 'double':
            lines.insert(k, lines[k])
        elif kind == 'cut':
            lines[k] = lines[k][: rng.randrange(len(lines[k]) + 1)]
        else:
            parts = lines[k].split(',')
            parts[rng.randrange(len(parts))] = rng.choice(ODD_TEXTS)
            lines[k] = ','.join(parts)
    content = '\n'.join(lines).encode()
    if rng.random() < 0.1:
        content = rng.choice(
            (b'\xff\xfe' + content, b'\xef\xbb\xbf' + content, content + b'\0\xe9')
        )
    return content


def tree(rng: random.Random, root: Path) -> None:
    """A dataset of which sub-02 is sound, and one to three things around it are not."""
    write(root / 'dataset_description.json', '{"Name": "x", "BIDSVersion": "1.9.0"}')
    for subject in ('01', '02'):
        write(root / f'sub-{subject}/anat/sub-{subject}_T2w.nii.gz', gzip.compress(sound(rng)))
    for fault in rng.sample(TREE_FAULTS, rng.randint(1, 3)):
        fault(rng, root)


def _name(rng: random.Random, root: Path) -> None:
    subject, other = rng.choice(LABELS), rng.choice(LABELS)
    folder = root / f'sub-{subject}' / rng.choice(('anat', 'ses-1/anat', 'ses-a_b/anat'))
    write(
        folder / f'sub-{other}{rng.choice(("", "_ses-1", "_acq-" + other))}_T2w.nii.gz', sound(rng)
    )


def _sidecar(rng: random.Random, root: Path) -> None:
    text = '{"SliceThickness": 4, "EchoTime": 0.1, "ImageType": ["ORIGINAL", "PRIMARY"]}'
    content = rng.choice(
        (mutated_json(rng, text).encode('utf-8', 'replace'), b'\xff\xfe', b'\xef\xbb\xbf{}')
    )
    write(root / 'sub-01/anat' / rng.choice(('sub-01_T2w.json', 'sub-01_T1w.json')), content)


def _other_data(rng: random.Random, root: Path) -> None:
    write(root / 'sub-01/func/sub-01_task-rest_bold.json', '{"RepetitionTime": 2,}')
    write(root / 'sub-02/dwi/sub-02_dwi.json', rng.choice(('[]', '', '5', '{"a": [}')))
    write(root / 'task-rest_bold.json', '{')


def _link(rng: random.Random, root: Path) -> None:
    path = root / rng.choice(
        ('sub-01/anat/loop', 'sub-01/self', 'sub-01/ses-x', 'again', 'sub-09')
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_symlink() and not path.exists():
        path.symlink_to(rng.choice(('.', '..', path.name, 'absent', '/')))


def _not_fetched(rng: random.Random, root: Path) -> None:
    path = root / 'sub-01/anat' / rng.choice(('sub-01_T2w.nii.gz', 'sub-01_T2w.json'))
    if not path.is_dir():
        path.unlink(missing_ok=True)
        path.symlink_to('../../.git/annex/objects/absent')


def _both(rng: random.Random, root: Path) -> None:
    write(root / 'sub-01/anat/sub-01_T2w.nii', sound(rng))


def _kind(rng: random.Random, root: Path) -> None:
    path = root / 'sub-01/anat/sub-01_T2w.nii.gz'
    if path.is_dir():
        return
    path.unlink(missing_ok=True)
    if rng.random() < 0.5:
        path.mkdir()
    else:
        write(path, rng.choice((b'', b'text', b'\x1f\x8b', b'/annex/objects/MD5E-s1--x\n')))


def _damaged(rng: random.Random, root: Path) -> None:
    path = rng.choice((header, stream, voxels, shapes))(rng, root)
    (root / 'sub-01/anat').mkdir(parents=True, exist_ok=True)
    path.replace(root / f'sub-01/anat/sub-01_run-7_{path.name.partition("_")[2]}')


def _ignore(rng: random.Random, root: Path) -> None:
    patterns = ('sub-01', '*_acq-*', '[', '**', '!', 'sub-01/**/', '\\', '*.nii.gz\n!sub-02*', '#')
    write(root / '.bidsignore', rng.choice(patterns[:3] + patterns[4:]))


def _description(rng: random.Random, root: Path) -> None:
    write(root / 'dataset_description.json', rng.choice(('', '{', '{}', '{"Name": 5}')))


def _phase(rng: random.Random, root: Path) -> None:
    write(
        root / f'sub-01/anat/sub-01_part-{rng.choice(("phase", "mag", "x"))}_T2w.nii.gz',
        sound(rng),
    )


TREE_FAULTS: list[Callable[[random.Random, Path], None]] = [
    _name, _sidecar, _other_data, _link, _not_fetched, _both, _kind, _damaged, _ignore,
    _description, _phase,
]  # fmt: skip


def write(path: Path, content: str | bytes) -> Path:
    """Write a file and the folders above it, in the place of a link or folder that is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        path.unlink()
    if not path.is_dir():
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _stored(content: bytearray, rng: random.Random, folder: Path) -> Path:
    packed = rng.random() < 0.5
    path = folder / ('sub-01_T2w.nii.gz' if packed else 'sub-01_T2w.nii')
    path.write_bytes(gzip.compress(content) if packed else content)
    return path
