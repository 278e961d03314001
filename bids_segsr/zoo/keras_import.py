"""Weights of the original Keras implementation of SegSRGAN, read from its HDF5 snapshots."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from bids_segsr.exceptions import ModelError
from bids_segsr.zoo.card import InputContract, ModelCard
from bids_segsr.zoo.store import SIZE_LIMIT, check_shapes, check_size, file_sha256, outline, shapes

if TYPE_CHECKING:
    from torch import nn

_GROUP = re.compile(r'G(_unet)?(?P<conditional>_cond)?(?P<plain>_nn_residual)?')
NAMES_LIMIT = 1000
"""Most tensors of one model; the standard generator has 52."""
_UNET_TENSORS = 34
_STANDARD_TENSORS = 52

_IGNORED_CONDITION = (
    'Its resolution input has no effect: the first instance normalisation removes what the '
    'constant channel adds.'
)

CITATION = (
    'Delannoy Q, et al. SegSRGAN: Super-resolution and segmentation using generative adversarial '
    'networks: application to neonatal brain MRI. Computers in Biology and Medicine '
    '2020;120:103755.'
)


def load_keras(path: Path) -> tuple[nn.Module, ModelCard]:
    """Load a generator of the original implementation.

    Args:
        path: HDF5 snapshot as the original training writes it; its critic is not read.

    Returns:
        The generator and a card made from the structure of the file.

    Raises:
        ModelError: If the file holds no generator of a known kind, or is damaged.
    """
    group, tensors = _read_group(path, _GROUP, 'generator')
    card = _card(path, group, tensors)
    return _fill(path, card.architecture, card.options, tensors, _generator_layers(card)), card


def read_keras_card(path: Path) -> ModelCard:
    """Make the card of an original snapshot, without torch.

    Args:
        path: HDF5 snapshot.

    Returns:
        The card.

    Raises:
        ModelError: As `load_keras`.
    """
    return _card(path, *_read_group(path, _GROUP, 'generator'))


def _read_group(
    path: Path, pattern: re.Pattern[str], what: str
) -> tuple[str, dict[str, np.ndarray]]:
    """Name of the group of a model, and its tensors by Keras name in the order of the layers."""
    try:
        check_size(path)
        with h5py.File(path, 'r') as file:
            found = [
                name for name in file if pattern.fullmatch(name) and _weight_names(file[name])
            ]
            if len(found) != 1:
                raise ModelError(
                    f'{path}: holds no {what} of SegSRGAN (groups: '
                    f'{", ".join(sorted(file)[:10]) or "none"})'
                )
            return found[0], _read_tensors(path, file, found[0])
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f'{path}: damaged HDF5 file ({error}); get it anew') from error


def _read_tensors(path: Path, file: h5py.File, group: str) -> dict[str, np.ndarray]:
    """Tensors of a group by Keras name, each one checked before memory is taken for it."""
    datasets = {name: file[group][name] for name in _weight_names(file[group])}
    total = 0
    for name, dataset in datasets.items():
        if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind != 'f':
            raise ModelError(f'{path}: {name} is no array of floating point numbers')
        if dataset.file != file or dataset.external or dataset.is_virtual:
            raise ModelError(f'{path}: {name} lies in another file; all must be in this one')
        # A few bytes of HDF5 can declare terabytes, as a shape or as a chunk.
        total += 4 * max(math.prod(dataset.shape), math.prod(dataset.chunks or ()))
        if total > SIZE_LIMIT or dataset.ndim not in (1, 5):
            raise ModelError(
                f'{path}: {name} has the shape {dataset.shape}, no weights of SegSRGAN'
            )
    return {name: np.asarray(dataset, np.float32) for name, dataset in datasets.items()}


def _weight_names(group: h5py.Group) -> list[str]:
    # Keras splits a list above 64 kB into weight_names0, weight_names1, ...
    keys = [key for key in group.attrs if re.fullmatch(r'weight_names\d*', key)]
    keys.sort(key=lambda key: int(key[len('weight_names') :] or 0))
    if sum(math.prod(group.attrs.get_id(key).shape) for key in keys) > NAMES_LIMIT:
        raise ValueError(f'more than {NAMES_LIMIT} weights in {group.name}')
    names = [name for key in keys for name in group.attrs[key]]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _card(path: Path, group: str, tensors: Mapping[str, np.ndarray]) -> ModelCard:
    kernels = [value for value in tensors.values() if value.ndim == 5]
    if len(tensors) not in (_STANDARD_TENSORS, _UNET_TENSORS) or len(kernels) < 2:
        raise ModelError(
            f'{path}: its generator has {len(tensors)} tensors; those of SegSRGAN have '
            f'{_STANDARD_TENSORS} (standard) or {_UNET_TENSORS} (U-Net)'
        )
    first, last = kernels[0], kernels[-1]
    match = _GROUP.fullmatch(group)
    assert match is not None  # noqa: S101 - only such groups are read
    # Not by the group: early U-Net files called it G as well.
    unet = len(tensors) == _UNET_TENSORS
    mask_classes = int(last.shape[4]) - 2
    options: dict[str, Any] = {
        'base_filters': int(first.shape[4]),
        'mask_classes': max(mask_classes, 0),
        'residual': match['plain'] is None,
    }
    conditional = match['conditional'] is not None or first.shape[3] == 2
    if conditional:
        options['conditional'] = 'original'
    masks = tuple(f'mask-{index}' for index in range(options['mask_classes']))
    return ModelCard(
        name=re.sub('[^A-Za-z0-9]+', '-', path.name.split('.')[0]).strip('-') or 'keras',
        version='original',
        description=(
            'Generator imported from a snapshot of the original Keras implementation. '
            'Research use only.'
        ),
        architecture='segsrgan-unet' if unet else 'segsrgan',
        options=options,
        contract=InputContract(
            modalities=('T2w',),
            normalisation='volume-max',
            spacing_mm=(0.5, 0.5),
            slice_thickness_mm=(2.0, 4.0),
        ),
        channels=('intensity', 'cortex', *masks),
        labels={1: 'cortical grey matter'},
        training={
            'data': 'not stated in the file; the weights published with the original were trained '
            'on T2w images of the developing Human Connectome Project (dHCP), whose terms apply',
            'slices_mm': 'published weights: 0.5 x 0.5 x 3 mm, two of them 2 to 4 mm',
        },
        limitations=(
            *((_IGNORED_CONDITION,) if conditional else ()),
            'The image is divided by its maximum: one bright voxel changes the scale of all.',
        ),
        licence='published weights: CeCILL-B',
        citation=(CITATION,),
        sha256=file_sha256(path),
    )


def _fill(
    path: Path,
    architecture: str,
    options: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    layers: Mapping[str, str],
) -> nn.Module:
    """Make a network with the tensors of a file."""
    import torch

    from bids_segsr.networks import create

    state = {}
    for name, value in _match(tensors, layers).items():
        # Keras: (x, y, z, in, out) whatever the data format.
        axes = (4, 3, 0, 1, 2) if value.ndim == 5 else (0,)
        state[name] = torch.from_numpy(np.ascontiguousarray(value.transpose(axes)))
    try:
        expected = outline(architecture, options).state_dict()
    except ModelError as error:
        raise ModelError(f'{path}: {error}') from error
    check_shapes(path, shapes(expected), shapes(state))
    network = create(architecture, **options)
    network.load_state_dict(state)
    return network


def _match(tensors: Mapping[str, np.ndarray], layers: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Give every tensor its name in our network: by its Keras name, else all by position."""
    named = {}
    for name, value in tensors.items():
        target = _target(name, layers)
        if target is None or target in named:
            ordered = [f'{module}.{part}' for module in layers.values() for part in _parts(module)]
            return dict(zip(ordered, tensors.values(), strict=True))
        named[target] = value
    return named


def _generator_layers(card: ModelCard) -> dict[str, str]:
    """Keras layer, without the prefix of the model, to our module, in the order of the layers."""

    def plain(layer: str) -> dict[str, str]:
        return {layer: f'{layer}.conv.conv', f'isnorm_{layer}': f'{layer}.norm'}

    def block(layer: str, module: str) -> dict[str, str]:
        return {
            f'{layer}_conv_a': f'{module}.conv_a.conv',
            f'{layer}_isnorm_a': f'{module}.norm_a',
            f'{layer}_conv_b': f'{module}.conv_b.conv',
            f'{layer}_isnorm_b': f'{module}.norm_b',
        }

    if card.architecture == 'segsrgan-unet':
        encoder = {
            **plain('conv1'),
            **block('block', 'block'),
            **plain('conv2'),
            **block('block1', 'block1'),
            **plain('conv3'),
            **block('block2', 'block2'),
        }
    else:
        encoder = {**plain('conv1'), **plain('conv2'), **plain('conv3')}
        for index in range(6):
            encoder |= block(f'block{index + 1}', f'blocks.{index}')
    return {**encoder, **plain('deconv1'), **plain('deconv2'), '1conv': 'head.conv'}


def _parts(module: str) -> tuple[str, ...]:
    if 'norm' in module:
        return 'scale', 'shift'
    return ('weight',)


def _target(name: str, layers: Mapping[str, str]) -> str | None:
    layer, _, variable = name.partition('/')
    layer = re.sub('.*gen_', '', layer)
    if layer not in layers:
        # Keras numbers the layers of a model that is built twice: conv1_1, conv_dis_1_1.
        layer = re.sub(r'_\d+$', '', layer)
    part = {'kernel': 'weight'}.get(variable.split(':')[0], variable.split(':')[0])
    return f'{layers[layer]}.{part}' if layer in layers else None
