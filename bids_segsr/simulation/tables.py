"""What images are made of and what is drawn at random: tissues, contrasts, ranges of a recipe."""

from __future__ import annotations

from dataclasses import dataclass

TISSUES = (
    'background',
    'surround',
    'outer-soft',
    'outer-bright',
    'outer-dark',
    'csf',
    'ventricles',
    'cortex',
    'white',
    'deep-grey',
    'hippocampus',
    'cerebellum-grey',
    'cerebellum-white',
    'brainstem',
)
"""What is painted with an intensity of its own. The first five lie outside the brain; the outer
ones are unnamed in the label maps of heads."""

CLASSES: dict[str, tuple[str, ...]] = {
    'background': TISSUES[:5],
    'cortical grey matter': ('cortex',),
    'white matter': ('white',),
    'outer csf': ('csf',),
    'ventricles': ('ventricles',),
    'deep grey matter': ('deep-grey', 'hippocampus'),
    'cerebellum': ('cerebellum-grey', 'cerebellum-white'),
    'brainstem': ('brainstem',),
}
"""What is segmented, and the tissues that belong to it."""

LABELLINGS: dict[str, dict[str, tuple[int, ...]]] = {
    'adult': {
        'surround': (507,),
        'outer-soft': (511, 509, 506, 514),
        'outer-bright': (515, 508, 512, 530),
        'outer-dark': (516, 502),
        'csf': (24,),
        'ventricles': (4, 5, 14, 15, 31, 43, 44, 63, 72, 136, 137, 163, 164),
        'cortex': (3, 42),
        'white': (2, 25, 29, 41, 57, 85),
        'deep-grey': (10, 11, 12, 13, 26, 28, 49, 50, 51, 52, 58, 60),
        'hippocampus': (17, 18, 53, 54),
        'cerebellum-grey': (8, 47),
        'cerebellum-white': (7, 46),
        'brainstem': (16,),
    },
    'fetal': {
        'csf': (4,),
        'ventricles': (2,),
        'cortex': (5,),
        'white': (1, 8),
        'deep-grey': (6,),
        'cerebellum-grey': (3,),
        'brainstem': (7,),
    },
}
"""Label numbers of each tissue, for FreeSurfer maps and for the fetal atlas."""

MASKED = ('brain', 'fetal-brain')
"""What a mask of a real scan shows: the brain of a head that lies upright in the scanner, or that
of a fetus, which lies as it likes."""

OUTSIDE = len(CLASSES['background'])
"""So many of TISSUES, from the first one, lie outside the brain."""

_INNER = TISSUES[OUTSIDE:]

CONTRASTS: dict[str, dict[str, float]] = {
    name: {
        'background': 0.0,
        'surround': surround,
        'outer-soft': soft,
        'outer-bright': bright,
        'outer-dark': dark,
        **dict(zip(_INNER, levels, strict=True)),
    }
    for name, (surround, soft, bright, dark, *levels) in {
        # Outside the brain; then csf, ventricles, cortex, white, deep grey, hippocampus,
        # cerebellar grey and white, brainstem.
        'adult-T1w': (
            *(0.45, 0.40, 0.85, 0.15),
            *(0.17, 0.14, 0.58, 0.92, 0.72, 0.60, 0.58, 0.88, 0.84),
        ),
        'adult-T2w': (
            *(0.40, 0.35, 0.60, 0.12),
            *(0.95, 1.00, 0.56, 0.38, 0.42, 0.58, 0.55, 0.40, 0.40),
        ),
        'adult-FLAIR': (
            *(0.45, 0.40, 0.60, 0.15),
            *(0.15, 0.12, 0.75, 0.58, 0.66, 0.78, 0.72, 0.58, 0.58),
        ),
        # of newborns, T2w: the means of the cores of the tissues of six of them near term; white
        # matter as it is below the cortex, where it is up to 1.6 times as bright
        'newborn-T2w': (
            *(0.45, 0.35, 0.60, 0.20),
            *(0.82, 1.00, 0.322, 0.504, 0.339, 0.374, 0.348, 0.391, 0.296),
        ),
        # younger: grey and white matter further apart
        'fetal-T2w': (
            *(0.45, 0.35, 0.60, 0.20),
            *(1.00, 0.97, 0.48, 0.76, 0.48, 0.52, 0.44, 0.55, 0.46),
        ),
        # the cores of the tissues of three of these newborns, T1w: hardly a contrast, CSF not dark
        'newborn-T1w': (
            *(0.45, 0.40, 0.80, 0.20),
            *(0.44, 0.46, 0.64, 0.575, 0.66, 0.64, 0.63, 0.645, 0.69),
        ),
    }.items()
}
"""Intensity of each tissue, typical of a sequence and an age; relative units."""

PRIORS = {
    'adult': {
        'adult-T1w': 0.26,
        'adult-T2w': 0.24,
        'adult-FLAIR': 0.06,
        'newborn-T2w': 0.32,
        'newborn-T1w': 0.12,
    },
    'fetal': {'fetal-T2w': 0.45, 'newborn-T2w': 0.37, 'newborn-T1w': 0.1, 'adult-T2w': 0.08},
}
"""How often each of them is painted on a label map, by its labelling."""


@dataclass(frozen=True)
class Deformation:
    """How the shape of a subject is varied.

    Attributes:
        voxel: Range of the output spacing over that of the label map (drawn uniformly in its
            logarithm): both the resolution and the size of the head. An adult map of 1 mm at 1.5
            is a newborn brain of two thirds of the size (400 ml, cortex 1.7 mm) seen at 1 mm, or
            at 0.75 one that is seen at 0.5 mm.
        usual_share: Share of samples with `usual_voxel` instead.
        usual_voxel: See there.
        stretch: Standard deviation of the logarithm of the scaling of each axis.
        turn: Standard deviation of the rotations, degrees.
        bend: Standard deviation of the smooth displacements, in output voxels.
        upright_share: Share of samples that lie in the scanner as the workflow hands them over:
            on RAS+ axes, the slice axis last, the others in their order. They are turned by
            `turn` and mirrored left to right alone; all others are turned and mirrored at will.
        slice_axes: Weights of sagittal, coronal and axial slices of those.
    """

    voxel: tuple[float, float] = (0.55, 1.6)
    usual_share: float = 0.4
    usual_voxel: tuple[float, float] = (0.95, 1.1)
    stretch: float = 0.05
    turn: float = 8.0
    bend: float = 1.2
    upright_share: float = 0.0
    slice_axes: tuple[float, float, float] = (1.0, 1.0, 2.0)


@dataclass(frozen=True)
class Appearance:
    """How tissues look; each range is drawn uniformly.

    Attributes:
        contrasts: Keys of CONTRASTS that are painted, each as often; without any, those that suit
            the label map.
        random_share: Share of samples whose tissue intensities are all random.
        jitter: Standard deviation added to each prior intensity.
        csf_jitter: The same of CSF and ventricles, which differ more from subject to subject.
        sharpness: Exponent of the tissue fractions, which are smooth in label maps of 1 mm.
        csf_weight: Factor of the fraction of CSF before that: below 1, sulci narrow and the cortex
            thickens.
        white_weight: Factor of the fractions of white matter and of what lies within it before
            that (drawn uniformly in its logarithm): above 1, the cortex is thinner.
        sulci: Share of CSF between the touching banks of sulci.
        texture: Standard deviation of the smooth texture. It is kept low: fine independent
            texture is lost in the slices and would only hide what can be learnt.
        csf_texture: The same of CSF alone, where flow, vessels and membranes show.
        variation: Standard deviation of a smooth factor of all tissues, at a width of some voxels
            and more.
        variation_width: Width of that, in voxels.
        myelination: Of young brains, by how much white matter darkens (T2w) or brightens (T1w)
            close to deep grey matter and brainstem.
        crossroads: Of young brains, by how much white matter brightens (T2w) or darkens (T1w)
            towards the frontal and occipital ends.
        bias: Standard deviation of the logarithm of the bias field.
        gamma: Standard deviation of the logarithm of the exponent of real images.
        rim_share: Share of samples with surroundings, which blur into the brain before it is
            masked; the others were masked before.
        tight_share: Share of samples whose mask follows the gyri closely.
        loose_share: Share of samples whose mask leaves a rim of the surroundings.
        skull_share: Share of samples that are not masked at all.

    Raises:
        ValueError: A contrast is unknown.
    """

    contrasts: tuple[str, ...] = ()
    random_share: float = 0.08
    jitter: float = 0.03
    csf_jitter: float = 0.08
    sharpness: tuple[float, float] = (1.0, 4.0)
    csf_weight: tuple[float, float] = (0.25, 1.3)
    white_weight: tuple[float, float] = (1.0, 1.0)
    sulci: tuple[float, float] = (0.0, 0.9)
    texture: tuple[float, float] = (0.0, 0.03)
    csf_texture: tuple[float, float] = (0.0, 0.35)
    variation: tuple[float, float] = (0.0, 0.1)
    variation_width: tuple[float, float] = (5.0, 16.0)
    myelination: tuple[float, float] = (0.0, 0.4)
    crossroads: tuple[float, float] = (-0.05, 0.2)
    bias: tuple[float, float] = (0.0, 0.12)
    gamma: float = 0.2
    rim_share: float = 0.5
    tight_share: float = 0.35
    loose_share: float = 0.1
    skull_share: float = 0.1

    def __post_init__(self) -> None:
        unknown = ', '.join(sorted(set(self.contrasts) - set(CONTRASTS)))
        if unknown:
            raise ValueError(f'contrasts: {unknown} is unknown; known are {", ".join(CONTRASTS)}')


@dataclass(frozen=True)
class AcquisitionRanges:
    """How thick slices are simulated; each range is drawn uniformly.

    Attributes:
        ratio: Slice distance over output spacing, drawn uniformly in its logarithm.
        usual_share: Share of samples with `usual_ratio` instead.
        usual_ratio: See there.
        gap: Largest share of the slice distance that no slice covers.
        overlap: Largest share by which slices are thicker than their distance.
        box_share: Share of samples whose slice profile is a box instead of a Gaussian.
        in_plane: In-plane spacing over output spacing where the scan is coarser than the output.
        in_plane_share: Share of such samples.
        noise: Standard deviation, relative to the image maximum, added to the slices; its root
            is drawn uniformly.
        rician_share: Share of samples with Rician instead of Gaussian noise.
        motion: Standard deviation of the shifts of the slices in plane, in voxels of theirs.
        gain: Standard deviation of the relative intensity of the slices.
        motion_share: Share of samples with motion and gain.
        stripped_share: Share of masked samples of which a scanner's slices were stripped.
    """

    ratio: tuple[float, float] = (1.5, 8.0)
    usual_share: float = 0.5
    usual_ratio: tuple[float, float] = (2.8, 4.2)
    gap: float = 0.25
    overlap: float = 0.0
    box_share: float = 0.0
    in_plane: tuple[float, float] = (1.0, 1.6)
    in_plane_share: float = 0.15
    noise: tuple[float, float] = (0.0, 0.03)
    rician_share: float = 0.5
    motion: tuple[float, float] = (0.0, 0.5)
    gain: tuple[float, float] = (0.0, 0.03)
    motion_share: float = 0.15
    stripped_share: float = 0.15
