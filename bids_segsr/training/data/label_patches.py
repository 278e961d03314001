"""Training patches made from label maps alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from nibabel import load as load_header
from torch import Tensor
from torch.utils.data import Dataset

from bids_segsr.exceptions import UserError
from bids_segsr.files import complete
from bids_segsr.imaging.conform import acquired_axis
from bids_segsr.imaging.degrade import ForwardModel
from bids_segsr.imaging.patch_size import edges
from bids_segsr.networks.standardise import volume_scale
from bids_segsr.simulation.anatomy import Anatomy, as_tensor, read_anatomy
from bids_segsr.simulation.synthesis import Sample, Synthesis, make_sample
from bids_segsr.simulation.tables import CLASSES, AcquisitionRanges
from bids_segsr.simulation.thick_slices import BackProjection
from bids_segsr.simulation.thin_axes import ThinAxes, make_thin_sample, read_thin_axes
from bids_segsr.training.data.label_maps import (
    LabelMap,
    LabelMapOrder,
    cache_key,
    file_facts,
    find_label_maps,
)
from bids_segsr.training.data.patches import TRIES, Patch
from bids_segsr.training.data.shared_volumes import DeviceVolumes, SharedVolumes
from bids_segsr.training.data_tables import UNLABELLED, LabelMaps, Sampling
from bids_segsr.training.recipe import Recipe

WINDOW = 32
"""Volumes from which the patches of one time are drawn."""

LEAST_BRAIN = 0.02
"""Share of a patch that shows one."""


class LabelMapDataset(Dataset[Patch]):
    """Patches of volumes made from label maps.

    Sample n is the same whenever, and in whatever process, it is asked for. A volume costs more
    than a patch, so that several patches are cut from each, flipped and (where they are square)
    turned in plane unless heads lie upright: sample n takes one of the WINDOW volumes from number
    n / reuse on. Volumes lie in the cache, where all workers find them; old ones are deleted.

    Args:
        label_maps: The label maps, and scans without any.
        synthesis: What is drawn at random.
        sampling: Patch size, length of an epoch, normalisation.
        channels: Names of the target channels: 'intensity', 'cortex', names of `anatomy.CLASSES`.
        seed: Of everything that is drawn.
        cache: Folder for the tissue fractions and the volumes.
        reuse: Patches cut, on average, from every volume.
        in_order: Few fixed patches of every anatomy, not flipped: for validation.
        device: Where the volumes are made. On a GPU they stay in its memory, and the patches come
            from the training process itself; on the CPU, workers share them.

    Attributes:
        size: Voxels of a patch along each axis.
        channels: Names of the target channels.
    """

    def __init__(
        self,
        label_maps: Sequence[LabelMap],
        synthesis: Synthesis,
        sampling: Sampling,
        channels: Sequence[str],
        seed: int,
        cache: Path,
        *,
        reuse: int = 8,
        in_order: bool = False,
        device: torch.device | str = 'cpu',
    ) -> None:
        self.label_maps = tuple(label_maps)
        self.cache = cache
        self.device = torch.device(device)
        self.on_device = self.device.type != 'cpu'
        self.anatomies = _read_all(label_maps, cache, self.device)
        self.synthesis = synthesis
        self.sampling = sampling
        self.channels = tuple(channels)
        self.seed = seed
        self.reuse = reuse
        self.in_order = in_order
        self.size = edges(sampling.patch_size)
        shares = np.array([label_map.share for label_map in label_maps])
        self.order = LabelMapOrder(shares.tolist(), sampling, in_order=in_order)
        maps = [file_facts(label_map) for label_map in label_maps]
        key = repr((maps, synthesis, sampling, self.channels, seed, in_order, shares))
        folder = cache / f'volumes-{hashlib.sha256(key.encode()).hexdigest()[:16]}'
        self.volumes: SharedVolumes | DeviceVolumes
        if not self.on_device:
            self.volumes = SharedVolumes(
                folder,
                self._make_array,
                keep=None if in_order else 4 * WINDOW,
                count=len(self) if in_order else None,
            )
        else:
            # a critic draws from a window of its own
            self.volumes = DeviceVolumes(self._make, len(self) if in_order else 2 * WINDOW)

    def __getstate__(self) -> dict[str, Any]:
        """Hand a worker no gigabytes: it finds them in the cache."""
        return {name: value for name, value in self.__dict__.items() if name != 'anatomies'}

    def __setstate__(self, state: dict[str, Any]) -> None:
        anatomies = _read_all(state['label_maps'], state['cache'], state['device'])
        self.__dict__.update(state, anatomies=anatomies)

    def __len__(self) -> int:
        """Patches of an epoch."""
        return len(self.order)

    def __getitem__(self, index: int) -> Patch:
        """Make a sample.

        Args:
            index: Number of the sample since the beginning of the training.

        Returns:
            The patch.
        """
        if self.in_order:
            return _as_patch(as_tensor(self.volumes.get(index % len(self))))
        rng = np.random.default_rng([self.seed, 1, index])
        # from the first step on of many volumes: few in a row are learnt by heart
        volume = self.volumes.get(index // self.reuse + int(rng.integers(WINDOW)))
        p, q, _ = self.size
        for _ in range(TRIES):
            i, j = rng.integers((p + 1, q + 1))
            patch = as_tensor(volume[:, i : i + p, j : j + q])
            # without a brain all is one value, which normalisations divide by next to nothing
            if (patch[0] != 0).float().mean() >= LEAST_BRAIN:
                break
        if self.synthesis.deformation.upright_share > 0:
            return _as_patch(patch)
        patch = patch.flip([axis + 1 for axis in range(3) if rng.random() < 0.5])
        turned = p == q and rng.random() < 0.5
        return _as_patch(patch.swapaxes(1, 2) if turned else patch)

    def _make_array(self, number: int) -> np.ndarray:
        made: np.ndarray = self._make(number).numpy()
        return made

    def _make(self, number: int) -> Tensor:
        """Make a volume: (channels, i, j, k) float32; input, target channels, slice distance."""
        rng = np.random.default_rng([self.seed, 2, number])
        room = 1 if self.in_order else 2
        p, q, r = self.size
        chosen = self.order.label_map(number, rng)
        label_map, anatomy = self.label_maps[chosen], self.anatomies[chosen]
        shape = (room * p, room * q, r)
        # a validation asks for patches while its network runs in half precision
        with torch.autocast(self.device.type, enabled=False):
            if isinstance(anatomy, ThinAxes):
                sample = make_thin_sample(anatomy, shape, self.synthesis, rng, self.device)
            else:
                sample = make_sample(anatomy, shape, self.synthesis, rng)
        scale = volume_scale(sample.image, self.sampling.normalisation)
        labels = [_channel(sample, channel) for channel in self.channels[1:]]
        distance = torch.full_like(sample.image, sample.ratio * label_map.spacing)
        return torch.stack([sample.image / scale, sample.truth / scale, *labels, distance])


def make_label_map_dataset(
    recipe: Recipe,
    folder: Path,
    split: Literal['train', 'validation'],
    seed: int,
    cache: Path,
    device: torch.device | str = 'cpu',
) -> LabelMapDataset:
    """Make the patches of a folder of label maps.

    Args:
        recipe: What to make; without a table [label_maps] with its defaults.
        folder: Holds the label maps.
        split: Maps to train on, or to follow the training.
        seed: Of everything that is drawn.
        cache: Folder for the volumes.
        device: Where they are made.

    Returns:
        The dataset.

    Raises:
        UserError: No label maps, a channel that they do not give, or a forward model that images
            are not made with.
        ImageError: A label map cannot be read or holds no cortex.
    """
    known = ('cortex', *CLASSES)
    for channel in recipe.task.channels[1:]:
        if channel not in known:
            raise UserError(
                f'[task] channels: label maps give no {channel!r}; known are {", ".join(known)}.'
            )
    settings = recipe.label_maps or LabelMaps()
    chosen = find_label_maps(settings, folder)[split]
    finest = [label_map.spacing for label_map in chosen]
    synthesis = Synthesis(
        settings.appearance,
        _acquisition(settings.acquisition, recipe.forward, float(np.mean(finest))),
        settings.deformation,
        BackProjection(recipe.task.back_projection, recipe.task.input_back_projection_steps)
        if recipe.task.input_back_projection_steps
        else None,
    )
    return LabelMapDataset(
        chosen,
        synthesis,
        recipe.sampling,
        recipe.task.channels,
        seed,
        cache,
        reuse=settings.reuse,
        in_order=split == 'validation',
        device=device,
    )


def _read(label_map: LabelMap, cache: Path) -> Anatomy | ThinAxes:
    """Read a label map or a scan, its voxels mapped into memory from the cache."""
    source, path = label_map.source, label_map.path
    key = cache_key(label_map, 'label_maps')
    if source.labelling == UNLABELLED:
        axis = acquired_axis(load_header(path).affine, np.eye(4))
        file = cache / f'scan-{key}.npy'
        if not file.exists():
            scan = read_thin_axes(path, label_map.spacing).image
            with complete(file) as part:
                np.save(part, scan)
        return ThinAxes(path.name, np.load(file, mmap_mode='r'), axis)
    files = [cache / f'maps-{key}.npy', cache / f'image-{key}.npy']
    wanted = files[: 1 if label_map.image is None else 2]
    if not all(file.exists() for file in wanted):
        numbers: Mapping[str, Sequence[int]] | None = source.table or None
        anatomy = read_anatomy(path, source.labelling, image=label_map.image, numbers=numbers)
        for file, voxels in zip(files, (anatomy.maps, anatomy.image), strict=True):
            if voxels is None:
                continue
            with complete(file) as part:
                np.save(part, voxels)
    maps, *real = (np.load(file, mmap_mode='r') for file in wanted)
    return Anatomy(path.name, source.labelling, maps, real[0] if real else None)


def _read_all(
    label_maps: Sequence[LabelMap], cache: Path, device: torch.device
) -> list[Anatomy | ThinAxes]:
    """Read label maps and scans; those that images are painted from go to a GPU as a whole."""
    found = [_read(label_map, cache) for label_map in label_maps]
    if device.type == 'cpu':
        return found
    return [part.to(device) if isinstance(part, Anatomy) else part for part in found]


def _acquisition(
    acquisition: AcquisitionRanges, forward: ForwardModel, spacing: float
) -> AcquisitionRanges:
    """Let [forward] of a recipe say how far the slices lie apart, if it does."""
    if forward.kind != 'thick-slices' or forward.factors or forward.profile != 'gaussian':
        raise UserError(
            '[forward]: images are made from label maps with Gaussian thick slices, given by '
            'spacing_mm or factor; change it, or train on images.'
        )
    if forward.factor is not None:
        ratio = forward.factor
    elif forward.spacing_mm is not None:
        ratio = (forward.spacing_mm[0] / spacing, forward.spacing_mm[1] / spacing)
    else:
        return acquisition
    if ratio[0] <= 1:
        raise UserError(
            f'[forward]: slices {ratio[0]:g} voxels of the label maps apart are not thick.'
        )
    return replace(acquisition, ratio=ratio, usual_share=0.0, gap=forward.gap[1])


def _channel(sample: Sample, channel: str) -> Tensor:
    return sample.cortex if channel == 'cortex' else sample.tissues[list(CLASSES).index(channel)]


def _as_patch(stack: Tensor) -> Patch:
    return Patch(
        image=stack[:1].clone(),
        target=stack[1:-1].clone(),
        resolution=stack[-1, 0, 0, 0].clone(),
    )
