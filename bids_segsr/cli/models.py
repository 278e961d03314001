"""segsr models: what trained networks are at hand, and how more come to hand."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_segsr.cli.card_text import RESEARCH_USE, describe
from bids_segsr.exceptions import ModelError
from bids_segsr.zoo.card import NAME
from bids_segsr.zoo.released import RELEASED

if TYPE_CHECKING:
    from torch import nn

    from bids_segsr.zoo.card import ModelCard

_MODEL_HELP = 'name or path of the model, or A:B:0.6 for a blend'
_FOLDER_HELP = 'folder of models; the model becomes a folder in it'

Subparsers = argparse._SubParsersAction
Command = Callable[[argparse.Namespace], int]


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command `models` and its own commands.

    Args:
        subparsers: Commands of the toolbox. Each parser sets `func`, which takes the arguments
            and returns the exit status.
    """
    parser = subparsers.add_parser(
        'models',
        help='list, show, fetch, import, export, blend and verify trained networks',
        description='Trained networks: a folder each, with weights (safetensors) and a card '
        '(JSON). Looked for in the folder that BIDS_SEGSR_MODELS names (else in the cache of the '
        f'user) and in the package. {RESEARCH_USE}',
    )
    commands = parser.add_subparsers(title='commands', required=True, metavar='COMMAND')

    def add(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = commands.add_parser(
            name, help=text, description=f'{text[0].upper()}{text[1:]}.'
        )
        added.set_defaults(func=command)
        return added

    listing = add('list', _list, 'list the models at hand and the architectures')
    listing.add_argument('--json', action='store_true', help='for programs')

    show = add('show', _show, 'show the card of a model')
    show.add_argument('name', help=_MODEL_HELP)
    show.add_argument('--full', action='store_true', help='the training and all scores, too')

    fetching = add('fetch', _fetch, 'download weights that the authors of SegSRGAN released')
    fetching.add_argument(
        'name',
        nargs='+',
        choices=(*RELEASED, 'all'),
        metavar='NAME',
        help=f'{", ".join(RELEASED)}, or all',
    )
    fetching.add_argument('--output', type=Path, metavar='DIR', help=_FOLDER_HELP)
    fetching.add_argument(
        '--mirror',
        action='append',
        default=[],
        metavar='URL',
        help='folder with the files under their original names, tried first (repeatable; '
        'BIDS_SEGSR_MIRRORS does the same)',
    )

    importing = add('import', _import, 'convert weights of the original Keras implementation')
    importing.add_argument('file', type=Path, help='HDF5 file, whatever its name')
    importing.add_argument('--output', type=Path, required=True, metavar='DIR', help=_FOLDER_HELP)
    importing.add_argument('--name', help='name of the model (default: that of the file)')

    export = add('export', _export, 'write a model in a format that other programs read')
    export.add_argument('name', help=_MODEL_HELP)
    export.add_argument(
        '--format', required=True, choices=('torchscript', 'onnx', 'safetensors'), help='format'
    )
    export.add_argument(
        '--output', type=Path, required=True, help='file; for safetensors, a folder'
    )

    blend = add('blend', _blend, 'average the weights of two models of one architecture')
    blend.add_argument('first', help='model trained for fidelity (PSNR): alpha 0 gives it back')
    blend.add_argument('second', help='model trained against a critic: alpha 1 gives it back')
    blend.add_argument('--alpha', type=float, required=True, help='weight of the second, 0 to 1')
    blend.add_argument('--output', type=Path, required=True, metavar='DIR', help=_FOLDER_HELP)

    verify = add('verify', _verify, 'check hash, shapes and a forward pass of models')
    verify.add_argument('name', nargs='*', help=f'{_MODEL_HELP} (default: all at hand)')


def _list(arguments: argparse.Namespace) -> int:
    from bids_segsr.networks import ARCHITECTURES
    from bids_segsr.zoo.find import card_paths

    models: list[dict[str, Any]] = []
    status = _each(card_paths(), lambda name: models.append(_at_hand(name)))
    names = {model['name'] for model in models}
    released = [
        {'name': name, 'file': weights.file, 'fetched': name in names}
        for name, weights in RELEASED.items()
    ]
    architectures = [
        {'name': name, 'parameters': _parameters(name, {})} for name in sorted(ARCHITECTURES)
    ]
    if arguments.json:
        content = {'models': models, 'released': released, 'architectures': architectures}
        print(json.dumps(content, indent=2))
        return status
    _print_table(
        'Models',
        [
            (
                f'{model["name"]}{" (default)" if model["default"] else ""}',
                f'version {model["version"]}',
                model['architecture'],
                f'{model["parameters"]:,} parameters',
                model['path'],
            )
            for model in models
        ],
    )
    _print_table(
        'Released by the authors of SegSRGAN, not fetched (segsr models fetch NAME)',
        [(str(entry['name']), str(entry['file'])) for entry in released if not entry['fetched']],
    )
    _print_table(
        'Architectures, with their default options',
        [(str(entry['name']), f'{entry["parameters"]:,} parameters') for entry in architectures],
    )
    return status


def _at_hand(name: str) -> dict[str, Any]:
    from bids_segsr.zoo.card import read_card
    from bids_segsr.zoo.find import DEFAULT_MODEL, card_paths

    path = card_paths()[name]
    card = read_card(path)
    return {
        'name': name,
        'version': card.version,
        'architecture': card.architecture,
        'options': card.options,
        'parameters': _parameters(card.architecture, card.options),
        'default': name == DEFAULT_MODEL,
        'path': str(path.parent),
    }


def _each(names: Iterable[str], action: Callable[[str], object]) -> int:
    """Do something for each name; return 1 if any failed, each failure told in one line."""
    failures = sum(not _succeeds(name, action) for name in names)
    return int(failures > 0)


def _succeeds(name: str, action: Callable[[str], object]) -> bool:
    try:
        action(name)
    except ModelError as error:
        text = str(error)
        print(
            f'segsr: {text if text.startswith(name) else f"{name}: {text}"}',
            file=sys.stderr,
            flush=True,
        )
        return False
    return True


def _show(arguments: argparse.Namespace) -> int:
    from bids_segsr.zoo.find import find_card

    print(describe(find_card(arguments.name), full=arguments.full))
    return 0


def _fetch(arguments: argparse.Namespace) -> int:
    from bids_segsr.zoo.fetch import fetch

    def one(name: str) -> None:
        progress = sys.stderr.isatty()
        print(fetch(name, arguments.output, arguments.mirror, progress=progress))

    return _each(RELEASED if 'all' in arguments.name else dict.fromkeys(arguments.name), one)


def _import(arguments: argparse.Namespace) -> int:
    from bids_segsr.zoo.fetch import git_blob_id
    from bids_segsr.zoo.find import load_model

    path = arguments.file
    if not path.is_file():
        raise ModelError(f'{path}: no such file')
    if path.suffix in ('.json', '.safetensors'):
        raise ModelError(f'{path}: nothing to import, models of this kind are used as they are')
    model = load_model(path)
    blob = git_blob_id(path)
    card = model.card
    for weights in RELEASED.values():
        if weights.blob == blob:
            card = weights.card(card)
    if arguments.name:
        if not NAME.fullmatch(arguments.name):
            raise ModelError(f'--name {arguments.name}: use letters, digits and hyphens')
        card = replace(card, name=arguments.name)
    return _save(arguments.output, model.network, card)


def _export(arguments: argparse.Namespace) -> int:
    from bids_segsr.zoo.export import export_model
    from bids_segsr.zoo.find import load_model

    for path in export_model(load_model(arguments.name), arguments.format, arguments.output):
        print(path)
    return 0


def _blend(arguments: argparse.Namespace) -> int:
    from bids_segsr.zoo.blend import blend_models
    from bids_segsr.zoo.find import load_model

    blended = blend_models(
        load_model(arguments.first), load_model(arguments.second), arguments.alpha
    )
    return _save(arguments.output, blended.network, blended.card)


def _verify(arguments: argparse.Namespace) -> int:
    from bids_segsr.zoo.find import card_paths, find_card

    def verify(name: str) -> None:
        find_card(name)
        # torch takes seconds: a name that is none is told before
        from bids_segsr.zoo.verify import verify_model

        print(f'{name}: fine ({verify_model(name).path})')

    return _each(arguments.name or card_paths(), verify)


def _save(folder: Path, network: nn.Module, card: ModelCard) -> int:
    from bids_segsr.zoo.store import save_model

    target = folder / card.name
    if target.exists():
        raise ModelError(f'{target}: exists already; remove it or give another --output')
    print(save_model(target, network, card))
    return 0


def _parameters(architecture: str, options: Mapping[str, Any]) -> int:
    from bids_segsr.zoo.store import outline

    return sum(p.numel() for p in outline(architecture, options).parameters())


def _print_table(title: str, rows: Sequence[tuple[str, ...]]) -> None:
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print(f'{title}:')
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(f'  {"  ".join(cells)}'.rstrip())
