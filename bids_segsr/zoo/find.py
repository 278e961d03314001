"""Models by what a user calls them: a name, a path, two of them to be blended."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from bids_segsr.exceptions import ModelError
from bids_segsr.zoo.blend import blend_cards, blend_models
from bids_segsr.zoo.card import ModelCard, read_card
from bids_segsr.zoo.released import RELEASED
from bids_segsr.zoo.store import CARD_FILE, WEIGHTS_FILE, TrainedModel, load_stored

DEFAULT_MODEL = 'tissue-unet'
NEWBORN_MODELS = {'T2w': 'tissue-unet-newborn', 'T1w': 'tissue-unet-newborn-t1w'}
"""Contrast to the model of newborns."""
AUTO_MODEL = 'auto'
"""Instead of a name: the one that suits each scan (`inference.model_choice`)."""
BRAIN_MASK_MODEL = 'brain-mask'
"""Model that finds the brain where an image shows more."""
FOLDER_VARIABLE = 'BIDS_SEGSR_MODELS'
"""Environment variable: a folder of further models, one folder each."""

_PACKAGED = Path(__file__).parent / 'models'
_PICKLES = ('.pt', '.pth', '.pkl', '.pickle', '.ckpt', '.bin')


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
        first, second, alpha = blend
        return blend_cards(find_card(first), find_card(second), alpha)
    path = _locate(name_or_path)
    if path.suffix == '.json':
        return read_card(path)
    from bids_segsr.zoo.keras_import import read_keras_card

    return read_keras_card(path)


def candidates(given: str) -> tuple[str, ...]:
    """Return the models that scans may get, the default one first.

    All that may be chosen have the same channels, labels and contract but for their contrasts.

    Args:
        given: `AUTO_MODEL`, or a name or path.
    """
    return (DEFAULT_MODEL, *NEWBORN_MODELS.values()) if given == AUTO_MODEL else (given,)


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
        first, second, alpha = blend
        return blend_models(load_model(first), load_model(second), alpha)
    path = _locate(name_or_path)
    if path.suffix != '.json':
        from bids_segsr.zoo.keras_import import load_keras

        network, card = load_keras(path)
        return TrainedModel(network.eval(), card, path)
    return load_stored(path)


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
        path.open('rb').close()  # whose error names the file, unlike that of HDF5
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
