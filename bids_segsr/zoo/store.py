"""Verify, load and save trained networks.

A trained network is a folder with `card.json` and `weights.safetensors`. Nothing is ever
unpickled. Sizes are bounded before memory is taken: a card or a file from elsewhere cannot ask
for more than SIZE_LIMIT.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_segsr.exceptions import ModelError
from bids_segsr.files import complete, write_text
from bids_segsr.zoo.card import ModelCard, read_card

if TYPE_CHECKING:
    from torch import Tensor, nn

CARD_FILE = 'card.json'
WEIGHTS_FILE = 'weights.safetensors'
SIZE_LIMIT = 2**30
"""Largest weights, in bytes, that are read: fifty times the largest network of the papers."""
OPTION_LIMIT = 4096
"""Largest number that a card may give as an option of its network (filters, blocks)."""


@dataclass(frozen=True)
class TrainedModel:
    """A network ready for use.

    Attributes:
        network: The network in evaluation mode, on the CPU, float32.
        card: Its description.
        path: The weights file it came from.
    """

    network: nn.Module
    card: ModelCard
    path: Path


def load_stored(card_file: Path) -> TrainedModel:
    """Load a model from its folder, its hash and shapes verified.

    Args:
        card_file: Its card, the weights beside it.

    Returns:
        The model.

    Raises:
        ModelError: If the weights are damaged or do not fit the card; names the file.
    """
    card = read_card(card_file)
    weights = card_file.with_name(WEIGHTS_FILE)
    return TrainedModel(_load_network(weights, card).eval(), card, weights)


def save_model(
    folder: Path, network: nn.Module, card: ModelCard, *, half_precision: bool = False
) -> Path:
    """Write a model's weights and card.

    Args:
        folder: Where to; made if missing.
        network: The network that the card describes.
        card: Its card; the hash is filled in.
        half_precision: Store float16; loading turns it back into float32.

    Returns:
        The folder.

    Raises:
        UserError: If it cannot be written.
    """
    import torch
    from safetensors.torch import save

    dtype = torch.float16 if half_precision else torch.float32
    state = {
        name: tensor.detach().cpu().to(dtype).contiguous()
        for name, tensor in network.state_dict().items()
    }
    content = save(state)
    card = dataclasses.replace(card, sha256=hashlib.sha256(content).hexdigest())
    with complete(folder / WEIGHTS_FILE) as weights:
        weights.write_bytes(content)
        # a model that is replaced is unreadable between the two for a moment, and never wrong
        write_text(folder / CARD_FILE, card.to_json())
    return folder


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open('rb') as file:
        digest = hashlib.sha256()
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def _load_network(path: Path, card: ModelCard) -> nn.Module:
    from safetensors import SafetensorError
    from safetensors.torch import load

    from bids_segsr.networks import create

    try:
        check_size(path)
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f'{path}: cannot be read ({error.strerror})') from error
    if hashlib.sha256(content).hexdigest() != card.sha256:
        raise ModelError(
            f'{path}: its SHA-256 is not the one on its card: damaged or exchanged; get it anew'
        )
    try:
        # The library refuses a header whose shapes do not add up to the length of the file.
        state = load(content)
    except SafetensorError as error:
        raise ModelError(f'{path}: not a valid safetensors file ({error})') from error
    try:
        expected = outline(card.architecture, card.options).state_dict()
    except ModelError as error:
        raise ModelError(f'{path.with_name(CARD_FILE)}: {error}') from error
    check_shapes(path, shapes(expected), shapes(state))
    network = create(card.architecture, **card.options)
    network.load_state_dict(state)
    channels = getattr(network, 'in_channels', 1)
    if channels != 1 + card.contract.guides:
        raise ModelError(
            f'{path.with_name(CARD_FILE)}: names {card.contract.guides} guide images, its network '
            f'has {channels} input channels'
        )
    return network


def outline(architecture: str, options: Mapping[str, Any]) -> nn.Module:
    """Make a network without memory for its weights, to count and compare them.

    Args:
        architecture: Name known to `bids_segsr.networks.create`.
        options: Its options.

    Returns:
        The network on torch's meta device.

    Raises:
        ModelError: If there is no such network, or it is larger than SIZE_LIMIT allows.
    """
    import torch

    from bids_segsr.networks import create

    for name, value in options.items():
        for number in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(number, (int, float)) and not abs(number) <= OPTION_LIMIT:
                raise ModelError(f'option {name} is {number}; at most {OPTION_LIMIT} is allowed')
    try:
        with torch.device('meta'):
            network = create(architecture, **options)
    except Exception as error:  # options of a wrong type meet the code of any network
        reason = str(error).partition('\n')[0].removeprefix(f'architecture {architecture!r}: ')
        raise ModelError(f'architecture {architecture!r}: {reason}') from error
    size = 4 * sum(tensor.numel() for tensor in network.state_dict().values())
    if size > SIZE_LIMIT:
        raise ModelError(f'its network would take {size} bytes; at most {SIZE_LIMIT} are allowed')
    return network


def check_size(path: Path) -> None:
    """Refuse a file that no network of this package can have filled.

    Args:
        path: Weights file.

    Raises:
        ModelError: If it is larger than SIZE_LIMIT.
        OSError: If there is no such file.
    """
    size = path.stat().st_size
    if size > SIZE_LIMIT:
        raise ModelError(f'{path}: {size} bytes, no weights of a network; at most {SIZE_LIMIT}')


def shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of a network's state, by name."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def check_shapes(
    path: Path, expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]
) -> None:
    """Compare the tensors of a file with those of the network.

    Args:
        path: The file, for the message.
        expected: Name to shape in the network.
        found: Name to shape in the file.

    Raises:
        ModelError: If a tensor is missing, unknown or of another shape.
    """
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ModelError(
                f'{path}: tensor {name} is {found.get(name, "missing")}, the network has '
                f'{expected.get(name, "none")}; these weights belong to another architecture'
            )
