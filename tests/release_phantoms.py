"""Made-up trees of the collections that the articles read."""

from __future__ import annotations

import csv

import nibabel as nib
import numpy as np

# What the releases call image, tissue labels and brain mask, and where they keep them.
RELEASES = {
    1: ('derivatives', 'T2w_restore', 'drawem_tissue_labels', 'brainmask_bet'),
    2: (
        'derivatives/dhcp_anat_pipeline',
        'desc-restore_T2w',
        'desc-drawem9_space-T2w_dseg',
        'desc-bet_space-T2w_brainmask',
    ),
    3: (
        'rel3_dhcp_anat_pipeline',
        'desc-restore_T2w',
        'desc-drawem9_dseg',
        'desc-brain_mask',
    ),
}


SHAPE = (32, 36, 48)


def phantom(seed):
    """T2w-like image, Draw-EM tissues and brain mask of a made-up head."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing='ij')
    radius = np.sqrt(sum(axis**2 for axis in grid))
    radius = radius * (1 + 0.08 * np.sin(9 * grid[0] + seed) * np.cos(8 * grid[2]))
    tissues = np.zeros(SHAPE, np.uint8)
    for label, limit in ((1, 0.9), (2, 0.8), (3, 0.6)):
        tissues[radius < limit] = label
    levels = np.array([40.0, 100.0, 55.0, 75.0])
    image = levels[tissues] + rng.normal(0, 1, SHAPE)
    return image.astype(np.float32), tissues, tissues > 0


def make_release(root, release, participants, sessions=('ses-100',)):
    folder, *names = RELEASES[release]
    affine = np.diag([0.5, 0.5, 0.5, 1.0])
    for number, participant in enumerate(participants):
        for session in sessions:
            anat = root / folder / participant / session / 'anat'
            anat.mkdir(parents=True)
            for name, array in zip(names, phantom(number), strict=True):
                image = nib.Nifti1Image(array.astype(np.float32), affine)
                nib.save(image, anat / f'{participant}_{session}_{name}.nii.gz')
    return root


def rows_of(path):
    with path.open(newline='') as stream:
        return list(csv.DictReader(stream))


def save_head(path, seed, spacing=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    image, _, _ = phantom(seed)
    nib.save(nib.Nifti1Image(image, np.diag([spacing, spacing, spacing, 1.0])), path)


def make_kirby(root, numbers):
    for number in numbers:
        save_head(root / f'KKI2009-{number:02}' / f'KKI2009-{number:02}-MPRAGE.nii', number)
    return root


def make_namic(root, cases):
    for number, case in enumerate(cases):
        save_head(root / f'{case}-t1w.nii.gz', number)
    return root


def make_hcp(root, count, spacing=0.7):
    for number in range(count):
        person = f'{100307 + number}'
        folder = root / person / 'unprocessed' / '3T' / 'T1w_MPR1'
        save_head(folder / f'{person}_3T_T1w_MPR1.nii.gz', number, spacing)
    return root
