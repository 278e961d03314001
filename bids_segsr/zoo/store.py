"""Find, verify, load and save trained networks.

A trained network is a folder with `card.json` and `weights.safetensors`. Weights of the original
Keras implementation are read as they are. Nothing is ever unpickled. Sizes are bounded before
memory is taken: a card or a file from elsewhere cannot ask for more than SIZE_LIMIT.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from bids_segsr.exceptions import ModelError
from bids_segsr.zoo.card import ModelCard, read_card
from bids_segsr.zoo.released import RELEASED

if TYPE_CHECKING:
    from torch import Tensor, nn

DEFAULT_MODEL = 'tissue-unet'
BRAIN_MASK_MODEL = 'brain-mask'
"""Model that finds the brain where an image shows more."""
CARD_FILE = 'card.json'
WEIGHTS_FILE = 'weights.safetensors'
FOLDER_VARIABLE = 'BIDS_SEGSR_MODELS'
"""Environment variable: a folder of further models, one folder each."""

SIZE_LIMIT = 2**30
"""Largest weights, in bytes, that are read: fifty times the largest network of the papers."""
OPTION_LIMIT = 4096
"""Largest number that a card may give as an option of its network (filters, blocks)."""

_PACKAGED = Path(__file__).parent / 'models'
_PICKLES = ('.pt', '.pth', '.pkl', '.pickle', '.ckpt', '.bin')


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


def find_card(name_or_path: str | Path) -> ModelCard:
    """Find the card of a model without loading the model.

    Args:
        name_or_path: See `load_model`.

    Returns:
        The card.

    Raises:
        ModelError: If there is no such model, or it cannot be read.
    """
    blend = split_blend(name_or_path)
    if blend:
        from bids_segsr.zoo.blend import blend_cards

        first, second, alpha = blend
        return blend_cards(find_card(first), find_card(second), alpha)
    path = _locate(name_or_path)
    if path.suffix == '.json':
        return read_card(path)
    from bids_segsr.zoo.keras_import import read_keras_card

    return read_keras_card(path)


def load_model(name_or_path: str | Path) -> TrainedModel:
    """Load a model, its hash and shapes verified.

    Args:
        name_or_path: Name of a model in `local_folder` or in this package; or path of a model's
            folder, its card.json, its .safetensors file (card.json beside it), or a weights file
            of the original Keras implementation (HDF5, recognised by content); or two of these
            and a weight, ``A:B:0.6``, for a blend (see `bids_segsr.zoo.blend`).

    Returns:
        The model.

    Raises:
        ModelError: If there is no such model, or its weights are damaged or do not fit its card;
            names the file.
    """
    blend = split_blend(name_or_path)
    if blend:
        from bids_segsr.zoo.blend import blend_models

        first, second, alpha = blend
        return blend_models(load_model(first), load_model(second), alpha)
    path = _locate(name_or_path)
    if path.suffix != '.json':
        from bids_segsr.zoo.keras_import import load_keras

        network, card = load_keras(path)
        return TrainedModel(network.eval(), card, path)
    card = read_card(path)
    weights = path.with_name(WEIGHTS_FILE)
    return TrainedModel(_load_network(weights, card).eval(), card, weights)


def list_models() -> list[ModelCard]:
    """Cards of the models that can be given by name, sorted by name, the default one first."""
    cards = {
        card.name: card
        for folder in reversed(model_folders())
        for card in map(read_card, sorted(folder.glob(f'*/{CARD_FILE}')))
    }
    return sorted(cards.values(), key=lambda card: (card.name != DEFAULT_MODEL, card.name))


def card_paths() -> dict[str, Path]:
    """Cards of the models that can be given by name, readable or not, the default one first.

    Returns:
        Name of the model's folder, by which it is found, to its card.
    """
    paths = {
        path.parent.name: path
        for folder in reversed(model_folders())
        for path in folder.glob(f'*/{CARD_FILE}')
    }
    return dict(sorted(paths.items(), key=lambda item: (item[0] != DEFAULT_MODEL, item[0])))


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
    """
    import torch
    from safetensors.torch import save

    dtype = torch.float16 if half_precision else torch.float32
    state = {
        name: tensor.detach().cpu().to(dtype).contiguous()
        for name, tensor in network.state_dict().items()
    }
    content = save(state)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS_FILE).write_bytes(content)
    card = dataclasses.replace(card, sha256=hashlib.sha256(content).hexdigest())
    (folder / CARD_FILE).write_text(card.to_json(), encoding='utf-8')
    return folder


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open('rb') as file:
        digest = hashlib.sha256()
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def local_folder() -> Path:
    """Folder of the models that do not come with this package, one folder each.

    Returns:
        What BIDS_SEGSR_MODELS names, else a folder in the cache of the user (XDG_CACHE_HOME).
    """
    own = os.environ.get(FOLDER_VARIABLE)
    return Path(own) if own else platformdirs.user_cache_path('bids_segsr') / 'models'


def model_folders() -> list[Path]:
    """Folders in which a model is looked for by name, the first one that has it counts."""
    # The home of a container's user may exist and yet be closed to it.
    readable = os.access(local_folder(), os.R_OK | os.X_OK)
    return [local_folder(), _PACKAGED] if readable else [_PACKAGED]


def split_blend(name_or_path: str | Path) -> tuple[str, str, float] | None:
    """Take ``A:B:0.6`` apart.

    Args:
        name_or_path: What was given as a model.

    Returns:
        First model, second model, weight of the second; None if it is no blend.
    """
    parts = str(name_or_path).split(':')
    if len(parts) != 3 or not all(parts) or Path(name_or_path).exists():
        return None
    try:
        return parts[0], parts[1], float(parts[2])
    except ValueError:
        return None


def absolute_model(name_or_path: str) -> str:
    """Make the paths in what was given as a model absolute; names stay as they are.

    Args:
        name_or_path: See `load_model`.

    Returns:
        The same model, found from any working directory.
    """
    blend = split_blend(name_or_path)
    if blend:
        first, second, alpha = blend
        return f'{absolute_model(first)}:{absolute_model(second)}:{alpha:g}'
    if os.sep in name_or_path or Path(name_or_path).exists():
        return str(Path(name_or_path).absolute())
    return name_or_path


def _locate(name_or_path: str | Path) -> Path:
    """Return the card of a model, or the HDF5 file of an original one."""
    path = Path(name_or_path)
    if path.suffix.lower() in _PICKLES:
        raise ModelError(
            f'{path}: pickled files are not loaded, since they can run any program; '
            'convert it to .safetensors with a card.json beside it'
        )
    if path.is_dir():
        return _need(path / CARD_FILE, path)
    if path.is_file():
        if path.name == CARD_FILE:
            return path
        if path.suffix == '.safetensors':
            if path.name != WEIGHTS_FILE:
                raise ModelError(f'{path}: must be called {WEIGHTS_FILE}, {CARD_FILE} beside it')
            return _need(path.with_name(CARD_FILE), path)
        import h5py

        if h5py.is_hdf5(path):
            return path
        raise ModelError(
            f'{path}: not a model; give a folder with {CARD_FILE} and {WEIGHTS_FILE}, '
            'or a weights file of the original Keras implementation (HDF5)'
        )
    if path.name == str(name_or_path):
        for folder in model_folders():
            if (folder / path / CARD_FILE).is_file():
                return folder / path / CARD_FILE
    if str(name_or_path) in RELEASED:
        raise ModelError(
            f'{name_or_path}: not fetched yet; run "segsr models fetch {name_or_path}" (or set '
            f'{FOLDER_VARIABLE} to the folder that has it)'
        )
    known = ', '.join(card_paths()) or 'none'
    raise ModelError(f'{name_or_path}: no such model or file; models known by name: {known}')


def _need(card: Path, given: Path) -> Path:
    if not card.is_file():
        raise ModelError(f'{given}: no {CARD_FILE} with it; a model needs its card')
    return card


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
    except (ValueError, RuntimeError, ArithmeticError) as error:
        reason = str(error).partition('\n')[0]
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
