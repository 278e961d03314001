"""Sidecars of the derivatives: what each file is, and from what and how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from bids_segsr import __version__

RECORDED_PACKAGES = ('torch', 'monai', 'SimpleITK', 'antspyx', 'nibabel', 'numpy', 'scipy')


@dataclass(frozen=True)
class Provenance:
    """How the images of one scan are made, as far as it is known before the run.

    Attributes:
        model: Its name, version and SHA-256, as `Name`, `Version` and `SHA256`.
        processing: Settled choices by name (`inference.processing.Processing`).
        skull_stripped: Whether the network sees the brain only.
        classes: Whether the cortex is one of several classes, of which the likeliest is taken.
    """

    model: Mapping[str, str]
    processing: Mapping[str, Any]
    skull_stripped: bool
    classes: bool = False

    @property
    def resolution_text(self) -> str:
        """The value of the BIDS field `Resolution`."""
        r = f'{self.processing["resolution"]:g}'
        return f'Isotropic grid of {r} x {r} x {r} mm^3 over the field of view of the scan'

    @property
    def inference(self) -> dict[str, Any]:
        """The fields that tell how the network was applied."""
        return {
            'Model': dict(self.model),
            'PatchSize': self.processing['patch_size'],
            'Step': self.processing['step'],
            'Blending': self.processing['blending'],
            **({'Margin': self.processing['margin']} if self.processing['margin'] else {}),
            'PackageVersions': software_versions(),
        }


def software_versions() -> dict[str, str]:
    """Return the versions of this package and of the libraries that touch voxels."""
    return {
        'bids_segsr': __version__,
        **{package: version(package) for package in RECORDED_PACKAGES},
    }


def preprocessed_scan(how: Provenance, sources: Sequence[str]) -> dict[str, Any]:
    """Sidecar of the bias-corrected scan; whether it was stripped is found in the run."""
    bias = {'n4': 'corrected by N4 (SimpleITK)', 'none': 'not corrected'}
    return {
        'Description': 'Scan on its own grid, bias field '
        f'{bias[how.processing["bias_correction"]]}',
        'SkullStripped': False,
        'Sources': list(sources),
    }


def brain_mask(sources: Sequence[str]) -> dict[str, Any]:
    """Sidecar of the brain mask on the grid of the scan."""
    return {
        'Description': 'Brain mask on the grid of the scan',
        'Type': 'Brain',
        'Sources': list(sources),
    }


def superresolved_image(how: Provenance, sources: Sequence[str]) -> dict[str, Any]:
    """Sidecar of the super-resolved image."""
    return {
        'Description': 'Super-resolved image: estimated by a network, for research use only',
        'SkullStripped': how.skull_stripped,
        'Resolution': how.resolution_text,
        'Sources': list(sources),
        **how.inference,
    }


def probability(how: Provenance, sources: Sequence[str], name: str) -> dict[str, Any]:
    """Sidecar of the probability map of one structure."""
    return {
        'Description': f'Probability of {name}, 0 to 1',
        'Resolution': how.resolution_text,
        'Sources': list(sources),
        **how.inference,
    }


def segmentation(how: Provenance, sources: Sequence[str], name: str) -> dict[str, Any]:
    """Sidecar of a segmentation: by a threshold, or of the likeliest class, which needs none."""
    return {
        'Description': f'Segmentation of {name}',
        'Resolution': how.resolution_text,
        'Sources': list(sources),
        **({} if how.classes else {'Threshold': how.processing['threshold']}),
        'LargestComponentOnly': how.processing['keep_largest'],
    }


def structure_mask(how: Provenance, sources: Sequence[str], name: str) -> dict[str, Any]:
    """Sidecar of the binary mask of one structure."""
    return {**segmentation(how, sources, name), 'Type': 'ROI'}


def uncertainty_map(how: Provenance, sources: Sequence[str], kind: str) -> dict[str, Any]:
    """Sidecar of a map of uncertainty; `kind` is `entropy` or `disagreement`."""
    description: Mapping[str, tuple[str, str]] = {
        'entropy': ('Shannon entropy of the probability map', 'bit'),
        'disagreement': (
            'Standard deviation of the probability over the patches that hold a voxel',
            'arbitrary',
        ),
    }
    text, units = description[kind]
    return {
        'Description': text,
        'Units': units,
        'Resolution': how.resolution_text,
        'Sources': list(sources),
        **how.inference,
    }


def residual_map(how: Provenance, sources: Sequence[str]) -> dict[str, Any]:
    """Sidecar of the fidelity map on the grid of the scan."""
    return {
        'Description': 'Super-resolved image put through the forward model (Gaussian slice '
        'profile) minus the bias-corrected scan, on the grid of the scan',
        'SliceProfileFWHM': how.processing['slice_thickness'],
        'Sources': list(sources),
    }
