"""Checkpoints that a kill cannot damage: safetensors and JSON, never pickle.

A checkpoint is a folder. `state.json` names the file of the tensors and its hash. A new file of
tensors is written beside the old one; replacing `state.json`, which happens at once or not at all,
makes it valid; only then the old one is deleted.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from bids_segsr.exceptions import UserError
from bids_segsr.files import complete

STATE_FILE = 'state.json'
FORMAT = 2
"""Raised when the meaning of a field changes."""


@dataclass(frozen=True)
class Checkpoint:
    """State of a training.

    Attributes:
        state: Numbers and texts, as JSON holds them.
        tensors: Weights and moments by name.
    """

    state: dict[str, Any]
    tensors: dict[str, Tensor]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in place of the one that the folder holds.

    Args:
        folder: Made if missing.
        checkpoint: What is written; `state` has an integer 'step'.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = save({
        name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()
    })  # fmt: skip
    digest = hashlib.sha256(content).hexdigest()
    name = f'step-{checkpoint.state["step"]:08d}-{digest[:8]}.safetensors'
    _write(folder / name, content)
    state = {**checkpoint.state, 'format': FORMAT, 'file': name, 'sha256': digest}
    _write(folder / STATE_FILE, json.dumps(state, indent=1).encode())
    for path in folder.iterdir():
        if path.name not in (name, STATE_FILE):
            path.unlink()


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Read a checkpoint.

    Args:
        folder: Folder of the checkpoint.

    Returns:
        The checkpoint, tensors on the CPU; None if there is none.

    Raises:
        UserError: If it is damaged or of another release.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        return None
    try:
        state = json.loads(path.read_text(encoding='utf-8'))
        if state['format'] != FORMAT:
            raise UserError(f'{path}: written by another release; begin a new run')
        content = (folder / state['file']).read_bytes()
        if hashlib.sha256(content).hexdigest() != state['sha256']:
            raise ValueError('the hash of the tensors is another')
        return Checkpoint(state, load(content))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().partition('\n')[0]
        raise UserError(f'{path}: damaged ({reason}); delete {folder} to begin anew') from None


def pack_optimiser(optimiser: torch.optim.Optimizer, name: str) -> Checkpoint:
    """Split the state of an optimiser into JSON and tensors.

    Args:
        optimiser: The optimiser.
        name: Put before the names of its tensors.

    Returns:
        Both parts.
    """
    content = optimiser.state_dict()
    tensors, plain = {}, {}
    for index, entries in content['state'].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f'{name}.{index}.{key}'] = value
            else:
                plain[f'{index}.{key}'] = value
    return Checkpoint({'groups': content['param_groups'], 'plain': plain}, tensors)


def restore_optimiser(
    optimiser: torch.optim.Optimizer, name: str, state: dict[str, Any], tensors: dict[str, Tensor]
) -> None:
    """Undo `pack_optimiser`.

    Args:
        optimiser: A new optimiser of the same parameters.
        name: As it was packed.
        state: The part that JSON held.
        tensors: All tensors of the checkpoint.
    """
    entries: dict[int, dict[str, Any]] = {}
    packed = {
        k.removeprefix(f'{name}.'): v for k, v in tensors.items() if k.startswith(f'{name}.')
    }
    for path, value in {**packed, **state['plain']}.items():
        index, _, key = path.partition('.')
        entries.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({'state': entries, 'param_groups': state['groups']})


def weights_digest(network: nn.Module) -> str:
    """Tell the weights of a network: SHA-256 of them as safetensors, hexadecimal."""
    weights = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    return hashlib.sha256(save(weights)).hexdigest()


def with_prefix(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put a name and a dot before the names of tensors."""
    return {f'{name}.{key}': tensor for key, tensor in tensors.items()}


def of_prefix(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Undo `with_prefix`: the tensors whose names begin so, without it."""
    start = f'{name}.'
    return {k.removeprefix(start): t for k, t in tensors.items() if k.startswith(start)}


def _write(path: Path, content: bytes) -> None:
    with complete(path) as part, part.open('wb') as file:
        file.write(content)
        file.flush()
        # A rename that reaches the disk before the content would survive a power cut, alone.
        os.fsync(file.fileno())
