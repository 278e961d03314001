"""Anatomical fidelity: do image and truth look alike to a network that parcellates brains?

RRDG article, section 2.4 (M_h), and the segmentation-based evaluation of mDCSRN (Table 3).
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bids_segsr.exceptions import ModelError
from bids_segsr.imaging.bias_field import correct_bias_field
from bids_segsr.imaging.components import bounding_box
from bids_segsr.imaging.measures.metrics import dice, jaccard
from bids_segsr.imaging.resample import isotropic_grid, resample, resample_mask

AXIS_MULTIPLE = 8
"""Volumes are padded to multiples of this, so that networks with three poolings take them."""

Network = Callable[[np.ndarray], list[np.ndarray]]


@dataclass(frozen=True)
class AnatomicalFidelity:
    """Agreement of an image with the truth in the eyes of a parcellation network.

    Attributes:
        m_h: Sum over the network's outputs of the L1 distance to those of the truth, each divided
            by the mean magnitude of the truth's output, so that all layers weigh the same
            (equation 4; the article gives no numbers for its weights).
        dice: Mean Dice of the parcels; NaN where the last output has a single channel.
        jaccard: Their mean Jaccard overlap.
    """

    m_h: float
    dice: float
    jaccard: float


def load_parcellation(path: Path, device: str = 'cpu') -> Network:
    """Load a network given as TorchScript or ONNX.

    Args:
        path: `.onnx`, or a TorchScript archive. The network takes an image (1, 1, X, Y, Z), and
            gives one or more maps (1, C, ...): the feature maps to compare, class scores last.
        device: Where it runs: `cpu`, `cuda` or `cuda:N`; ONNX on a GPU needs onnxruntime-gpu,
            and runs on the CPU without.

    Returns:
        Function from an image (X, Y, Z) to its outputs (C, ...).

    Raises:
        ModelError: The file is neither, or onnxruntime is needed and not installed.
    """
    if not path.is_file():
        raise ModelError(f'{path}: no such file; give a TorchScript or ONNX file.')
    if path.suffix.lower() == '.onnx':
        return _load_onnx(path, device)
    return _load_torchscript(path, device)


def prepare(
    image: np.ndarray, affine: np.ndarray, brain: np.ndarray, spacing_mm: float | None = None
) -> np.ndarray:
    """Make an image ready for a parcellation network.

    Args:
        image: (X, Y, Z).
        affine: Voxel to RAS+ mm (4 x 4).
        brain: Brain mask, same shape.
        spacing_mm: Isotropic spacing that both are brought to first, the image by cubic splines
            (mDCSRN, section 4.1: 1 mm); None leaves them.

    Returns:
        The brain's box, bias corrected (N4, as in the article), mean 0 and standard deviation 1
        inside the brain, 0 outside, padded at the end of each axis to multiples of 8.
    """
    if spacing_mm is not None:
        grid = isotropic_grid(image.shape, affine, spacing_mm)
        brain = resample_mask(brain, affine, grid)
        image, affine = resample(image, affine, grid), grid.affine
    corrected = correct_bias_field(np.maximum(image, 0), affine, brain)
    values = corrected[brain]
    scaled = (corrected - values.mean()) / max(float(values.std()), 1e-6)
    cut = np.where(brain, scaled, 0)[bounding_box(brain)].astype(np.float32)
    return np.pad(cut, [(0, -n % AXIS_MULTIPLE) for n in cut.shape])


def anatomical_fidelity(truth: list[np.ndarray], other: list[np.ndarray]) -> AnatomicalFidelity:
    """Compare what a network makes of a true image and of another one.

    Args:
        truth: Its outputs for the true image.
        other: Its outputs for the image to judge, same shapes.

    Returns:
        The scores. A parcel counts where either image has it; class 0 is the background.
    """
    m_h = sum(
        float(np.abs(a - b).mean()) / max(float(np.abs(a).mean()), 1e-12)
        for a, b in zip(truth, other, strict=True)
    )
    if len(truth[-1]) < 2:
        return AnatomicalFidelity(m_h, float('nan'), float('nan'))
    first, second = truth[-1].argmax(axis=0), other[-1].argmax(axis=0)
    parcels = [n for n in range(1, len(truth[-1])) if (first == n).any() or (second == n).any()]
    if not parcels:
        return AnatomicalFidelity(m_h, float('nan'), float('nan'))
    return AnatomicalFidelity(
        m_h,
        float(np.mean([dice(first == n, second == n) for n in parcels])),
        float(np.mean([jaccard(first == n, second == n) for n in parcels])),
    )


def _load_torchscript(path: Path, device: str) -> Network:
    import torch

    # A pickle that can run any program looks different: TorchScript carries its code as text.
    if not zipfile.is_zipfile(path) or not _has_code(path):
        raise ModelError(f'{path}: no TorchScript file; write it with torch.jit.save, or as ONNX.')
    try:
        module = torch.jit.load(str(path), map_location=device).eval()
    except RuntimeError as error:
        reason = str(error).strip().partition('\n')[0]
        raise ModelError(f'{path}: cannot be loaded ({reason})') from error

    @torch.inference_mode()
    def run(image: np.ndarray) -> list[np.ndarray]:
        try:
            found = module(torch.from_numpy(image)[None, None].to(device))
        except RuntimeError as error:
            raise ModelError(
                f'{path}: does not take an image (1, 1, X, Y, Z) of shape {image.shape}; '
                'give a network that does.'
            ) from error
        outputs = [found] if torch.is_tensor(found) else list(found)
        return [output[0].cpu().numpy() for output in outputs]

    return run


def _has_code(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any('/code/' in name for name in archive.namelist())


def _load_onnx(path: Path, device: str) -> Network:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(
            f'{path}: ONNX files need the package onnxruntime: pip install onnxruntime'
        ) from error
    wanted = ['CPUExecutionProvider']
    if (
        device.startswith('cuda')
        and 'CUDAExecutionProvider' in onnxruntime.get_available_providers()
    ):
        wanted.insert(0, 'CUDAExecutionProvider')
    try:
        session = onnxruntime.InferenceSession(str(path), providers=wanted)
    except Exception as error:  # onnxruntime's errors have no common base of their own
        reason = str(error).strip().partition('\n')[0]
        raise ModelError(f'{path}: cannot be loaded ({reason})') from error
    name = session.get_inputs()[0].name

    def run(image: np.ndarray) -> list[np.ndarray]:
        try:
            return [output[0] for output in session.run(None, {name: image[None, None]})]
        except Exception as error:
            raise ModelError(
                f'{path}: does not take an image (1, 1, X, Y, Z) of shape {image.shape}; '
                'give a network that does.'
            ) from error

    return run
