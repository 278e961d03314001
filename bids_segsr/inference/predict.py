"""A network over a volume: overlapping patches, blended, with the memory bounded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from bids_segsr.exceptions import UserError
from bids_segsr.imaging.back_projection import Slices
from bids_segsr.imaging.components import bounding_box
from bids_segsr.inference.processing import Processing
from bids_segsr.inference.tiling import Layout, Tiling
from bids_segsr.zoo import feeding
from bids_segsr.zoo.contract import check_guides
from bids_segsr.zoo.store import TrainedModel

logger = logging.getLogger(__name__)

MARGIN_VOXELS = 4
GPU_BATCH = 4
ROUNDING = 1e-6
BLEND_SIGMA, LEAST_WEIGHT = 0.125, 1e-3
"""Of the weights of a patch: standard deviation over its edge, and the least."""


@dataclass(frozen=True)
class Prediction:
    """What a network makes of one image, on the grid of its input.

    Attributes:
        image: Super-resolved image (X, Y, Z), float32, in the intensities of the input; 0 outside
            the mask.
        probabilities: One map a segmentation channel (C, X, Y, Z), float32, 0 to 1.
        entropy: Shannon entropy in bits of the first segmentation channel (inside or outside).
        disagreement: Standard deviation of the first segmentation channel over the patches that
            hold a voxel, weighted as they are blended; 0 where only one patch does.
        device: Where it ran in the end.
        precision: `fp32`, or `bf16` for mixed precision, which the card must allow.
        warnings: What the person who reads the result should know, one sentence each.
    """

    image: np.ndarray
    probabilities: np.ndarray
    entropy: np.ndarray
    disagreement: np.ndarray
    device: str
    precision: str = 'fp32'
    warnings: tuple[str, ...] = ()


def resolve_device(device: str) -> str:
    """Turn `auto` into `cuda` where a GPU can be used, else `cpu`.

    Raises:
        UserError: CUDA is asked for and cannot be used, or the name is unknown.
    """
    if device == 'auto':
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        kind = torch.device(device)
    except RuntimeError as error:
        raise UserError(f'--device {device}: unknown; give auto, cpu, cuda or cuda:N.') from error
    if kind.type == 'cuda' and (kind.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f'--device {device}: torch {torch.__version__} finds no such GPU; '
            'use --device cpu, or install a CUDA build of torch and check nvidia-smi.'
        )
    return device


def predict(
    model: TrainedModel,
    image: np.ndarray,
    scan: Slices,
    *,
    mask: np.ndarray | None = None,
    guides: Sequence[np.ndarray] = (),
    processing: Processing | None = None,
    progress: Callable[[float], None] | None = None,
) -> Prediction:
    """Run a generator over an interpolated image, fed as its card says (`zoo.feeding`).

    How patches are put over it, `tiling.Tiling` tells. Patches that show nothing are skipped: what
    they give lies outside the mask.

    Args:
        model: Generator and card.
        image: Interpolated image (X, Y, Z) on an isotropic grid, float.
        scan: What it was interpolated from, and how the two lie.
        mask: Brain mask, boolean array of the image's shape; None for every voxel. A network that
            was trained on brains is shown nothing else, and gives 0 outside.
        guides: Images of other contrasts on the same grid (X, Y, Z), registered, in the order of
            the training; each is masked and normalised by itself, as the image is.
        processing: Patch size, step, blending, margin and device; the rest is not used.
        progress: Takes the share of the patches that are done, 0 to 1.

    Returns:
        The maps. When the GPU runs out of memory, the CPU takes over and a warning says so.

    Raises:
        UserError: The device cannot be used.
        ModelError: The model was trained with another number of guides.
        ValueError: A guide has another shape than the image.
    """
    card = model.card
    check_guides(card, len(guides), 'the argument guides')
    if any(guide.shape != image.shape for guide in guides):
        raise ValueError('a guide has another shape than the image')
    how = processing or Processing()
    mask = feeding.shown(card, np.ones(image.shape, dtype=bool) if mask is None else mask)
    last, mirror_axis = feeding.axes(card, scan)
    scales = feeding.scales(card, (image, *guides), mask)

    def forward(device: str) -> Callable[[Tensor], Tensor]:
        return partial(
            feeding.feed,
            model.network,
            card,
            scales=scales,
            resolution=feeding.resolution(scan),
            mirror_axis=mirror_axis,
            precision=feeding.precision(card, device),
        )

    tiling = how.tiling
    whole_image = slice(None), slice(None), slice(None)
    box = whole_image if tiling.of_articles else bounding_box(mask, MARGIN_VOXELS)
    inside = [np.where(mask[box], part[box], 0).astype(np.float32) for part in (image, *guides)]
    stack = np.stack([*inside, mask[box].astype(np.float32)])
    stack = np.ascontiguousarray(np.moveaxis(stack, last + 1, -1))

    warnings: list[str] = []
    device = resolve_device(how.device)
    patches = on_device = Patches(tiling, progress)
    if device != 'cpu':
        on_device = replace(patches, batch=GPU_BATCH, channels_last=True)
    voxels = torch.from_numpy(stack)[None]
    try:
        output = on_device.run(model.network, forward(device), voxels, device)
    except torch.cuda.OutOfMemoryError:
        warnings.append('The GPU ran out of memory: the network ran on the CPU instead.')
        logger.warning(warnings[-1])
        torch.cuda.empty_cache()
        device = 'cpu'
        output = patches.run(model.network, forward(device), voxels, device)

    # In place, then channel by channel: all of them together are most of the memory.
    with torch.inference_mode():
        output.masked_fill_(torch.from_numpy(stack[-1] == 0), 0)[1:-1].clamp_(0, 1)
    maps = np.moveaxis(output.numpy(), -1, last + 1)

    def whole(channel: np.ndarray) -> np.ndarray:
        full = np.zeros(image.shape, dtype=np.float32)
        full[box] = channel
        return full

    probabilities = np.zeros((len(maps) - 2, *image.shape), dtype=np.float32)
    for channel, probability in zip(maps[1:-1], probabilities, strict=True):
        probability[box] = channel
    entropy = disagreement = np.zeros(image.shape, dtype=np.float32)
    if len(probabilities):
        first = probabilities[0][box]
        variance = maps[-1] - first**2
        # what rounding leaves of the difference of two squares is no disagreement
        disagreement = whole(np.sqrt(np.where(variance > ROUNDING, variance, 0)))
        entropy = whole(binary_entropy(first))
    restored = whole(maps[0])
    # back-projection needs memory of its own
    del maps, output
    return Prediction(
        image=feeding.projected_back(card, restored, mask, scan),
        probabilities=probabilities,
        entropy=entropy,
        disagreement=disagreement,
        device=device,
        precision=feeding.precision(card, device),
        warnings=tuple(warnings),
    )


def binary_entropy(probability: np.ndarray) -> np.ndarray:
    """Shannon entropy in bits of a two-class probability, 0 (certain) to 1 (a coin toss)."""
    p = np.clip(probability, 1e-7, 1 - 1e-7)
    entropy = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    return np.where((probability <= 0) | (probability >= 1), 0, entropy).astype(np.float32)


@dataclass(frozen=True)
class Patches:
    """How a network goes over a volume.

    As MONAI's sliding windows and with its weights, but patches that show nothing cost nothing,
    those of an axis are spread evenly, and MONAI takes two seconds of every process to import.

    Attributes:
        tiling: Where the patches lie.
        progress: Takes the share of the patches that are done, 0 to 1.
        batch: Patches that the network sees at once.
        channels_last: Whether the channels of a voxel lie side by side in the network's weights,
            as a GPU's convolutions in half precision take them.
    """

    tiling: Tiling
    progress: Callable[[float], None] | None = None
    batch: int = 1
    channels_last: bool = False

    @torch.inference_mode()
    def run(
        self,
        network: nn.Module,
        forward: Callable[[Tensor], Tensor],
        stack: Tensor,
        device: str,
    ) -> Tensor:
        """Apply the network.

        Args:
            network: What is moved to the device.
            forward: Patches to outputs, (B, C, X, Y, Z); calls the network.
            stack: Image, guides and mask, (1, 2 + guides, X, Y, Z); patches outside of the mask
                are not shown to the network.
            device: Where it runs.

        Returns:
            (C + 1, X, Y, Z) on the CPU: the channels, and the second moment of channel 1.
        """
        order = torch.channels_last_3d if self.channels_last else torch.contiguous_format
        # torch documents the order of memory and leaves it out of the types
        network.to(device=device, memory_format=order).eval()  # type: ignore[call-overload]
        layout = self.tiling.layout(stack.shape[2:])
        # zeros around the volume where SegSRGAN has them
        zeros = self.tiling.of_articles and not self.tiling.margin
        padded = _padded(stack, layout, 'constant' if zeros else 'replicate')
        boxes = [box for box in layout.boxes() if padded[0, -1][box].any()]
        padded, weights = padded[0, :-1].to(device), self._weights(layout).to(device)
        channels = forward(torch.rand(1, len(padded), 8, 8, 8, device=device)).shape[1]
        total = padded.new_zeros(channels + 1, *padded.shape[1:])
        weight = padded.new_zeros(padded.shape[1:])
        for first in range(0, len(boxes), self.batch):
            if self.progress is not None:
                self.progress(first / len(boxes))
            some = boxes[first : first + self.batch]
            outputs = forward(torch.stack([padded[(slice(None), *box)] for box in some]))
            for box, output in zip(some, outputs, strict=True):
                total[(slice(0, -1), *box)].addcmul_(output, weights)
                if channels > 1:
                    total[(-1, *box)].addcmul_(output[1] ** 2, weights)
                weight[box] += weights
        # what no patch shows lies outside of the mask
        total /= weight.clamp_(min=torch.finfo(weight.dtype).tiny)
        x, y, z = (
            slice(first, first + n)
            for first, n in zip(layout.before, stack.shape[2:], strict=True)
        )
        return total[:, x, y, z].cpu()

    def _weights(self, layout: Layout) -> Tensor:
        """Return how much each voxel of a patch counts."""
        margin = self.tiling.margin
        if margin:
            weights = torch.zeros(layout.size)
            weights[(slice(margin, -margin),) * 3] = 1
            return weights
        if self.tiling.blending != 'gaussian':
            return torch.ones(layout.size)
        i, j, k = (
            torch.exp(-((torch.arange(n) - (n - 1) / 2) ** 2) / (2 * (BLEND_SIGMA * n) ** 2))
            for n in layout.size
        )
        return (i[:, None, None] * j[:, None] * k).clamp(min=LEAST_WEIGHT)


def _padded(stack: Tensor, layout: Layout, mode: str) -> Tensor:
    ends = list(zip(layout.before, layout.after, strict=True))
    if not any(map(any, ends)):
        return stack
    # torch takes the last axis first
    return pad(stack, [n for pair in reversed(ends) for n in pair], mode=mode)
