"""Held-out images of known truth, and thick slices made of them the way scans come about.

What the benchmarks of packaged models score on. No training has seen the subjects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
import torch
from nilearn import datasets

from bids_segsr.imaging.acquisition import Acquisition, acquire
from bids_segsr.imaging.back_projection import Slices
from bids_segsr.imaging.bias_field import bias_field
from bids_segsr.imaging.conform import acquired_axis
from bids_segsr.imaging.resample import (
    Grid,
    from_sitk,
    isotropic_grid,
    resample,
    resample_mask,
    to_sitk,
)
from bids_segsr.imaging.volume import Volume, load_volume
from bids_segsr.simulation.anatomy import read_anatomy
from bids_segsr.simulation.contrast import paint
from bids_segsr.simulation.synthesis import brain_of, classes_of
from bids_segsr.simulation.tables import CONTRASTS

ADULTS = (
    *(f'adult-head/training_seg_{number}.nii.gz' for number in (17, 18, 19, 20)),
    'adult-brain/brain5_labels.nii.gz',
)
FETUSES = ('fetal/GA28_operated_dseg.nii.gz', 'fetal/GA33_operated_dseg.nii.gz')
SCANS = tuple(f'patient01_{sequence}' for sequence in ('T1W', 'T2W', 'FLAIR'))
"""Real thick slices of a patient whom no training has seen."""
FETAL_CLASSES = (0, 2, 4, 6, 3, 1, 5, 7, 2)
"""Index in CLASSES of the labels 0 to 8 of the fetal atlas."""
LABEL_BLUR = 0.5
"""Of the label maps, in voxels, the same for all versions of the model."""
HEAD = 0.15
"""Share of the bright intensities of a head that counts as head."""


@dataclass(frozen=True)
class Case:
    """A fine image whose thick slices are simulated.

    Attributes:
        group: What it is averaged with.
        name: Subject.
        image: (i, j, k) float32, RAS+ axes.
        brain: Where it is scored.
        tissues: Class of every voxel, in the order of CLASSES, or None where it is not known.
        spacing: Of the voxels, mm.
        axis: Slice axis, where the case has one of its own.
        masked: Whether the network sees the brain alone.
    """

    group: str
    name: str
    image: np.ndarray
    brain: np.ndarray
    tissues: np.ndarray | None
    spacing: float
    axis: int | None = None
    masked: bool = True


def simulated_cases(
    labels: Path,
    adults: Sequence[str] = ADULTS,
    fetuses: Sequence[str] = FETUSES,
    contrasts: Sequence[str] = (),
) -> Iterator[Case]:
    """Label maps, by default those held out, painted with the intensities of sequences.

    Args:
        labels: Folder of the label maps.
        adults: Which of them.
        fetuses: And which of fetuses.
        contrasts: Keys of CONTRASTS; by default those of their ages.
    """
    for path in (*adults, *fetuses):
        labelling = 'fetal' if path in fetuses else 'adult'
        spacing = 0.8 if path in fetuses else 1.0
        anatomy = read_anatomy(labels / path, labelling, LABEL_BLUR)
        usual = ('fetal-T2w',) if path in fetuses else ('adult-T1w', 'adult-T2w')
        for contrast in contrasts or usual:
            # The scanner sees what surrounds the brain too; the mask is applied afterwards.
            image = paint(anatomy.fractions, CONTRASTS[contrast], rim=True)
            brain = brain_of(anatomy.fractions)
            shares = torch.from_numpy(anatomy.fractions.astype(np.float32) / 255)
            tissues = classes_of(shares, torch.from_numpy(brain)).numpy()
            yield Case(
                f'simulated {contrast}, {spacing:g} mm',
                Path(path).name.split('.')[0],
                image,
                brain,
                tissues.argmax(0),
                spacing,
            )


def real_cases(data: Path) -> Iterator[Case]:
    """Real images: the fetal atlas at 33 weeks (T2w), ICBM 152 (T1w), thin axes of scans."""
    yield fetal_average(data, 33)
    template = nib.as_closest_canonical(datasets.load_mni152_template(resolution=1))
    mask = nib.as_closest_canonical(datasets.load_mni152_brain_mask(resolution=1))
    brain = np.asarray(mask.dataobj) > 0
    image = template.get_fdata(dtype=np.float32)
    yield Case('real ICBM 152 T1w, 1 mm', 'icbm152', image, brain, None, 1.0)
    yield from thin_axes(data, SCANS)


def fetal_average(data: Path, week: int) -> Case:
    """Average T2w image of the fetal atlas."""
    name = f'GA{week}_operated'
    image = nib.as_closest_canonical(nib.load(data / f'images/fetal/{name}_T2w.nii.gz'))
    labels = nib.as_closest_canonical(nib.load(data / f'labels/fetal/{name}_dseg.nii.gz'))
    values = np.rint(np.asarray(labels.dataobj))
    tissues = np.array(FETAL_CLASSES)[values.astype(int)]
    return Case(
        f'real fetal T2w GA{week}, 0.8 mm',
        f'GA{week}',
        image.get_fdata(dtype=np.float32),
        values > 0,
        tissues,
        0.8,
    )


def thin_axes(data: Path, scans: Sequence[str], visit: str = 'study1') -> Iterator[Case]:
    """Thick-slice scans along each of the axes of their slices: the brain alone, whole heads."""
    for name in scans:
        scan, mask = clinical_head(data / 'images', name, visit)
        grid = isotropic_grid(scan.data.shape, scan.affine, 1.0)
        image = np.maximum(resample(scan.data, scan.affine, grid), 0)
        brain = resample_mask(mask, scan.affine, grid)
        head = image > HEAD * np.percentile(image, 99)
        group = f'real {name.split("_")[1]}, thin axes, 1 mm'
        for axis in range(3):
            if axis != acquired_axis(scan.affine, grid.affine):
                label = f'{name} {"ijk"[axis]}'
                yield Case(group, label, image, brain, None, 1.0, axis)
                yield Case(
                    f'{group}, whole head', label, image, head, None, 1.0, axis, masked=False
                )


def clinical_head(images: Path, name: str, visit: str = 'study1') -> tuple[Volume, np.ndarray]:
    """Read a real scan of a patient and the patient's mask.

    The mask lies in a space of its own: its transforms lead from a scan to the FLAIR of the same
    visit, and from there to the mask.

    Args:
        images: Holds the scans, the masks and their transforms.
        name: Of the scan: begins with the patient, ends with `T1W`, `T2W` or `FLAIR`.
        visit: `study1` or `study2`.

    Returns:
        The scan as acquired, and the mask on its grid, bool.
    """
    folder = images / 'adult-clinical-masks'
    patient, *_, sequence = name.split('_')
    mask = sitk.ReadImage(str(folder / f'{patient}_brainmask.nii.gz'), sitk.sitkFloat32)
    scan = load_volume(images / 'adult-clinical' / f'{name}.nii.gz')
    names = ['FLAIR_to_common_space']
    names += [] if sequence == 'FLAIR' else [f'{sequence}_intrastudy_to_FLAIR']
    way = [
        sitk.ReadTransform(str(folder / f'{patient}_{visit}_{n}.txt')).GetInverse() for n in names
    ]
    grid = to_sitk(scan.data, scan.affine)
    inside = sitk.Resample(mask, grid, sitk.CompositeTransform(way), sitk.sitkLinear, 0.0)
    return scan, from_sitk(inside)[0] > 0.5


@dataclass(frozen=True)
class Condition:
    """How slices are made of a fine image.

    The workflow is told their distance and takes a Gaussian profile of that width for granted.

    Attributes:
        distance: Of the slices, mm.
        profile: 'gaussian' or 'box'.
        thickness: Width of the profile over the distance.
        noise: Standard deviation in the slices over the image maximum.
        axis: Slice axis, RAS+, of cases that have none of their own.
        stripped: Whether the slices show nothing but brain, cut out after they were made.
    """

    distance: float = 3.0
    profile: str = 'gaussian'
    thickness: float = 1.0
    noise: float = 0.01
    axis: int = 2
    stripped: bool = False


PLAIN = 'as assumed'
CONDITIONS = {
    PLAIN: Condition(),
    'box profile': Condition(profile='box'),
    'slices 20 % thinner': Condition(thickness=0.8),
    'slices 20 % thicker': Condition(thickness=1.2),
    'gap of 20 %': Condition(profile='box', thickness=0.8),
    'noise 0.02': Condition(noise=0.02),
    'coronal': Condition(axis=1),
    'sagittal': Condition(axis=0),
    'slices stripped': Condition(stripped=True),
}
"""Name to condition: the one that back-projection assumes, and what it may meet instead."""


@dataclass(frozen=True)
class Simulated:
    """Thick slices made of a case, on their way through the workflow.

    Attributes:
        slices: Bias-corrected scan with noise, and how the fine grid lies.
        grid: The fine grid, voxel by voxel that of the truth.
        seen: Brain mask of the slices.
        mask: The same, brought to the fine grid.
        truth: Fine image, as long as the slices are, with what the bias correction did to them.
        inside: Where it is scored.
        tissues: Class of every voxel inside, in the order of CLASSES, 0 outside; or None.
    """

    slices: Slices
    grid: Grid
    seen: np.ndarray
    mask: np.ndarray
    truth: np.ndarray
    inside: np.ndarray
    tissues: np.ndarray | None


def make_slices(case: Case, how: Condition, *, n4: bool = True) -> Simulated:
    """Simulate slices and bring them to the fine grid as the workflow does.

    Args:
        case: Fine image.
        how: Of the slices.
        n4: Whether the bias field is corrected.

    Returns:
        All that a network is given, and the truth.
    """
    axis = how.axis if case.axis is None else case.axis
    # A whole number of slices makes the restored grid the fine one, voxel by voxel.
    block = (Fraction(str(how.distance)) / Fraction(str(case.spacing))).numerator
    length = case.image.shape[axis] // block * block
    cut = tuple(slice(0, length if other == axis else None) for other in range(3))
    truth, brain = case.image[cut], case.brain[cut]
    affine = np.diag([case.spacing] * 3 + [1.0])
    spacing = [case.spacing] * 3
    spacing[axis] = how.distance
    scanner = Acquisition(
        'thick-slices',
        (spacing[0], spacing[1], spacing[2]),
        axis,
        how.distance * how.thickness,
        how.profile,
    )
    scan, place = acquire(truth, affine, scanner)
    noise = np.random.default_rng(0).normal(0, how.noise * float(truth.max()), scan.shape)
    scan = np.maximum(scan + noise.astype(np.float32), 0)
    seen = acquire(brain.astype(np.float32), affine, scanner)[0] > 0.5
    if how.stripped:
        scan = np.where(seen, scan, np.float32(0))
    grid = isotropic_grid(scan.shape, place.affine, case.spacing)
    np.testing.assert_allclose(grid.affine, affine, atol=1e-6)
    if n4:
        field = bias_field(scan, place.affine, seen if case.masked else None)
        scan = scan / field
        truth = truth / resample(field, place.affine, grid)
    if not case.masked:
        seen = np.ones_like(seen)
    mask = resample_mask(seen, place.affine, grid)
    inside = mask & brain
    tissues = None if case.tissues is None else np.where(inside, case.tissues[cut], 0)
    slices = Slices(scan, place.affine, grid.affine, how.distance)
    return Simulated(slices, grid, seen, mask, truth, inside, tissues)
